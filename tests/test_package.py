"""What newcomers meet first: the public names, the example, the released weights, the documents."""

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.main import get_command

import ristn_cli
from ristn_cli.cli import app
from ristn_cli.model import CONFIGS, RISTN, count_macs
from ristn_cli.video import ReadOptions, probe, read_frames, read_image
from ristn_cli.weights import RELEASES, find_weights, load_weights, read_metadata

ROOT = Path(__file__).parents[1]


def test_all_is_true() -> None:
    assert sorted(ristn_cli.__all__) == sorted(ristn_cli._HOMES)
    for name in ristn_cli.__all__:
        assert getattr(ristn_cli, name).__name__ == name
    with pytest.raises(AttributeError):
        _ = ristn_cli.nonsense


def run_example(name: str, *arguments: object) -> str:
    script = ROOT / "examples" / name
    command = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_example_runs(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    assert "3 of 3 frames" in run_example("upscale_clip.py", target, 3)
    assert len(list(read_frames(target))) == 3
    assert (probe(target).width, probe(target).height) == (1280, 720)


def test_the_example_with_frames_runs(tmp_path: Path) -> None:
    stdout = run_example("upscale_frames.py", tmp_path / "new" / "frames", 2)
    assert stdout.splitlines() == ["frame 0: 1280x720, uint8", "frame 1: 1280x720, uint8"]
    small = next(read_frames(ROOT / "examples" / "bbb.mp4", ReadOptions(max_frames=1))).image
    large = read_image(tmp_path / "new" / "frames" / "0000.png")
    means = large.reshape(180, 4, 320, 4, 3).mean(axis=(1, 3))
    assert abs(means - small).mean() < 2  # the same picture


def test_the_example_with_scores_runs() -> None:
    bicubic, network = run_example("evaluate_clip.py", ROOT / "examples" / "bbb.mp4", 3).splitlines()
    line = r"bbb, {}: 3 frames, ([\d.]+) dB, SSIM ([\d.]+)"
    low = re.fullmatch(line.format("bicubic"), bicubic)
    high = re.fullmatch(line.format("ristn-lite"), network)
    assert low is not None
    assert high is not None
    assert float(high[1]) > float(low[1]) + 0.5
    assert float(high[2]) > float(low[2])


def test_the_example_clip_matches_its_readme() -> None:
    info = probe(ROOT / "examples" / "bbb.mp4")
    assert (info.width, info.height, info.frame_count) == (320, 180, 75)
    assert "audio" in {stream.kind for stream in info.streams}
    assert (ROOT / "examples" / "bbb.mp4").stat().st_size < 1_000_000


@pytest.mark.parametrize("name", sorted(RELEASES))
def test_released_weights_load_and_match_their_card(name: str) -> None:
    path = find_weights(name)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    assert sha256 in card
    assert f"{path.stat().st_size:,} bytes" in card
    model = load_weights(path)
    assert f"{model.count_parameters():,} parameters" in card
    assert f"{count_macs(model.config):,} multiply-accumulates" in card
    metrics = read_metadata(path)["metrics"]
    assert f"{metrics['iterations']:,} steps" in card
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_the_document_counts_the_parameters_of_the_named_networks() -> None:
    document = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    with torch.device("meta"):
        counts = {name: f"{RISTN(config).count_parameters():,}" for name, config in CONFIGS.items()}
    assert f"`paper` (its own, {counts['paper']} parameters)" in document
    assert f"`ristn` ({counts['ristn']})" in document
    assert f"`ristn-lite` ({counts['ristn-lite']})" in document
    assert f"`ristn-lite-1` ({counts['ristn-lite-1']})" in document
    assert set(re.findall(r"([\d,]+) parameters", document)) == {counts["paper"]}


def test_lite_is_released() -> None:
    assert "ristn-lite" in RELEASES


def test_released_lite_weights_are_within_their_limits() -> None:
    model = load_weights(find_weights("ristn-lite"))
    assert model.count_parameters() <= 1_000_000
    assert count_macs(model.config) <= 760_000


def test_the_readme_names_files_and_commands_that_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for link in re.findall(r"\]\((?!http|#)([^)#]+)", readme):
        assert (ROOT / link).exists(), link
    commands = re.findall(r"(?m)^(?:.*&& )?ristn ([a-z-]+) ", readme)
    assert "upscale" in commands
    known = get_command(app).commands  # type: ignore[attr-defined]
    for command in commands:
        assert command in known, command
