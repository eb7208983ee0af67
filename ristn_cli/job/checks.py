"""What comes before the first frame: refusals, the job that results, and what it is recognised by.

Writes nothing where the output goes.
"""

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
"""A file in the job's folder: images are being given their names, so that some have theirs already."""

OTHERS = ("strict", "video_stream", "start_position", "end_position")
"""Options that a job is not recognised by. Positions have become times."""


@dataclass(frozen=True, kw_only=True)
class OutputStream:
    """Standard output as a target: an open file, and what goes there."""

    file: IO[bytes]
    format: Literal["y4m", "matroska"] = "y4m"

    @property
    def name(self) -> Path:
        """What a job calls it; the suffix tells the format."""
        return Y4M if self.format == "y4m" else MATROSKA


def check_inputs_kept(source: Path | InputStream, target: Path | OutputStream) -> None:
    """Refuse an output that is the input, where a standard stream is one of them.

    Raises:
        VideoError: the output would replace the input, or be appended to it.
    """
    begin = source if isinstance(source, Path) else source.descriptor
    inputs = InputFiles([] if begin is None else [begin])
    if isinstance(target, Path):
        inputs.check_kept(target, job_folder(target))
    elif (number := descriptor_of(target.file)) is not None and inputs.find(number) is not None:
        raise VideoError("standard output: is the input itself; redirect it to another file")


def check_target(source: Path, target: Path, run: RunOptions) -> None:
    """Refuse, before any work, a target that cannot be written.

    Raises:
        VideoError: it exists and is not to be replaced, is an input by whatever name, or its folder is not there.
    """
    InputFiles([source]).check_kept(target, job_folder(target))
    if is_numbered(target):
        check_numbered_target(source, target, run)
        return
    if not target.parent.is_dir() and not run.makes_folder:
        raise VideoError(f"{target}: no such folder: {target.parent}")
    if target.is_dir():
        raise VideoError(f"{target}: is a folder; expected the name of a video file")
    if not run.overwrite and os.path.lexists(target):
        raise VideoError(f"{target}: already exists; use --overwrite to replace it")


def check_numbered_target(source: Path, target: Path, run: RunOptions) -> None:
    """The same for numbered images, whose folder is made when only it is missing."""
    folder = target.parent
    if folder.exists() and not folder.is_dir():
        raise VideoError(f"{folder}: is a file; expected a folder for the images")
    if not (run.makes_folder or folder.is_dir() or folder.parent.is_dir()):
        raise VideoError(f"{target}: no such folder: {folder.parent}")
    if source.is_dir() and folder.is_dir() and folder.samefile(source):
        raise VideoError(f"{folder}: is the input itself; give the output another folder")
    earlier = existing_images(target)
    if (blocked := next((path for path in earlier if path.is_dir()), None)) is not None:
        raise VideoError(f"{blocked}: is a folder; expected no folder of this name, which an image may get")
    if run.overwrite or (job_folder(target) / PUBLISHING).exists():
        return
    if earlier:
        raise VideoError(f"{target}: such images already exist; use --overwrite to replace them")
    if os.path.lexists(folder / SIDECAR_NAME):
        raise VideoError(
            f"{folder / SIDECAR_NAME}: already exists, and the times of the images may go there; "
            "use --overwrite to replace it, or give the output another folder"
        )


