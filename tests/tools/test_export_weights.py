"""Model cards say what the files state of themselves, and a release is made from a training checkpoint."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch
from clips import make_clip
from commands import in_process
from conftest import TINY
from export_weights import main, read_figures
from model_card import config_name, describe_measured, fill_card, headline

from ristn_cli.engine.device import Backend
from ristn_cli.model import CONFIGS, RISTN
from ristn_cli.training.recipe import DataRecipe, Recipe, StageRecipe
from ristn_cli.training.state import Run
from ristn_cli.weights import RELEASES, WeightsError, find_weights, load_weights, read_metadata, save_weights

STAGE = StageRecipe(name="all", iterations=10, frames=2, patch=6, batch=2, learning_rate=1e-2, ema=0.5)
RECIPE = Recipe(name="of-the-test", model=TINY, stages=(STAGE,), data=DataRecipe(clips="", degradation="real"))

FIGURES = {
    "protocol": {"degradation": "BI", "crop_border": 8, "skip": 0, "window": 20},
    "clips": {
        "city": {
            "frames": 30,
            "psnr_y": 26.4567,
            "ssim_y": 0.72271,
            "bicubic_psnr_y": 25.0912,
            "bicubic_ssim_y": 0.59969,
            "temporal_gain": 0.8123,
        }
    },
    "mean": {
        "psnr_y": 26.4567,
        "ssim_y": 0.72271,
        "bicubic_psnr_y": 25.0912,
        "bicubic_ssim_y": 0.59969,
        "temporal_gain": 0.8123,
    },
}

EVALUATED = {
    "protocol": {"degradation": "BI", "lr": None, "crop_border": 8, "skip": 0, "windows": {"tiny": 20}},
    "clips": {"city": {"frames": 30, "scored": 30}},
    "methods": {
        "bicubic": {
            "mean": {"psnr_y": 25.0912, "ssim_y": 0.59969},
            "clips": {"city": {"mean": {"psnr_y": 25.0912, "ssim_y": 0.59969}}},
        },
        "tiny": {
            "mean": {"psnr_y": 26.4567, "ssim_y": 0.72271, "temporal_gain": 0.8123},
            "clips": {"city": {"mean": {"psnr_y": 26.4567, "ssim_y": 0.72271, "temporal_gain": 0.8123}}},
        },
    },
}


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_the_card_and_the_record_are_of_the_released_file(name: str) -> None:
    release, path = RELEASES[name], find_weights(name)
    metadata = read_metadata(path)
    assert path.stat().st_size == release.size
    assert hashlib.sha256(path.read_bytes()).hexdigest() == release.sha256
    assert config_name(metadata["config"]) == release.config
    assert headline(metadata["metrics"]) == release.metrics
    assert metadata["metrics"].get("source", release.source) == release.source
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert fill_card(card, path) == card
    picture = path.with_name(f"{name}.failures.png")
    shown = hashlib.sha256(picture.read_bytes()).hexdigest() if picture.exists() else None
    assert metadata["metrics"].get("failures_sha256") == shown
    for part in ("## Training", "## Measured", "## Limits", "licence as stated", "<!-- facts -->"):
        assert part in card, part


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run after three steps, whose averaged weights are not its newest ones."""
    monkeypatch.setitem(CONFIGS, "tiny", TINY)
    run = Run(RECIPE, Backend(torch.device("cpu"), "fp32"))
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        lr = torch.randint(0, 256, (2, 2, 3, 6, 6), generator=generator, dtype=torch.uint8)
        hr = torch.randint(0, 256, (2, 2, 3, 24, 24), generator=generator, dtype=torch.uint8)
        run.step(lr, hr)
    run.elapsed_seconds = 5400.0
    return run


class Export(Protocol):
    """Exit code, standard output and standard error of the tool."""

    def __call__(self, *arguments: object) -> tuple[int, str, str]: ...


@pytest.fixture
def export(capsys: pytest.CaptureFixture[str]) -> Export:
    """The tool, run in this process."""

    def call(*arguments: object) -> tuple[int, str, str]:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:  # of argparse
            code = int(ended.code or 0)
        return code, *capsys.readouterr()

    return call


