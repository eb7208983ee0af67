"""What `--model auto` means: a rule over what is known of the source, and that the program follows it and says so."""

import json
import re
import signal
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from clips import make_clip
from typer.main import get_command
from typer.testing import CliRunner

from ristn_cli.cli import app
from ristn_cli.model import RISTN
from ristn_cli.video import VideoInfo, probe
from ristn_cli.weights import (
    DIAL,
    RELEASES,
    ModelChoice,
    Release,
    choose_model,
    file_sha256,
    find_weights,
    finding,
    save_weights,
    weights_file,
)
from ristn_cli.weights.choice import CLEAN_BITS_PER_PIXEL

CLEAN = Release(
    name="ristn-lite", sha256="0" * 64, size=1, config="ristn-lite", source="clean", repository="a/b", revision="v1"
)
BOTH = {"ristn-lite": CLEAN, "real": replace(CLEAN, name="real", source="compressed")}

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    found = probe(make_clip(tmp_path_factory.mktemp("clip") / "in.mp4", frames=2))
    return replace(found, width=100, height=50, frame_count=10, duration=Fraction(10), rate=Fraction(1))


def bytes_for(bits_per_pixel: float) -> int:
    """Size of the clip of `info` at the given bits per pixel."""
    return round(bits_per_pixel * 10 * 100 * 50 / 8)


@pytest.mark.parametrize("codec", ["h264", "hevc", "mpeg4", "mpeg2video", "vp9", "av1", "prores", "of the future"])
def test_lossy_codecs_are_chosen_by_bits_per_pixel(info: VideoInfo, codec: str) -> None:
    source = replace(info, codec=codec)
    assert choose_model(source, bytes_for(0.1), BOTH).name == "real"
    assert choose_model(source, bytes_for(0.49), BOTH).name == "real"
    assert choose_model(source, bytes_for(0.5), BOTH).name == "ristn-lite"
    assert choose_model(source, bytes_for(4), BOTH).name == "ristn-lite"


def test_the_choice_has_a_reason(info: VideoInfo) -> None:
    assert choose_model(info, bytes_for(0.125), BOTH) == ModelChoice(
        "real", "h264 at 0.12 bits per pixel leaves compression artefacts"
    )
    assert choose_model(info, bytes_for(2), BOTH).reason == "h264 at 2.00 bits per pixel loses little detail"
    assert choose_model(replace(info, codec="ffv1"), bytes_for(0.1), BOTH) == ModelChoice(
        "ristn-lite", "ffv1 is lossless"
    )
    images = replace(info, images=(Path("a.png"), Path("b.png")))
    assert choose_model(images, 0, BOTH) == ModelChoice("ristn-lite", "the source is images")
    for source in (images, replace(info, codec="ffv1")):
        choice = choose_model(source, 0, BOTH, removes_grain=True)
        assert choice == ModelChoice("real", "--grain needs weights that remove grain")
    assert choose_model(images, 0, {"ristn-lite": CLEAN}, removes_grain=True).name == "ristn-lite"


def test_without_weights_for_it_compressed_sources_get_the_clean_ones(info: VideoInfo) -> None:
    choice = choose_model(info, bytes_for(0.125), {"ristn-lite": CLEAN})
    assert choice.name == "ristn-lite"
    assert choice.reason == "no weights are released for compressed sources (h264 at 0.12 bits per pixel)"


def test_a_length_is_taken_from_the_duration_or_not_known(info: VideoInfo) -> None:
    counted = replace(info, frame_count=None)
    assert choose_model(counted, bytes_for(0.75), BOTH).name == "ristn-lite"
    assert choose_model(counted, bytes_for(0.25), BOTH).name == "real"
    unknown = replace(counted, duration=None)
    assert choose_model(unknown, bytes_for(4), BOTH) == ModelChoice("real", "h264 leaves compression artefacts")


