"""Options that have no effect are refused in one line that gives the reason; a default, or the environment, is not."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import typer
from clips import make_clip, make_picture
from commands import in_process
from typer.testing import CliRunner

from ristn_cli.cli.effects import Given
from ristn_cli.video import write_image


@pytest.fixture
def room(tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: a clip, a photograph, a folder of numbered images, one of clips, and the weights `w`."""
    monkeypatch.chdir(tmp_path)
    tiny_weights.rename(tmp_path / "w.safetensors")
    make_clip(tmp_path / "a.mkv", frames=2, width=32, height=32)
    for folder in ("shot", "films", "stills", "out"):
        (tmp_path / folder).mkdir()
    (tmp_path / "films" / "a.mkv").write_bytes((tmp_path / "a.mkv").read_bytes())
    write_image(tmp_path / "photo.png", make_picture(0, 32, 32))
    for number in range(2):
        write_image(tmp_path / "shot" / f"{number}.png", make_picture(number, 32, 32))
        write_image(tmp_path / "stills" / f"{number}.png", make_picture(number, 32, 32))
    return tmp_path


REFUSED = {
    # what describes a stream, where there is none, or where it is another
    "a.mkv b.mkv --raw-size 32x32": "raw frames come from standard input",
    "a.mkv b.mkv --raw-rate 25": "raw frames come from standard input",
    "a.mkv b.mkv --raw-format yuv420p": "raw frames come from standard input",
    "a.mkv b.mkv --stdout-format y4m": "nothing goes to standard output",
    "- b.mkv --raw-rate 25": "without --raw-size",
    "- b.mkv --raw-format rgb24": "without --raw-size",
    "- b.mkv --raw-size 32x32 --video-stream 0": "a single video stream",
    "- b.mkv --rate 25": "--raw-rate",
    "- b.mkv --restart": "leaves nothing to continue",
    "- b.mkv --no-disk-check": "the disk is not checked",
    "- b.mkv --recursive": "no folder",
    "- b.mkv --suffix .mkv": "no folder",
    "a.mkv - --overwrite": "replaces no file",
    "a.mkv - --crf 17": "Y4M on standard output is plain frames",
    "a.mkv - --preset medium": "Y4M on standard output is plain frames",
    "a.mkv - --codec h264": "Y4M on standard output is plain frames",
    "a.mkv - --encoder-arg g=2": "Y4M on standard output is plain frames",
    "a.mkv - --no-audio": "Y4M on standard output is plain frames",
    "a.mkv - --no-subtitles": "Y4M on standard output is plain frames",
    "a.mkv - --segment-frames 8": "Y4M on standard output is plain frames",
    # what is for several outputs, or for folders
    "a.mkv b.mkv --suffix .mkv": "the output is a single one",
    "a.mkv out --recursive": "no input is one",
    "a.mkv b.mkv --stills": "no input is one",
    "shot b.mkv --stills": "the output is a single one",
    "photo.png out --suffix .mkv": "no output becomes .mkv",
    # what is for an encoder that does not write
    "a.mkv b.mov --codec prores --crf 17": "prores has no rate factor",
    "a.mkv b.mov --codec prores --preset medium": "prores has no speed presets",
    "a.mkv b.mkv --codec ffv1 --crf 17": "ffv1 has no rate factor",
    "a.mkv b.mkv --codec ffv1 --preset medium": "ffv1 has no speed presets",
    "films out --codec ffv1 --crf 17": "ffv1 has no rate factor",
    "a.mkv b.mkv --crf 17 --encoder-arg crf=20": "--encoder-arg crf=... says the same",
    "a.mkv b.mkv --preset fast --encoder-arg preset=slow": "--encoder-arg preset=... says the same",
    "photo.png b.png --crf 17": "the output is images",
    "photo.png b.png --preset fast": "the output is images",
    "photo.png b.png --codec h264": "the output is images",
    "photo.png b.png --pix-fmt rgb24": "the output is images",
    "shot out --encoder-arg g=2": "the output is images",
    "a.mkv new/%03d.png --no-audio": "hold no other streams",
    "a.mkv new/%03d.png --no-subtitles": "hold no other streams",
    "a.mkv b.png --max-frames 1 --segment-frames 8": "made in one part",
    # what is for inputs of another kind
    "a.mkv b.mkv --rate 25": "a video has its own frame rate",
    "films out --rate 25": "a video has its own frame rate",
    "shot new/%03d.png --rate 25": "which have no frame rate",
    "shot b.mkv --no-audio": "images have no other streams",
    "shot b.mkv --no-subtitles": "images have no other streams",
    "shot b.mkv --deinterlace field": "images are not deinterlaced",
    "shot/%d.png b.mkv --deinterlace frame": "images are not deinterlaced",
    "photo.png b.png --deinterlace frame": "images are not deinterlaced",
    "photo.png b.png --deinterlace ivtc": "images are not deinterlaced",
    "a.mkv - --report r.json": "leaves no files to report of",
    "a.mkv b.mkv --dry-run --report r.json": "does nothing that could be reported",
    "shot b.mkv --video-stream 0": "a single video stream",
    "photo.png b.mkv --no-scene-cuts": "a single frame",
    "photo.png b.mkv --segment-frames 8": "a single frame",
    # what another option rules out
    "a.mkv b.mkv --model ristn-lite": "--weights names the network",
    "a.mkv b.mkv --quiet --verbose": "--quiet hides the plan",
    "a.mkv b.mkv --window 1 --no-scene-cuts": "no neighbouring frame is read",
}


