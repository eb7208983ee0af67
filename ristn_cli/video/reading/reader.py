"""Frames of a video, one after another, each at the source's own time. Knows nothing of writing."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from ristn_cli.video.convert import RgbReader, has_alpha_channel
from ristn_cli.video.interruption import check_interruption
from ristn_cli.video.reading.decoding import Damage, Reading, decoded_from, time_of
from ristn_cli.video.reading.images import read_image, read_image_with_alpha
from ristn_cli.video.reading.interlace import Deinterlace, deinterlaced
from ristn_cli.video.reading.layout import Layout, LayoutReader, Matcher, layout_of_images, layout_of_video
from ristn_cli.video.reading.sidedata import turn_upright
from ristn_cli.video.reading.source import describe_again, probe, undecodable
from ristn_cli.video.reading.timestamps import TimedFrame, timed
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
    first = begin if since is None else since
    last = None if end is None else info.start_time + end
    if info.is_image_sequence or (info.is_still and info.path.is_file()):  # a pipe may hold many
        matcher = Matcher(info, layout_of_images(info), strict, on_change)
        frames = _image_frames(info, first, last, drop_alpha, carry_alpha, damage, matcher)
    else:
        matcher = Matcher(info, layout_of_video(info), strict, on_change)
        if since is not None and clock is None:
            begin = since
        reading = Reading(info, begin, first, clock if clock is not None and clock.frames else None)
        frames = _video_frames(reading, last, deinterlace, drop_alpha, carry_alpha, damage, matcher)
    try:
        yield from islice(frames, max_frames)
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
    frames = decoded_from(Reading(info, first, first), Damage(info.path, False, None), False)
    for timing, _ in timed(frames, info, None):
        if timing.time >= first - lead:
            yield timing.time


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
    frames = decoded_from(Reading(info, first, first), Damage(info.path, False, None), False)
    frame = next((frame for timing, frame in timed(frames, info, None) if timing.time >= first), None)
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


def _image_frames(
    info: VideoInfo,
    first: Fraction,
    last: Fraction | None,
    drop_alpha: bool,
    carry_alpha: bool,
    damage: Damage,
    matcher: Matcher,
) -> Iterator[Frame]:
    for index, path in enumerate(info.images or (info.path,)):
        check_interruption()
        time = index / info.rate
        if time < first:
            continue
        if last is not None and time >= last:
            return
        alpha: Image | None = None
        report = partial(_add_of_image, damage, path)
        if carry_alpha and not drop_alpha:
            image, alpha = read_image_with_alpha(path, on_damage=report)
        else:
            image = read_image(path, drop_alpha=drop_alpha, on_damage=report)
        image, alpha = matcher.match(image, alpha, layout_of_images(info, image), time, path)
        yield Frame(image, time, 1 / info.rate, alpha=alpha)


def _add_of_image(damage: Damage, path: Path, what: str) -> None:
    damage.add(what if path == damage.path else f"{path.name}: {what}")


def _video_frames(
    reading: Reading,
    last: Fraction | None,
    deinterlace: Deinterlace,
    drop_alpha: bool,
    carry_alpha: bool,
    damage: Damage,
    matcher: Matcher,
) -> Iterator[Frame]:
    """Decode, deinterlace, cut to [first, last), convert; a frame is held back until its successor's time is known."""
    info, first = reading.info, reading.first
    reader = RgbReader(info.color, path=info.path, drop_alpha=drop_alpha)
    finish = partial(_finish, info, reader, matcher, damage, carry_alpha and not drop_alpha)
    timings: deque[TimedFrame] = deque()

    def note_timings() -> Iterator[VideoFrame]:
        for timing, frame in timed(decoded_from(reading, damage, carry_alpha), info, reading.clock):
            timings.append(timing)
            yield frame

    held: tuple[Fraction, VideoFrame, TimedFrame] | None = None
    for frame in deinterlaced(_with_layout(note_timings(), info), deinterlace, info.field_order):
        time = time_of(frame)
        while len(timings) > 1 and timings[1].time <= time:  # a second field has none of its own
            timings.popleft()
        if held is not None:
            yield finish(held, time if last is None else min(time, last))
        if last is not None and time >= last:
            return
        held = (time, frame, timings[0]) if time >= first else None
    if held is None:
        return
    time, _, timing = held
    natural = time + _own_duration(timing, info) / (2 if deinterlace == "field" else 1)
    if info.end_time is not None:
        # The track's end is exact; a frame's own duration is a decoding interval and may be another frame's.
        missing = info.end_time - natural
        if missing > MISSING_END_SECONDS + 2 / info.rate:
            damage.add(f"ends {float(missing):.2f} s before the end its header states; the file is cut short")
        elif natural + missing > time:
            natural += missing
    yield finish(held, natural if last is None else min(natural, last))


def _own_duration(timing: TimedFrame, info: VideoInfo) -> Fraction:
    if info.is_still or info.has_decoding_times_only or timing.duration is None:
        return 1 / info.rate
    return timing.duration


def _with_layout(frames: Iterator[VideoFrame], info: VideoInfo) -> Iterator[VideoFrame]:
    """Frames that carry their layout through filters, which may give them another pixel format."""
    layouts = LayoutReader(info)
    for frame in frames:
        frame.opaque = [layouts.read(frame)]  # an object of its own: PyAV forgets it with the first frame that has it
        yield frame


def _finish(
    info: VideoInfo,
    reader: RgbReader,
    matcher: Matcher,
    damage: Damage,
    with_alpha: bool,
    held: tuple[Fraction, VideoFrame, TimedFrame],
    until: Fraction,
) -> Frame:
    time, frame, timing = held
    if frame.is_corrupt:
        damage.add(f"the picture at {float(time - info.start_time):.3f} s is damaged and was concealed")
    image, alpha = reader.to_rgba(frame) if with_alpha else (reader.to_rgb(frame), None)
    image, alpha = matcher.match(
        _upright(image, info),
        None if alpha is None else _upright(alpha, info),
        cast("list[Layout]", frame.opaque)[0],
        time,
    )
    return Frame(image, time, until - time, frame.is_corrupt, alpha, timing.clock)


def _upright(image: Image, info: VideoInfo) -> Image:
    return turn_upright(image, info.transposed, info.flipped_x, info.flipped_y)
