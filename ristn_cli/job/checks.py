"""Checks a job before the first frame, and creates it. Does not write to the output's folder."""

import os
import platform
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.job import MATROSKA, Y4M, Job, job_folder
from ristn_cli.job.manifest import fingerprint
from ristn_cli.job.options import (
    RunOptions,
    UpscaleOptions,
    carries_alpha,
    estimate_frames,
    expected_end,
    plain_text,
    recorded_options,
)
from ristn_cli.job.ranges import settle_range
from ristn_cli.job.regrain import GRAIN_KEY
from ristn_cli.job.shape import choose_shape
from ristn_cli.video import (
    CAPTIONS,
    CODECS,
    EMBEDDING_CODECS,
    IMAGES_WITH_ALPHA,
    SIDECAR_NAME,
    EncoderSettings,
    InputFiles,
    InputStream,
    Output,
    StreamPlan,
    VideoError,
    VideoInfo,
    assume_film,
    check_image_depth,
    check_matrix,
    check_mux,
    describe_from,
    descriptor_of,
    existing_images,
    find_captions,
    find_fields,
    find_telecine,
    find_transparency,
    is_image_target,
    is_numbered,
    presentation_times,
    probe,
    single_image_error,
    try_mux,
)

PUBLISHING = "publishing"
"""A file in the job's folder. It exists while images are renamed, when some already have their final names."""

NOT_IDENTIFYING = ("strict", "video_stream", "start_position", "end_position")
"""Options that do not identify a job. Positions have been converted to times."""


@dataclass(frozen=True, kw_only=True)
class OutputStream:
    """Standard output as a target: an open file and its format."""

    file: IO[bytes]
    format: Literal["y4m", "matroska"] = "y4m"

    @property
    def name(self) -> Path:
        """Target of the job; the extension states the format."""
        return Y4M if self.format == "y4m" else MATROSKA


def check_inputs_kept(source: Path | InputStream, target: Path | OutputStream) -> None:
    """Refuse an output that is also the input, if either is a standard stream.

    Raises:
        VideoError: the output would replace the input or be appended to it.
    """
    begin = source if isinstance(source, Path) else source.descriptor
    inputs = InputFiles([] if begin is None else [begin])
    if isinstance(target, Path):
        inputs.check_kept(target, job_folder(target))
    elif (number := descriptor_of(target.file)) is not None and inputs.find(number) is not None:
        raise VideoError("standard output: is the input itself; redirect it to another file")


def check_target(source: Path, target: Path, run: RunOptions) -> None:
    """Refuse a target that cannot be written, before any work.

    Raises:
        VideoError: it exists and must not be replaced, is an input under any name, or its folder does not exist.
    """
    InputFiles([source]).check_kept(target, job_folder(target))
    if is_numbered(target):
        check_numbered_target(source, target, run)
        return
    if not target.parent.is_dir() and not run.makes_folder:
        raise VideoError(f"{target}: the folder {target.parent} does not exist; create it")
    if target.is_dir():
        raise VideoError(f"{target}: is a folder; expected the name of a video file")
    if not run.overwrite and os.path.lexists(target):
        raise VideoError(f"{target}: already exists; use --overwrite to replace it")


def check_numbered_target(source: Path, target: Path, run: RunOptions) -> None:
    """Check a target of numbered images. Its folder is created if only that is missing."""
    folder = target.parent
    if folder.exists() and not folder.is_dir():
        raise VideoError(f"{folder}: is a file; expected a folder for the images")
    if not (run.makes_folder or folder.is_dir() or folder.parent.is_dir()):
        raise VideoError(f"{target}: the folder {folder.parent} does not exist; create it")
    if source.is_dir() and folder.is_dir() and folder.samefile(source):
        raise VideoError(f"{folder}: is the input itself; name another folder for the output")
    earlier = existing_images(target)
    if (blocked := next((path for path in earlier if path.is_dir()), None)) is not None:
        raise VideoError(f"{blocked}: is a folder, but an image may need this name; move the folder")
    if run.overwrite or (job_folder(target) / PUBLISHING).exists():
        return
    if earlier:
        raise VideoError(f"{target}: images of this pattern already exist; use --overwrite to replace them")
    if os.path.lexists(folder / SIDECAR_NAME):
        raise VideoError(
            f"{folder / SIDECAR_NAME}: already exists, but the images may need this file for their times; "
            "use --overwrite to replace it, or name another folder"
        )


