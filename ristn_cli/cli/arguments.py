"""Options that several commands share, and parsers of their values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ristn_cli.cli.completion import complete_devices, complete_precisions

if TYPE_CHECKING:
    from ristn_cli.job.positions import Position
    from ristn_cli.video import RawFormat

DROPPABLE = (
    *("audio", "subtitles", "captions", "alpha", "attachments", "chapters", "covers", "data", "metadata", "videos"),
)
"""Names for `--drop`."""

DeviceOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="Device: auto, cpu, cuda, cuda:N or mps.", autocompletion=complete_devices),
]
PrecisionOption = Annotated[
    str,
    typer.Option(metavar="NAME", help="Precision: auto, fp32, fp16 or bf16.", autocompletion=complete_precisions),
]
TileOption = Annotated[
    int | None, typer.Option(min=32, metavar="N", help="Largest side of a tile, in source pixels. Default: by memory.")
]
WindowOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Number of frames per window. Default: by memory.")
]
CompileOption = Annotated[
    Literal["auto", "on", "off"], typer.Option("--compile", help="Compile the network. auto compiles on CUDA.")
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory limit, e.g. 4GiB, of the program with all workers and encoders, or of the network on a GPU. "
        "More is faster. Default: by network and free memory.",
    ),
]
VideoStreamOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Number of the video stream to use, from 0. Default: the main one, by number of frames, default flag and "
        "size.",
    ),
]
DetailsOption = Annotated[
    list[float] | None,
    typer.Option(
        min=0,
        max=1,
        metavar="0..1",
        help="Detail of the weights for compressed footage, from soft to crisp. May be repeated. Default: none.",
    ),
]
MaxFramesOption = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Largest number of frames. Default: all.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def parse_bytes(text: str | None) -> int | None:
    """Parse `4GiB`, `500 MB`, `2g` or `1000000` to bytes.

    Raises:
        typer.BadParameter: the text has another form.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b?)\s*", text, re.IGNORECASE)
    if found is None or float(found[1]) <= 0:
        raise typer.BadParameter(f"{text!r} is not an amount of memory; expected for example 4GiB or 500MB")
    base = 1000 if found[3].lower() == "b" else 1024
    return int(float(found[1]) * base ** " kmgt".index(found[2].lower() or " "))


def parse_time(text: str) -> Fraction:
    """Parse `90`, `1:30`, `0:01:30` or `1:30.5` to seconds.

    Raises:
        typer.BadParameter: the text has another form.
    """
    try:
        parts = [Fraction(part) for part in text.split(":")]
    except (ValueError, ArithmeticError):
        parts = []
    if not 1 <= len(parts) <= 3 or any(part < 0 for part in parts) or any(part >= 60 for part in parts[1:]):
        raise typer.BadParameter(f"{text!r} is not a time; expected seconds, M:SS or H:MM:SS")
    seconds = Fraction(0)
    for part in parts:
        seconds = 60 * seconds + part
    return seconds


def parse_place(text: str) -> Fraction | Position:
    """Parse seconds as `parse_time` does, a timecode such as `01:00:10:12` or `01:00:10;12`, or a frame number such
    as `240f`.

    Raises:
        typer.BadParameter: the text has another form.
    """
    from ristn_cli.job.positions import parse_position

    position = parse_position(text)
    if position is not None:
        return position
    try:
        return parse_time(text)
    except typer.BadParameter as error:
        raise typer.BadParameter(
            f"{error}, a timecode H:MM:SS:FF (drop frame: H:MM:SS;FF), or a frame number such as 240f"
        ) from None


def parse_encoder_arguments(given: list[str]) -> dict[str, str]:
    """Parse `key=value` pairs to a dictionary.

    Raises:
        typer.BadParameter: an argument has another form.
    """
    pairs = [argument.partition("=") for argument in given]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise typer.BadParameter(f"{key + equals + value!r} is not an encoder option; expected key=value")
    return {key: value for key, _, value in pairs}