def test_a_release_is_the_averaged_network_of_a_checkpoint(run: Run, export: Export, tmp_path: Path) -> None:
    run.save(tmp_path / "checkpoint.pt")
    validation = {"psnr_y": 30.0, "bicubic_psnr_y": 29.0, "temporal_gain": 0.25}
    entries = [{"iteration": 2, "validation": {"psnr_y": 1.0}}, {"iteration": 3, "validation": validation}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"iterat')
    output = tmp_path / "tiny-real.safetensors"
    code, stdout, stderr = export(tmp_path, output)
    assert code == 0, stderr
    model = load_weights(output)
    newest = run.model.state_dict()
    for name, tensor in run.averaged.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor.half().float() if tensor.dim() > 1 else tensor), name
    assert not torch.equal(model.state_dict()["reconstruction.last.bias"], newest["reconstruction.last.bias"])
    assert read_metadata(output)["metrics"] == validation | {
        "recipe": "of-the-test",
        "iterations": 3,
        "seconds": 5400,
        "source": "compressed",
    }
    card = output.with_suffix(".md").read_text(encoding="utf-8")
    sha256 = hashlib.sha256(output.read_bytes()).hexdigest()
    for line in (
        "# tiny-real",
        f"| file | `tiny-real.safetensors`, {output.stat().st_size:,} bytes |",
        f"| SHA-256 | `{sha256}` |",
        "| training | recipe `of-the-test`, 3 steps, 1.50 hours |",
        "| made for | compressed footage |",
        "| validation | PSNR-Y 30.00 dB, bicubic 29.00 dB, temporal gain +0.250 dB |",
    ):
        assert line in card.splitlines()
    record = stdout[stdout.index("Release(") :]
    assert f'    sha256="{sha256}",\n    size={output.stat().st_size},\n    config="tiny",\n' in record
    assert '    source="compressed",\n    metrics={"psnr_y": 30.0, "temporal_gain": 0.25},\n' in record


def test_measured_scores_are_written_to_file_and_card(run: Run, export: Export, tmp_path: Path) -> None:
    run.save(tmp_path / "checkpoint.pt")
    output, before = tmp_path / "tiny.safetensors", tmp_path / "before.safetensors"
    assert export(tmp_path / "checkpoint.pt", before)[0] == 0
    (tmp_path / "Vid4.json").write_text(json.dumps(EVALUATED))
    prose = tmp_path / "other.md"
    prose.write_text(
        "# other\n\nWords.\n<!-- facts -->\nold\n<!-- end -->\nMore.\n<!-- measured -->\n<!-- end -->\nEnd.\n"
    )
    code, stdout, stderr = export(tmp_path, output, "--measured", tmp_path / "Vid4.json", "--card", prose)
    assert code == 0, stderr
    again = tmp_path / "again.safetensors"
    assert export(output, again)[0] == 0
    assert read_metadata(again) == read_metadata(before)
    found = load_weights(again).state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in load_weights(before).state_dict().items())
    assert read_metadata(output)["metrics"]["measured"] == {"Vid4": FIGURES}
    assert 'metrics={"psnr_y": 26.4567, "temporal_gain": 0.8123}' in stdout
    for name, tensor in load_weights(before).state_dict().items():
        assert torch.equal(load_weights(output).state_dict()[name], tensor), name
    card = output.with_suffix(".md").read_text(encoding="utf-8")
    assert card.startswith("# tiny\n\nWords.\n<!-- facts -->\n| | |\n")
    assert "old" not in card
    assert card.endswith(
        "More.\n<!-- measured -->\nVid4, PSNR-Y in dB / SSIM (degradation BI, crop border 8, skip 0, window 20):\n\n"
        "| clip | frames | bicubic | ours | gain | temporal gain |\n|---|---|---|---|---|---|\n"
        "| city | 30 | 25.09 / 0.5997 | 26.46 / 0.7227 | +1.37 | +0.81 |\n"
        "| **mean** |  | 25.09 / 0.5997 | 26.46 / 0.7227 | +1.37 | +0.81 |\n<!-- end -->\nEnd.\n"
    )
    assert fill_card(card, output) == card
    assert fill_card(card.replace("+0.81", "+0.91"), output) == card


