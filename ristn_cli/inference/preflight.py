"""What comes before the first frame: refusals, the plan of a job, and what it is recognised by.

Writes nothing where the output goes.
"""

import contextlib
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

from ristn_cli.inference.manifest import Manifest, fingerprint, read_identity
from ristn_cli.inference.memory import Tiling, queue_bytes, window_bytes
from ristn_cli.inference.plan import (
    JobPlan,
    UpscaleOptions,
    carries_alpha,
    choose_deinterlacing,
    count_parts,
    count_tiles,
    count_windows,
    estimate_disk,
    estimate_frames,
    format_bytes,
    part_length,
)
from ristn_cli.inference.shape import choose_shape
from ristn_cli.inference.tiles import plan_spans
from ristn_cli.inference.upscaler import Upscaler
from ristn_cli.inference.windows import Window
from ristn_cli.video import (
    CODECS,
    Frame,
    StreamPlan,
    VideoError,
    VideoInfo,
    check_mux,
    choose_codec,
    find_fields,
    find_transparency,
    probe,
    read_frames,
    try_mux,
)

MEASURED_SIDE = 96
"""LR pixels: the largest side of the piece of the first window that a time estimate is measured on."""

LONG_SECONDS = 2.0
"""A measurement that took as long is not repeated."""


class StreamChoice(TypedDict):
    """What is left out, as `check_mux` and `try_mux` take it."""

    with_audio: bool
    with_subtitles: bool


def check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse, before any work, a target that cannot be written.

    Raises:
        VideoError: it exists and is not to be replaced, is the source itself, or its folder is not there.
    """
    if not target.parent.is_dir():
        raise VideoError(f"{target}: no such folder: {target.parent}")
    if target.is_dir():
        raise VideoError(f"{target}: is a folder; expected the name of a video file")
    if target.exists():
        with contextlib.suppress(OSError):
            if target.samefile(source):
                raise VideoError(f"{target}: is the input itself; give the output another name")
        if not overwrite:
            raise VideoError(f"{target}: already exists; use --overwrite to replace it")


def job_folder(target: Path) -> Path:
    """Where the parts of an unfinished output lie: beside it, so that they are on the same disk."""
    return target.with_name(f".{target.name}.ristn")


def check_job(
    source: Path, target: Path, options: UpscaleOptions, *, overwrite: bool
) -> tuple[VideoInfo, tuple[StreamPlan, ...]]:
    """Refuse what can be refused before any work; what is in the source, and what becomes of its streams.

    Raises:
        VideoError: the source cannot be read, the target cannot hold its streams or cannot be written, or the encoder
            is missing or refuses its options.
    """
    info = probe(source)
    check_target(source, target, overwrite)
    if not options.drop_alpha:
        has_alpha = find_transparency(info, start=options.start, end=options.end, max_frames=options.max_frames)
        info = replace(info, has_alpha=has_alpha)
    if options.deinterlace != "off":
        info = find_fields(info, is_interlaced=options.deinterlace != "auto")
    keep: StreamChoice = {"with_audio": options.with_audio, "with_subtitles": options.with_subtitles}
    codec = choose_codec(options.codec, info.bit_depth)
    streams = check_mux(info, target, codec=codec, **keep)
    shape = choose_shape(info, options)
    try_mux(
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
        **keep,
    )
    return info, streams


def plan_job(
    source: Path,
    target: Path,
    upscaler: Upscaler,
    options: UpscaleOptions | None = None,
    *,
    overwrite: bool = False,
    restart: bool = False,
) -> JobPlan:
    """What `upscale_video` would do with the same arguments; it takes some seconds, and writes nothing there.

    Raises:
        VideoError: what `upscale_video` would refuse, save for too small a disk, which the plan shows.
        JobError: an earlier run was different.
    """
    options = options or UpscaleOptions()
    info, streams = check_job(source, target, options, overwrite=overwrite)
    settle_tiling(upscaler, info, job_folder(target), restart=restart)
    manifest = Manifest(job_folder(target), identify(info, upscaler, options))
    if not restart:
        manifest.load()
    plan = describe_job(manifest, info, streams, upscaler, options)
    seconds_per_window = measure_window(info, upscaler, options)
    return plan if plan.windows is None else replace(plan, seconds=plan.windows * seconds_per_window)


def settle_tiling(upscaler: Upscaler, info: VideoInfo, folder: Path, *, restart: bool) -> None:
    """Choose windows and tiles for a source; a job that goes on keeps what its first run chose, however free memory is.

    Windows and tiles that were asked for are as asked.
    """
    upscaler.fit(info.width, info.height, image_bytes=1 if info.bit_depth <= 8 else 2)
    if upscaler.auto_tiling is None or restart:
        return
    chosen = asdict(upscaler.tiling)
    asked = {"window", "context"} if upscaler.auto_tiling.window else set()
    asked |= {"tile", "overlap"} if upscaler.auto_tiling.tile else set()
    earlier = read_identity(folder)
    kept = {
        name: earlier.get(name, chosen[name]) for name in ("window", "context", "tile", "overlap") if name not in asked
    }
    with contextlib.suppress(ValueError, TypeError):  # what no run of this version wrote, the comparison will refuse
        upscaler.tiling = Tiling(**(chosen | kept))


def describe_job(
    manifest: Manifest,
    info: VideoInfo,
    streams: tuple[StreamPlan, ...],
    upscaler: Upscaler,
    options: UpscaleOptions,
) -> JobPlan:
    """The plan of a job whose manifest is loaded, without a measurement of time."""
    shape = choose_shape(info, options)
    frames = estimate_frames(info, options)
    left = None if frames is None else max(0, frames - manifest.frames)
    codec = CODECS[choose_codec(options.codec, info.bit_depth)]
    continued = manifest.parts[-1].next_context if manifest.parts else 0
    image_bytes = 1 if info.bit_depth <= 8 else 2
    needed = None
    if left is not None:
        finished = sum(path.stat().st_size for path in manifest.files)
        needed = estimate_disk(shape.width * shape.height, codec.name, left, finished, source_bytes(info))
    return JobPlan(
        width=shape.width,
        height=shape.height,
        sample_aspect_ratio=shape.sample_aspect_ratio,
        is_resampled=shape.is_resampled,
        rate=shape.rate,
        has_alpha=carries_alpha(info, options),
        deinterlaced=choose_deinterlacing(info, options),
        field_order=info.field_order,
        encoder=codec.encoder,
        streams=streams,
        frames=frames,
        resumed_frames=manifest.frames,
        parts=None if frames is None else count_parts(frames, part_length(info), upscaler.tiling),
        windows=None if left is None else count_windows(left, upscaler.tiling, continued=continued),
        window_frames=upscaler.tiling.window,
        tiles=count_tiles(info.width, info.height, upscaler.tiling),
        device=str(upscaler.backend.device),
        precision=upscaler.backend.precision,
        memory_bytes=window_bytes(
            upscaler.config,
            upscaler.tiling,
            width=info.width,
            height=info.height,
            value_bytes=upscaler.backend.dtype.itemsize,
            image_bytes=image_bytes,
        )
        + queue_bytes(upscaler.tiling, width=info.width, height=info.height, image_bytes=image_bytes),
        needed_bytes=needed,
        free_bytes=shutil.disk_usage(manifest.folder.parent).free,
    )


def source_bytes(info: VideoInfo) -> int:
    """Size of the source's file; 0 for images, from which nothing but pictures is taken."""
    return 0 if info.is_image_sequence else info.path.stat().st_size