def test_a_model_is_the_name_of_released_weights_or_a_path() -> None:
    assert [weights_file(text) for text in ("ristn-lite", "auto")] == [None, None]
    for path in ("w.safetensors", "./w"):
        assert weights_file(path) == find_weights(path) == Path(path)
    assert find_weights("ristn-lite").name == "ristn-lite.safetensors"


def test_a_path_is_never_taken_for_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Released weights exist under the name of the missing file."""
    source = make_clip(tmp_path / "in.mkv", frames=2, codec="ffv1")
    monkeypatch.chdir(tmp_path)
    code, _, stderr = run(source, "out.mkv", "--dry-run", "--model", "./ristn-lite")
    assert code == 1
    assert stderr == "error: ristn-lite: no such weights file\n"


def test_the_document_has_the_same_limit_and_options() -> None:
    document = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")
    assert f"{CLEAN_BITS_PER_PIXEL} bits per pixel or more" in document
    commands = get_command(app).commands.values()  # type: ignore[attr-defined]
    known = {name for command in commands for option in command.params for name in option.opts}
    known |= set(re.findall(r'"(--[a-z][a-z-]+)"', (ROOT / "tools" / "export_weights.py").read_text(encoding="utf-8")))
    named = set(re.findall(r"--[a-z][a-z-]+", document))
    assert "--measured" in named
    assert named <= known


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `ristn upscale`."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    result = CliRunner().invoke(app, ["upscale", *map(str, arguments), "--precision", "fp32"])
    for number, handler in before.items():
        signal.signal(number, handler)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_upscale_follows_the_rule_and_says_so(
    tiny_model: RISTN, random_model: RISTN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    monkeypatch.setattr(finding, "bundled_folder", lambda: bundled)
    monkeypatch.delitem(RELEASES, DIAL[1])  # test_detail has both
    for name, source in (("ristn-lite", "clean"), ("ristn-lite-real", "compressed")):
        path = bundled / f"{name}.safetensors"
        save_weights(tiny_model if source == "clean" else random_model, path, metrics={})
        record = replace(CLEAN, name=name, source=source, sha256=file_sha256(path), size=path.stat().st_size)  # type: ignore[arg-type]
        monkeypatch.setitem(RELEASES, name, record)
    lossy = make_clip(tmp_path / "in.mp4", frames=60, options={"crf": "40", "preset": "medium"})
    lossless = make_clip(tmp_path / "in.mkv", frames=4, codec="ffv1")
    code, stdout, stderr = run(lossy, tmp_path / "out.mp4", "--dry-run")
    assert code == 0, stderr
    assert stdout.startswith("model: ristn-lite-real, because h264 at ")
    code, stdout, stderr = run(lossless, tmp_path / "out.mp4", "--dry-run")
    assert code == 0, stderr
    assert stdout.startswith("model: ristn-lite, because ffv1 is lossless\n")
    assert json.loads(run(lossless, tmp_path / "out.mp4", "--dry-run", "--json")[1])["model"] == "ristn-lite"
    assert "model: ristn-lite-real, because --grain needs" in run(
        lossless, tmp_path / "out.mp4", "--dry-run", "--grain", "match"
    )[1].replace("\n", " ")
    assert run(lossy, tmp_path / "out.mp4", "--dry-run", "--model", "ristn-lite")[1].startswith(
        "model: ristn-lite, because it was asked for\n"
    )
    code, stdout, stderr = run(
        lossy, tmp_path / "out.mp4", "--verbose", "--log-file", tmp_path / "log", "--max-frames", "2"
    )
    assert code == 0, stderr
    assert " fps) by ristn-lite-real; to compare: ristn compare " in stdout
    assert "model: ristn-lite-real, because" in stderr
    assert "model: ristn-lite-real, because" in (tmp_path / "log").read_text()
    code, _, stderr = run(tmp_path / "missing.mp4", tmp_path / "out.mp4")
    assert (code, len(stderr.splitlines())) == (1, 1)