def test_export_reads_the_json_of_evaluate(run: Run, export: Export, tmp_path: Path) -> None:
    run.save(tmp_path / "checkpoint.pt")
    weights = tmp_path / "tiny.safetensors"
    assert export(tmp_path / "checkpoint.pt", weights)[0] == 0
    clip = make_clip(tmp_path / "in.mp4", frames=3, width=64, height=48)
    code, stdout, stderr = in_process("evaluate", clip, "--model", weights, "--precision", "fp32", "--json")
    assert code == 0, stderr
    (tmp_path / "set.json").write_text(stdout)
    figures = read_figures(tmp_path / "set.json")
    assert figures["protocol"] == {"degradation": "BI", "crop_border": 8, "skip": 0, "window": 20}
    assert figures["clips"] == {"in": {"frames": 3} | figures["mean"]}
    assert figures["mean"]["bicubic_psnr_y"] > 0


def test_failures_go_into_file_and_card_with_their_picture(run: Run, export: Export, tmp_path: Path) -> None:
    run.save(tmp_path / "checkpoint.pt")
    weights, output = tmp_path / "before.safetensors", tmp_path / "out" / "tiny.safetensors"
    output.parent.mkdir()
    assert export(tmp_path, weights)[0] == 0
    clip = make_clip(tmp_path / "in.mp4", frames=2, width=64, height=48)
    worst = tmp_path / "worst.png"
    arguments = ["evaluate", clip, "--model", weights, "--precision", "fp32", "--json", "--failures", worst]
    code, stdout, stderr = in_process(*arguments, "--crf", "40")
    assert code == 0, stderr
    (place,) = json.loads(stdout)["failures"]
    assert (place["clip"], place["x"], place["y"], place["width"], place["height"]) == ("in", 8, 8, 48, 32)
    measured = tmp_path / "Set.json"
    measured.write_text(stdout)
    code, _, stderr = export(tmp_path, output, "--measured", measured, "--failures", worst)
    assert code == 0, stderr
    picture = output.with_name("tiny.failures.png")
    assert picture.read_bytes() == worst.read_bytes()
    metrics = read_metadata(output)["metrics"]
    assert metrics["failures_sha256"] == hashlib.sha256(picture.read_bytes()).hexdigest()
    assert metrics["measured"]["Set"]["failures"] == [place]
    card = output.with_suffix(".md").read_text(encoding="utf-8")
    assert "Set, PSNR-Y in dB / SSIM (degradation BI, x264 crf 40, crop border 8, skip 0, window 20):" in card
    ours, bicubic = place["psnr_y"], place["bicubic_psnr_y"]
    assert card.endswith(
        "<!-- failures -->\nSet, the places with the least gain over bicubic, PSNR-Y of the place in dB:\n\n"
        "| clip | frame | place | bicubic | ours | gain |\n|---|---|---|---|---|---|\n"
        f"| in | {place['frame']} | 48x32 at 8,8 | {bicubic:.2f} | {ours:.2f} | {ours - bicubic:+.2f} |\n"
        "\n![Each place by bicubic, by tiny, and of the original](tiny.failures.png)\n<!-- end -->\n"
    )
    assert fill_card(card, output) == card
    code, _, stderr = export(tmp_path, tmp_path / "b.safetensors", "--failures", worst)
    assert code == 1
    assert "shows the failures of one of --measured; 0 have them" in stderr
    prose = tmp_path / "prose.md"
    prose.write_text("# x\n<!-- facts -->\n<!-- end -->\n<!-- measured -->\n<!-- end -->\n")
    code, _, stderr = export(tmp_path, tmp_path / "b.safetensors", "--measured", measured, "--card", prose)
    assert code == 1
    assert "has no <!-- failures -->" in stderr
    assert not (tmp_path / "b.safetensors").exists()
    code, _, stderr = in_process(*arguments, "--model", "ristn-lite", "--overwrite")
    assert code == 2
    assert "--failures compares one network" in stderr


