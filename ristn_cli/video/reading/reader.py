"""Frames of a video, one after another, each at the source's own time. Knows nothing of writing."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from ristn_cli.video.colors import has_alpha_channel
from ristn_cli.video.convert import RgbReader
from ristn_cli.video.interruption import check_interruption
from ristn_cli.video.reading.decoding import Damage, Reading, decoded_from, time_of
from ristn_cli.video.reading.images import read_image, read_image_with_alpha
from ristn_cli.video.reading.interlace import Deinterlace, Deinterlacer
from ristn_cli.video.reading.layout import Layout, LayoutReader, Matcher, layout_of_images, layout_of_video
from ristn_cli.video.reading.probing import describe_again, probe
from ristn_cli.video.reading.sidedata import turn_upright
from ristn_cli.video.reading.source import undecodable
from ristn_cli.video.reading.timestamps import Estimator, TimedFrame
from ristn_cli.video.types import Clock, Frame, Image, VideoError, VideoInfo

log = logging.getLogger("ristn.video")

# A stream that ends this much before the end its header states is reported as cut short.
MISSING_END_SECONDS = Fraction(1, 10)


def read_frames(
    source: str | Path | VideoInfo,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    max_frames: int | None = None,
    deinterlace: Deinterlace = "auto",
    drop_alpha: bool = False,
    carry_alpha: bool = False,
    strict: bool = False,
    since: Fraction | None = None,
    clock: Clock | None = None,
    on_damage: Callable[[str], None] | None = None,
    on_change: Callable[[str], None] = log.warning,
) -> Iterator[Frame]:
    """Frames in display order, upright, RGB, with strictly growing times on the source's clock.

    Times are FFmpeg's best-effort estimate. `start` and `end` are seconds after the video's first frame: the first
    frame given is the first with time >= start, the last the last with time < end. A frame's duration is the gap to its
    successor (cut at `end`). `deinterlace`: `auto` runs bwdif on frames flagged as interlaced, and on all when the
    source's `field_order` is known; `frame` on all, `field` on all at twice the rate, `off` never.
    Packets that cannot be decoded are skipped and concealed pictures marked, each reported to `on_damage` in one line;
    `strict` raises instead. `carry_alpha` gives frames their transparency, `drop_alpha` gives it up. Frames that differ
    from what `source` says in size, shape on screen, bit depth or colours are scaled and converted, and the first of
    them is reported to `on_change` in one line; `strict` raises instead. Raises VideoError when nothing can be read,
    and when a picture has transparency and neither is said.
    `since` and `clock` are those of a frame that a call without them gave: reading begins with that frame and gives the
    same times as that call did.
    """
    info = source if isinstance(source, VideoInfo) else probe(source)
    if info.has_alpha and not (drop_alpha or carry_alpha):
        raise VideoError(
            f"{info.path}: the video has transparency ({info.pixel_format}), which the output would lose; "
            "drop the alpha channel explicitly (--drop-alpha) to go on without it"
        )
    damage = Damage(info.path, strict, on_damage)
    begin = info.start_time + (start or 0)
    scope = _Scope(
        first=begin if since is None else since,
        last=None if end is None else info.start_time + end,
        deinterlace=deinterlace,
        drop_alpha=drop_alpha,
        carry_alpha=carry_alpha and not drop_alpha,
    )
    if info.is_image_sequence or (info.is_still and info.stream is None):  # a stream may hold many
        matcher = Matcher(info, layout_of_images(info), strict, on_change)
        frames = _image_frames(info, scope, damage, matcher)
    else:
        if since is not None and clock is None:
            begin = since
        clock = clock if clock is not None and clock.frames else None
        matcher = Matcher(info, layout_of_video(info), strict, on_change)
        frames = _video_frames(Reading(info, begin, scope.first, clock, carry_alpha), scope, damage, matcher)
    left = max_frames
    try:
        while left != 0 and (frame := next(frames, None)) is not None:
            left = None if left is None else left - 1
            yield frame
            del frame  # or it would be held while the next one is awaited
    except av.error.FFmpegError as error:  # of a conversion or of deinterlacing: those of decoding are damage
        raise undecodable(info.path, error, "a picture") from error


def decoded_times(
    info: VideoInfo, start: Fraction | None = None, *, lead: Fraction = Fraction(0)
) -> Iterator[Fraction]:
    """Times of the frames that a decoder gives from `lead` before `start` on, in seconds on the source's clock.

    They are those of `read_frames` with the same `start`. Unlike the times of packets they leave out what is not shown
    by itself: hidden frames, second fields, packets that repeat a picture. Errors of decoding are passed over, as
    `read_frames` does without `strict`.
    """
    first = info.start_time + (start or 0)
    estimator = Estimator(info)
    for frame in decoded_from(Reading(info, first, first), Damage(info.path, False, None)):
        time = estimator.stamp(frame).time
        if time >= first - lead:
            yield time


def describe_from(info: VideoInfo, start: Fraction | None) -> VideoInfo:
    """The same, with the picture of the first frame from `start` seconds on, which all later ones are made like.

    Raises VideoError when it cannot be read.
    """
    if not start or (info.is_still and not info.is_image_sequence):
        return info
    first = info.start_time + start
    if info.is_image_sequence:
        later = (path for index, path in enumerate(info.images) if index / info.rate >= first)
        found = next(later, None)
        if found is None:
            return info
        image = probe(found)
        names = ("width", "height", "sample_aspect_ratio", "bit_depth", "pixel_format", "color", "has_alpha")
        return replace(info, **{name: getattr(image, name) for name in names})
    estimator = Estimator(info)
    frames = decoded_from(Reading(info, first, first), Damage(info.path, False, None))
    frame = next((frame for frame in frames if estimator.stamp(frame).time >= first), None)
    frames.close()
    if frame is None:
        return info
    layout = LayoutReader(info).read(frame)
    return info if layout == layout_of_video(info) else describe_again(info, frame, layout.pixel_aspect)


def may_be_transparent(info: VideoInfo) -> bool:
    """Whether the source has an alpha channel, used or not."""
    return info.has_alpha or has_alpha_channel(VideoFormat(info.pixel_format))


def find_transparency(
    info: VideoInfo,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    max_frames: int | None = None,
) -> bool:
    """Whether any picture of the range is not wholly opaque.

    Only a video with an alpha channel whose first picture is opaque has to be looked through for that.
    """
    if info.has_alpha or not may_be_transparent(info):
        return info.has_alpha
    frames = read_frames(
        info,
        start=start,
        end=end,
        max_frames=max_frames,
        deinterlace="off",
        carry_alpha=True,
        on_change=lambda message: None,
    )
    return any(
        frame.alpha is not None and int(frame.alpha.min()) < int(np.iinfo(frame.alpha.dtype).max) for frame in frames
    )


@dataclass(frozen=True, kw_only=True)
class _Scope:
    """Which frames are given, in seconds on the source's clock, and how they are treated: see `read_frames`."""

    first: Fraction
    last: Fraction | None
    deinterlace: Deinterlace
    drop_alpha: bool
    carry_alpha: bool


