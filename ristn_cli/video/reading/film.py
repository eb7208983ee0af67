"""Inverse telecine: restore film frames from video with 3:2 pulldown. Does not know files.

FFmpeg's fieldmatch recombines the fields of each film frame. A frame that stays combed has a field without a partner,
as at an edit, or is not film: bwdif deinterlaces it. Repeated frames are dropped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil
from typing import cast

import av
import av.filter
from av.video.frame import VideoFrame

from ristn_cli.video.reading.cadence import LEAD, Cadence, Verdict
from ristn_cli.video.reading.field_meter import EIGHT_BITS, FieldMeter, planar_format
from ristn_cli.video.reading.interlace import PARITIES, Deinterlacer, layout_of
from ristn_cli.video.reading.streams import as_fraction
from ristn_cli.video.reading.timestamps import TimedFrame
from ristn_cli.video.types import FILM_GRAIN, Clock, FieldOrder, VideoError, VideoInfo

# If two frames are more than this many nominal frame durations apart, they keep the times of the source.
MAX_GAP = Fraction(3, 2)


class FieldMatcher:
    """FFmpeg's fieldmatch, which decides on an 8-bit copy and weaves the frames at their own bit depth.

    A matched frame depends only on its two neighbours. Frames that stay combed are flagged as interlaced, others are
    not.
    """

    def __init__(self, frame: VideoFrame, order: FieldOrder) -> None:
        base = as_fraction(frame.time_base) or Fraction(1, 1000)
        graph = av.filter.Graph()
        self._source = graph.add(
            "buffer",
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:"
            f"time_base={base.numerator}/{base.denominator}:pixel_aspect=1/1:"
            f"colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
        )
        split, decided = graph.add("split"), graph.add("format", EIGHT_BITS)
        # Check every frame for combing: an edit is not always a scene change.
        match = graph.add("fieldmatch", f"mode=pc_n:combmatch=full:order={PARITIES[order]}:ppsrc=1")
        self._sink = graph.add("buffersink")
        self._source.link_to(split)
        split.link_to(decided, 0, 0)
        decided.link_to(match, 0, 0)
        split.link_to(match, 1, 1)
        match.link_to(self._sink)
        graph.configure()
        self._graph = graph
        self._last: VideoFrame | None = None
        self._end = 0

    def push(self, frame: VideoFrame) -> list[VideoFrame]:
        """Add the next frame. Returns the matched frames; a frame is matched only after its successor was added."""
        self._last, self._end = frame, cast(int, frame.pts)
        self._source.push(frame)
        return self._pull()

    def finish(self) -> list[VideoFrame]:
        """Return the last frames. The filter does not output its very last frame, so copies of it are appended."""
        if self._last is None:
            return []
        ready: list[VideoFrame] = []
        for ahead in (1, 2):
            self._last.pts = self._end + ahead
            self._source.push(self._last)
            ready += self._pull()
        self._last.pts = self._end
        self._source.push(None)
        ready += self._pull()
        return [frame for frame in ready if cast(int, frame.pts) <= self._end]

    def _pull(self) -> list[VideoFrame]:
        ready: list[VideoFrame] = []
        while True:
            try:
                ready.append(cast(VideoFrame, self._sink.pull()))
            except (av.error.BlockingIOError, av.error.EOFError):
                return ready


@dataclass(frozen=True)
class _Source:
    """A source frame with its time, the time of the previous frame, and the clock to resume reading for it."""

    timing: TimedFrame
    before: Fraction | None
    anchor: Clock


class FilmReader:
    """Makes film frames from telecined frames, with evenly spaced times.

    A film frame depends on the LEAD frames before it, the frames that `Cadence` looks ahead, and the distance to the
    last repeated frame. Its clock contains that distance and refers to the first of these frames, so that reading can
    resume at any film frame with the same result.

    Within the pulldown pattern, film frames are 1.25 source frame durations apart. Outside the pattern, frames keep the
    times of the source.

    Args:
        info: the source. Its `telecine` gives the field order.
        edges: start and end times of the range. A frame that the source shows at or after an edge is not moved before
            it.
        clock: clock of the frame at which reading resumes; None at the start.
    """

    def __init__(self, info: VideoInfo, edges: Sequence[Fraction], clock: Clock | None) -> None:
        assert info.telecine is not None
        self._info, self._order = info, info.telecine.field_order
        self._tick = info.frame_time_base / FILM_GRAIN
        self._edges = [ceil(edge / self._tick) * self._tick for edge in edges]
        self._meter = FieldMeter(self._order)
        is_begun = clock is not None and clock.lead > 0
        self._cadence = Cadence(clock.since_repeat) if clock is not None and is_begun else Cadence()
        self._unjudged = LEAD + 1 if is_begun else 0  # includes the frame before the clock's frame
        self._unshown = self._unjudged
        self._matcher: FieldMatcher | None = None
        self._layout: tuple[object, ...] = ()
        self._deinterlacer = self._new_deinterlacer()
        self._recent: deque[TimedFrame] = deque(maxlen=LEAD + 1)
        self._sources: deque[_Source] = deque()
        self._verdicts: deque[Verdict] = deque()
        self._pictures: deque[VideoFrame] = deque()

    def push(self, frame: VideoFrame, timing: TimedFrame) -> list[tuple[VideoFrame, TimedFrame]]:
        """Add the next frame. Returns the film frames that are ready.

        Raises VideoError for a pixel format whose fields cannot be matched.
        """
        frame = _to_planar(frame, self._info)
        before = self._recent[-1].time if self._recent else None
        self._recent.append(timing)
        change = self._meter.push(frame)
        self._match(frame)
        if self._unjudged:
            self._unjudged -= 1
            self._cadence.note(change)
            return []
        self._sources.append(_Source(timing, before, self._recent[0].clock))
        self._verdicts += self._cadence.push(change)
        return self._collect(after=1)

    def finish(self) -> list[tuple[VideoFrame, TimedFrame]]:
        """Return the last film frames. The very last one is shown until the source ends."""
        self._end_run()
        self._verdicts += self._cadence.finish()
        end = self._recent[-1] if self._recent else None
        ready = self._collect(after=0)
        if ready and end is not None:
            picture, timing = ready[-1]
            until = end.time + (end.duration or 1 / self._info.rate)
            ready[-1] = picture, replace(timing, duration=until - timing.time)
        return ready

    def _match(self, frame: VideoFrame) -> None:
        layout = layout_of(frame)
        if layout != self._layout:
            self._end_run()
            self._matcher, self._layout = FieldMatcher(frame, self._order), layout
        assert self._matcher is not None
        self._deinterlace(self._matcher.push(frame))

    def _end_run(self) -> None:
        """Flush the frames of one size and pixel format."""
        if self._matcher is None:
            return
        self._deinterlace(self._matcher.finish())
        self._pictures += self._deinterlacer.push(None)
        self._matcher, self._deinterlacer = None, self._new_deinterlacer()
        self._drop_unshown()

    def _deinterlace(self, matched: list[VideoFrame]) -> None:
        for frame in matched:
            self._pictures += self._deinterlacer.push(frame)
        self._drop_unshown()

    def _drop_unshown(self) -> None:
        while self._unshown and self._pictures:
            self._pictures.popleft()
            self._unshown -= 1

    def _new_deinterlacer(self) -> Deinterlacer:
        return Deinterlacer("auto", self._order, only_flagged=True)

    def _collect(self, *, after: int) -> list[tuple[VideoFrame, TimedFrame]]:
        """Return film frames with verdict and image, and keep `after` verdicts for the successor; 0 at the end."""
        ready: list[tuple[VideoFrame, TimedFrame]] = []
        while len(self._verdicts) > after and self._pictures:
            source, verdict, picture = self._sources.popleft(), self._verdicts.popleft(), self._pictures.popleft()
            if verdict.is_repeat:
                continue
            time = self._time_of(source, verdict)
            clock = source.anchor
            if clock.frames:
                clock = replace(clock, lead=LEAD, since_repeat=verdict.since_repeat)
            picture.time_base, picture.pts = self._tick, int(time / self._tick)
            ready.append((picture, TimedFrame(time, source.timing.duration, clock)))
        return ready

    def _time_of(self, source: _Source, verdict: Verdict) -> Fraction:
        """Return the time at which a film frame is shown.

        In source frames, with the repeated frame at 2: the source shows the first fields of A, B, C and D at 0, 1, 2.5
        and 3.5. Evenly spaced times are 0, 1.25, 2.5 and 3.75. The frames themselves are at 0, 1, 3 and 4.
        """
        own = time = source.timing.time
        longest = MAX_GAP / self._info.rate
        if verdict.since_repeat <= 2 and source.before is not None:
            gap = own - source.before
            time -= 0 if gap > longest else gap * (3 - verdict.since_repeat) / FILM_GRAIN
        elif self._verdicts and self._verdicts[0].is_repeat:
            gap = self._sources[0].timing.time - own
            time += 0 if gap > longest else gap / FILM_GRAIN
        return max([time, *(edge for edge in self._edges if own >= edge)])


def _to_planar(frame: VideoFrame, info: VideoInfo) -> VideoFrame:
    name = planar_format(frame.format.name)
    if name is None:
        raise VideoError(
            f"{info.path}: inverse telecine does not support {frame.format.name} frames; expected YUV without "
            "transparency; use --deinterlace frame or off"
        )
    if name == frame.format.name:
        return frame
    planar = frame.reformat(format=name)
    planar.pts, planar.time_base, planar.opaque = frame.pts, frame.time_base, frame.opaque
    return planar
