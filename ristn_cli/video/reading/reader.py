"""Read the frames of a video or of images in order, with the source's timestamps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from ristn_cli.video.colors import has_alpha_channel
from ristn_cli.video.interruption import check_interruption
from ristn_cli.video.reading.decoding import Damage, Reading, decoded_from
from ristn_cli.video.reading.film import FilmReader
from ristn_cli.video.reading.finisher import Finisher, ReadOptions, Scope
from ristn_cli.video.reading.images import read_image, read_image_with_alpha
from ristn_cli.video.reading.interlace import Deinterlacer
from ristn_cli.video.reading.layout import LayoutReader, Matcher, layout_of_images, layout_of_video
from ristn_cli.video.reading.probing import describe_again, probe
from ristn_cli.video.reading.scans import read_scan_picture
from ristn_cli.video.reading.source import undecodable
from ristn_cli.video.reading.telecine import assume_film, takes_film
from ristn_cli.video.reading.timestamps import Estimator
from ristn_cli.video.types import Clock, Frame, Image, VideoError, VideoInfo, peak_of

log = logging.getLogger("ristn.video")


def read_frames(
    source: str | Path | VideoInfo,
    options: ReadOptions | None = None,
    *,
    since: Fraction | None = None,
    clock: Clock | None = None,
    on_damage: Callable[[str], None] | None = None,
    on_change: Callable[[str], None] = log.warning,
) -> Iterator[Frame]:
    """Yield upright RGB frames in display order, with strictly increasing times on the source's clock.

    Times are FFmpeg's best-effort estimates. The duration of a frame is the gap to the next one, cut at the end of the
    range.

    Args:
        source: a file, or the result of `probe`.
        options: range, deinterlacing and alpha channel.
        since: time of a frame that an earlier call with the same options returned. Reading starts at this frame, with
            the same times.
        clock: clock of that frame.
        on_damage: receives one line for each packet that cannot be decoded, and each frame with concealed errors.
        on_change: receives one line for the first frame that differs from `source` in size, shape, bit depth or
            colours. Such frames are scaled and converted.

    Raises:
        VideoError: nothing can be read; a frame has transparency and the options do not handle it; or `strict` is set
            and damage or a change was found.
    """
    info = source if isinstance(source, VideoInfo) else probe(source)
    options = options or ReadOptions()
    if info.has_alpha and not (options.drop_alpha or options.carry_alpha):
        raise VideoError(
            f"{info.path}: the video has transparency ({info.pixel_format}), which the output would lose; "
            "use --drop alpha to remove the alpha channel"
        )
    damage = Damage(info.path, options.strict, on_damage)
    begin = info.start_time + (options.start or 0)
    first = begin if since is None else since
    scope = Scope(options, first, None if options.end is None else info.start_time + options.end)
    if info.is_image_sequence or (info.is_still and info.stream is None):  # a stream may contain several images
        matcher = Matcher(info, layout_of_images(info), options.strict, on_change)
        frames = _image_frames(info, scope, damage, matcher)
    else:
        matcher = Matcher(info, layout_of_video(info), options.strict, on_change)
        if since is not None and clock is None:
            begin = since
        clock = clock if clock is not None and clock.frames else None
        frames = _video_frames(Reading(info, begin, first, clock, options.carry_alpha), scope, damage, matcher)
    left = options.max_frames
    try:
        while left != 0 and (frame := next(frames, None)) is not None:
            left = None if left is None else left - 1
            yield frame
            del frame  # releases its memory before the next one is read
    except av.error.FFmpegError as error:  # from filters; decoding errors are damage
        raise undecodable(info.path, error, "a frame") from error


def decoded_times(
    info: VideoInfo, start: Fraction | None = None, *, lead: Fraction = Fraction(0)
) -> Iterator[Fraction]:
    """Yield the times of decoded frames from `lead` before `start`, in seconds on the source's clock.

    They are those of `read_frames` with the same `start`. In contrast to packets, they exclude hidden frames, second
    fields and packets that repeat a frame. Decoding errors are skipped, as `read_frames` does without `strict`.
    """
    first = info.start_time + (start or 0)
    estimator = Estimator(info)
    for frame in decoded_from(Reading(info, first, first), Damage(info.path, False, None)):
        time = estimator.stamp(frame).time
        if time >= first - lead:
            yield time


def describe_from(info: VideoInfo, start: Fraction | None) -> VideoInfo:
    """Return `info` with the format of the first frame at or after `start` seconds. Later frames are converted to it.

    Raises VideoError if the frame cannot be read.
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
        names = ("width", "height", "sample_aspect_ratio", "bit_depth", "pixel_format", "color", "has_alpha", "scan")
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
    """Return whether the source has an alpha channel, used or not."""
    return info.has_alpha or has_alpha_channel(VideoFormat(info.pixel_format))