def told(stderr: str) -> str:
    """The line of an error of usage."""
    lines = [line for line in stderr.splitlines() if line]
    assert [line.partition(":")[0] for line in lines][-1] == "Error", stderr
    return lines[-1]


@pytest.mark.parametrize("command", REFUSED)
def test_upscale(room: Path, command: str) -> None:
    before = sorted(room.rglob("*"))
    code, stdout, stderr = in_process("upscale", *command.split(), "--weights", "w.safetensors")
    flag = command.split("--")[-1].split()[0] if "encoder-arg" not in command else command.split("--")[1].split()[0]
    assert (code, stdout) == (2, "")
    assert f"--{flag} has no effect: " in told(stderr)
    assert REFUSED[command] in told(stderr)
    assert sorted(room.rglob("*")) == before


@pytest.mark.parametrize(
    "command",
    [
        "a.mkv b.mkv --no-audio --no-subtitles --strict --drop-alpha --overwrite --restart --no-disk-check",
        "a.mkv b.mkv --codec h264 --crf 17 --preset medium --encoder-arg g=2 --deinterlace off",
        "a.mkv b.mov --codec prores --pix-fmt yuv422p10le --encoder-arg profile=hq",
        "a.mkv b.mkv --quiet --progress none --log-file log",
        "shot b.mkv --rate 24 --codec h264 --strict",
        "shot new/%03d.png --rate 24 --end 1",
        "shot out --suffix .mkv --rate 24",
        "photo.png b.mkv --rate 24",
        "films out --recursive --stills --suffix .mkv",
        "films stills out --recursive --rate 24 --crf 20",
        "stills out --stills",
        "a.mkv photo.png out --crf 20 --deinterlace frame",
    ],
)
def test_what_has_an_effect_is_taken(room: Path, command: str) -> None:
    code, _, stderr = in_process("upscale", *command.split(), "--weights", "w.safetensors", "--dry-run")
    assert code == 0, stderr