def parse_size(text: str, *, largest: int = 99999) -> tuple[int, int]:
    """Parse `1920x1080` to (width, height), each at most `largest`.

    Raises:
        typer.BadParameter: the text has another form.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text, re.IGNORECASE)
    if found is None or max(int(found[1]), int(found[2])) > largest:
        raise typer.BadParameter(f"{text!r} is not a size; expected WIDTHxHEIGHT such as 1920x1080")
    return int(found[1]), int(found[2])


def parse_output_size(text: str | None) -> dict[str, Any]:
    """Parse `--size` to fields of `UpscaleOptions`: `2x`, `1920x1080`, `fit:1080p` or `fit:1920x1080`. None has no
    fields.

    Raises:
        typer.BadParameter: the text has another form.
    """
    if text is None:
        return {}
    if re.fullmatch(r"[234]x", text, re.IGNORECASE):
        return {"scale": int(text[0])}
    kind, colon, box = text.partition(":")
    try:
        if not colon:
            return {"size": parse_size(text)}
        if kind == "fit" and box in ("720p", "1080p", "1440p", "2160p", "4320p"):
            return {"fit": box}
        if kind == "fit":
            return {"fit": parse_size(box)}
    except typer.BadParameter:
        pass
    raise typer.BadParameter(
        f"--size {text!r} is not a size; expected 2x, 3x, 4x, WIDTHxHEIGHT, fit:WIDTHxHEIGHT, or fit: with one of "
        "720p, 1080p, 1440p, 2160p and 4320p"
    )


def parse_drop(given: Sequence[str] | None) -> frozenset[str]:
    """Parse `--drop`, which may be repeated: names of `DROPPABLE` separated by commas.

    Raises:
        typer.BadParameter: a name is unknown.
    """
    names = [name.strip().lower() for text in given or () for name in text.split(",")]
    for name in names:
        if name not in DROPPABLE:
            raise typer.BadParameter(f"--drop {name!r} is unknown; expected one or more of {', '.join(DROPPABLE)}")
    return frozenset(names)


def parse_grain(text: str | None) -> float:
    """Parse the share of the grain to put back: 1 for `match`, 0 for None.

    Raises:
        typer.BadParameter: it is not a share in [0, 1].
    """
    if text is None or text == "match":
        return 0 if text is None else 1
    try:
        share = float(text)
    except ValueError:
        share = -1
    if not 0 <= share <= 1:
        raise typer.BadParameter(f"--grain {text!r} is not a share of grain; expected match, or a number from 0 to 1")
    return share


def parse_rate(text: str) -> Fraction:
    """Parse `24`, `23.976` or `24000/1001` to a frame rate.

    Raises:
        typer.BadParameter: the text has another form.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ArithmeticError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise typer.BadParameter(f"{text!r} is not a frame rate; expected for example 25 or 24000/1001")
    return rate


def parse_raw(text: str | None) -> RawFormat | None:
    """Parse the format of raw frames, `WxH[@RATE][:FORMAT]`, by default at 25 fps in yuv420p.

    Raises:
        typer.BadParameter: the text has another form.
    """
    from ristn_cli.video import RawFormat

    if text is None:
        return None
    found = re.fullmatch(r"([^@:]*)(?:@([^@:]+))?(?::(\w+))?", text)
    if found is None:
        raise typer.BadParameter(f"--raw {text!r} is not WxH[@RATE][:FORMAT]; expected for example 1920x1080@24:rgb24")
    return RawFormat(*parse_size(found[1]), parse_rate(found[2] or "25"), found[3] or "yuv420p")


def parse_images(text: str | None) -> Fraction | Literal["stills"] | None:
    """Parse how to read a folder of images: as frames at a frame rate, or as `stills`.

    Raises:
        typer.BadParameter: the text has another form.
    """
    if text is None:
        return None
    if text == "stills":
        return "stills"
    try:
        return parse_rate(text)
    except typer.BadParameter as error:
        raise typer.BadParameter(f"--images {error}, or stills") from error


def parse_format(text: str | None) -> str | None:
    """Return the file extension for `--format`: `mkv`, `.mkv` and `matroska` are `.mkv`.

    Raises:
        typer.BadParameter: it is empty.
    """
    if text is None:
        return None
    name = text.lower().removeprefix(".")
    if not name:
        raise typer.BadParameter("--format is empty; expected a file extension such as mkv")
    return ".mkv" if name == "matroska" else f".{name}"
