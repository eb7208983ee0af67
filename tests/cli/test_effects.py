"""Options that have no effect are refused in one line that gives the reason; a default, or the environment, is not."""

import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import typer
from clips import make_clip, make_picture
from commands import in_process
from typer.main import get_command
from typer.testing import CliRunner

from ristn_cli.cli import app
from ristn_cli.cli.effects import Given
from ristn_cli.video import write_image

UPSCALE = get_command(app).commands["upscale"]  # type: ignore[attr-defined]


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
    "a.mkv b.mkv --raw 32x32": "raw frames are read from standard input",
    "a.mkv b.mkv --detail 0.5": "it is between ristn-lite-real and ristn-lite-sharp",
    "a.mkv b.mkv --format mkv": "there is a single output",
    "- b.mkv --raw 32x32 --video-stream 0": "a single video stream",
    "- b.mkv --raw 32x32 --drop audio": "raw frames contain nothing else",
    "- b.mkv --drop chapters": "only frames are read from standard input",
    "- b.mkv --drop audio,attachments": "only frames are read from standard input",
    "- b.mkv --images 25": "for raw frames use --raw",
    "- b.mkv --restart": "cannot be resumed",
    "- b.mkv --no-disk-check": "does not check the disk",
    "- b.mkv --recursive": "not a folder",
    "- b.mkv --format mkv": "there is a single output",
    "a.mkv - --overwrite": "replaces no file",
    "a.mkv - --crf 17": "Y4M on standard output contains uncompressed frames",
    "a.mkv - --preset medium": "Y4M on standard output contains uncompressed frames",
    "a.mkv - --codec h264": "Y4M on standard output contains uncompressed frames",
    "a.mkv - --encoder-arg g=2": "Y4M on standard output contains uncompressed frames",
    "a.mkv - --drop audio": "Y4M on standard output contains uncompressed frames",
    "a.mkv - --format y4m --drop subtitles": "Y4M on standard output contains uncompressed frames",
    "a.mkv - --segment-frames 8": "Y4M on standard output contains uncompressed frames",
    # what is for several outputs, or for folders
    "a.mkv out --recursive": "no input is a folder",
    "a.mkv b.mkv --images stills": "no input is a folder",
    "shot b.mkv --images stills": "there is a single output",
    "photo.png out --format mkv": "no output is .mkv",
    # what is for an encoder that does not write
    "a.mkv b.mov --codec prores --crf 17": "prores has no rate factor",
    "a.mkv b.mov --codec prores --preset medium": "prores has no speed presets",
    "a.mkv b.mkv --codec ffv1 --crf 17": "ffv1 has no rate factor",
    "a.mkv b.mkv --codec ffv1 --preset medium": "ffv1 has no speed presets",
    "films out --codec ffv1 --crf 17": "ffv1 has no rate factor",
    "a.mkv b.mkv --crf 17 --encoder-arg crf=20": "--encoder-arg crf=... overrides it",
    "a.mkv b.mkv --preset fast --encoder-arg preset=slow": "--encoder-arg preset=... overrides it",
    "photo.png b.png --crf 17": "the output is images",
    "photo.png b.png --preset fast": "the output is images",
    "photo.png b.png --codec h264": "the output is images",
    "photo.png b.png --pix-fmt rgb24": "the output is images",
    "shot out --encoder-arg g=2": "the output is images",
    "a.mkv new/%03d.png --drop audio": "contain nothing else",
    "a.mkv new/%03d.png --drop alpha,metadata": "contain nothing else",
    "a.mkv b.png --max-frames 1 --segment-frames 8": "the output is a single image",
    # what is for inputs of another kind
    "a.mkv b.mkv --images 25": "a video has its own frame rate",
    "films out --images 25": "a video has its own frame rate",
    "films out --recursive --images stills": "no input is one",
    "shot new/%03d.png --images 25": "which have no frame rate",
    "shot b.mkv --drop audio": "images contain nothing else",
    "shot b.mkv --drop covers": "images contain nothing else",
    "shot b.mkv --deinterlace field": "images are not deinterlaced",
    "shot/%d.png b.mkv --deinterlace frame": "images are not deinterlaced",
    "photo.png b.png --deinterlace frame": "images are not deinterlaced",
    "photo.png b.png --deinterlace off": "images are not deinterlaced",
    "photo.png b.png --deinterlace ivtc": "images are not deinterlaced",
    "a.mkv - --report r.json": "has no files to describe",
    "a.mkv b.mkv --dry-run --report r.json": "does no work to report",
    "shot b.mkv --video-stream 0": "a single video stream",
    "photo.png b.png --video-stream 0": "a single video stream",
    "photo.png shot out --video-stream 0": "a single video stream",
    "photo.png b.mkv --no-scene-cuts": "a single frame",
    "photo.png b.mkv --segment-frames 8": "a single frame",
    "photo.png b.png --window 5": "a single frame",
    "photo.png b.png --still-tolerance 2": "a single frame",
    "photo.png b.png --start 0": "a single frame",
    "photo.png b.png --end 1": "a single frame",
    "photo.png b.png --max-frames 1": "a single frame",
    # what another option rules out
    "a.mkv b.mkv --quiet --verbose": "--quiet hides the plan",
    "a.mkv b.mkv --window 1 --no-scene-cuts": "no neighbouring frames are read",
    "a.mkv b.mkv --ray-workers 2": "use --ray, too",
    "a.mkv b.mkv --ray --device cpu,cpu": "with --ray, use --ray-workers",
}

