"""What comes before the first frame: refusals, what of the source is read, and what a job is recognised by.

Writes nothing where the output goes.
"""

import os
import platform
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from fractions import Fraction
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict

from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.manifest import fingerprint
from ristn_cli.job.plan import UpscaleOptions, carries_alpha, doubles_rate, estimate_frames
from ristn_cli.job.shape import choose_shape
from ristn_cli.video import (
    CODECS,
    IMAGES_PART_SUFFIX,
    IMAGES_WITH_ALPHA,
    SIDECAR_NAME,
    Clock,
    Frame,
    InputFiles,
    ReadOptions,
    StreamPlan,
    VideoError,
    VideoInfo,
    check_image_depth,
    check_matrix,
    check_mux,
    choose_codec,
    describe_from,
    existing_images,
    find_fields,
    find_transparency,
    is_image_target,
    is_numbered,
    part_suffix,
    presentation_times,
    probe,
    read_frames,
    single_image_error,
    try_mux,
)

PUBLISHING = "publishing"
"""A file in the job's folder: images are being given their names, so that some have theirs already."""

OTHERS = ("strict", "video_stream")
"""Options that a job is not recognised by."""


class StreamChoice(TypedDict):
    """What is left out, as `check_mux` and `try_mux` take it."""

    with_audio: bool
    with_subtitles: bool


def check_target(source: Path, target: Path, overwrite: bool, *, makes_folder: bool = False) -> None:
    """Refuse, before any work, a target that cannot be written; `makes_folder`: its folder need not be there.

    Raises:
        VideoError: it exists and is not to be replaced, is an input by whatever name, or its folder is not there.
    """
    InputFiles([source]).check_kept(target, job_folder(target))
    if is_numbered(target):
        check_numbered_target(source, target, overwrite, makes_folder=makes_folder)
        return
    if not target.parent.is_dir() and not makes_folder:
        raise VideoError(f"{target}: no such folder: {target.parent}")
    if target.is_dir():
        raise VideoError(f"{target}: is a folder; expected the name of a video file")
    if not overwrite and os.path.lexists(target):
        raise VideoError(f"{target}: already exists; use --overwrite to replace it")


def check_numbered_target(source: Path, target: Path, overwrite: bool, *, makes_folder: bool) -> None:
    """The same for numbered images, whose folder is made when only it is missing."""
    folder = target.parent
    if folder.exists() and not folder.is_dir():
        raise VideoError(f"{folder}: is a file; expected a folder for the images")
    if not (makes_folder or folder.is_dir() or folder.parent.is_dir()):
        raise VideoError(f"{target}: no such folder: {folder.parent}")
    if source.is_dir() and folder.is_dir() and folder.samefile(source):
        raise VideoError(f"{folder}: is the input itself; give the output another folder")
    earlier = existing_images(target)
    if (blocked := next((path for path in earlier if path.is_dir()), None)) is not None:
        raise VideoError(f"{blocked}: is a folder; expected no folder of this name, which an image may get")
    if overwrite or (job_folder(target) / PUBLISHING).exists():
        return
    if earlier:
        raise VideoError(f"{target}: such images already exist; use --overwrite to replace them")
    if os.path.lexists(folder / SIDECAR_NAME):
        raise VideoError(
            f"{folder / SIDECAR_NAME}: already exists, and the times of the images may go there; "
            "use --overwrite to replace it, or give the output another folder"
        )


def for_target(options: UpscaleOptions, target: Path) -> UpscaleOptions:
    """The options with what the name of the output says: images or a video."""
    return replace(options, images=target.suffix.lower() if is_image_target(target) else None)


def family_of(options: UpscaleOptions, info: VideoInfo) -> tuple[str, str]:
    """What the output is made of: a codec and its encoder, or a kind of images twice."""
    if options.images is not None:
        kind = {".jpg": "jpeg", ".tif": "tiff"}.get(options.images, options.images[1:])
        return kind, kind
    codec = CODECS[choose_codec(options.codec, info.bit_depth)]
    return codec.name, codec.encoder


def part_suffix_of(options: UpscaleOptions) -> str:
    """The suffix of a job's parts."""
    return IMAGES_PART_SUFFIX if options.images is not None else part_suffix(options.codec)


def check_images(info: VideoInfo, target: Path, options: UpscaleOptions) -> tuple[StreamPlan, ...]:
    """What becomes of the streams of a source whose pictures are written as images: all others are left out."""
    check_image_depth(target, info.bit_depth)
    if carries_alpha(info, options) and target.suffix.lower() not in IMAGES_WITH_ALPHA:
        raise VideoError(
            f"{target}: {target.suffix} holds no transparency, which {info.path.name} has; "
            f"use {' or '.join(sorted(IMAGES_WITH_ALPHA))}, or --drop-alpha"
        )
    count = estimate_frames(info, options)
    if count is None and info.stream is None:  # a stream is read once
        count = len(list(islice(presentation_times(info.path, info.video_index), 2)))
    if not is_numbered(target) and (count or 1) > 1:
        raise single_image_error(target)
    kind, _ = family_of(options, info)
    return tuple(
        StreamPlan(stream, "upscale", kind)
        if stream.index == info.video_index
        else StreamPlan(stream, "drop", stream.codec, "images hold nothing else")
        for stream in info.streams
    )