@pytest.mark.parametrize(
    ("command", "flag", "reason"),
    [
        ("info shot --video-stream 0", "--video-stream", "a single video stream"),
        ("compare a.mkv a.mkv --png p.png --limit 5", "--limit", "for the page"),
        ("compare a.mkv a.mkv --video p.mp4 --quality 90", "--quality", "for the page"),
        ("compare a.mkv a.mkv --video p.mp4 --frames 2", "--frames", "every frame of the range"),
        ("compare a.mkv a.mkv --video p.mp4 --every 2", "--every", "every frame of the range"),
        ("compare photo.png photo.png --every 2", "--every", "nothing moves"),
        ("compare photo.png photo.png --start 0", "--start", "nothing moves"),
        ("compare photo.png photo.png --offset 1", "--offset", "nothing moves"),
        ("evaluate a.mkv --model bicubic --device cpu", "--device", "no network"),
        ("evaluate a.mkv --model lanczos --precision fp32", "--precision", "no network"),
        ("evaluate a.mkv --sr shot --window 5", "--window", "no network"),
        ("evaluate a.mkv --sr shot --tile 64", "--tile", "no network"),
        ("evaluate a.mkv --sr shot --memory-limit 1GiB", "--memory-limit", "no network"),
        ("evaluate a.mkv --sr shot --temporal-gain", "--temporal-gain", "no network"),
        ("evaluate a.mkv --lr shot --degradation BD", "--degradation", "taken as they are"),
        ("evaluate a.mkv --failures-count 2", "--failures-count", "was not asked for"),
        ("evaluate a.mkv --overwrite", "--overwrite", "were not asked for"),
        ("bench --overwrite", "--overwrite", "was not asked for"),
        ("evaluate a.mkv --json --markdown", "--markdown", "give one of them"),
        ("evaluate shot --stills --max-frames 2", "--max-frames", "a single frame"),
        ("bench --network-only --preset fast", "--preset", "writes no file"),
        ("bench --network-only --frames 5", "--frames", "writes no file"),
        ("bench --json --compare old.json", "--compare", "without ratios"),
        ("train lite --compare other --minutes 5", "--minutes", "trains nothing"),
        ("train lite --compare other --data there", "--data", "trains nothing"),
        ("train lite --compare other --workers 2", "--workers", "trains nothing"),
        ("train lite --compare other --device cpu", "--device", "trains nothing"),
        ("train lite --compare other --start-from ristn-lite", "--start-from", "trains nothing"),
        ("download-weights --list --force", "--force", "fetches nothing"),
        ("download-weights --list --dir there", "--dir", "fetches nothing"),
        ("download-weights --list --repo a/b", "--repo", "fetches nothing"),
        ("download-weights --list --revision v1", "--revision", "fetches nothing"),
    ],
)
def test_other_commands(room: Path, command: str, flag: str, reason: str) -> None:
    before = sorted(room.rglob("*"))
    code, stdout, stderr = in_process(*command.split())
    assert (code, stdout) == (2, "")
    assert f"{flag} has no effect: " in told(stderr)
    assert reason in told(stderr)
    assert sorted(room.rglob("*")) == before


def test_only_what_was_typed_counts() -> None:
    """Neither defaults, nor the environment, nor a configuration."""
    found: list[Given] = []
    small = typer.Typer()

    @small.command()
    def command(
        context: typer.Context,
        plain: int = typer.Option(3, "--plain"),
        known: int = typer.Option(3, "--known", envvar="RISTN_TEST_KNOWN"),
        configured: int = typer.Option(3, "--configured"),
        typed: int = typer.Option(3, "--typed", "-t"),
    ) -> None:
        found.append(Given.of(context))

    settings: dict[str, Any] = {"env": {"RISTN_TEST_KNOWN": "5"}, "default_map": {"configured": 7}}
    assert CliRunner().invoke(small, ["-t", "3"], **settings).exit_code == 0
    assert found == [Given({"typed": "--typed"})]
    with pytest.raises(typer.BadParameter, match=r"^--typed has no effect: of the test$"):
        found[0].refuse("of the test", "plain", "known", "configured", "typed")


def test_the_rate_of_a_still_is_that_of_its_video(room: Path) -> None:
    from ristn_cli.video import probe

    code, _, stderr = in_process(
        "upscale", "photo.png", "b.mkv", "--weights", "w.safetensors", "--rate", "24", "--precision", "fp32"
    )
    assert code == 0, stderr
    assert probe(room / "b.mkv").rate == Fraction(24)
