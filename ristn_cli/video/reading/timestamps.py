"""Estimate the time of each decoded frame as FFmpeg does. Does not know files and seeking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from av.container import InputContainer
from av.video.frame import VideoFrame

from ristn_cli.video.reading.streams import as_fraction
from ristn_cli.video.types import Clock, VideoError, VideoInfo

# AVFMT_FLAG_GENPTS, which guesses missing presentation times. PyAV sets it, the ffmpeg program does not.
GUESS_PTS = 1
# A frame this much earlier than the previous one belongs to another recording, or its timestamp is wrong.
NEW_CLOCK_SECONDS = 1
# This many consecutive frames belong to another recording. Fewer have wrong timestamps.
NEW_CLOCK_FRAMES = 5


@dataclass(frozen=True)
class TimedFrame:
    """Time and duration (None if unknown) of a decoded frame in seconds, and the clock that they were computed from."""

    time: Fraction
    duration: Fraction | None
    clock: Clock


def keep_timestamps(container: InputContainer) -> None:
    """Disable guessed timestamps, so that packets have only those of the file."""
    container.flags &= ~GUESS_PTS


def first_time(frame: VideoFrame) -> Fraction:
    """Return the time of a file's first frame, in seconds."""
    base, pts = as_fraction(frame.time_base), _filled(frame.pts, frame.dts)[0]
    return Fraction(0) if pts is None or base is None else pts * base


class Estimator:
    """Estimates strictly increasing times for the frames of one stream.

    The estimate is libavcodec's `best_effort_timestamp`: the presentation timestamp, unless presentation timestamps
    failed to increase more often than decoding timestamps. A frame without both follows the previous frame after its
    duration. If the estimate does not increase, the ffmpeg program gives both frames the same time. Here the second one
    is one tick later, because frames must have distinct times.

    Args:
        info: the source.
        clock: clock of the frame at which reading resumes. That is the second frame; the first is the one before it.
            None at the start of the source.
    """

    def __init__(self, info: VideoInfo, clock: Clock | None = None) -> None:
        self._info = info
        self._clock = clock or Clock()
        self._awaits_predecessor = clock is not None

    def stamp(self, frame: VideoFrame) -> TimedFrame:
        """Return the time of the next frame, and set its `pts`. Raises VideoError if another recording begins."""
        if self._awaits_predecessor:
            self._awaits_predecessor = False
            assert self._clock.last_time is not None  # the time of the frame before the clock's frame
            time = self._clock.last_time * self._info.frame_time_base
            found = TimedFrame(time, _own_duration(frame, self._info), self._clock)
        else:
            found = self._estimate(frame)
        frame.pts, frame.time_base = int(found.time / self._info.frame_time_base), self._info.frame_time_base
        return found

    def _estimate(self, frame: VideoFrame) -> TimedFrame:
        info, before = self._info, replace(self._clock, pts=frame.pts, dts=frame.dts)
        base = as_fraction(frame.time_base) or info.time_base
        last_pts, last_dts = _filled(frame.pts, frame.dts)
        pts_faults = before.pts_faults + (frame.pts is not None and not _grows(before.last_pts, frame.pts))
        dts_faults = before.dts_faults + (frame.dts is not None and not _grows(before.last_dts, frame.dts))
        estimate = frame.pts if frame.dts is None or pts_faults <= dts_faults else frame.dts
        if estimate is None:
            estimate = frame.dts
        if estimate is None and before.last_estimate is not None:
            estimate = before.last_estimate + before.last_duration
        if estimate is None:
            estimate = 0
        ticks = round(estimate * base / info.frame_time_base)
        behind = 0
        if before.last_time is not None:
            if (before.last_time - ticks) * info.frame_time_base > NEW_CLOCK_SECONDS:
                behind = before.behind + 1
            if behind == NEW_CLOCK_FRAMES:
                raise self._new_clock(before.last_time, ticks)
            ticks = max(ticks, before.last_time + 1)
        self._clock = Clock(
            frames=before.frames + 1,
            last_pts=before.last_pts if last_pts is None else last_pts,
            last_dts=before.last_dts if last_dts is None else last_dts,
            pts_faults=pts_faults,
            dts_faults=dts_faults,
            last_estimate=estimate,
            last_duration=self._duration(frame, base, estimate, before),
            last_time=ticks,
            behind=behind,
        )
        return TimedFrame(ticks * info.frame_time_base, _own_duration(frame, info), before)

    def _duration(self, frame: VideoFrame, base: Fraction, estimate: int, before: Clock) -> int:
        """Return the duration of a frame in ticks of `base`, after which a frame without timestamps follows."""
        gap = 0 if before.last_estimate is None else estimate - before.last_estimate
        stated = frame.duration or 0
        if stated and not (stated == 1 and gap > 2):  # FFmpeg uses 1 if no duration is stated
            return stated
        return gap if gap > 0 else max(1, round(1 / self._info.rate / base))

    def _new_clock(self, last: int, now: int) -> VideoError:
        before, after = (float(ticks * self._info.frame_time_base) for ticks in (last, now))
        return VideoError(
            f"{self._info.path}: timestamps go back from {before:.3f} s to {after:.3f} s, because the file contains "
            "several recordings; rewrite its timestamps first, for example with `ffmpeg -i IN -map 0 -c copy OUT.mkv`"
        )


def is_at(clock: Clock, before: VideoFrame, frame: VideoFrame) -> bool:
    """Return whether `frame`, decoded directly after `before`, is the clock's frame."""
    last_pts, last_dts = _filled(before.pts, before.dts)
    return (frame.pts, frame.dts, last_pts, last_dts) == (clock.pts, clock.dts, clock.last_pts, clock.last_dts)


def is_behind(clock: Clock, frame: VideoFrame) -> bool:
    """Return whether `frame` is after the clock's frame, by the timestamps that have always increased."""
    own, other = (clock.pts, frame.pts) if clock.pts_faults == 0 else (clock.dts, frame.dts)
    return own is not None and other is not None and other > own


def _own_duration(frame: VideoFrame, info: VideoInfo) -> Fraction | None:
    return frame.duration * (as_fraction(frame.time_base) or info.time_base) if frame.duration else None


def _filled(pts: int | None, dts: int | None) -> tuple[int | None, int | None]:
    return (dts if pts is None else pts), (pts if dts is None else dts)


def _grows(last: int | None, now: int) -> bool:
    return last is None or now > last
