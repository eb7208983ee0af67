"""Inverse telecine: the film's own frames, from video that shows four of them in five. Knows no files.

FFmpeg's fieldmatch puts the fields of a film frame together again. A frame that is still combed has a field without a
partner, as at an edit, or was never film: bwdif deinterlaces it. Frames that repeat the one before go.
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
from ristn_cli.video.reading.fields import EIGHT_BITS, FieldMeter, planar_format
from ristn_cli.video.reading.interlace import PARITIES, Deinterlacer, layout_of
from ristn_cli.video.reading.streams import as_fraction
from ristn_cli.video.reading.timestamps import TimedFrame
from ristn_cli.video.types import FILM_GRAIN, Clock, FieldOrder, VideoError, VideoInfo

# Frames further apart than as many nominal ones are not of one run, and are shown when the source shows them.
LONGEST_GAP = Fraction(3, 2)


class FieldMatcher:
    """FFmpeg's fieldmatch: it decides by a copy of 8 bits, and weaves the frames at their own depth.

    A matched frame depends on its two neighbours and on nothing else. Frames that stay combed are flagged as
    interlaced, all others are not.
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
        # Combing is looked for in every frame: an edit need not be a change of scene.
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
        """Add the next frame. Returns those that are matched, which takes their successors."""
        self._last, self._end = frame, cast(int, frame.pts)
        self._source.push(frame)
        return self._pull()

    def finish(self) -> list[VideoFrame]:
        """The last frames. The filter gives none for its very last one, so copies of that follow it."""
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
    """A frame of the source: when it is shown, the frame before it, and the one from which a reading leads to it."""

    timing: TimedFrame
    before: Fraction | None
    anchor: Clock


class FilmReader:
    """Makes film frames of telecined ones, each with a time on the film's even clock.

    It is fed frame by frame. A film frame depends on LEAD frames before it, on those ahead that `Cadence` looks at, and
    on how long ago the last repeat was. The clock of each frame has the last of these and leads to the first: so a
    reading from any frame on gives the same ones.

    Where the source shows the frames of a cycle, a frame's first field, the film's clock runs through: a quarter of a
    frame apart from one to the next. Outside of the pattern frames keep the times of the source.

    Args:
        info: the source; its `telecine` tells which field comes first.
        edges: times at which the range begins and ends. What the source shows there or later stays there.
        clock: of the frame from which reading goes on; None where it begins.
    """

    def __init__(self, info: VideoInfo, edges: Sequence[Fraction], clock: Clock | None) -> None:
        assert info.telecine is not None
        self._info, self._order = info, info.telecine.field_order
        self._tick = info.frame_time_base / FILM_GRAIN
        self._edges = [ceil(edge / self._tick) * self._tick for edge in edges]
        self._meter = FieldMeter(self._order)
        is_begun = clock is not None and clock.lead > 0
        self._cadence = Cadence(clock.since_repeat) if clock is not None and is_begun else Cadence()
        self._unjudged = LEAD + 1 if is_begun else 0  # with the frame before the clock's
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
        frame = _arranged(frame, self._info)
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
        return self._take(after=1)

    def finish(self) -> list[tuple[VideoFrame, TimedFrame]]:
        """The last film frames; the very last one is shown until the source ends."""
        self._end_run()
        self._verdicts += self._cadence.finish()
        end = self._recent[-1] if self._recent else None
        ready = self._take(after=0)
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
        self._show(self._matcher.push(frame))

    def _end_run(self) -> None:
        """The last frames of one layout."""
        if self._matcher is None:
            return
        self._show(self._matcher.finish())
        self._pictures += self._deinterlacer.push(None)
        self._matcher, self._deinterlacer = None, self._new_deinterlacer()
        self._drop_unshown()

    def _show(self, matched: list[VideoFrame]) -> None:
        for frame in matched:
            self._pictures += self._deinterlacer.push(frame)
        self._drop_unshown()

    def _drop_unshown(self) -> None:
        while self._unshown and self._pictures:
            self._pictures.popleft()
            self._unshown -= 1

    def _new_deinterlacer(self) -> Deinterlacer:
        return Deinterlacer("auto", self._order, only_flagged=True)

    def _take(self, *, after: int) -> list[tuple[VideoFrame, TimedFrame]]:
        """The frames that are judged and shown, `after` of them behind; only the last of all has none."""
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
        """When a film frame is shown.

        In units of the source's frames, with a repeat at 2: the first fields of A, B, C and D are shown at 0, 1, 2.5
        and 3.5, and an even clock shows them at 0, 1.25, 2.5 and 3.75. The frames themselves are at 0, 1, 3 and 4.
        """
        own = time = source.timing.time
        longest = LONGEST_GAP / self._info.rate
        if verdict.since_repeat <= 2 and source.before is not None:
            gap = own - source.before
            time -= 0 if gap > longest else gap * (3 - verdict.since_repeat) / FILM_GRAIN
        elif self._verdicts and self._verdicts[0].is_repeat:
            gap = self._sources[0].timing.time - own
            time += 0 if gap > longest else gap / FILM_GRAIN
        return max([time, *(edge for edge in self._edges if own >= edge)])


def _arranged(frame: VideoFrame, info: VideoInfo) -> VideoFrame:
    """The frame in planar YUV."""
    name = planar_format(frame.format.name)
    if name is None:
        raise VideoError(
            f"{info.path}: fields of {frame.format.name} frames cannot be matched; expected YUV without transparency; "
            "use --deinterlace frame or off"
        )
    if name == frame.format.name:
        return frame
    planar = frame.reformat(format=name)
    planar.pts, planar.time_base, planar.opaque = frame.pts, frame.time_base, frame.opaque
    return planar
