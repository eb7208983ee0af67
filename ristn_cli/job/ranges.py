"""Converts frame numbers and timecodes to the exact times of frames. Reads times, but does not convert frames."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice

from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.positions import FrameNumber, Position, Timecode, day_frames, parse_timecode
from ristn_cli.video import VideoError, VideoInfo, decoded_times, source_times


def settle_range(info: VideoInfo, options: UpscaleOptions) -> UpscaleOptions:
    """Return the same options with `start` and `end` as the exact times of the frames at the positions.

    Raises:
        VideoError: the source has no such frame or timecode, or the range ends before it starts.
    """
    begin, stop = options.start_position, options.end_position
    if begin is None and stop is None:
        return options
    start, end = options.start, options.end
    if begin is not None:
        start = _time_at(info, begin, "--start")
        if start is None:
            raise VideoError(f"{info.path}: --start {begin} is after the last frame; use an earlier one")
    if stop is not None:
        end = _time_at(info, stop, "--end")
    if end is not None and end <= (start or 0):
        raise VideoError(f"{info.path}: contains no frames between --start and --end; --end must be after --start")
    return replace(options, start=start, end=end, start_position=None, end_position=None)


def find_timecode(info: VideoInfo) -> Timecode | None:
    """Return the timecode of the first frame; None if the source has none that is valid at its frame rate."""
    own = [stream for stream in info.streams if stream.index == info.video_index]
    others = [stream for stream in info.streams if stream.index != info.video_index]
    for tags in (*(stream.metadata for stream in own), info.metadata, *(stream.metadata for stream in others)):
        text = next((value for name, value in tags.items() if name.lower() == "timecode"), "")
        found = parse_timecode(text)
        try:
            if found is not None and found.count(info.rate) >= 0:
                return found
        except ValueError:  # invalid at this rate
            continue
    return None


def timecode_at(info: VideoInfo, seconds: Fraction) -> Timecode:
    """Return the timecode `seconds` after the first frame, which is 00:00:00:00 if the source has no timecode."""
    first = find_timecode(info) or Timecode(0, 0, 0, 0)
    count = first.count(info.rate) + round(seconds * info.rate)
    return Timecode.of_count(count, info.rate, is_drop=first.is_drop)


def _time_at(info: VideoInfo, position: Position, flag: str) -> Fraction | None:
    """Return the seconds from the first frame to a position; None after the last frame."""
    if isinstance(position, FrameNumber):
        number = position.number
        if info.stream is not None:  # times of a stream are unknown: half a frame before the nominal time
            return max(Fraction(0), (number - Fraction(1, 2)) / info.rate)
        return next(islice(_times(info), number, None), None)
    number = _frames_before(info, position, flag)
    earliest = max(Fraction(0), (number - Fraction(1, 2)) / info.rate)
    if info.stream is not None:
        return earliest
    return next((time for time in _times(info) if time >= earliest), None)


def _times(info: VideoInfo) -> Iterator[Fraction]:
    """Yield the seconds from the first frame to each frame."""
    # A packet of interlaced video may contain a single field, so frames must be decoded.
    times = decoded_times(info) if info.is_interlaced else source_times(info)
    return (time - info.start_time for time in times if time >= info.start_time)


def _frames_before(info: VideoInfo, timecode: Timecode, flag: str) -> int:
    """Return the number of frames before the one with a timecode."""
    stated = find_timecode(info)
    first = stated or Timecode(0, 0, 0, 0, timecode.is_drop)
    if timecode.is_drop and not first.is_drop:
        raise VideoError(
            f"{info.path}: {flag} {timecode}: the video's timecode, which starts at {first}, is not drop frame; "
            f"use {replace(timecode, is_drop=False)}"
        )
    try:
        number = replace(timecode, is_drop=first.is_drop).count(info.rate) - first.count(info.rate)
    except ValueError as error:
        raise VideoError(f"{info.path}: {flag} {timecode}: {error}") from error
    if number >= 0:
        return number
    over_midnight = number + day_frames(info.rate, is_drop=first.is_drop)
    if info.duration is not None and over_midnight <= info.duration * info.rate + 1:
        return over_midnight
    raise VideoError(f"{info.path}: {flag} {timecode} is before the first frame, which is at {first}")
