"""Outputs made step by step, with everything that a test does not care about left to its default."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ristn_cli.video import (
    Color,
    EncoderSettings,
    FrameWriter,
    Output,
    OutputShape,
    StreamPlan,
    VideoInfo,
    check_mux,
    choose_codec,
    join_and_mux,
    try_mux,
    verify,
)

SHAPE = ("width", "height", "rate", "time_base", "sample_aspect_ratio")
STREAMS = ("drop", "drop_unsupported")


def open_writer(path: Path, *, color: Color | None = None, codec: str | None = None, **settings: Any) -> FrameWriter:
    """A writer; `settings` are fields of its shape and its encoder."""
    shape = OutputShape(**{name: settings.pop(name) for name in SHAPE if name in settings})
    return FrameWriter(path, shape, EncoderSettings(codec=choose_codec(codec, 8), color=color or Color(), **settings))


def output_of(source: VideoInfo, target: str | Path, *, codec: str | None = None, **settings: Any) -> Output:
    """An output of a source at 4x; `settings` are fields of its shape, encoder or range, or choices of streams."""
    choices = {name: settings.pop(name) for name in STREAMS if name in settings}
    shape = {"width": 4 * source.width, "height": 4 * source.height, "rate": source.rate}
    shape |= {"time_base": source.frame_time_base, "sample_aspect_ratio": source.sample_aspect_ratio}
    shape |= {name: settings.pop(name) for name in SHAPE if name in settings}
    place = {name: settings.pop(name, None) for name in ("start", "end")}
    encoder = EncoderSettings.for_source(source, codec, **settings)
    streams = check_mux(source, target, codec=encoder.codec, **choices)
    return Output(source=source, shape=OutputShape(**shape), encoder=encoder, streams=streams, **place)


def try_target(source: VideoInfo, target: str | Path, **settings: Any) -> tuple[StreamPlan, ...]:
    """The plan that `try_mux` settles."""
    drop = settings.get("drop_unsupported", False)
    return try_mux(output_of(source, target, **settings), target, drop_unsupported=drop)


def join_parts(parts: Sequence[Path], source: VideoInfo, target: Path, **settings: Any) -> None:
    """Join parts, with all other streams unless there is a `plan`."""
    plan = settings.pop("plan", None)
    output = output_of(source, target, **settings)
    join_and_mux(parts, output if plan is None else replace(output, streams=plan), target)


def verify_file(target: Path, *, frames: int, source: VideoInfo, **settings: Any) -> None:
    """Verify a file as an output of a source."""
    plan = settings.pop("plan", None)
    output = output_of(source, target, **settings)
    verify(target, output if plan is None else replace(output, streams=plan), frames)
