"""Plans a job before its first frame: memory, disk and time. Does not write to the output's folder."""

import contextlib
import math
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from ristn_cli.engine.auto_tiling import USABLE_SHARE
from ristn_cli.engine.memory import PROGRAM_BYTES, count_tiles, needed_bytes
from ristn_cli.engine.tiles import plan_spans
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.job.checks import check_job, identify, no_frames
from ristn_cli.job.job import MATROSKA, Y4M, Job
from ristn_cli.job.manifest import Manifest
from ristn_cli.job.options import RunOptions, UpscaleOptions, choose_deinterlacing
from ristn_cli.job.plan import JobPlan, count_parts, count_windows, estimate_disk, format_bytes
from ristn_cli.job.reading import read_source
from ristn_cli.job.regrain import settle_grain
from ristn_cli.job.repeats import join_repeats
from ristn_cli.job.settling import settle_parts, settle_tiling
from ristn_cli.video import VideoError, VideoInfo

MEASURED_SIDE = 96
"""Largest side, in LR pixels, of the crop of the first window whose time is measured."""

SAMPLES = 5
"""Number of places in the source whose still content is measured."""

LONG_SECONDS = 2.0
"""A measurement that takes longer is not repeated."""


def plan_job(
    source: Path | VideoInfo,
    target: Path,
    upscaler: Upscaler,
    options: UpscaleOptions | None = None,
    run: RunOptions | None = None,
    *,
    speedup: float | None = 1,
) -> JobPlan:
    """Return what `upscale_video` would do with the same arguments. Takes some seconds and does not write to the
    output's folder.

    `speedup` is the speed of all workers relative to `upscaler`; None if it is unknown, and then no time is measured.

    Raises:
        VideoError: `upscale_video` would refuse the job, except for too small a disk, which the plan shows.
        JobError: an unfinished run has different options.
    """
    run = run or RunOptions()
    job = settle_parts(check_job(source, target, options or UpscaleOptions(), run), run.workers, restart=run.restart)
    settle_tiling(job, upscaler, restart=run.restart)
    job = settle_grain(job, upscaler, restart=run.restart)
    manifest = Manifest(job.folder, identify(job, upscaler))
    if not run.restart:
        manifest.load()
    plan = describe_job(job, manifest, upscaler)
    if speedup is None or plan.windows is None:
        return plan
    return replace(plan, seconds=plan.windows * measure_window(job, upscaler) / speedup)


def describe_job(job: Job, manifest: Manifest, upscaler: Upscaler) -> JobPlan:
    """Return the plan of a job whose manifest is loaded, without a time estimate.

    Raises:
        VideoError: it needs more memory than is available.
    """
    info, shape = job.source, job.output.shape
    frames = job.frames
    left = None if frames is None else max(0, frames - manifest.frames)
    family, encoder = job.medium
    border = manifest.border
    automatic = upscaler.auto_tiling
    workers = 1 if automatic is None else automatic.workers
    sizes = {
        "width": info.width,
        "height": info.height,
        "value_bytes": upscaler.backend.dtype.itemsize,
        "image_bytes": info.value_bytes,
    }
    on_card = upscaler.backend.device.type == "cuda"
    other_bytes = PROGRAM_BYTES + workers * job.encoder_bytes
    more = None if automatic is None else automatic.more_memory(upscaler.tiling, upscaler.config, **sizes)
    needed = None
    if left is not None and job.is_resumable and job.target not in (Y4M, MATROSKA):  # streams need no disk
        finished = sum(path.stat().st_size for path in manifest.files)
        needed = estimate_disk(
            shape.width * shape.height, family, left, finished + source_bytes(info), is_deep=info.bit_depth > 8
        )
    plan = JobPlan(
        width=shape.width,
        height=shape.height,
        sample_aspect_ratio=shape.sample_aspect_ratio,
        is_resampled=shape.is_resampled,
        rate=shape.rate,
        has_alpha=job.output.encoder.has_alpha,
        deinterlaced=choose_deinterlacing(info, job.options),
        field_order=info.field_order,
        grain=None if job.grain is None else max(job.grain.strength[0]),
        telecine=info.telecine,
        encoder=encoder,
        streams=job.output.streams,
        dynamic_hdr=info.dynamic_hdr,
        frames=frames,
        resumed_frames=manifest.frames,
        parts=None if frames is None else count_parts(frames, job.part_frames, upscaler.tiling),
        windows=None
        if left is None
        else count_windows(left, upscaler.tiling, continued=0 if border is None else border.context),
        window_frames=upscaler.tiling.window,
        tiles=count_tiles(info.width, info.height, upscaler.tiling),
        device=str(upscaler.backend.device),
        precision=upscaler.backend.precision,
        workers=workers,
        memory_bytes=needed_bytes(upscaler.config, upscaler.tiling, workers=workers, **sizes),
        encoder_bytes=job.encoder_bytes,
        room_bytes=None if automatic is None else automatic.room(upscaler.backend.device, job.encoder_bytes),
        faster=None if more is None else (more.bytes if on_card else other_bytes + workers * more.bytes, more.time),
        needed_bytes=needed,
        free_bytes=shutil.disk_usage(existing_parent(manifest.folder)).free,
    )
    check_memory(plan, info.path, is_limited=automatic is not None and automatic.memory_bytes is not None)
    return plan


