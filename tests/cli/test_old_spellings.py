"""Options as an earlier version spelled them do what they did, and one line says how they are written today."""

from fractions import Fraction
from pathlib import Path

import pytest
import typer
from clips import make_clip
from commands import QUICK, in_process

from ristn_cli.cli.arguments import (
    DROPPABLE,
    parse_drop,
    parse_format,
    parse_images,
    parse_output_size,
    parse_raw,
    parse_size,
)
from ristn_cli.cli.old_spellings import renew, renew_weights
from ristn_cli.cli.workers import parse_ray_workers
from ristn_cli.video import RawFormat, probe

RENEWED = {
    "--scale 2": "--size 2x",
    "--scale=3": "--size 3x",
    "--fit 1080p": "--size fit:1080p",
    "--weights w.safetensors": "--model w.safetensors",
    "--suffix .mkv": "--format .mkv",
    "--stdout-format matroska": "--format matroska",
    "--rate 24000/1001": "--images 24000/1001",
    "--stills": "--images stills",
    "--no-audio": "--drop audio",
    "--no-subtitles --drop-alpha --no-audio": "--drop subtitles,alpha,audio",
    "--raw-size 64x48": "--raw 64x48",
    "--raw-format rgb24 --raw-size 64x48": "--raw 64x48:rgb24",
    "--raw-size 64x48 --raw-rate 24000/1001 --raw-format=rgb24": "--raw 64x48@24000/1001:rgb24",
    "--ray-threads 2": "--ray-workers x2",
    "--ray-threads 2 --ray-workers 4": "--ray-workers 4x2",
}


@pytest.mark.parametrize("before", RENEWED)
def test_an_old_spelling_becomes_todays(before: str) -> None:
    words, line = renew([*before.split(), "in.mkv", "out.mkv", "--crf", "20"])
    assert words == [*RENEWED[before].split(), "in.mkv", "out.mkv", "--crf", "20"]
    assert line is not None
    assert line.endswith(f"; use {RENEWED[before]}")


def test_todays_spelling_and_what_is_behind_two_dashes_stay() -> None:
    words = ["in.mkv", "out.mkv", "--size", "2x", "--drop=audio", "--ray-workers", "4", "--", "--no-audio", "--scale"]
    assert renew(words) == (words, None)


@pytest.mark.parametrize(
    "words",
    [
        "--scale 2 --fit 1080p",
        "--scale 2 --size 640x360",
        "--fit 1080p --size=640x360",
        "--weights w.safetensors --model ristn-lite",
        "--rate 24 --stills",
        "--raw-rate 24",
        "--raw-format rgb24 --raw 64x48",
        "--scale",
    ],
)
def test_what_contradicts_itself_is_refused(words: str) -> None:
    with pytest.raises(typer.BadParameter):
        renew(["in.mkv", "out.mkv", *words.split()])


def test_evaluate_has_its_weights_by_model() -> None:
    assert renew_weights(["clips", "--model", "bicubic"]) == (["clips", "--model", "bicubic"], None)
    words, line = renew_weights(["clips", "--weights", "w.safetensors", "--model", "bicubic"])
    assert words == ["clips", "--model", "bicubic", "--model", "w.safetensors"]
    assert line is not None
    assert "use --model w.safetensors" in line


def test_the_program_does_the_same_and_warns_in_one_line(tmp_path: Path, tiny_weights: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=3, width=32, height=32, audio_tracks=1)
    old = ["--weights", tiny_weights, "--scale", "2", "--no-audio"]
    code, _, stderr = in_process("upscale", source, tmp_path / "old.mkv", *old, "--quiet", *QUICK)
    assert code == 0
    (line,) = stderr.splitlines()
    assert line.startswith("warning: --weights ")
    assert line.endswith(f"; use --model {tiny_weights} --size 2x --drop audio")
    new = ["--model", tiny_weights, "--size", "2x", "--drop", "audio"]
    code, _, stderr = in_process("upscale", source, tmp_path / "new.mkv", *new, "--quiet", *QUICK)
    assert (code, stderr) == (0, "")
    found = [probe(tmp_path / name) for name in ("old.mkv", "new.mkv")]
    assert [(info.width, info.height, len(info.streams)) for info in found] == [(64, 64, 1)] * 2


def test_sizes() -> None:
    assert [parse_output_size(text) for text in (None, "2x", "4X")] == [{}, {"scale": 2}, {"scale": 4}]
    assert parse_output_size("1920x1080") == {"size": (1920, 1080)}
    assert parse_output_size("fit:1080p") == {"fit": "1080p"}
    assert parse_output_size("fit:1000x500") == {"fit": (1000, 500)}
    for text in ("5x", "2", "x2", "1920", "fit:", "fit:999p", "fit:2x", "fits:1080p", "0x10", ""):
        with pytest.raises(typer.BadParameter, match="expected 2x, 3x, 4x, WIDTHxHEIGHT"):
            parse_output_size(text)
    assert parse_size("480X270") == (480, 270)
    with pytest.raises(typer.BadParameter, match="is not a size"):
        parse_size("480x270", largest=400)


def test_values_that_several_options_were_before() -> None:
    assert parse_drop(["audio, Alpha", "data"]) == {"audio", "alpha", "data"}
    with pytest.raises(
        typer.BadParameter, match=f"--drop 'sound' is unknown; expected one or more of {', '.join(DROPPABLE)}"
    ):
        parse_drop(["audio,sound"])
    assert parse_raw("64x48") == RawFormat(64, 48, Fraction(25), "yuv420p")
    assert parse_raw("64x48@24000/1001:rgb24") == RawFormat(64, 48, Fraction(24000, 1001), "rgb24")
    assert parse_raw("64x48:rgb24") == RawFormat(64, 48, Fraction(25), "rgb24")
    for text in ("64", "64x48@", "64x48@x", "64x48:", "@25", "64x48:rgb24@25"):
        with pytest.raises(typer.BadParameter):
            parse_raw(text)
    assert [parse_images(text) for text in (None, "24", "stills")] == [None, 24, "stills"]
    with pytest.raises(typer.BadParameter, match="or stills"):
        parse_images("still")
    assert [parse_format(text) for text in (None, "mkv", ".PNG", "matroska")] == [None, ".mkv", ".png", ".mkv"]
    assert [parse_ray_workers(text) for text in (None, "4", "4x2", "x2")] == [
        (None, None),
        (4, None),
        (4, 2),
        (None, 2),
    ]
    for text in ("", "0", "x", "4x", "4x0", "-1"):
        with pytest.raises(typer.BadParameter, match="--ray-workers"):
            parse_ray_workers(text)
