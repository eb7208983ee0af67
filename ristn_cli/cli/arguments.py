"""Options that several commands have, and the values in them."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from ristn_cli.job.positions import Position
    from ristn_cli.video import RawFormat

WeightsOption = Annotated[
    Path | None, typer.Option(help="Weights file (.safetensors) to use instead of released weights.")
]
DeviceOption = Annotated[str, typer.Option(help="Device: auto, cpu, cuda, cuda:N or mps.")]
PrecisionOption = Annotated[str, typer.Option(help="Precision: auto, fp32, fp16 or bf16.")]
TileOption = Annotated[int | None, typer.Option(min=32, help="Largest side of a tile, in source pixels.")]
WindowOption = Annotated[int | None, typer.Option(min=1, help="Frames that the network reads together.")]
CompileOption = Annotated[
    Literal["auto", "on", "off"], typer.Option("--compile", help="Compile the network. auto: on CUDA.")
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        help="Memory limit, e.g. 4GiB, for the program with its workers and encoders, or on a GPU for the network. "
        "More is faster. Default: by network and free memory."
    ),
]
VideoStreamOption = Annotated[
    int | None,
    typer.Option(
        min=0,
        metavar="N",
        help="Number of the video stream to use, from 0. Default: the one with more than one frame, the default flag, "
        "the largest picture.",
    ),
]
MaxFramesOption = Annotated[int | None, typer.Option(min=1, help="Number of frames after which to stop.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def parse_bytes(text: str | None) -> int | None:
    """Bytes of `4GiB`, `500 MB`, `2g` or `1000000`.

    Raises:
        typer.BadParameter: it is none of these.
    """
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b?)\s*", text, re.IGNORECASE)
    if found is None or float(found[1]) <= 0:
        raise typer.BadParameter(f"{text!r} is not an amount of memory; expected such as 4GiB or 500MB")
    base = 1000 if found[3].lower() == "b" else 1024
    return int(float(found[1]) * base ** " kmgt".index(found[2].lower() or " "))


def parse_time(text: str) -> Fraction:
    """Seconds of `90`, `1:30`, `0:01:30` or `1:30.5`.

    Raises:
        typer.BadParameter: it is none of these.
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
    """Seconds as of `parse_time`, a timecode such as `01:00:10:12` or `01:00:10;12`, or a frame number such as `240f`.

    Raises:
        typer.BadParameter: it is none of these.
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
    """`key=value` pairs as a dictionary.

    Raises:
        typer.BadParameter: one is no such pair.
    """
    pairs = [argument.partition("=") for argument in given]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise typer.BadParameter(f"{key + equals + value!r} is not an encoder option; expected key=value")
    return {key: value for key, _, value in pairs}


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height of `1920x1080`.

    Raises:
        typer.BadParameter: it is no size.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a size; expected WIDTHxHEIGHT such as 1920x1080")
    return int(found[1]), int(found[2])


def parse_rate(text: str) -> Fraction:
    """Frames a second of `24`, `23.976` or `24000/1001`.

    Raises:
        typer.BadParameter: it is none of these.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ArithmeticError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise typer.BadParameter(f"{text!r} is not a rate; expected frames a second such as 25 or 24000/1001")
    return rate


def parse_raw(size: str | None, rate: str, pixel_format: str) -> RawFormat | None:
    """What raw frames on standard input are; None when no size is given.

    Raises:
        typer.BadParameter: the size is none.
    """
    from ristn_cli.video import RawFormat

    parsed = parse_size(size)
    return None if parsed is None else RawFormat(*parsed, parse_rate(rate), pixel_format)
