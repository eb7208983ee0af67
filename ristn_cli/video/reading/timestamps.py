"""The time of every decoded frame, estimated as FFmpeg does. Knows nothing of files and seeking."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

from av.container import InputContainer
from av.video.frame import VideoFrame

from ristn_cli.video.reading.streams import as_fraction
from ristn_cli.video.types import Clock, VideoError, VideoInfo

# AVFMT_FLAG_GENPTS, which PyAV sets and the ffmpeg program does not: it fills in presentation times by a guess.
GUESS_PTS = 1
# A frame this much before its predecessor belongs to another recording, or its timestamp is wrong.
NEW_CLOCK_SECONDS = 1
# One wrong timestamp is no new recording; so many frames in a row are.
NEW_CLOCK_FRAMES = 5


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame's `time` and own `duration` (None where it has none) in seconds, and the clock that gave it."""

    time: Fraction
    duration: Fraction | None
    clock: Clock


def keep_timestamps(container: InputContainer) -> None:
    """Have packets come with the timestamps of the file alone."""
    container.flags &= ~GUESS_PTS


def first_time(frame: VideoFrame) -> Fraction:
    """The time in seconds of the first frame of a file."""
    base, pts = as_fraction(frame.time_base), _filled(frame.pts, frame.dts)[0]
    return Fraction(0) if pts is None or base is None else pts * base


class Estimator:
    """Times of the frames of one stream, each after the one before.

    The estimate is the one that libavcodec documents for `best_effort_timestamp`: the presentation time, unless
    presentation times have failed to grow more often than decoding times. A frame without either follows its
    predecessor after that one's duration. Where an estimate does not grow the ffmpeg program shows the frame at the
    time of its predecessor; here it is shown a tick later, because two frames of one time cannot be kept apart.

    Args:
        info: the source.
        clock: of the frame from which reading goes on, which is the second one: the first is its predecessor. None
            where reading begins.
    """

    def __init__(self, info: VideoInfo, clock: Clock | None = None) -> None:
        self._info = info
        self._clock = clock or Clock()
        self._awaits_predecessor = clock is not None

    def stamp(self, frame: VideoFrame) -> TimedFrame:
        """The time of the next frame, which becomes its `pts`. Raises VideoError where another recording begins."""
        if self._awaits_predecessor:
            self._awaits_predecessor = False
            assert self._clock.last_time is not None  # the predecessor's
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
        """How long a frame is shown, in ticks of `base`: how far behind it a frame without timestamps follows."""
        gap = 0 if before.last_estimate is None else estimate - before.last_estimate
        stated = frame.duration or 0
        if stated and not (stated == 1 and gap > 2):  # FFmpeg makes up a single tick where a container states none
            return stated
        return gap if gap > 0 else max(1, round(1 / self._info.rate / base))

    def _new_clock(self, last: int, now: int) -> VideoError:
        before, after = (float(ticks * self._info.frame_time_base) for ticks in (last, now))
        return VideoError(
            f"{self._info.path}: the clock goes back from {before:.3f} s to {after:.3f} s: several recordings in one "
            "file; give it one clock first, as `ffmpeg -i IN -map 0 -c copy OUT.mkv` does"
        )


def is_at(clock: Clock, before: VideoFrame, frame: VideoFrame) -> bool:
    """Whether `frame`, decoded right after `before`, is the clock's."""
    last_pts, last_dts = _filled(before.pts, before.dts)
    return (frame.pts, frame.dts, last_pts, last_dts) == (clock.pts, clock.dts, clock.last_pts, clock.last_dts)


def is_behind(clock: Clock, frame: VideoFrame) -> bool:
    """Whether `frame` comes after the clock's, by the timestamps that have grown with every frame."""
    own, other = (clock.pts, frame.pts) if clock.pts_faults == 0 else (clock.dts, frame.dts)
    return own is not None and other is not None and other > own


def _own_duration(frame: VideoFrame, info: VideoInfo) -> Fraction | None:
    return frame.duration * (as_fraction(frame.time_base) or info.time_base) if frame.duration else None


def _filled(pts: int | None, dts: int | None) -> tuple[int | None, int | None]:
    return (dts if pts is None else pts), (pts if dts is None else dts)


def _grows(last: int | None, now: int) -> bool:
    return last is None or now > last