def check_job(
    source: Path | InputStream | VideoInfo, target: Path | OutputStream, options: UpscaleOptions, run: RunOptions
) -> Job:
    """Settle a job, and refuse what can be refused before any work.

    Raises:
        VideoError: the source cannot be read, the target cannot hold its streams or cannot be written, or the encoder
            is missing or refuses its options.
    """
    begins_later = options.start is not None or options.start_position is not None
    if isinstance(source, InputStream) and begins_later:
        raise VideoError(f"{source}: cannot be sought for --start; let the program that writes to it begin there")
    if isinstance(source, InputStream) and options.grain:
        raise VideoError(f"{source}: cannot be measured for --grain, as it is read only once; name a file")
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
    info = without_tags(info, options)
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
    # What cannot stay in the pictures is searched for to the end, or some would be lost without a word.
    is_kept = is_video and CODECS[encoder.codec].family in EMBEDDING_CODECS
    info = find_captions(info, everywhere=not is_kept and "captions" not in options.leave_out)
    if is_video:  # before sizes are chosen: its refusals say more
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
    """What the header of a source does not tell, by its pictures: transparency, unflagged interlacing, telecine.

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
    if options.deinterlace in ("auto", "ivtc"):
        info = find_telecine(info, is_asked=options.deinterlace == "ivtc")
    return info


def without_tags(info: VideoInfo, options: UpscaleOptions) -> VideoInfo:
    """A source as an output knows it: without the chapters and the metadata that are not wanted.

    Metadata is that of the file and of the video, with the date, the place and the device of a recording. The languages
    and titles of other streams belong to them.
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
    """Standard input as a source, of which only the video can be used.

    With `loses_others`, sound and subtitles must have been given up: the output could hold them.

    Raises:
        VideoError: the output could hold streams that cannot be read from there.
    """
    check_matrix(info.color, info.path)
    if options.deinterlace == "ivtc":
        info = replace(info, telecine=assume_film(info))  # nothing can be looked at before
    if not loses_others:  # images and Y4M hold nothing but pictures, and the plan says so
        return replace(info, chapters=())
    for kind, is_wanted in (("audio", options.with_audio), ("subtitle", options.with_subtitles)):
        if is_wanted and any(stream.kind == kind for stream in info.streams):
            flag = "--drop audio" if kind == "audio" else "--drop subtitles"
            raise VideoError(
                f"{info.path}: has {kind} streams, which cannot be carried from there; name a file, or {flag}"
            )
    streams = tuple(stream for stream in info.streams if stream.index == info.video_index)
    return replace(info, streams=streams, chapters=())


def check_images(info: VideoInfo, target: Path, options: UpscaleOptions) -> tuple[StreamPlan, ...]:
    """What becomes of the streams of a source whose pictures are written as images: all others are left out.

    Raises:
        VideoError: the images cannot hold the pictures, or one image is to hold several.
    """
    check_image_depth(target, info.bit_depth)
    if carries_alpha(info, options) and target.suffix.lower() not in IMAGES_WITH_ALPHA:
        raise VideoError(
            f"{target}: {target.suffix} holds no transparency, which {info.path.name} has; "
            f"use {' or '.join(sorted(IMAGES_WITH_ALPHA))}, or --drop alpha"
        )
    count = estimate_frames(info, options)
    if count is None and info.stream is None:
        count = len(list(islice(presentation_times(info.path, info.video_index), 2)))
    if not is_numbered(target) and (count or 1) > 1:
        raise single_image_error(target)
    kind = target.suffix.lower()[1:]
    return plan_pictures_only(info, {"jpg": "jpeg", "tif": "tiff"}.get(kind, kind), "images hold nothing else")


def check_y4m(info: VideoInfo, options: UpscaleOptions) -> tuple[StreamPlan, ...]:
    """The same of a Y4M stream. Raises VideoError for transparency."""
    if carries_alpha(info, options):
        raise VideoError(f"{info.path}: has transparency, which Y4M cannot hold; use --drop alpha to go on without it")
    return plan_pictures_only(info, "rawvideo", "Y4M holds nothing but pictures")


def plan_pictures_only(info: VideoInfo, codec: str, reason: str) -> tuple[StreamPlan, ...]:
    """The plan of an output that holds nothing but the video."""
    captions = (StreamPlan(CAPTIONS, "drop", CAPTIONS.codec, reason, is_loss=True),) if info.has_captions else ()
    streams = tuple(
        StreamPlan(stream, "upscale", codec)
        if stream.index == info.video_index
        else StreamPlan(stream, "drop", stream.codec, reason)
        for stream in info.streams
    )
    return (*streams, *captions)


def identify(job: Job, upscaler: Upscaler) -> dict[str, Any]:
    """Everything that shapes the frames of a job, by names a message can use."""
    info = job.source
    files: dict[str, Any] = {image.name: fingerprint(image) for image in info.images}
    if not files:
        files = fingerprint(info.path) if info.stream is None else {"name": str(info.path)}
    return {
        "input": files,
        "network": upscaler.fingerprint,
        "precision": upscaler.backend.precision,
        "device": upscaler.backend.device.type,
        "compilation": upscaler.is_compiled,
        **asdict(upscaler.tiling),
        # What only decides whether a run fails does not change the frames of one that goes on.
        # The stream is named as found, however it was chosen.
        **{name: value for name, value in recorded_options(job.options).items() if name not in OTHERS},
        GRAIN_KEY: None if job.grain is None else asdict(job.grain),
        "images": plain_text(job.output.images),
        "video stream": info.video_index,
        "version of ristn": version("ristn"),
        "version of PyTorch": version("torch"),
        "version of PyAV": version("av"),
        "machine": platform.machine(),
    }


def no_frames(info: VideoInfo) -> VideoError:
    """The error of an empty range."""
    return VideoError(f"{info.path}: has no frames between --start and --end")
