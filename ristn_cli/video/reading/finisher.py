"""Turn progressive frames into `Frame`s: select the range, set durations, convert to RGB. Does not know files."""

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

# If a stream ends this much before the end in its header, it is reported as cut short.
MISSING_END_SECONDS = Fraction(1, 10)


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What to read from a video, and how.

    Attributes:
        start: start of the range, in seconds after the first frame. The first frame has time >= start.
        end: end of the range. The last frame has time < end.
        max_frames: maximum number of frames.
        deinterlace: `ivtc` undoes telecine; so does `auto` if the source's `telecine` is known. Otherwise `auto` runs
            bwdif on frames flagged as interlaced, or on all frames if the source's `field_order` is known. `frame` runs
            it on all frames, `field` too but with twice the frame rate, `off` never.
        drop_alpha: ignore the alpha channel.
        carry_alpha: read the alpha channel.
        drop_captions: ignore closed captions.
        strict: raise an error, instead of reporting it, for damage and for a frame whose format differs from the
            source.
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
    """Read options, and the range of frames to return, from `first` to before `last`, on the source's clock."""

    options: ReadOptions
    first: Fraction
    last: Fraction | None

    @property
    def carry_alpha(self) -> bool:
        return self.options.carry_alpha and not self.options.drop_alpha


class Finisher:
    """Selects frames of the range and converts them.

    Keeps each frame until the time of the next one is known.
    """

    def __init__(self, info: VideoInfo, scope: Scope, damage: Damage, matcher: Matcher) -> None:
        self._info, self._scope, self._damage, self._matcher = info, scope, damage, matcher
        self._reader = RgbReader(info.color, path=info.path, drop_alpha=scope.options.drop_alpha)
        self._timings: deque[TimedFrame] = deque()
        self._captions: deque[tuple[Fraction, bytes]] = deque()
        self._held: tuple[Fraction, VideoFrame, TimedFrame] | None = None
        self.is_over = False

    def note(self, timing: TimedFrame) -> None:
        """Add the timing of the next decoded frame, before any progressive frame that is made from it."""
        self._timings.append(timing)

    def note_captions(self, picture: VideoFrame, time: Fraction) -> None:
        """Add the captions of the next decoded frame, before any picture that is made of it."""
        captions = None if self._scope.options.drop_captions or time < self._scope.first else read_captions(picture)
        if captions is not None:
            self._captions.append((time, captions))

    def push(self, picture: VideoFrame, timing: TimedFrame | None = None) -> list[Frame]:
        """Add the next progressive frame. Returns the previous one if it is in the range.

        `timing` is that of the frame itself; None to use that of the decoded frame, from `note`.
        """
        first, last = self._scope.first, self._scope.last
        time = time_of(picture)
        while len(self._timings) > 1 and self._timings[1].time <= time:  # a second field has no timing of its own
            self._timings.popleft()
        held, self._held = self._held, None
        self.is_over = last is not None and time >= last
        if time >= first and not self.is_over:
            self._held = (time, picture, timing or self._timings[0])
        return [] if held is None else [self._convert(held, time if last is None else min(time, last))]

    def finish(self) -> list[Frame]:
        """Return the last frame if there is one in the range."""
        if self._held is None:
            return []
        info, last = self._info, self._scope.last
        time, _, timing = self._held
        natural = time + _own_duration(timing, info) / (2 if self._scope.options.deinterlace == "field" else 1)
        if info.end_time is not None:
            # The end of the track is exact. The duration of a packet is a decoding interval, and may be that of another
            # frame.
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
            self._damage.add(f"the frame at {float(time - info.start_time):.3f} s is damaged; errors were concealed")
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
