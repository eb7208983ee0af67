"""Whole pictures to frames: which of them are given, for how long each is shown, its image. Knows nothing of files."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

from av.video.frame import VideoFrame

from ristn_cli.video.convert import RgbReader
from ristn_cli.video.reading.decoding import Damage, time_of
from ristn_cli.video.reading.interlace import Deinterlace
from ristn_cli.video.reading.layout import Layout, Matcher
from ristn_cli.video.reading.sidedata import read_captions, turn_upright
from ristn_cli.video.reading.timestamps import TimedFrame
from ristn_cli.video.types import Frame, Image, VideoInfo

# A stream that ends this much before the end its header states is reported as cut short.
MISSING_END_SECONDS = Fraction(1, 10)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What is read of a video, and how.

    Attributes:
        start: seconds after the video's first frame; the first frame given is the first with time >= start.
        end: the same; the last frame given is the last with time < end.
        max_frames: how many frames are given at most.
        deinterlace: `ivtc` makes film frames of telecined ones, and so does `auto` when the source's `telecine` is
            known. Else `auto` runs bwdif on frames flagged as interlaced, and on all when the source's `field_order`
            is known; `frame` on all, `field` on all at twice the rate, `off` never.
        drop_alpha: give up the transparency.
        carry_alpha: give frames their transparency.
        drop_captions: give frames no closed captions.
        strict: raise at the first damage and at the first frame that differs from what the source says, rather than
            report it.
    """

    start: Fraction | None = None
    end: Fraction | None = None
    max_frames: int | None = None
    deinterlace: Deinterlace = "auto"
    drop_alpha: bool = False
    carry_alpha: bool = False
    drop_captions: bool = False
    strict: bool = False


@dataclass(frozen=True)
class Scope:
    """Options, and the range of the frames that are given: from `first` to before `last`, on the source's clock."""

    options: ReadOptions
    first: Fraction
    last: Fraction | None

    @property
    def carry_alpha(self) -> bool:
        """Whether frames get their transparency."""
        return self.options.carry_alpha and not self.options.drop_alpha


class Finisher:
    """Makes frames of whole pictures: cuts them to the range and converts them.

    It is fed picture by picture, and holds one back until its successor's time is known.
    """

    def __init__(self, info: VideoInfo, scope: Scope, damage: Damage, matcher: Matcher) -> None:
        self._info, self._scope, self._damage, self._matcher = info, scope, damage, matcher
        self._reader = RgbReader(info.color, path=info.path, drop_alpha=scope.options.drop_alpha)
        self._timings: deque[TimedFrame] = deque()
        self._captions: deque[tuple[Fraction, bytes]] = deque()
        self._held: tuple[Fraction, VideoFrame, TimedFrame] | None = None
        self.is_over = False

    def note(self, timing: TimedFrame) -> None:
        """Add the timing of the next decoded frame, before any picture that is made of it."""
        self._timings.append(timing)

    def note_captions(self, picture: VideoFrame, time: Fraction) -> None:
        """Add the captions of the next decoded frame, before any picture that is made of it."""
        captions = None if self._scope.options.drop_captions or time < self._scope.first else read_captions(picture)
        if captions is not None:
            self._captions.append((time, captions))

    def push(self, picture: VideoFrame, timing: TimedFrame | None = None) -> list[Frame]:
        """Add the next picture. Returns the frame before it, if that is in the range.

        `timing` is the picture's own; None for that of the decoded frame it was made of, which was noted.
        """
        first, last = self._scope.first, self._scope.last
        time = time_of(picture)
        while len(self._timings) > 1 and self._timings[1].time <= time:  # a second field has none of its own
            self._timings.popleft()
        held, self._held = self._held, None
        self.is_over = last is not None and time >= last
        if time >= first and not self.is_over:
            self._held = (time, picture, timing or self._timings[0])
        return [] if held is None else [self._convert(held, time if last is None else min(time, last))]

    def finish(self) -> list[Frame]:
        """The last frame, if there is one in the range."""
        if self._held is None:
            return []
        info, last = self._info, self._scope.last
        time, _, timing = self._held
        natural = time + _own_duration(timing, info) / (2 if self._scope.options.deinterlace == "field" else 1)
        if info.end_time is not None:
            # The track's end is exact; a frame's own duration is a decoding interval and may be another frame's.
            missing = info.end_time - natural
            if missing > MISSING_END_SECONDS + 2 / info.rate:
                self._damage.add(f"ends {float(missing):.2f} s before the end its header states; the file is cut short")
            elif natural + missing > time:
                natural += missing
        return [self._convert(self._held, natural if last is None else min(natural, last))]

    def _convert(self, held: tuple[Fraction, VideoFrame, TimedFrame], until: Fraction) -> Frame:
        info = self._info
        time, picture, timing = held
        if picture.is_corrupt:
            self._damage.add(f"the picture at {float(time - info.start_time):.3f} s is damaged and was concealed")
        image, alpha = (
            self._reader.to_rgba(picture) if self._scope.carry_alpha else (self._reader.to_rgb(picture), None)
        )
        image, alpha = self._matcher.match(
            _upright(image, info),
            None if alpha is None else _upright(alpha, info),
            cast("list[Layout]", picture.opaque)[0],
            time,
        )
        captions = self._take_captions(time, until)
        return Frame(image, time, until - time, picture.is_corrupt, alpha, timing.clock, captions=captions)

    def _take_captions(self, time: Fraction, until: Fraction) -> bytes | None:
        """The captions of all decoded frames within these times.

        A second field has none of its own, and those of a frame that repeats another come with the frame before it. As
        only times decide, reading that begins at any frame gives each frame the same ones.
        """
        taken = []
        while self._captions and self._captions[0][0] < until:
            at, captions = self._captions.popleft()
            if at >= time:
                taken.append(captions)
        return b"".join(taken) or None


def _own_duration(timing: TimedFrame, info: VideoInfo) -> Fraction:
    if info.is_still or info.has_decoding_times_only or timing.duration is None:
        return 1 / info.rate
    return timing.duration


def _upright(image: Image, info: VideoInfo) -> Image:
    return turn_upright(image, info.transposed, info.flipped_x, info.flipped_y)
