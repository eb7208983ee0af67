"""Frames of a video, one after another, each at the source's own time. Knows nothing of writing."""

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
    """Frames in display order, upright, RGB, with strictly growing times on the source's clock.

    Times are FFmpeg's best-effort estimate. A frame's duration is the gap to its successor (cut at the end of the
    range). Packets that cannot be decoded are skipped and concealed pictures marked, each reported to `on_damage` in
    one line. Frames that differ from what `source` says in size, shape on screen, bit depth or colours are scaled and
    converted, and the first of them is reported to `on_change` in one line. Raises VideoError when nothing can be read,
    when a picture has transparency and the options do not say what becomes of it, and for either report when reading is
    strict.
    `since` and `clock` are those of a frame that a call without them gave: reading begins with that frame and gives the
    same times as that call did.
    """
    info = source if isinstance(source, VideoInfo) else probe(source)
    options = options or ReadOptions()
    if info.has_alpha and not (options.drop_alpha or options.carry_alpha):
        raise VideoError(
            f"{info.path}: the video has transparency ({info.pixel_format}), which the output would lose; "
            "drop the alpha channel explicitly (--drop alpha) to go on without it"
        )
    damage = Damage(info.path, options.strict, on_damage)
    begin = info.start_time + (options.start or 0)
    first = begin if since is None else since
    scope = Scope(options, first, None if options.end is None else info.start_time + options.end)
    if info.is_image_sequence or (info.is_still and info.stream is None):  # a stream may hold many
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
    """Decode, deinterlace or undo telecine, cut to the range, convert."""
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
            picture.opaque = [layouts.read(picture)]  # an object of its own, which PyAV forgets with the first frame
        for whole in deinterlacer.push(picture):
            yield from finisher.push(whole)
            if finisher.is_over:
                return
        if picture is None:
            break
    yield from finisher.finish()


def _film_frames(reading: Reading, scope: Scope, damage: Damage, matcher: Matcher) -> Iterator[Frame]:
    """Decode, undo telecine, cut to the range, convert."""
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