def test_figures_without_a_temporal_gain_have_no_column_of_it() -> None:
    mean = {name: value for name, value in FIGURES["mean"].items() if name != "temporal_gain"}
    lines = describe_measured({"measured": {"A": FIGURES | {"mean": mean}, "B": FIGURES}})
    assert "| clip | frames | bicubic | ours | gain |" in lines
    assert "| clip | frames | bicubic | ours | gain | temporal gain |" in lines
    assert [line for line in lines if "PSNR-Y" in line] == [lines[0], lines[7]]
    assert headline({"measured": {"A": FIGURES | {"mean": mean}, "B": FIGURES}}) == {"psnr_y": 26.4567}
    assert headline({"psnr_y": 1.5, "recipe": "x"}) == {"psnr_y": 1.5}


def test_weights_that_cannot_be_released_are_refused_in_one_line(
    run: Run, export: Export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.save(tmp_path / "checkpoint.pt")
    output = tmp_path / "tiny.safetensors"
    (tmp_path / "notes.json").write_text('{"mean": {}}')
    (tmp_path / "bad.pt").write_bytes(b"not a checkpoint")
    torch.save({"recipe": {"name": "x"}, "iteration": 1}, tmp_path / "other.pt")
    torch.save({"recipe": Evil()}, tmp_path / "evil.pt")
    cases: list[tuple[list[Any], str]] = [
        ([tmp_path / "bad.pt", output], "not a readable checkpoint"),
        ([tmp_path / "missing.pt", output], "not a readable checkpoint"),
        ([tmp_path / "evil.pt", output], "not a readable checkpoint"),
        ([tmp_path / "other.pt", output], "stage_index is missing"),
        ([tmp_path, output, "--measured", tmp_path / "notes.json"], "is not a result of ristn evaluate --json"),
        ([tmp_path, output, "--card", tmp_path / "no.md"], "no such file"),
    ]
    for arguments, message in cases:
        code, _, stderr = export(*arguments)
        assert (code, len(stderr.splitlines())) == (1, 1), stderr
        assert message in stderr
        assert not output.exists()
    assert export(tmp_path, tmp_path / "tiny.pt")[0] == 2
    assert export(tmp_path, output)[0] == 0
    assert export(tmp_path, output)[0] == 2
    assert export(tmp_path, output, "--overwrite")[0] == 0
    monkeypatch.delitem(CONFIGS, "tiny")
    code, _, stderr = export(tmp_path, tmp_path / "b.safetensors")
    assert code == 1
    assert "the network is none of paper, ristn, ristn-lite" in stderr


class Evil:
    """A pickle that would run something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("raise SystemExit('executed')",))


def test_a_stage_of_still_images_is_released_without_its_temporal_part(
    export: Export, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(CONFIGS, "still", replace(TINY, lstm_layers=0))
    recipe = replace(RECIPE, stages=(replace(STAGE, part="spatial"), STAGE))
    Run(recipe, Backend(torch.device("cpu"), "fp32")).save(tmp_path / "checkpoint.pt")
    assert export(tmp_path, tmp_path / "still.safetensors")[0] == 0
    assert load_weights(tmp_path / "still.safetensors").config == replace(TINY, lstm_layers=0)


def test_a_card_without_marks_is_refused(tiny_model: RISTN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CONFIGS, "tiny", TINY)
    path = tmp_path / "a.safetensors"
    save_weights(tiny_model, path, metrics={"recipe": "x", "iterations": 1, "seconds": 1})
    with pytest.raises(WeightsError, match=r"a\.md: has no <!-- facts --> and <!-- end --> around its facts"):
        fill_card("# a\n", path)


@pytest.mark.parametrize(
    "text", ["[]", "5", "{}", '{"protocol": 5}', '{"protocol": {"windows": {"a": 1e999}}}', "[" * 100_000]
)
def test_an_evaluation_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vid4.json"
    path.write_text(text)
    with pytest.raises(WeightsError, match=r"vid4\.json: is not a result of ristn evaluate"):
        read_figures(path)