def check_disk(plan: JobPlan, target: Path) -> None:
    """Raise VideoError when the disk of `target` is too small for the plan."""
    if plan.needed_bytes is not None and plan.needed_bytes > plan.free_bytes:
        raise VideoError(
            f"{target}: needs about {format_bytes(plan.needed_bytes)} of disk space beside it, "
            f"{format_bytes(plan.free_bytes)} are free; make room, or try all the same with --no-disk-check"
        )


def measure_window(info: VideoInfo, upscaler: Upscaler, options: UpscaleOptions) -> float:
    """Seconds of one window of whole frames, from a piece of the first one. Raises VideoError for an empty range.

    The piece is at most MEASURED_SIDE pixels a side. It is computed twice, unless that takes long: at first, memory
    is still cold.
    """
    tiling = upscaler.tiling
    count = min(tiling.window, options.max_frames or tiling.window)
    frames = tuple(frame.image for frame in read_source(info, options, start=options.start, max_frames=count))
    if not frames:
        raise no_frames(info)
    rows = plan_spans(info.height, tiling.tile, tiling.overlap)
    columns = plan_spans(info.width, tiling.tile, tiling.overlap)
    height, width = min(MEASURED_SIDE, rows[0].size), min(MEASURED_SIDE, columns[0].size)
    piece = tuple(image[:height, :width] for image in frames)
    is_whole = len(piece) == tiling.window
    keep = slice(tiling.context, tiling.window - tiling.context) if is_whole else slice(0, len(piece))
    for _ in range(2):
        began = time.monotonic()
        upscaler.upscale_window(Window(piece, keep))
        seconds = time.monotonic() - began
        if seconds > LONG_SECONDS:
            break
    share = height * width / (len(rows) * rows[0].size * len(columns) * columns[0].size)
    return seconds / share


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
        **{name: str(value) for name, value in asdict(options).items() if name != "strict"},
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
    start: Fraction | None,
    max_frames: int | None,
    on_damage: Callable[[str], None] | None = None,
) -> Iterator[Frame]:
    """Frames of the source as the options want them read, from `start` seconds after the first."""
    return read_frames(
        info,
        start=start,
        end=options.end,
        max_frames=max_frames,
        deinterlace=options.deinterlace,
        drop_alpha=options.drop_alpha,
        carry_alpha=carries_alpha(info, options),
        strict=options.strict,
        on_damage=on_damage,
    )