def check_memory(plan: JobPlan, source: Path, *, is_limited: bool) -> None:
    """Raise VideoError if the plan needs more memory than the limit (`is_limited`) or than is free."""
    if plan.room_bytes is None:
        return
    other_bytes = 0 if plan.device.startswith("cuda") else plan.encoder_bytes
    # Without a limit, the plan leaves some free memory to other programs. Using that up is only a warning.
    room = plan.room_bytes if is_limited else (plan.room_bytes + other_bytes) / USABLE_SHARE - other_bytes
    missing = math.ceil(plan.memory_bytes - room) * plan.workers
    if missing <= 0:
        return
    windows, encoder, program = map(format_bytes, (plan.memory_bytes, plan.encoder_bytes, PROGRAM_BYTES))
    each, fewer = (f" of each of {plan.workers} workers", "fewer workers, ") if plan.workers > 1 else ("", "")
    by = "--memory-limit" if is_limited else "the free memory"
    raise VideoError(
        f"{source}: needs {format_bytes(missing)} more memory than {by} allows: "
        f"windows{each} need about {windows}, {plan.encoder} {encoder}, the program {program}; use {fewer}a smaller "
        "output (--size), another --codec or a faster --preset, or raise --memory-limit"
    )


def existing_parent(path: Path) -> Path:
    """Return the nearest parent folder that exists."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def source_bytes(info: VideoInfo) -> int:
    """Return the size of the source's file; 0 for images, whose output contains only frames."""
    return 0 if info.is_image_sequence or info.stream is not None else info.path.stat().st_size


def check_disk(plan: JobPlan, target: Path) -> None:
    """Raise VideoError if the disk of `target` is too small for the plan."""
    if plan.needed_bytes is not None and plan.needed_bytes > plan.free_bytes:
        raise VideoError(
            f"{target}: needs about {format_bytes(plan.needed_bytes)} of disk space in its folder, but only "
            f"{format_bytes(plan.free_bytes)} are free; free some space, or use --no-disk-check to try anyway"
        )


def measure_window(job: Job, upscaler: Upscaler) -> float:
    """Return the mean seconds per window of whole frames. Raises VideoError for an empty range.

    Computes a crop of the first window as if everything moved. Scales the time to whole frames, and to the share of
    them that is not still.
    """
    count = min(upscaler.tiling.window, job.options.max_frames or upscaler.tiling.window)
    images = tuple(frame.image for frame in read_source(job, max_frames=count))
    if not images:
        raise no_frames(job.source)
    tiling = upscaler.tiling
    upscaler.tiling = replace(tiling, still_tolerance=None)
    try:
        seconds = measure_moving_window(images, upscaler)
    finally:
        upscaler.tiling = tiling
    if tiling.still_tolerance is None:
        return seconds
    return seconds * statistics.fmean(computed_shares(job, upscaler, count))


def computed_shares(job: Job, upscaler: Upscaler, count: int) -> Iterator[float]:
    """Yield the share of each sample that must be computed, up to 1. Samples of `count` frames are spread over the
    source.
    """
    first, length = job.options.start or Fraction(0), Fraction(0)
    if job.frames is not None and job.is_resumable:
        length = max(length, (job.frames - count) / job.output.shape.rate)
    for place in range(SAMPLES if length else 1):
        start = first + length * place / (SAMPLES - 1)
        sample = replace(job, options=replace(job.options, start=start))
        with contextlib.suppress(VideoError):  # the job will report damage
            images = [run[0].image for run in join_repeats(read_source(sample, max_frames=count, reports_change=False))]
            if images:
                yield upscaler.computed_share(images) * len(images) / count
                continue
        yield 1.0


def measure_moving_window(images: tuple[np.ndarray, ...], upscaler: Upscaler) -> float:
    """Return the seconds of a window of these images, measured on a crop of at most MEASURED_SIDE pixels per side.

    Measures twice unless that takes long, because the first run is slower. Compilation and recording, which a job does
    once, are not included.
    """
    tiling = upscaler.tiling
    height, width, _ = images[0].shape
    rows = plan_spans(height, tiling.tile, tiling.overlap)
    columns = plan_spans(width, tiling.tile, tiling.overlap)
    height, width = min(MEASURED_SIDE, rows[0].size), min(MEASURED_SIDE, columns[0].size)
    piece = tuple(image[:height, :width] for image in images)
    is_whole = len(piece) == tiling.window
    keep = slice(tiling.context, tiling.window - tiling.context) if is_whole else slice(0, len(piece))
    window = Window(piece, keep)
    if upscaler.is_compiled:
        upscaler.upscale_window(window)
        upscaler.record(window)
    for _ in range(2):
        began = time.monotonic()
        upscaler.upscale_window(window)
        seconds = time.monotonic() - began
        if seconds > LONG_SECONDS:
            break
    share = height * width / (len(rows) * rows[0].size * len(columns) * columns[0].size)
    return seconds / share