ALWAYS_EFFECTIVE = {
    **dict.fromkeys(("model", "size", "square_pixels", "grain"), "shape every output"),
    **dict.fromkeys(("precision", "compilation", "tile", "memory_limit", "ray"), "how the network computes"),
    **dict.fromkeys(("progress", "as_json", "quiet", "log_file", "debug"), "what is told"),
    "strict": "any input may be damaged",
    "dry_run": "goes behind any command",
}
"""Options that no call of `upscale` makes useless, and why."""


def test_every_option_is_refused_somewhere_or_always_has_an_effect() -> None:
    options = {flag: param.name for param in UPSCALE.params for flag in param.opts if param.param_type_name == "option"}
    refused = {options[word] for command in REFUSED for word in command.split() if word.startswith("--")}
    assert {name for name in options.values() if name != "help"} == refused | set(ALWAYS_EFFECTIVE)
    assert not {options[flag_of(command)] for command in REFUSED} & set(ALWAYS_EFFECTIVE)


def flag_of(command: str) -> str:
    """The option of a command in `REFUSED` that has no effect: the last one, or the one before `--encoder-arg`."""
    flags = [word for word in command.split() if word.startswith("--")]
    return flags[0] if flags[-1] == "--encoder-arg" else flags[-1]


def told(stderr: str) -> str:
    """The line of an error of usage."""
    lines = [line for line in stderr.splitlines() if line]
    assert [line.partition(":")[0] for line in lines][-1] == "Error", stderr
    return lines[-1]


@pytest.mark.parametrize("command", REFUSED)
def test_upscale(room: Path, command: str) -> None:
    before = sorted(room.rglob("*"))
    code, stdout, stderr = in_process("upscale", *command.split(), "--model", "./w.safetensors")
    assert (code, stdout) == (2, "")
    assert re.search(f"{flag_of(command)}( [a-z]+)? has no effect: ", told(stderr)), stderr
    assert REFUSED[command] in told(stderr)
    assert sorted(room.rglob("*")) == before