def check_job(
    source: Path | InputStream | VideoInfo, target: Path | OutputStream, options: UpscaleOptions, run: RunOptions
) -> Job:
    """Create a job, and refuse whatever can be refused before any work.

    Raises:
        VideoError: the source cannot be read, the target cannot hold its streams or cannot be written, or the encoder
            is missing or refuses its options.
    """
    begins_later = options.start is not None or options.start_position is not None
    if isinstance(source, InputStream) and begins_later:
        raise VideoError(f"{source}: --start needs a seekable input; start the program that writes to it at that time")
    if isinstance(source, InputStream) and options.grain:
        raise VideoError(f"{source}: --grain reads the input twice, and this one can be read only once; name a file")
    if isinstance(source, VideoInfo):
        info = source
    else:
        info = probe(source, rate=options.image_rate, video_stream=options.video_stream)
    if isinstance(target, OutputStream):
        name = target.name
    else:
        name = target
        check_target(info.path, target, run)
    images = name.suffix.lower() if is_image_target(name) else None
    options = settle_range(info, options)
    if info.stream is None:
        info = examine(info, options)
    else:
        info = check_stream_source(info, options, loses_others=images is None and name != Y4M)
    info = remove_tags(info, options)
    encoder = EncoderSettings.for_source(
        info,
        options.codec,
        crf=options.crf,
        preset=options.preset,
        pixel_format=options.pixel_format,
        options=options.encoder_options,
        has_alpha=carries_alpha(info, options),
    )
    is_video = images is None and name != Y4M
    # Captions that cannot stay in the frames are searched for in the whole file, or some would be lost silently.
    is_kept = is_video and CODECS[encoder.codec].family in EMBEDDING_CODECS
    info = find_captions(info, everywhere=not is_kept and "captions" not in options.leave_out)
    if is_video:  # before sizes are chosen, because its errors are more specific
        streams = check_mux(
            info,
            name,
            codec=encoder.codec,
            drop=options.dropped,
        )
    elif images is not None:
        streams = check_images(info, name, options)
    else:
        streams = check_y4m(info, options)
    output = Output(
        source=info,
        shape=choose_shape(info, options, encoder, is_video=images is None),
        encoder=encoder,
        streams=streams,
        start=options.start,
        end=expected_end(info, options),
        images=images,
    )
    if is_video:
        output = replace(output, streams=try_mux(output, name))
    return Job(target=name, output=output, options=options)


def examine(info: VideoInfo, options: UpscaleOptions) -> VideoInfo:
    """Find what the header of a source does not state: transparency, unflagged interlacing and telecine.

    If the frame format changes before `start`, the result describes the first frame of the job.

    Raises:
        VideoError: frames cannot be read.
    """
    info = describe_from(info, options.start)
    check_matrix(info.color, info.path)
    if not options.drop_alpha:
        has_alpha = find_transparency(info, start=options.start, end=options.end, max_frames=options.max_frames)
        info = replace(info, has_alpha=has_alpha)
    if options.deinterlace != "off":
        info = find_fields(info, is_interlaced=options.deinterlace != "auto")
    if options.deinterlace in ("auto", "ivtc"):
        info = find_telecine(info, is_asked=options.deinterlace == "ivtc")
    return info


def remove_tags(info: VideoInfo, options: UpscaleOptions) -> VideoInfo:
    """Remove unwanted chapters and metadata from the description of a source.

    Metadata includes that of the file and of the video stream, with date, place and device of a recording. Languages
    and titles of other streams are kept.
    """
    if "chapters" in options.leave_out:
        info = replace(info, chapters=())
    if "metadata" in options.leave_out:
        streams = tuple(
            replace(stream, metadata={}, title=None) if stream.index == info.video_index else stream
            for stream in info.streams
        )
        info = replace(info, metadata={}, streams=streams)
    return info


