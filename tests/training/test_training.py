"""Training from end to end on tiny networks: it learns, and a stopped or killed run ends as an uninterrupted one."""

import hashlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame

from ristn_cli import video
from ristn_cli.degradation import quantize
from ristn_cli.engine.device import Backend
from ristn_cli.model import RISTN, RISTNConfig
from ristn_cli.model.mixing import Pointwise, Recurrent
from ristn_cli.training import journal, validation
from ristn_cli.training import loop as training
from ristn_cli.training.data import TrainingWindows
from ristn_cli.training.loop import TrainingProgress, train
from ristn_cli.training.objective import learning_rate_at, training_loss
from ristn_cli.training.recipe import DataRecipe, Recipe, RecipeError, StageRecipe
from ristn_cli.training.state import Run, TrainingError, build_model
from ristn_cli.video import write_image
from ristn_cli.weights import WeightsError, load_weights, read_metadata, save_weights

CPU = Backend(torch.device("cpu"), "fp32")

TINY = RISTNConfig(
    base_channels=4,
    branch_one=(1,),
    branch_two=(1,),
    bottleneck_divisor=1,
    norm="none",
    lstm_layers=1,
    growth=2,
    refine_bottlenecks=1,
    upsampling_channels=(4, 4),
    deconvolution_kernel=2,
)
STAGE = StageRecipe(name="all", iterations=30, frames=2, patch=6, batch=2, fastest=4.0, learning_rate=1e-2, ema=0.9)
SPATIAL = replace(STAGE, name="spatial", part="spatial", iterations=7)