def job_folder(target: Path) -> Path:
    """Where the parts of an unfinished output lie: beside it, so that they are on the same disk."""
    return target.with_name(f".{target.name}.ristn")


def examine(info: VideoInfo, options: UpscaleOptions) -> VideoInfo:
    """What the header of a source does not tell, by its pictures: transparency, and interlacing that no flag states.

    Where the picture changes before `start`, the result describes the first frame of the job.

    Raises:
        VideoError: its pictures cannot be read.
    """
    info = describe_from(info, options.start)
    check_matrix(info.color, info.path)
    if not options.drop_alpha:
        has_alpha = find_transparency(info, start=options.start, end=options.end, max_frames=options.max_frames)
        info = replace(info, has_alpha=has_alpha)
    if options.deinterlace != "off":
        info = find_fields(info, is_interlaced=options.deinterlace != "auto")
    return info


def check_container(info: VideoInfo, target: Path, options: UpscaleOptions) -> tuple[StreamPlan, ...]:
    """What becomes of the streams in the container that `target` names, as a trial of its mux settles it.

    Raises:
        VideoError: it cannot hold the streams, or the encoder is missing or refuses its options.
    """
    keep: StreamChoice = {"with_audio": options.with_audio, "with_subtitles": options.with_subtitles}
    codec = choose_codec(options.codec, info.bit_depth)
    check_mux(info, target, codec=codec, **keep)  # before sizes are chosen: its refusals say more
    shape = choose_shape(info, options)
    return try_mux(
        info,
        target,
        width=shape.width,
        height=shape.height,
        sample_aspect_ratio=shape.sample_aspect_ratio,
        codec=codec,
        crf=options.crf,
        preset=options.preset,
        pixel_format=options.pixel_format,
        encoder_options=options.encoder_options,
        has_alpha=carries_alpha(info, options),
        start=options.start,
        end=expected_end(info, options),
        **keep,
    )


def expected_end(info: VideoInfo, options: UpscaleOptions) -> Fraction | None:
    """Where the range of a job ends, in seconds after the first frame: with `max_frames`, about there."""
    if options.max_frames is None:
        return options.end
    rate = 2 * info.rate if doubles_rate(info, options) else info.rate
    wanted = (options.start or Fraction(0)) + options.max_frames / rate
    return wanted if options.end is None else min(options.end, wanted)


def check_job(
    source: Path, target: Path, options: UpscaleOptions, *, overwrite: bool, makes_folder: bool = False
) -> tuple[VideoInfo, tuple[StreamPlan, ...]]:
    """Refuse what can be refused before any work; what is in the source, and what becomes of its streams.

    Raises:
        VideoError: the source cannot be read, the target cannot hold its streams or cannot be written, or the encoder
            is missing or refuses its options.
    """
    info = probe(source, rate=options.image_rate, video_stream=options.video_stream)
    check_target(source, target, overwrite, makes_folder=makes_folder)
    info = examine(info, options)
    if options.images is not None:
        return info, check_images(info, target, options)
    return info, check_container(info, target, options)


def plain_text(value: Any) -> str:
    """An option as text; equal numbers give the same, as 17 from Python and 17.0 from the command line."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def identify(info: VideoInfo, upscaler: Upscaler, options: UpscaleOptions) -> dict[str, Any]:
    """Everything that shapes the frames of a job, by names a message can use."""
    return {
        "input": {image.name: fingerprint(image) for image in info.images} or fingerprint(info.path),
        "network": upscaler.fingerprint,
        "precision": upscaler.backend.precision,
        "device": upscaler.backend.device.type,
        "compilation": upscaler.is_compiled,
        **asdict(upscaler.tiling),
        # What only decides whether a run fails does not change the frames of one that goes on.
        # The stream is named as found, however it was chosen.
        **{name: plain_text(value) for name, value in asdict(options).items() if name not in OTHERS},
        "video stream": info.video_index,
        "version of ristn": version("ristn"),
        "version of PyTorch": version("torch"),
        "version of PyAV": version("av"),
        "machine": platform.machine(),
    }


def no_frames(info: VideoInfo) -> VideoError:
    """The error of an empty range."""
    return VideoError(f"{info.path}: has no frames between --start and --end")


def read_source(
    info: VideoInfo,
    options: UpscaleOptions,
    *,
    max_frames: int | None,
    since: Fraction | None = None,
    clock: Clock | None = None,
    on_damage: Callable[[str], None] | None = None,
    reports_change: bool = True,
) -> Iterator[Frame]:
    """Frames of the source as the options want them read, from the one at `since` that has this clock.

    The log tells of pictures that change on the way, unless `reports_change` is false: another reader reports them.
    """
    others: dict[str, Any] = {} if reports_change else {"on_change": lambda message: None}
    wanted = ReadOptions(
        start=options.start,
        end=options.end,
        max_frames=max_frames,
        deinterlace=options.deinterlace,
        drop_alpha=options.drop_alpha,
        carry_alpha=carries_alpha(info, options),
        strict=options.strict,
    )
    return read_frames(info, wanted, since=since, clock=clock, on_damage=on_damage, **others)