def check_stream_source(info: VideoInfo, options: UpscaleOptions, *, loses_others: bool) -> VideoInfo:
    """Return standard input as a source that contains only its video.

    With `loses_others`, the output could hold audio and subtitles, so the user must have dropped them.

    Raises:
        VideoError: the output could hold streams that cannot be read from standard input.
    """
    check_matrix(info.color, info.path)
    if options.deinterlace == "ivtc":
        info = replace(info, telecine=assume_film(info))  # a stream cannot be examined before it is read
    if not loses_others:  # the plan lists the dropped streams
        return replace(info, chapters=())
    for kind, is_wanted in (("audio", options.with_audio), ("subtitle", options.with_subtitles)):
        if is_wanted and any(stream.kind == kind for stream in info.streams):
            flag = "--drop audio" if kind == "audio" else "--drop subtitles"
            raise VideoError(
                f"{info.path}: has {kind} streams, which cannot be copied from standard input; "
                f"name a file, or use {flag}"
            )
    streams = tuple(stream for stream in info.streams if stream.index == info.video_index)
    return replace(info, streams=streams, chapters=())


def check_images(info: VideoInfo, target: Path, options: UpscaleOptions) -> tuple[StreamPlan, ...]:
    """Plan the streams of an output of images, which drops all but the video.

    Raises:
        VideoError: the image format cannot hold the frames, or one image would have to hold several.
    """
    check_image_depth(target, info.bit_depth)
    if carries_alpha(info, options) and target.suffix.lower() not in IMAGES_WITH_ALPHA:
        raise VideoError(
            f"{target}: {target.suffix} cannot hold the alpha channel of {info.path.name}; "
            f"use {' or '.join(sorted(IMAGES_WITH_ALPHA))}, or --drop alpha"
        )
    count = estimate_frames(info, options)
    if count is None and info.stream is None:
        count = len(list(islice(presentation_times(info.path, info.video_index), 2)))
    if not is_numbered(target) and (count or 1) > 1:
        raise single_image_error(target)
    kind = target.suffix.lower()[1:]
    return plan_pictures_only(info, {"jpg": "jpeg", "tif": "tiff"}.get(kind, kind), "images hold only frames")


def check_y4m(info: VideoInfo, options: UpscaleOptions) -> tuple[StreamPlan, ...]:
    """Plan the streams of a Y4M output. Raises VideoError for transparency."""
    if carries_alpha(info, options):
        raise VideoError(f"{info.path}: has an alpha channel, which Y4M cannot hold; use --drop alpha to drop it")
    return plan_pictures_only(info, "rawvideo", "Y4M holds only frames")


def plan_pictures_only(info: VideoInfo, codec: str, reason: str) -> tuple[StreamPlan, ...]:
    """Plan an output that contains only the video."""
    captions = (StreamPlan(CAPTIONS, "drop", CAPTIONS.codec, reason, is_loss=True),) if info.has_captions else ()
    streams = tuple(
        StreamPlan(stream, "upscale", codec)
        if stream.index == info.video_index
        else StreamPlan(stream, "drop", stream.codec, reason)
        for stream in info.streams
    )
    return (*streams, *captions)


def identify(job: Job, upscaler: Upscaler) -> dict[str, Any]:
    """Return everything that shapes the frames of a job, under names for messages."""
    info = job.source
    files: dict[str, Any] = {image.name: fingerprint(image) for image in info.images}
    if not files:
        files = fingerprint(info.path) if info.stream is None else {"name": str(info.path)}
    return {
        "input": files,
        "network": upscaler.fingerprint,
        **({"detail": plain_text(upscaler.detail)} if upscaler.detail else {}),
        "precision": upscaler.backend.precision,
        "device": upscaler.backend.device.type,
        "compilation": upscaler.is_compiled,
        **asdict(upscaler.tiling),
        # The video stream is recorded by its index, however it was chosen.
        **{name: value for name, value in recorded_options(job.options).items() if name not in NOT_IDENTIFYING},
        GRAIN_KEY: None if job.grain is None else asdict(job.grain),
        "images": plain_text(job.output.images),
        "video stream": info.video_index,
        "version of ristn": version("ristn"),
        "version of PyTorch": version("torch"),
        "version of PyAV": version("av"),
        "machine": platform.machine(),
    }


def no_frames(info: VideoInfo) -> VideoError:
    """Return the error of an empty range."""
    return VideoError(f"{info.path}: contains no frames between --start and --end; choose another range")
