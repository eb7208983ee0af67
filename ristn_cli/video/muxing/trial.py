"""The mux tried before any frame is computed: it finds out what no table knows, and settles the plan of each stream."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from ristn_cli.video.codecs import DEFAULT_CRF, part_suffix
from ristn_cli.video.muxing.audio_times import check_audio_times
from ristn_cli.video.muxing.mux import clip_of, layout_for, mux_clip
from ristn_cli.video.muxing.prepared import Clip
from ristn_cli.video.muxing.stream_plan import (
    MKV,
    StreamPlan,
    check_mux,
    container_of,
    converted_audio,
    lose,
    unsupported,
)
from ristn_cli.video.muxing.verify import check_stream_list
from ristn_cli.video.types import HIGHEST_PLAUSIBLE_RATE, CheckError, Frame, VideoError, VideoInfo
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


def try_mux(
    source: VideoInfo,
    target: str | Path,
    *,
    width: int,
    height: int,
    sample_aspect_ratio: Fraction | None = None,
    codec: str | None = None,
    crf: float = DEFAULT_CRF,
    preset: str = "medium",
    pixel_format: str | None = None,
    encoder_options: Mapping[str, str] | None = None,
    has_alpha: bool = False,
    start: Fraction | None = None,
    end: Fraction | None = None,
    with_audio: bool = True,
    with_subtitles: bool = True,
    drop_unsupported: bool = False,
) -> tuple[StreamPlan, ...]:
    """Do the whole job with one black frame and packets from the beginning, middle and end of the other streams.

    Returns the plan of `check_mux`, with the streams changed whose own packets the container does not take. Audio is
    converted. What cannot be converted, or is no audio, is left out; another video stream only in Matroska, or with
    `drop_unsupported`. `start` and `end` are the job's range, in seconds after the first frame. Raises VideoError as
    `check_mux` does, as `FrameWriter` does for an encoder that is missing or refuses size or options, as `join_and_mux`
    does when the video alone cannot be muxed, for audio that would be out of step with the video, and for another video
    stream that the container does not take.
    """
    target = Path(target)
    plan = check_mux(
        source,
        target,
        codec=codec,
        with_audio=with_audio,
        with_subtitles=with_subtitles,
        drop_unsupported=drop_unsupported,
    )
    shape: dict[str, Any] = {"sample_aspect_ratio": sample_aspect_ratio or source.sample_aspect_ratio}
    settings: dict[str, Any] = {
        "codec": codec,
        "crf": crf,
        "preset": preset,
        "pixel_format": pixel_format,
        "encoder_options": encoder_options,
        "has_alpha": has_alpha,
    }
    with tempfile.TemporaryDirectory(prefix="ristn-try-") as scratch:
        tried = Path(scratch) / f"tried{target.suffix}"
        head = Path(scratch) / f"head{part_suffix(codec)}"
        begin = source.start_time + (start or 0)
        _write_part(head, target, source, begin, (width, height), {**shape, **settings})
        until = begin + HEAD_SECONDS if end is None else min(begin + HEAD_SECONDS, source.start_time + end)
        pieces = [_Piece(replace(clip_of(source, target, plan, start, end), until=until), head)]
        if any(entry.action in ("copy", "convert") for entry in plan):
            for number, time in enumerate(_piece_times(source, start, end)):
                part = Path(scratch) / f"piece-{number}{part_suffix(codec)}"
                _write_part(part, target, source, time, SMALL_SIZE, settings)
                pieces.append(_Piece(Clip(time, time + PIECE_SECONDS, is_trimmed=True), part))
        if _find_fault(source, tried, plan, pieces) is None:
            return plan
        video = tuple(entry for entry in plan if entry.action == "upscale")
        fault = _find_fault(source, tried, video, pieces[:1])
        if fault is not None:
            raise VideoError(str(fault).replace(str(tried), str(target))) from fault
        settled = tuple(_settle(source, tried, entry, video, pieces) for entry in plan)
        for entry, before in zip(settled, plan, strict=True):
            is_video = entry.stream.kind == "video" and entry.stream.has_decoder and not entry.stream.is_cover
            if entry != before and is_video and container_of(target) is not MKV and not drop_unsupported:
                raise unsupported(source, target, entry.stream)
        fault = _find_fault(source, tried, settled, pieces)
        if fault is not None:
            raise VideoError(str(fault).replace(str(tried), str(target))) from fault
        return settled


def _write_part(
    path: Path, target: Path, source: VideoInfo, time: Fraction, size: tuple[int, int], settings: Mapping[str, Any]
) -> None:
    """One black frame at `time` on the source's clock, or at the next that a frame can have.

    Raises VideoError in words about `target`.
    """
    image = np.zeros((size[1], size[0], 3), np.uint16 if source.bit_depth > 8 else np.uint8)
    try:
        with FrameWriter(
            path,
            width=size[0],
            height=size[1],
            rate=source.rate,
            time_base=source.frame_time_base,
            color=source.color,
            mastering=source.mastering,
            **settings,
        ) as writer:
            writer.write(Frame(image, ceil(time / source.frame_time_base) * source.frame_time_base))
    except VideoError as error:
        raise VideoError(str(error).replace(str(path), str(target))) from error


def _piece_times(source: VideoInfo, start: Fraction | None, end: Fraction | None) -> Iterator[Fraction]:
    """Where to look at the middle and the end of the range, on the source's clock; nothing where the head reaches."""
    first = start or Fraction(0)
    last = source.duration if end is None else end
    if last is None or last - first <= HEAD_SECONDS:
        return
    for time in ((first + last) / 2, last - PIECE_SECONDS):
        yield source.start_time + time


def _find_fault(
    source: VideoInfo, tried: Path, plan: Sequence[StreamPlan], pieces: Sequence[_Piece]
) -> VideoError | None:
    """Mux the pieces and look at the result as the check at the end does; the error, None where there is none."""
    for piece in pieces:
        clip = piece.clip
        try:
            mux_clip([piece.part], source, tried, plan, clip, layout_for(tried, [piece.part], source.rate), source.rate)
            check_stream_list(tried, tuple(plan), is_trimmed=True)
            if not clip.is_trimmed:
                tolerance = 1 / min(source.rate, Fraction(HIGHEST_PLAUSIBLE_RATE))
                check_audio_times(tried, source, tuple(plan), tolerance, until=clip.until)
        except VideoError as error:
            return error
    return None


def _settle(
    source: VideoInfo, tried: Path, entry: StreamPlan, video: tuple[StreamPlan, ...], pieces: Sequence[_Piece]
) -> StreamPlan:
    """The plan for a stream that is tried alone beside the video."""
    if entry.action not in ("copy", "convert"):
        return entry
    fault = _find_fault(source, tried, (*video, entry), pieces)
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
            fault = _find_fault(source, tried, (*video, converted), pieces)
            if fault is None:
                return converted
        if isinstance(fault, CheckError):
            raise VideoError(
                f"{source.path}: the audio stream {entry.stream.index} ({entry.stream.codec}) would not keep its place "
                f"beside the video in {container.muxer}; use --no-audio, or an output of another kind"
            )
        reason += ", and it cannot be converted"
    return lose(entry.stream, reason)