def make_recipe(*stages: StageRecipe, **changes: Any) -> Recipe:
    data = DataRecipe(clips="", text_share=0.0, warp_share=0.3)
    return Recipe(**({"name": "tiny", "model": TINY, "stages": stages or (STAGE,), "data": data, "seed": 3} | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of coloured waves, and a clip of one moving."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "photos").mkdir()
    (folder / "clips").mkdir()
    y, x = np.mgrid[:100, :120]

    def wave(number: int, shift: int) -> np.ndarray:
        planes = [np.sin((x + shift) / (3 + number) + y / (5 + 2 * channel)) for channel in range(3)]
        return (127 + 100 * np.stack(planes, axis=-1)).astype(np.uint8)

    for number in range(3):
        write_image(folder / "photos" / f"{number}.png", wave(number, 0))
    with av.open(str(folder / "clips" / "wave.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 72, "bgr0"
        for shift in range(9):
            container.mux(stream.encode(VideoFrame.from_ndarray(wave(1, shift)[:64, :72].copy(), format="rgb24")))
        container.mux(stream.encode(None))
    return folder


def carry_out(recipe: Recipe, folder: Path, output: Path, *, steps: int | None = None) -> list[TrainingProgress]:
    """Train until the end, or until asked to stop after so many steps."""
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked == steps

    return list(train(recipe, data=folder, output=output, backend=CPU, workers=0, should_stop=should_stop))


def kill_after(recipe: Recipe, folder: Path, output: Path, iteration: int) -> None:
    """Train until a report at `iteration`, and go no further: what a killed process leaves."""
    for progress in train(recipe, data=folder, output=output, backend=CPU, workers=0):
        if progress.iteration == iteration:
            return


def read_log(output: Path) -> list[dict[str, Any]]:
    """The log without what depends on the clock."""
    entries = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    for entry in entries:
        assert entry.pop("seconds") >= 0
        assert entry.pop("pixels_per_second") > 0
    return entries


def values(state: Any, where: str = "") -> Iterator[tuple[str, Any]]:
    """All values of a nested state, with their paths."""
    if isinstance(state, dict):
        for key, value in state.items():
            yield from values(value, f"{where}/{key}")
    elif isinstance(state, list | tuple):
        for key, value in enumerate(state):
            yield from values(value, f"{where}/{key}")
    else:
        yield where, state


def assert_same_end(output: Path, reference: Path) -> None:
    """Bit-identical checkpoints (weights, averages, optimiser, random state), the same log, the same weights file."""
    ours, theirs = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (output, reference))
    assert ours.pop("elapsed_seconds") > 0
    assert theirs.pop("elapsed_seconds") > 0
    mine, other = dict(values(ours)), dict(values(theirs))
    assert mine.keys() == other.keys()
    for where, value in mine.items():
        same = torch.equal(value, other[where]) if isinstance(value, torch.Tensor) else value == other[where]
        assert same, where
    assert read_log(output) == read_log(reference)
    a, b = (load_weights(run / "tiny.safetensors").state_dict() for run in (output, reference))
    assert all(torch.equal(a[name], b[name]) for name in b)


# Schedule and losses


def test_learning_rate_by_closed_form() -> None:
    stage = replace(STAGE, iterations=110, warmup=10, learning_rate=1.0, final_learning_rate=0.2)
    rates = [learning_rate_at(stage, step) for step in range(110)]
    assert rates[:10] == pytest.approx([0.1 * (step + 1) for step in range(10)])
    assert rates[10] == 1
    assert rates[35] == pytest.approx(0.2 + 0.8 * (1 + math.sqrt(0.5)) / 2)
    assert rates[60] == pytest.approx(0.6)
    assert rates[109] == pytest.approx(0.2 + 0.8 * (1 - math.cos(math.pi / 100)) / 2)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    constant = replace(stage, warmup=0, final_learning_rate=1.0)
    assert {learning_rate_at(constant, step) for step in range(110)} == {1.0}


def test_losses_by_closed_form() -> None:
    sr, hr, penalty = torch.tensor([0.0, 0.5]), torch.tensor([0.3, 0.1]), torch.tensor(1000.0)
    stage = replace(STAGE, sparsity=1e-3, sparsity_after=5)
    mse = (0.09 + 0.16) / 2
    assert training_loss(stage, sr, hr, penalty, step=4).item() == pytest.approx(mse)
    assert training_loss(stage, sr, hr, penalty, step=5).item() == pytest.approx(mse + 1)
    assert training_loss(replace(stage, part="spatial"), sr, hr, penalty, step=9).item() == pytest.approx(mse)
    charbonnier = (math.sqrt(0.09 + 1e-6) + math.sqrt(0.16 + 1e-6)) / 2
    stage = replace(stage, loss="charbonnier")
    assert training_loss(stage, sr, hr, penalty, step=0).item() == pytest.approx(charbonnier)
    rgb = torch.tensor([0.2, -0.1, 0.4]).view(1, 1, 3, 1, 1)
    luma = (65.481 * 0.2 - 128.553 * 0.1 + 24.966 * 0.4) / 255
    expected = luma**2 + 0.1 * (0.04 + 0.01 + 0.16) / 3
    stage = replace(stage, loss="luma")
    assert training_loss(stage, rgb, torch.zeros(1, 1, 3, 1, 1), penalty, step=0).item() == pytest.approx(expected)


def test_the_border_of_a_patch_does_not_count() -> None:
    stage = replace(STAGE, loss_border=2, sparsity=0.0)
    sr, hr = torch.zeros(1, 1, 3, 24, 24), torch.ones(1, 1, 3, 24, 24)
    hr[..., 8:-8, 8:-8] = 0.5
    assert training_loss(stage, sr, hr, torch.tensor(0.0), step=0).item() == pytest.approx(0.25)
    hr[..., 7, 8] = 9  # in the border
    assert training_loss(stage, sr, hr, torch.tensor(0.0), step=0).item() == pytest.approx(0.25)


def test_averaged_weights_by_closed_form(folder: Path) -> None:
    recipe = make_recipe(replace(STAGE, ema=0.25))
    run, windows = Run(recipe, CPU), TrainingWindows(recipe, folder)
    expected = None
    for step in range(4):
        run.step(*windows[step])
        value = run.model.state_dict()["reconstruction.last.bias"].clone()
        decay = min(0.25, (1 + step) / (10 + step))  # of a quarter, not before the third average
        expected = value if expected is None else decay * expected + (1 - decay) * value
    assert expected is not None
    torch.testing.assert_close(run.averaged.state_dict()["reconstruction.last.bias"], expected)


# Whole runs


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_the_loss_falls_and_a_run_leaves_its_files(folder: Path, tmp_path: Path, norm: str) -> None:
    tmp_path /= "run"  # beside it may stand what matplotlib keeps
    recipe = make_recipe(model=RISTNConfig.from_dict(TINY.to_dict() | {"norm": norm}))
    progress = carry_out(recipe, folder, tmp_path)
    assert [(p.iteration, p.iterations) for p in progress] == [(10, 30), (20, 30), (30, 30)]
    assert progress[-1].loss < 0.6 * progress[0].loss
    assert progress[-1].remaining_seconds == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.pt",
        "log.jsonl",
        "curve.png",
        "tiny.safetensors",
    }
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [entry["iteration"] for entry in read_log(tmp_path)] == [10, 20, 30]
    metadata = read_metadata(tmp_path / "tiny.safetensors")
    assert metadata["config"] == recipe.model
    assert (metadata["metrics"]["recipe"], metadata["metrics"]["iterations"]) == ("tiny", 30)
    average = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["average"]
    released = load_weights(tmp_path / "tiny.safetensors").state_dict()
    for name, value in released.items():
        torch.testing.assert_close(value, average[f"module.{name}"], rtol=1e-3, atol=1e-6)
    assert carry_out(recipe, folder, tmp_path) == []  # it has ended: nothing is done again


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_stopped_run_ends_as_an_uninterrupted_one(folder: Path, tmp_path: Path, norm: str) -> None:
    """Stopped within the first stage, exactly between the stages, within the second, and at a step that is logged."""
    model = RISTNConfig.from_dict(TINY.to_dict() | {"norm": norm})
    recipe = make_recipe(SPATIAL, replace(STAGE, iterations=18, warmup=5), model=model)
    carry_out(recipe, folder, tmp_path / "whole")
    for steps, reached in ((3, 3), (4, 7), (6, 13), (7, 20)):
        progress = carry_out(recipe, folder, tmp_path / "stopped", steps=steps)
        assert progress[-1].iteration == reached
        assert not (tmp_path / "stopped" / "tiny.safetensors").exists()
    carry_out(recipe, folder, tmp_path / "stopped")
    assert_same_end(tmp_path / "stopped", tmp_path / "whole")


def test_a_killed_run_ends_as_an_uninterrupted_one(folder: Path, tmp_path: Path) -> None:
    recipe = make_recipe(SPATIAL, replace(STAGE, iterations=18), checkpoint_every=6)
    carry_out(recipe, folder, tmp_path / "whole")
    killed = tmp_path / "killed"
    kill_after(recipe, folder, killed, iteration=20)
    assert torch.load(killed / "checkpoint.pt", weights_only=True)["iteration"] == 18
    assert [entry["iteration"] for entry in read_log(killed)] == [10, 20]
    with (killed / "log.jsonl").open("a") as file:
        file.write('{"iteration": 21, "los')  # killed while it wrote
    carry_out(recipe, folder, killed)
    assert_same_end(killed, tmp_path / "whole")


def test_a_run_killed_before_its_first_checkpoint_starts_afresh(folder: Path, tmp_path: Path) -> None:
    carry_out(make_recipe(), folder, tmp_path / "whole")
    kill_after(make_recipe(), folder, tmp_path / "killed", iteration=10)
    assert not (tmp_path / "killed" / "checkpoint.pt").exists()
    carry_out(make_recipe(), folder, tmp_path / "killed")
    assert_same_end(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.parametrize("steps", [4, None])
def test_a_finished_run_continues_with_added_stages(folder: Path, tmp_path: Path, steps: int | None) -> None:
    first, second = replace(STAGE, iterations=10), replace(STAGE, name="more", iterations=8, frames=3)
    carry_out(make_recipe(first, second), folder, tmp_path / "whole")
    carry_out(make_recipe(first), folder, tmp_path / "grown", steps=steps)
    carry_out(make_recipe(first, second), folder, tmp_path / "grown")
    assert_same_end(tmp_path / "grown", tmp_path / "whole")
    with pytest.raises(TrainingError, match="'stages' differs"):
        carry_out(make_recipe(first), folder, tmp_path / "grown")


@pytest.mark.parametrize("name", ["tiny.safetensors", "curve.png"])
def test_a_new_run_replaces_no_other_file(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(TrainingError, match=f"{name}: already exists; rename it, or use another --output"):
        carry_out(make_recipe(), folder, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine"


def test_weights_that_appear_during_a_run_are_kept(folder: Path, tmp_path: Path) -> None:
    weights = tmp_path / "tiny.safetensors"
    run = train(make_recipe(), data=folder, output=tmp_path, backend=CPU, workers=0)
    next(run)
    weights.write_text("mine")
    with pytest.raises(TrainingError, match=r"tiny\.safetensors: already exists, written by another program"):
        list(run)
    assert weights.read_text() == "mine"
    weights.rename(tmp_path / "other")
    carry_out(make_recipe(), folder, tmp_path)
    assert read_metadata(weights)["metrics"]["recipe"] == "tiny"


def test_minutes_stop_a_run_to_be_gone_on_with(folder: Path, tmp_path: Path) -> None:
    run = train(make_recipe(), data=folder, output=tmp_path, backend=CPU, workers=0, minutes=0)
    assert [progress.iteration for progress in run] == [1]
    assert carry_out(make_recipe(), folder, tmp_path, steps=1)[-1].iteration == 2


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # Python 3.12 and later, of DataLoader's own doing
def test_who_makes_the_batches_does_not_matter(folder: Path, tmp_path: Path) -> None:
    carry_out(make_recipe(), folder, tmp_path / "here")
    list(train(make_recipe(), data=folder, output=tmp_path / "there", backend=CPU, workers=1))
    assert_same_end(tmp_path / "there", tmp_path / "here")


# Stages


def test_the_spatial_part_is_handed_to_the_whole_network(folder: Path) -> None:
    recipe = make_recipe(SPATIAL, STAGE)
    run, windows = Run(recipe, CPU), TrainingWindows(recipe, folder)
    assert isinstance(run.model.mixing, Pointwise)
    for step in range(SPATIAL.iterations):
        run.step(*windows[step])
    trained = {name: value.clone() for name, value in run.averaged.state_dict().items()}
    run.start_stage(1, run.averaged)
    fresh = build_model(recipe, STAGE).state_dict()
    handed = {name: value for name, value in run.model.state_dict().items() if name in trained}
    assert {name.split(".")[0] for name in handed} == {"spatial", "refine", "reconstruction"}
    assert all(torch.equal(value, trained[name]) for name, value in handed.items())
    assert not torch.equal(handed["reconstruction.last.weight"], fresh["reconstruction.last.weight"])
    new = {name: value for name, value in run.model.state_dict().items() if name not in trained}
    assert {name.split(".")[0] for name in new} == {"temporal", "fusion"}
    assert all(torch.equal(value, fresh[name]) for name, value in new.items())


def test_stages_follow_each_other_at_their_steps(folder: Path) -> None:
    recipe = make_recipe(replace(SPATIAL, iterations=2), replace(STAGE, learning_rate=5e-3, final_learning_rate=5e-3))
    run, windows = Run(recipe, CPU), TrainingWindows(recipe, folder)
    stages, rates = [], []
    for step in range(4):
        run.step(*windows[step])
        stages.append(run.stage_index)
        rates.append(run.optimizer.param_groups[0]["lr"])
    assert stages == [0, 0, 1, 1]
    assert rates[2:] == [5e-3, 5e-3]
    assert isinstance(run.averaged.mixing, Recurrent)


def test_a_stage_that_continues_keeps_network_averages_and_optimiser(folder: Path) -> None:
    more = replace(STAGE, name="more", continues=True, frames=3, learning_rate=2e-3, beta2=0.99)
    recipe = make_recipe(replace(STAGE, iterations=2), more)
    run, windows = Run(recipe, CPU), TrainingWindows(recipe, folder)
    for step in range(2):
        run.step(*windows[step])
    model, optimizer = run.model, run.optimizer
    moments = [dict(state) for state in optimizer.state.values()]
    run.step(*windows[2])
    assert run.model is model
    assert run.optimizer is optimizer
    assert [int(state["step"]) for state in optimizer.state.values()] == [3] * len(moments)
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.99)
    assert run.averaged_steps == 3


def test_a_run_of_stages_that_continue_ends_the_same_after_stops(folder: Path, tmp_path: Path) -> None:
    model = replace(TINY, norm="batch", gate_kernel=1, dense_input=True, normalize_input=True)
    stages = [replace(STAGE, iterations=6, beta2=0.99)]
    stages.append(replace(STAGE, name="frozen", iterations=6, continues=True, freeze_norm=True, loss="luma"))
    recipe = make_recipe(*stages, model=model)
    carry_out(recipe, folder, tmp_path / "whole")
    for steps in (3, 3, 2):
        carry_out(recipe, folder, tmp_path / "stopped", steps=steps)
    carry_out(recipe, folder, tmp_path / "stopped")
    assert_same_end(tmp_path / "stopped", tmp_path / "whole")


def test_frozen_normalisation_keeps_the_averaged_statistics(folder: Path) -> None:
    frozen = replace(STAGE, name="frozen", continues=True, freeze_norm=True)
    recipe = make_recipe(replace(STAGE, iterations=3), frozen, model=replace(TINY, norm="batch"))
    run, windows = Run(recipe, CPU), TrainingWindows(recipe, folder)
    for step in range(3):
        run.step(*windows[step])
    name = "temporal.before.0.running_mean"
    averaged = run.averaged.state_dict()[name].clone()
    assert not torch.equal(run.model.state_dict()[name], averaged)
    for step in range(3, 5):
        run.step(*windows[step])
    assert torch.equal(run.model.state_dict()[name], averaged)
    assert torch.equal(run.averaged.state_dict()[name], averaged)


def test_stages_that_have_not_begun_may_change(folder: Path, tmp_path: Path) -> None:
    first, second = replace(STAGE, iterations=4), replace(STAGE, name="more", iterations=8)
    carry_out(make_recipe(first, second), folder, tmp_path, steps=2)
    changed = replace(second, learning_rate=1e-3, continues=True)
    assert carry_out(make_recipe(first, changed), folder, tmp_path, steps=4)[-1].iteration == 6
    with pytest.raises(TrainingError, match="'stages' differs"):
        carry_out(make_recipe(first, second), folder, tmp_path)


# Validation


def test_validation_of_a_network_that_is_bicubic(folder: Path) -> None:
    torch.manual_seed(0)
    model = RISTN(replace(TINY, global_skip=True))
    recipe = make_recipe(data=DataRecipe(validation="clips"))
    (window,) = validation.load_validation(recipe, folder)
    assert (window.name, window.kind, window.hr.shape) == ("wave", "clip", (7, 3, 64, 72))
    scores = validation.validate(model, [window], CPU).summary
    assert scores["psnr_y"] == scores["bicubic_psnr_y"]
    assert 20 < scores["psnr_y"] < 60
    assert scores["temporal_error"] == scores["bicubic_temporal_error"] > 0
    assert 0 < scores["sharpness"] < 1
    assert scores["temporal_gain"] == 0
    assert 0 < scores["temporal_share"] < 1
    single = RISTN(replace(TINY, global_skip=True, lstm_layers=0))
    assert validation.validate(single, [window], CPU).summary.keys() == {
        *("psnr_y", "bicubic_psnr_y", "temporal_gain"),
        *("sharpness", "temporal_error", "bicubic_temporal_error"),
    }


def test_sharpness_and_steadiness_by_closed_form() -> None:
    x = np.arange(40)
    ramp = np.repeat(np.broadcast_to(2 * x, (40, 40))[..., None], 3, axis=-1).astype(np.uint8)
    step = 2 * 219 / 255  # of Y
    assert validation.edge_energy(ramp) == pytest.approx(step**2)
    assert validation.edge_energy(ramp // 2) == pytest.approx(step**2 / 4)
    truth = [ramp, ramp, ramp]
    assert validation.mean_temporal_error([ramp + 5] * 3, truth) == pytest.approx(0)
    assert validation.mean_temporal_error([ramp, ramp + 6, ramp + 6], truth) == pytest.approx(3 * 219 / 255)
    assert validation.mean_temporal_error([ramp], truth[:1]) == 0


def test_validation_measures_the_temporal_gain(folder: Path) -> None:
    model = RISTN(replace(TINY, global_skip=True))
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.2 * torch.randn(parameter.shape, generator=generator)
    recipe = make_recipe(data=DataRecipe(validation="clips"))
    scores = validation.validate(model, validation.load_validation(recipe, folder), CPU).summary
    assert scores["temporal_gain"] != 0
    assert scores["psnr_y"] < scores["bicubic_psnr_y"]


def test_validation_is_logged_and_released(folder: Path, tmp_path: Path) -> None:
    data = DataRecipe(clips="", text_share=0.0, validation="clips")
    progress = carry_out(make_recipe(replace(STAGE, iterations=12), data=data, validate_every=4), folder, tmp_path)
    assert [p.iteration for p in progress] == [4, 8, 10, 12]
    log = read_log(tmp_path)
    assert [entry["iteration"] for entry in log if "validation" in entry] == [4, 8, 12]
    assert progress[2].validation == progress[1].validation == log[1]["validation"]
    released = read_metadata(tmp_path / "tiny.safetensors")["metrics"]
    assert released["psnr_y"] == log[-1]["validation"]["psnr_y"]


def test_validation_windows_are_the_middle_of_each_clip(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = torch.arange(20 * 3, dtype=torch.uint8).view(20, 3, 1, 1).expand(-1, -1, 401, 500)
    images = [SimpleNamespace(image=frame.permute(1, 2, 0).numpy()) for frame in clip]
    monkeypatch.setattr(video, "read_frames", lambda _: iter(images))
    (window,) = validation.load_validation(make_recipe(data=DataRecipe(validation="clips")), folder)
    assert window.hr.shape == (7, 3, 384, 384)
    torch.testing.assert_close(quantize(window.hr)[:, :, 0, 0] * 255, clip[6:13, :, 0, 0].float())


def test_validation_moves_photographs_at_three_speeds(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(2):
        still = np.random.default_rng(number).integers(0, 256, (290, 300, 3), dtype=np.uint8)
        write_image(tmp_path / "photos" / f"{number}.png", still)
    recipe = make_recipe(data=DataRecipe(clips="", validation_photos="photos"))
    windows = validation.load_validation(recipe, tmp_path)
    assert [window.name for window in windows[:3]] == ["0 slow", "0 medium", "0 fast"]
    assert [window.hr.shape for window in windows] == [(7, 3, 192, 192)] * 6
    assert not any(torch.equal(window.hr[0], window.hr[1]) for window in windows)
    model = RISTN(replace(TINY, global_skip=True))
    scores = validation.validate(model, windows, CPU)
    assert {f"temporal_gain_{kind}" for kind in ("slow", "medium", "fast")} <= scores.summary.keys()
    assert scores.windows.keys() == {window.name for window in windows}
    assert scores.summary["psnr_y"] == pytest.approx(
        sum(row["psnr_y"] for row in scores.windows.values()) / len(windows), abs=1e-3
    )


def test_runs_are_compared_window_by_window(tmp_path: Path) -> None:
    def entry(pixels: int, *psnr: float) -> dict[str, Any]:
        rows = {str(n): {"psnr_y": value, "temporal_gain": value / 10} for n, value in enumerate(psnr)}
        return {"iteration": 1, "lr_pixels": pixels, "windows": rows}

    ours = [entry(1000, 30.0, 34.0, 32.0), {"iteration": 2, "lr_pixels": 1500}, entry(2000, 31.0, 35.0)]
    theirs = [entry(1010, 29.0, 34.0, 30.0), entry(3000, 31.0, 35.0)]
    (row,) = journal.compare_logs(ours, theirs)
    assert (row.lr_pixels, row.windows, row.psnr_y) == (1000, 3, 32.0)
    assert row.ahead == pytest.approx(1.0)  # 1, 0 and 2
    assert row.error == pytest.approx(1 / math.sqrt(3))
    assert row.gain_ahead == pytest.approx(0.1)
    assert journal.compare_logs(ours, []) == []


# What cannot be used


def test_a_checkpoint_of_another_recipe_is_refused(folder: Path, tmp_path: Path) -> None:
    carry_out(make_recipe(), folder, tmp_path, steps=1)
    with pytest.raises(TrainingError, match=r"checkpoint\.pt: made by another recipe \('seed' differs\)"):
        carry_out(make_recipe(seed=4), folder, tmp_path)
    with pytest.raises(TrainingError, match="'stages' differs"):
        carry_out(make_recipe(replace(STAGE, batch=3)), folder, tmp_path)
    with pytest.raises(TrainingError, match="'model' differs"):
        carry_out(make_recipe(model=replace(TINY, growth=3)), folder, tmp_path)


def test_a_checkpoint_from_before_a_recipe_field_is_gone_on_with(folder: Path, tmp_path: Path) -> None:
    carry_out(make_recipe(), folder, tmp_path, steps=1)
    path = tmp_path / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    del state["recipe"]["start_from"], state["recipe"]["data"]["cache_gib"], state["recipe"]["stages"][0]["warmup"]
    del state["start_sha256"]
    torch.save(state, path)
    with pytest.raises(TrainingError, match="'start_from' differs"):
        carry_out(make_recipe(start_from="ristn-lite"), folder, tmp_path)
    assert carry_out(make_recipe(), folder, tmp_path, steps=1)[-1].iteration == 2


def test_fine_tuning_begins_with_the_weights_of_a_file(folder: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    torch.manual_seed(9)
    save_weights(RISTN(TINY), start, metrics={})
    recipe = make_recipe(replace(STAGE, learning_rate=0.0, final_learning_rate=0.0), start_from=str(start))
    output = tmp_path / "run"
    carry_out(recipe, folder, output, steps=10)
    state = torch.load(output / "checkpoint.pt", weights_only=True)
    for name, value in load_weights(start).named_parameters():
        torch.testing.assert_close(state["model"][name], value.data, msg=name)
    sha256 = hashlib.sha256(start.read_bytes()).hexdigest()
    assert state["start_sha256"] == read_log(output)[0]["start_sha256"] == sha256
    start.unlink()  # a resumed run needs it no more
    assert carry_out(recipe, folder, output)[-1].iteration == recipe.iterations
    (released,) = output.glob("*.safetensors")
    assert read_metadata(released)["metrics"]["start_sha256"] == sha256


def test_fine_tuning_needs_the_same_network(folder: Path, tmp_path: Path) -> None:
    start = tmp_path / "start.safetensors"
    save_weights(RISTN(replace(TINY, growth=3)), start, metrics={})
    with pytest.raises(TrainingError, match=r"start\.safetensors: growth is 3, but 2 in the recipe"):
        carry_out(make_recipe(start_from=str(start)), folder, tmp_path / "run")
    with pytest.raises(WeightsError, match="unknown weights 'nobody'"):
        carry_out(make_recipe(start_from="nobody"), folder, tmp_path / "run")


@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "something else"])
def test_a_damaged_checkpoint_is_refused(folder: Path, tmp_path: Path, damage: str) -> None:
    carry_out(make_recipe(), folder, tmp_path, steps=1)
    path = tmp_path / "checkpoint.pt"
    match damage:
        case "truncated":
            path.write_bytes(path.read_bytes()[:-2000])
        case "text":
            path.write_text("not a checkpoint")
        case "empty":
            path.write_bytes(b"")
        case "something else":
            torch.save({"weights": torch.zeros(3)}, path)
    before = path.read_bytes()
    with pytest.raises(TrainingError, match="not a readable checkpoint") as caught:
        carry_out(make_recipe(), folder, tmp_path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_checkpoint_of_an_earlier_version_is_read(folder: Path, tmp_path: Path) -> None:
    """Pending losses and the count of pixels were not part of it."""
    carry_out(make_recipe(), folder, tmp_path, steps=3)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state["losses"], state["lr_pixels"]
    torch.save(state, tmp_path / "checkpoint.pt")
    assert carry_out(make_recipe(), folder, tmp_path)[-1].iteration == 30
    assert read_log(tmp_path)[-1]["lr_pixels"] == 30 * STAGE.pixels


def test_a_loss_that_is_not_finite_ends_the_run_without_a_checkpoint(folder: Path, tmp_path: Path) -> None:
    recipe = make_recipe(replace(STAGE, learning_rate=1e30), checkpoint_every=1)
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d+; use a lower learning rate"):
        carry_out(recipe, folder, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert all(math.isfinite(loss) for loss in state["losses"])


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_photograph_is_reported_in_one_line_from_any_process(tmp_path: Path, workers: int) -> None:
    (tmp_path / "photos").mkdir()
    path = tmp_path / "photos" / "bad.png"
    path.touch()
    with pytest.raises(TrainingError) as caught:
        list(train(make_recipe(), data=tmp_path, output=tmp_path / "run", backend=CPU, workers=workers))
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_missing_material_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no photographs"):
        carry_out(make_recipe(), tmp_path, tmp_path / "run")
    recipe = make_recipe(data=DataRecipe(clips="", validation="nowhere"))
    with pytest.raises(RecipeError, match="nowhere: no clips to validate on"):
        carry_out(recipe, folder, tmp_path / "run")


def test_missing_libraries_are_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "find_spec", lambda name: None if name == "matplotlib" else object())
    with pytest.raises(TrainingError, match=r"training needs matplotlib: pip install 'ristn\[train\]'"):
        carry_out(make_recipe(), folder, tmp_path)


# Several processes

DISTRIBUTED = (replace(SPATIAL, iterations=2), replace(STAGE, iterations=3, clip_gradient=0.5))


def train_as_one_of_several(folder: Path, output: Path) -> None:
    """What each process that torchrun starts does."""
    torch.set_num_threads(1)
    list(train(make_recipe(*DISTRIBUTED), data=folder, output=output, backend=CPU, workers=0))


def torchrun(module: str, function: str, folder: Path, tmp_path: Path) -> None:
    """Call `function(folder, tmp_path / "run")` of a test module in two processes."""
    script = tmp_path / "main.py"
    script.write_text(
        f"from pathlib import Path\nfrom {module} import {function}\n"
        f"{function}(Path({str(folder)!r}), Path({str(tmp_path / 'run')!r}))\n"
    )
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here, *here.parents[:2])))
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        # Now and then a thread of gloo outlives its process, and the C++ runtime aborts it after all is done.
        if "terminate called without an active exception" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr[-3000:]


def test_two_processes_equal_one_with_both_batches(folder: Path, tmp_path: Path) -> None:
    torchrun("test_training", "train_as_one_of_several", folder, tmp_path)
    recipe = make_recipe(*DISTRIBUTED)
    run, windows = Run(recipe, CPU), TrainingWindows(recipe, folder, world=2)
    for step in range(recipe.iterations):
        pairs = zip(windows[2 * step], windows[2 * step + 1], strict=True)
        run.step(*(torch.cat(pair) for pair in pairs))
    state = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert state["iteration"] == recipe.iterations
    for name, value in run.model.state_dict().items():
        torch.testing.assert_close(state["model"][name], value, rtol=0, atol=2e-4, msg=name)
    (entry,) = read_log(tmp_path / "run")
    assert entry["iteration"] == recipe.iterations
    assert entry["lr_pixels"] == 2 * recipe.pixels_at(recipe.iterations)


def test_compilation_without_a_compiler_is_refused_with_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    stage = StageRecipe(name="only", iterations=1)
    recipe = Recipe(name="compiled", model=TINY, stages=(stage,), compile=True)
    with pytest.raises(TrainingError, match=r"needs a C\+\+ compiler"):
        next(train(recipe, data=tmp_path, output=tmp_path / "run", backend=CPU))