@pytest.mark.parametrize(
    "command",
    [
        "a.mkv b.mkv --drop audio,alpha --drop chapters,videos --strict --overwrite --restart --no-disk-check",
        "a.mkv b.mkv --codec h264 --crf 17 --preset medium --encoder-arg g=2 --deinterlace off",
        "a.mkv b.mov --codec prores --pix-fmt yuv422p10le --encoder-arg profile=hq",
        "a.mkv b.mkv --quiet --progress none --log-file log",
        "shot b.mkv --images 24 --drop alpha --codec h264 --strict",
        "shot new/%03d.png --images 24 --end 1",
        "shot new/%03d.dpx --images 24",
        "shot out --format mkv --images 24",
        "photo.png b.mkv --images 24",
        "films stills out --recursive --images stills --format .mkv",
        "films stills out --recursive --images 24 --crf 20",
        "stills out --images stills",
        "a.mkv photo.png out --crf 20 --deinterlace frame",
    ],
)
def test_what_has_an_effect_is_taken(room: Path, command: str) -> None:
    code, _, stderr = in_process("upscale", *command.split(), "--model", "./w.safetensors", "--dry-run")
    assert code == 0, stderr


@pytest.mark.parametrize(
    ("command", "flag", "reason"),
    [
        ("info shot --video-stream 0", "--video-stream", "a single video stream"),
        ("compare a.mkv a.mkv --png p.png --limit 5", "--limit", "for the page"),
        ("compare a.mkv a.mkv --video p.mp4 --quality 90", "--quality", "for the page"),
        ("compare a.mkv a.mkv --video p.mp4 --frames 2", "--frames", "every frame of the range"),
        ("compare a.mkv a.mkv --video p.mp4 --every 2", "--every", "every frame of the range"),
        ("compare photo.png photo.png --every 2", "--every", "single images"),
        ("compare photo.png photo.png --start 0", "--start", "single images"),
        ("compare photo.png photo.png --offset 1", "--offset", "single images"),
        ("evaluate a.mkv --model bicubic --device cpu", "--device", "no network"),
        ("evaluate a.mkv --model lanczos --precision fp32", "--precision", "no network"),
        ("evaluate a.mkv --sr shot --window 5", "--window", "no network"),
        ("evaluate a.mkv --sr shot --tile 64", "--tile", "no network"),
        ("evaluate a.mkv --sr shot --memory-limit 1GiB", "--memory-limit", "no network"),
        ("evaluate a.mkv --sr shot --temporal-gain", "--temporal-gain", "no network"),
        ("evaluate a.mkv --lr shot --degradation BD", "--degradation", "used unchanged"),
        ("evaluate a.mkv --failures-count 2", "--failures-count", "use --failures, too"),
        ("evaluate a.mkv --overwrite", "--overwrite", "use one of them"),
        ("bench --overwrite", "--overwrite", "there is no --output"),
        ("evaluate a.mkv --json --markdown", "--markdown", "use one of them"),
        ("evaluate shot --stills --max-frames 2", "--max-frames", "a single frame"),
        ("bench --network-only --preset fast", "--preset", "writes no file"),
        ("bench --network-only --frames 5", "--frames", "writes no file"),
        ("bench --json --compare old.json", "--compare", "without ratios"),
        ("train lite --compare other --minutes 5", "--minutes", "does not train"),
        ("train lite --compare other --data there", "--data", "does not train"),
        ("train lite --compare other --workers 2", "--workers", "does not train"),
        ("train lite --compare other --device cpu", "--device", "does not train"),
        ("train lite --compare other --start-from ristn-lite", "--start-from", "does not train"),
        ("download-weights --list --force", "--force", "does not download"),
        ("download-weights --list --dir there", "--dir", "does not download"),
        ("download-weights --list --repo a/b", "--repo", "does not download"),
        ("download-weights --list --revision v1", "--revision", "does not download"),
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
        "upscale", "photo.png", "b.mkv", "--model", "w.safetensors", "--images", "24", "--precision", "fp32"
    )
    assert code == 0, stderr
    assert probe(room / "b.mkv").rate == Fraction(24)
