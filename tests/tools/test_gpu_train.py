"""Packing a training run for a GPU and training from the pack, on a processor and with tiny sizes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame

from ristn_cli.engine.device import Backend
from ristn_cli.model import RISTNConfig
from ristn_cli.training.batches import make_batches_on, merge_batches
from ristn_cli.training.data import TrainingWindows
from ristn_cli.training.loop import train
from ristn_cli.training.material import list_clips, read_clip
from ristn_cli.training.recipe import DataRecipe, Recipe, StageRecipe
from ristn_cli.training.recipe_file import load_recipe
from ristn_cli.training.state import TrainingError
from ristn_cli.training.validation import load_validation
from ristn_cli.video import write_image

TOOLS = Path(__file__).parents[2] / "tools"
CPU = Backend(torch.device("cpu"), "fp32")
RECIPE = """
name = "tiny"
compile = true
validate_every = 100
[model]
preset = "ristn-lite"
branch_one = [1]
branch_two = [1]
lstm_layers = 1
growth = 2
refine_bottlenecks = 1
upsampling_channels = [4, 4]
[data]
photos = "photos"
drawings = "drawings"
clips = "clips"
validation = "validation"
validation_photos = "held"
clip_share = 0.3
text_share = 0.0
layer_share = 0.5
[[stages]]
name = "only"
iterations = 40
frames = 2
patch = 6
batch = 1
aliasing_until = 20
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two photographs, a drawing, and clips of smooth waves, which compress well."""
    folder = tmp_path_factory.mktemp("material")
    y, x = np.mgrid[:96, :112]

    def wave(number: int, shift: int = 0) -> np.ndarray:
        planes = [np.sin((x + shift) / (3 + number) + y / (5 + 2 * channel)) for channel in range(3)]
        return (127 + 100 * np.stack(planes, axis=-1)).astype(np.uint8)

    for name in ("photos/b.png", "photos/a.png", "drawings/c.png", "held/d.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_image(folder / name, wave(len(name)))
    for name in ("clips/wave.mkv", "validation/held.mkv"):
        (folder / name).parent.mkdir(exist_ok=True)
        with av.open(str(folder / name), "w") as container:
            stream = container.add_stream("ffv1", rate=Fraction(25))
            stream.height, stream.width, stream.pix_fmt = 96, 112, "bgr0"
            for shift in range(30):
                container.mux(stream.encode(VideoFrame.from_ndarray(wave(1, shift), format="rgb24")))
            container.mux(stream.encode(None))
    (folder / "tiny.toml").write_text(RECIPE)
    return folder


def run_tool(name: str, *arguments: str | Path, without_av: bool = False) -> str:
    """Run a tool in a process of its own; what it printed."""
    blocked = "sys.modules['av'] = None; " if without_av else ""
    code = f"import runpy, sys; {blocked}sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, str(TOOLS / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"PYTHONPATH": str(TOOLS.parent)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_run_travels_to_a_gpu_and_back(folder: Path, tmp_path: Path) -> None:
    """Begun here, packed, gone on with from the pack without PyAV, and gone on with here."""
    here, pack, there = tmp_path / "here", tmp_path / "pack", tmp_path / "there"
    recipe = replace(load_recipe(str(folder / "tiny.toml")), compile=False)
    list(islice(train(recipe, data=folder, output=here, backend=CPU, workers=0), 1))  # to the first report
    list(train(recipe, data=folder, output=here, backend=CPU, workers=0, minutes=0))
    begun = torch.load(here / "checkpoint.pt", weights_only=True)["iteration"]

    recipe_file = folder / "tiny.toml"
    run_tool("gpu_pack.py", recipe_file, "--data", folder, "--run", here, "--output", pack, "--limit-mb", "1")
    assert sum(path.stat().st_size for path in pack.rglob("*")) < 1e6
    packed = TrainingWindows(recipe, pack / "data")
    assert [path.stem for path in packed.stills] == ["a", "b", "c"]
    (clip,) = list_clips(pack / "data" / "clips")
    middle = read_clip(folder / "clips" / "wave.mkv")[3:27]
    assert (read_clip(clip).float() - middle.float()).abs().mean() < 8
    ours, theirs = (load_validation(recipe, root) for root in (folder, pack / "data"))
    assert [window.name for window in ours] == [window.name for window in theirs]
    assert all(torch.equal(a.hr, b.hr) for a, b in zip(ours, theirs, strict=True))

    arguments = ("--device", "cpu", "--precision", "fp32", "--merged", "4", "--workers", "1")
    printed = run_tool("gpu_train.py", pack, "--output", there, *arguments, "--minutes", "0", without_av=True)
    assert f"step {begun + 4} of 40" in printed
    assert "checkpoint.pt: 0." in printed
    *_, last = train(recipe, data=folder, output=there, backend=CPU, workers=0)
    assert last.iteration == 40
    log = [json.loads(line) for line in (there / "log.jsonl").read_text().splitlines()]
    assert [entry["iteration"] for entry in log] == sorted(entry["iteration"] for entry in log)
    assert log[-1]["validation"]["psnr_y"] > 15


def test_a_pack_that_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"does not fit into .* even at quality 60"):
        run_tool(
            "gpu_pack.py", folder / "tiny.toml", "--data", folder, "--output", tmp_path / "pack", "--limit-mb", "0.1"
        )


def test_a_device_renders_the_windows_of_a_processor(folder: Path) -> None:
    recipe = load_recipe(str(folder / "tiny.toml"))
    windows = TrainingWindows(recipe, folder)
    rendered = make_batches_on(torch.device("cpu"), TrainingWindows(recipe, folder), range(6), workers=0)
    for number, (lr, hr) in enumerate(rendered):
        expected_lr, expected_hr = windows[number]
        assert torch.equal(lr, expected_lr)
        assert torch.equal(hr, expected_hr)


def test_footage_is_degraded_by_processors_alone(folder: Path) -> None:
    recipe = load_recipe(str(folder / "tiny.toml"))
    recipe = replace(recipe, data=replace(recipe.data, degradation="real"))
    with pytest.raises(TrainingError, match="only degradation 'BI' can be rendered"):
        next(make_batches_on(torch.device("cpu"), TrainingWindows(recipe, folder), range(1), workers=0))


def test_batches_are_joined_within_a_stage() -> None:
    stages = tuple(StageRecipe(name=str(n), iterations=n) for n in (5, 3))
    recipe = Recipe(name="x", model=RISTNConfig(), stages=stages, data=DataRecipe())
    batches = ((torch.full((1, 2), n), torch.full((1, 3), n)) for n in range(1, 8))
    merged = list(merge_batches(batches, recipe, 1, 3))
    assert [count for _, _, count in merged] == [3, 1, 3]
    assert [lr[:, 0].tolist() for lr, _, _ in merged] == [[1, 2, 3], [4], [5, 6, 7]]
    assert merged[0][1].shape == (3, 3)