def _image_frames(info: VideoInfo, scope: _Scope, damage: Damage, matcher: Matcher) -> Iterator[Frame]:
    for index, path in enumerate(info.images or (info.path,)):
        check_interruption()
        time = index / info.rate
        if time < scope.first:
            continue
        if scope.last is not None and time >= scope.last:
            return
        alpha: Image | None = None
        report = partial(_add_of_image, damage, path)
        if scope.carry_alpha:
            image, alpha = read_image_with_alpha(path, on_damage=report)
        else:
            image = read_image(path, drop_alpha=scope.drop_alpha, on_damage=report)
        image, alpha = matcher.match(image, alpha, layout_of_images(info, image), time, path)
        yield Frame(image, time, 1 / info.rate, alpha=alpha)


def _add_of_image(damage: Damage, path: Path, what: str) -> None:
    damage.add(what if path == damage.path else f"{path.name}: {what}")


def _video_frames(reading: Reading, scope: _Scope, damage: Damage, matcher: Matcher) -> Iterator[Frame]:
    """Decode, deinterlace, cut to the range, convert."""
    estimator, layouts = Estimator(reading.info, reading.clock), LayoutReader(reading.info)
    deinterlacer = Deinterlacer(scope.deinterlace, reading.info.field_order)
    finisher = _Finisher(reading.info, scope, damage, matcher)
    pictures = decoded_from(reading, damage)
    picture: VideoFrame | None
    while True:
        picture = next(pictures, None)
        if picture is not None:
            finisher.note(estimator.stamp(picture))
            picture.opaque = [layouts.read(picture)]  # an object of its own, which PyAV forgets with the first frame
        for whole in deinterlacer.push(picture):
            yield from finisher.push(whole)
            if finisher.is_over:
                return
        if picture is None:
            break
    yield from finisher.finish()


class _Finisher:
    """Makes frames of whole pictures: cuts them to the range and converts them.

    It is fed picture by picture, and holds one back until its successor's time is known.
    """

    def __init__(self, info: VideoInfo, scope: _Scope, damage: Damage, matcher: Matcher) -> None:
        self._info, self._scope, self._damage, self._matcher = info, scope, damage, matcher
        self._reader = RgbReader(info.color, path=info.path, drop_alpha=scope.drop_alpha)
        self._timings: deque[TimedFrame] = deque()
        self._held: tuple[Fraction, VideoFrame, TimedFrame] | None = None
        self.is_over = False

    def note(self, timing: TimedFrame) -> None:
        """Add the timing of the next decoded frame, before any picture that is made of it."""
        self._timings.append(timing)

    def push(self, picture: VideoFrame) -> list[Frame]:
        """Add the next picture. Returns the frame before it, if that is in the range."""
        first, last = self._scope.first, self._scope.last
        time = time_of(picture)
        while len(self._timings) > 1 and self._timings[1].time <= time:  # a second field has none of its own
            self._timings.popleft()
        held, self._held = self._held, None
        self.is_over = last is not None and time >= last
        if time >= first and not self.is_over:
            self._held = (time, picture, self._timings[0])
        return [] if held is None else [self._convert(held, time if last is None else min(time, last))]

    def finish(self) -> list[Frame]:
        """The last frame, if there is one in the range."""
        if self._held is None:
            return []
        info, last = self._info, self._scope.last
        time, _, timing = self._held
        natural = time + _own_duration(timing, info) / (2 if self._scope.deinterlace == "field" else 1)
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
        return Frame(image, time, until - time, picture.is_corrupt, alpha, timing.clock)


def _own_duration(timing: TimedFrame, info: VideoInfo) -> Fraction:
    if info.is_still or info.has_decoding_times_only or timing.duration is None:
        return 1 / info.rate
    return timing.duration


def _upright(image: Image, info: VideoInfo) -> Image:
    return turn_upright(image, info.transposed, info.flipped_x, info.flipped_y)