def find_transparency(
    info: VideoInfo,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    max_frames: int | None = None,
) -> bool:
    """Return whether any frame in the range is not fully opaque.

    Decodes frames only if the video has an alpha channel and its first frame is opaque.
    """
    if info.has_alpha or not may_be_transparent(info):
        return info.has_alpha
    options = ReadOptions(start=start, end=end, max_frames=max_frames, deinterlace="off", carry_alpha=True)
    frames = read_frames(info, options, on_change=lambda message: None)
    return any(frame.alpha is not None and float(frame.alpha.min()) < peak_of(frame.alpha.dtype) for frame in frames)


def _image_frames(info: VideoInfo, scope: Scope, damage: Damage, matcher: Matcher) -> Iterator[Frame]:
    for index, path in enumerate(info.images or (info.path,)):
        check_interruption()
        time = index / info.rate
        if time < scope.first:
            continue
        if scope.last is not None and time >= scope.last:
            return
        alpha: Image | None = None
        report = partial(_add_of_image, damage, path)
        timecode: str | None = None
        if info.scan is not None:
            image, alpha, timecode = read_scan_picture(path, info.scan, on_damage=report)
            alpha = alpha if scope.carry_alpha else None
        elif scope.carry_alpha:
            image, alpha = read_image_with_alpha(path, on_damage=report)
        else:
            image = read_image(path, drop_alpha=scope.options.drop_alpha, on_damage=report)
        image, alpha = matcher.match(image, alpha, layout_of_images(info, image), time, path)
        yield Frame(image, time, 1 / info.rate, alpha=alpha, timecode=timecode)


def _add_of_image(damage: Damage, path: Path, what: str) -> None:
    damage.add(what if path == damage.path else f"{path.name}: {what}")


def _video_frames(reading: Reading, scope: Scope, damage: Damage, matcher: Matcher) -> Iterator[Frame]:
    if takes_film(reading.info, scope.options.deinterlace):
        yield from _film_frames(reading, scope, damage, matcher)
        return
    estimator, layouts = Estimator(reading.info, reading.clock), LayoutReader(reading.info)
    deinterlacer = Deinterlacer(scope.options.deinterlace, reading.info.field_order)
    finisher = Finisher(reading.info, scope, damage, matcher)
    pictures = decoded_from(reading, damage)
    picture: VideoFrame | None
    while True:
        picture = next(pictures, None)
        if picture is not None:
            timing = estimator.stamp(picture)
            finisher.note(timing)
            finisher.note_captions(picture, timing.time)
            picture.opaque = [layouts.read(picture)]  # one list per frame: PyAV would drop a shared one
        for whole in deinterlacer.push(picture):
            yield from finisher.push(whole)
            if finisher.is_over:
                return
        if picture is None:
            break
    yield from finisher.finish()


def _film_frames(reading: Reading, scope: Scope, damage: Damage, matcher: Matcher) -> Iterator[Frame]:
    info = replace(reading.info, telecine=assume_film(reading.info))
    estimator, layouts = Estimator(info, reading.clock), LayoutReader(info)
    edges = [info.start_time + (scope.options.start or 0), *([] if scope.last is None else [scope.last])]
    film, finisher = FilmReader(info, edges, reading.clock), Finisher(info, scope, damage, matcher)
    for picture in decoded_from(reading, damage):
        timing = estimator.stamp(picture)
        finisher.note_captions(picture, timing.time)
        picture.opaque = [layouts.read(picture)]
        for whole, whole_timing in film.push(picture, timing):
            yield from finisher.push(whole, whole_timing)
            if finisher.is_over:
                return
    for whole, whole_timing in film.finish():
        yield from finisher.push(whole, whole_timing)
        if finisher.is_over:
            return
    yield from finisher.finish()
