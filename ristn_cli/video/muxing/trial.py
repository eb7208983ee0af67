"""Try the mux before any frame is computed, to find what no table contains and to finish the plan of each stream."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from pathlib import Path

import numpy as np

from ristn_cli.video.codecs import part_suffix
from ristn_cli.video.muxing.audio_times import check_audio_times
from ristn_cli.video.muxing.mux import clip_of, mux_clip
from ristn_cli.video.muxing.output import Output
from ristn_cli.video.muxing.prepared import Clip
from ristn_cli.video.muxing.stream_plan import (
    MKV,
    StreamPlan,
    container_of,
    converted_audio,
    lose,
    unsupported,
)
from ristn_cli.video.muxing.verify import check_stream_list
from ristn_cli.video.types import MAX_PLAUSIBLE_RATE, CheckError, Frame, VideoError
from ristn_cli.video.writing.settings import OutputShape
from ristn_cli.video.writing.writer import FrameWriter

HEAD_SECONDS = Fraction(10)
PIECE_SECONDS = Fraction(2)
# Size of the test frames in the middle and at the end. All encoders support it, and it is fast.
SMALL_SIZE = (256, 256)


@dataclass(frozen=True)
class _Piece:
    """A clip of the source, and a file with one frame at its start."""

    clip: Clip
    part: Path


def try_mux(output: Output, target: str | Path, *, drop_unsupported: bool = False) -> tuple[StreamPlan, ...]:
    """Do the whole job with one black frame, and packets from start, middle and end of the other streams.

    Returns the plan of `check_mux`, changed for streams whose packets the container rejects: audio is converted, and
    other streams, and audio that cannot be converted, are dropped. A further video stream is dropped only in Matroska
    or with `drop_unsupported`.

    Raises:
        VideoError: the encoder is missing or rejects the size or options; the video alone cannot be muxed; audio would
            not be in sync; or the container rejects a further video stream.
    """
    target = Path(target)
    source, plan = output.source, output.streams
    suffix = part_suffix(output.encoder.codec)
    with tempfile.TemporaryDirectory(prefix="ristn-try-") as scratch:
        tried = Path(scratch) / f"tried{target.suffix}"
        head = Path(scratch) / f"head{suffix}"
        begin = source.start_time + (output.start or 0)
        shape = replace(output.shape, frame_size=None)
        _write_part(head, target, shape, output, begin)
        until = (
            begin + HEAD_SECONDS if output.end is None else min(begin + HEAD_SECONDS, source.start_time + output.end)
        )
        pieces = [_Piece(replace(clip_of(output, target), until=until), head)]
        if any(entry.action in ("copy", "convert") for entry in plan):
            small = replace(shape, width=SMALL_SIZE[0], height=SMALL_SIZE[1], sample_aspect_ratio=Fraction(1))
            for number, time in enumerate(_piece_times(output)):
                part = Path(scratch) / f"piece-{number}{suffix}"
                _write_part(part, target, small, output, time)
                pieces.append(_Piece(Clip(time, time + PIECE_SECONDS, is_trimmed=True), part))
        if _find_fault(output, tried, plan, pieces) is None:
            return plan
        video = tuple(entry for entry in plan if entry.action == "upscale")
        fault = _find_fault(output, tried, video, pieces[:1])
        if fault is not None:
            raise VideoError(str(fault).replace(str(tried), str(target))) from fault
        settled = tuple(_settle(output, tried, entry, video, pieces) for entry in plan)
        for entry, before in zip(settled, plan, strict=True):
            is_video = entry.stream.kind == "video" and entry.stream.has_decoder and not entry.stream.is_cover
            if entry != before and is_video and container_of(target) is not MKV and not drop_unsupported:
                raise unsupported(source, target, entry.stream)
        fault = _find_fault(output, tried, settled, pieces)
        if fault is not None:
            raise VideoError(str(fault).replace(str(tried), str(target))) from fault
        return settled


def _write_part(path: Path, target: Path, shape: OutputShape, output: Output, time: Fraction) -> None:
    """Write one black frame at `time` on the source's clock, rounded up to the time base.

    Raises VideoError with `target` in its message.
    """
    is_deep = output.source.bit_depth > 8
    image = np.zeros((shape.height, shape.width, 3), np.uint16 if is_deep else np.uint8)
    try:
        with FrameWriter(path, shape, output.encoder) as writer:
            writer.write(Frame(image, ceil(time / shape.time_base) * shape.time_base))
    except VideoError as error:
        raise VideoError(str(error).replace(str(path), str(target))) from error


def _piece_times(output: Output) -> Iterator[Fraction]:
    """Yield the times of the pieces in the middle and at the end of the range; none if the first piece covers it."""
    first = output.start or Fraction(0)
    last = output.source.duration if output.end is None else output.end
    if last is None or last - first <= HEAD_SECONDS:
        return
    for time in ((first + last) / 2, last - PIECE_SECONDS):
        yield output.source.start_time + time


def _find_fault(
    output: Output, tried: Path, plan: tuple[StreamPlan, ...], pieces: Sequence[_Piece]
) -> VideoError | None:
    """Mux the pieces and check the results as at the end of a job. Returns the first error, or None."""
    for piece in pieces:
        clip = piece.clip
        try:
            mux_clip([piece.part], replace(output, streams=plan), tried, clip)
            check_stream_list(tried, plan, is_trimmed=True)
            if not clip.is_trimmed:
                tolerance = 1 / min(output.source.rate, Fraction(MAX_PLAUSIBLE_RATE))
                check_audio_times(tried, output.source, plan, tolerance, until=clip.until)
        except VideoError as error:
            return error
    return None


def _settle(
    output: Output, tried: Path, entry: StreamPlan, video: tuple[StreamPlan, ...], pieces: Sequence[_Piece]
) -> StreamPlan:
    """Return the final plan for a stream, tried alone beside the video."""
    if entry.action not in ("copy", "convert"):
        return entry
    fault = _find_fault(output, tried, (*video, entry), pieces)
    if fault is None:
        return entry
    container = container_of(tried)
    reason = f"{container.muxer} cannot hold its packets"
    if not entry.stream.has_decoder:
        return lose(entry.stream, f"{container.muxer} cannot hold it, and FFmpeg has no decoder to convert it")
    if entry.stream.kind == "audio":
        # A lossless codec may not support the audio in this container, such as FLAC of 96 kHz in MP4.
        encoders = dict.fromkeys((converted_audio(entry.stream.codec, container), container.lossy_to))
        for encoder in encoders:
            converted = replace(entry, action="convert", codec=encoder)
            fault = _find_fault(output, tried, (*video, converted), pieces)
            if fault is None:
                return converted
        if isinstance(fault, CheckError):
            raise VideoError(
                f"{output.source.path}: the audio stream {entry.stream.index} ({entry.stream.codec}) would not be in "
                f"sync with the video in {container.muxer}; use --drop audio, or an output in another container"
            )
        reason += ", and it cannot be converted"
    return lose(entry.stream, reason)
