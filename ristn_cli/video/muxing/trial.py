"""The mux tried before any frame is computed: it finds out what no table knows, and settles the plan of each stream."""

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
from ristn_cli.video.types import HIGHEST_PLAUSIBLE_RATE, CheckError, Frame, VideoError
from ristn_cli.video.writing.settings import OutputShape
from ristn_cli.video.writing.writer import FrameWriter

HEAD_SECONDS = Fraction(10)
PIECE_SECONDS = Fraction(2)
# Of the pictures that stand in for the video in the middle and at the end: no encoder refuses it, and it costs nothing.
SMALL_SIZE = (256, 256)


@dataclass(frozen=True)
class _Piece:
    """A stretch of the source to be muxed, and a file with one frame at its beginning."""

    clip: Clip
    part: Path


def try_mux(output: Output, target: str | Path, *, drop_unsupported: bool = False) -> tuple[StreamPlan, ...]:
    """Do the whole job with one black frame and packets from the beginning, middle and end of the other streams.

    Returns the streams' plan, which is that of `check_mux`, changed where the container does not take a stream's own
    packets. Audio is converted. What cannot be converted, or is no audio, is left out; another video stream only in
    Matroska, or with `drop_unsupported`. Raises VideoError as `FrameWriter` does for an encoder that is missing or
    refuses size or options, as `join_and_mux` does when the video alone cannot be muxed, for audio that would be out of
    step with the video, and for another video stream that the container does not take.
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
    """One black frame at `time` on the source's clock, or at the next that a frame can have.

    Raises VideoError in words about `target`.
    """
    is_deep = output.source.bit_depth > 8
    image = np.zeros((shape.height, shape.width, 3), np.uint16 if is_deep else np.uint8)
    try:
        with FrameWriter(path, shape, output.encoder) as writer:
            writer.write(Frame(image, ceil(time / shape.time_base) * shape.time_base))
    except VideoError as error:
        raise VideoError(str(error).replace(str(path), str(target))) from error


def _piece_times(output: Output) -> Iterator[Fraction]:
    """Where to look at the middle and the end of the range, on the source's clock; nothing where the head reaches."""
    first = output.start or Fraction(0)
    last = output.source.duration if output.end is None else output.end
    if last is None or last - first <= HEAD_SECONDS:
        return
    for time in ((first + last) / 2, last - PIECE_SECONDS):
        yield output.source.start_time + time


def _find_fault(
    output: Output, tried: Path, plan: tuple[StreamPlan, ...], pieces: Sequence[_Piece]
) -> VideoError | None:
    """Mux the pieces and look at the result as the check at the end does; the error, None where there is none."""
    for piece in pieces:
        clip = piece.clip
        try:
            mux_clip([piece.part], replace(output, streams=plan), tried, clip)
            check_stream_list(tried, plan, is_trimmed=True)
            if not clip.is_trimmed:
                tolerance = 1 / min(output.source.rate, Fraction(HIGHEST_PLAUSIBLE_RATE))
                check_audio_times(tried, output.source, plan, tolerance, until=clip.until)
        except VideoError as error:
            return error
    return None


def _settle(
    output: Output, tried: Path, entry: StreamPlan, video: tuple[StreamPlan, ...], pieces: Sequence[_Piece]
) -> StreamPlan:
    """The plan for a stream that is tried alone beside the video."""
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
        # Lossless audio may be beyond what a lossless codec can have in this container, as FLAC of 96 kHz in MP4.
        encoders = dict.fromkeys((converted_audio(entry.stream.codec, container), container.lossy_to))
        for encoder in encoders:
            converted = replace(entry, action="convert", codec=encoder)
            fault = _find_fault(output, tried, (*video, converted), pieces)
            if fault is None:
                return converted
        if isinstance(fault, CheckError):
            raise VideoError(
                f"{output.source.path}: the audio stream {entry.stream.index} ({entry.stream.codec}) would not keep "
                f"its place beside the video in {container.muxer}; use --drop audio, or an output of another kind"
            )
        reason += ", and it cannot be converted"
    return lose(entry.stream, reason)
