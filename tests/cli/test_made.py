"""The line at the end: what was made, its size and time, and a command that compares it as it stands there."""

import re
import shlex
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from clips import make_clip, make_picture
from commands import QUICK, in_process

from ristn_cli.cli.made import comparison_command, describe_made, size_of
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.plan import format_bytes
from ristn_cli.job.progress import Progress
from ristn_cli.video import VideoError, VideoInfo, probe, write_image

LINE = re.compile(
    r"(?P<target>.+): (?P<frames>\d+) frames? of (?P<size>\d+x\d+), (?P<bytes>\d+\.\d [kM]B), in (?P<time>\d+:\d\d) "
    r"\(\d+\.\d\d fps(, after \d+ frames of earlier runs)?\) by (?P<weights>.+\.safetensors)"
    r"(; to compare: (?P<compare>ristn compare .+))?"
)


@pytest.fixture
def room(tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    tiny_weights.rename(tmp_path / "w.safetensors")
    make_clip(tmp_path / "a.mkv", frames=6, width=32, height=32)
    return tmp_path


def upscaled(*arguments: object) -> re.Match[str]:
    """The line at the end of a run."""
    code, stdout, stderr = in_process("upscale", *arguments, "--model", "./w.safetensors", "--precision", "fp32")
    assert code == 0, stderr
    (line,) = stdout.splitlines()
    found = LINE.fullmatch(line)
    assert found is not None, line
    return found


def compare(found: re.Match[str]) -> str:
    """Runs the command of such a line; the page that it wrote."""
    words = shlex.split(found["compare"])
    assert words[0] == "ristn"
    code, stdout, stderr = in_process(*words[1:], "--overwrite")
    assert code == 0, stderr
    return stdout


def test_a_video(room: Path) -> None:
    found = upscaled("a.mkv", "b.mkv", "--preset", "ultrafast")
    told = [found[name] for name in ("target", "frames", "size", "weights")]
    assert told == ["b.mkv", "6", "128x128", "./w.safetensors"]
    assert found["bytes"] == format_bytes((room / "b.mkv").stat().st_size)
    assert found["compare"] == "ristn compare a.mkv b.mkv"
    assert "6 frames of 2 inputs at 128x128" in compare(found)


@pytest.mark.parametrize("start", ["0.08", "2f", "00:00:00:02"])
def test_a_part_of_a_video_is_compared_with_that_part(room: Path, start: str) -> None:
    found = upscaled("a.mkv", "b.mkv", "--start", start, "--preset", "ultrafast")
    assert found["compare"] == "ristn compare a.mkv b.mkv --offset 0.08"
    assert "4 frames of 2 inputs" in compare(found)


def test_names_that_a_shell_would_take_apart(room: Path) -> None:
    (room / "a.mkv").rename(room / "-it's a $film.mkv")
    found = upscaled("./-it's a $film.mkv", "o u t.mkv", "--max-frames", "2", "--preset", "ultrafast")
    assert "2 frames" in compare(found)


def test_a_still_and_images(room: Path) -> None:
    write_image(room / "photo.png", make_picture(5, 32, 32))
    found = upscaled("photo.png", "large.png")
    assert (found["frames"], found["size"]) == ("1", "128x128")
    assert "1 frame of 2 inputs" in compare(found)
    found = upscaled("a.mkv", "new/%03d.png", "--max-frames", "3")
    total = sum(path.stat().st_size for path in (room / "new").iterdir())
    assert found["bytes"] == format_bytes(total)
    assert "3 frames of 2 inputs" in compare(found)


def test_a_stream_has_no_size_and_nothing_to_compare() -> None:
    plan = type("Plan", (), {"width": 256, "height": 192})
    assert size_of(Path("-"), 3) is None
    for source, target in (("-", "b.mkv"), ("a.mkv", "-")):
        assert comparison_command(Path(source), Path(target), UpscaleOptions(), probe, plan) is None  # type: ignore[arg-type]


def test_a_batch_ends_with_one_command(room: Path) -> None:
    (room / "films").mkdir()
    for name in ("1.mkv", "2.mkv"):
        make_clip(room / name, frames=2, width=32, height=32).rename(room / "films" / name)
    code, stdout, stderr = in_process("upscale", "films", "out", "--model", "./w.safetensors", *QUICK)
    assert code == 0, stderr
    assert stdout.endswith("2 inputs: 2 done\nto compare the first one: ristn compare films/1.mkv out/1.mkv\n")
    code, stdout, _ = in_process("upscale", "films", "out", "--model", "./w.safetensors", *QUICK)
    assert stdout.endswith("2 inputs: 2 done already\n")


def test_no_command_that_would_fail() -> None:
    shape = {"width": 64, "height": 48, "is_image_sequence": False}
    info = type("Info", (), shape)
    plan = type("Plan", (), {"width": 256, "height": 192})

    def way(options: UpscaleOptions, found: object = info, made: object = plan) -> str | None:
        return comparison_command(Path("a.mkv"), Path("b.mkv"), options, lambda _: found, made)  # type: ignore[arg-type, return-value]

    assert way(UpscaleOptions()) == "ristn compare a.mkv b.mkv"
    assert way(UpscaleOptions(start=Fraction(1, 3))) == "ristn compare a.mkv b.mkv --offset 1/3"
    assert way(UpscaleOptions(video_stream=1)) is None
    assert way(UpscaleOptions(size=(256, 144)), made=type("Plan", (), {"width": 256, "height": 144})) is None
    images = type("Images", (), shape | {"is_image_sequence": True})
    assert way(UpscaleOptions(image_rate=Fraction(24)), found=images) == "ristn compare a.mkv b.mkv"
    assert way(UpscaleOptions(image_rate=Fraction(24), start=Fraction(1)), found=images) is None

    def fail(_: Path) -> VideoInfo:
        raise VideoError("it was taken away")

    assert comparison_command(Path("a.mkv"), Path("b.mkv"), UpscaleOptions(), fail, plan) is None  # type: ignore[arg-type]


def test_frames_of_earlier_runs_are_told_and_do_not_count_as_speed(tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    target.write_bytes(bytes(1_250_000))
    done = Progress(frames=50, resumed_frames=40, elapsed_seconds=5.0)
    assert describe_made(target, None, done) == "50 frames, 1.2 MB, in 0:05 (2.00 fps, after 40 frames of earlier runs)"
    assert describe_made(tmp_path / "gone.mkv", None, replace(done, frames=1, resumed_frames=0)) == (
        "1 frame, in 0:05 (0.20 fps)"
    )
