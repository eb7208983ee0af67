"""The plan of a job before its first frame: what memory, disk and time it takes.

Writes nothing where the output goes.
"""

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

from ristn_cli.engine.memory import PROGRAM_BYTES, USABLE_SHARE, count_tiles, needed_bytes
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
"""LR pixels: the largest side of the piece of the first window that a time estimate is measured on."""

SAMPLES = 5
"""Places of the source where it is looked how much of the frames is still."""

LONG_SECONDS = 2.0
"""A measurement that took as long is not repeated."""


def plan_job(
    source: Path | VideoInfo,
    target: Path,
    upscaler: Upscaler,
    options: UpscaleOptions | None = None,
    run: RunOptions | None = None,
    *,
    speedup: float | None = 1,
) -> JobPlan:
    """What `upscale_video` would do with the same arguments; it takes some seconds, and writes nothing there.

    `speedup` is how many times as fast as `upscaler` all that will compute is; None where that cannot be told from
    here, and no time is measured.

    Raises:
        VideoError: what `upscale_video` would refuse, save for too small a disk, which the plan shows.
        JobError: an earlier run was different.
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
    """The plan of a job whose manifest is loaded, without a measurement of time.

    Raises:
        VideoError: it needs more memory than there is.
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
    beside = PROGRAM_BYTES + workers * job.encoder_bytes
    more = None if automatic is None else automatic.more_memory(upscaler.tiling, upscaler.config, **sizes)
    needed = None
    if left is not None and job.is_resumable and job.target not in (Y4M, MATROSKA):  # a stream leaves nothing behind
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
        faster=None if more is None else (more.bytes if on_card else beside + workers * more.bytes, more.time),
        needed_bytes=needed,
        free_bytes=shutil.disk_usage(existing_parent(manifest.folder)).free,
    )
    check_memory(plan, info.path, is_limited=automatic is not None and automatic.memory_bytes is not None)
    return plan


def check_memory(plan: JobPlan, source: Path, *, is_limited: bool) -> None:
    """Raise VideoError when the plan needs more memory than was allowed (`is_limited`) or than is free."""
    if plan.room_bytes is None:
        return
    beside = 0 if plan.device.startswith("cuda") else plan.encoder_bytes
    # Without a limit some of what is free is left to others; that much the plan may be short of, with a warning.
    room = plan.room_bytes if is_limited else (plan.room_bytes + beside) / USABLE_SHARE - beside
    missing = math.ceil(plan.memory_bytes - room) * plan.workers
    if missing <= 0:
        return
    windows, encoder, program = map(format_bytes, (plan.memory_bytes, plan.encoder_bytes, PROGRAM_BYTES))
    each, fewer = (f" of each of {plan.workers} workers", "fewer workers, ") if plan.workers > 1 else ("", "")
    by = "--memory-limit" if is_limited else "what is free"
    raise VideoError(
        f"{source}: memory is short by {format_bytes(missing)}, by {by}: "
        f"windows{each} take about {windows}, {plan.encoder} {encoder}, the program itself {program}; {fewer}a smaller "
        "output (--size), another --codec or a faster --preset takes less, and --memory-limit with more goes on"
    )


def existing_parent(path: Path) -> Path:
    """The nearest folder above that is there."""
    return next(folder for folder in path.absolute().parents if folder.is_dir())


def source_bytes(info: VideoInfo) -> int:
    """Size of the source's file; 0 for images, from which nothing but pictures is taken."""
    return 0 if info.is_image_sequence or info.stream is not None else info.path.stat().st_size


def check_disk(plan: JobPlan, target: Path) -> None:
    """Raise VideoError when the disk of `target` is too small for the plan."""
    if plan.needed_bytes is not None and plan.needed_bytes > plan.free_bytes:
        raise VideoError(
            f"{target}: needs about {format_bytes(plan.needed_bytes)} of disk space beside it, "
            f"{format_bytes(plan.free_bytes)} are free; make room, or try all the same with --no-disk-check"
        )


def measure_window(job: Job, upscaler: Upscaler) -> float:
    """Seconds of one window of whole frames, on average over the source. Raises VideoError for an empty range.

    A piece of the first window is computed as if everything in it moved, and its time is scaled to whole frames and
    to the share of them that the content asks for.
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
    """What the content of runs of `count` frames, spread over the source, asks to be computed: shares up to 1."""
    first, length = job.options.start or Fraction(0), Fraction(0)
    if job.frames is not None and job.is_resumable:
        length = max(length, (job.frames - count) / job.output.shape.rate)
    for place in range(SAMPLES if length else 1):
        start = first + length * place / (SAMPLES - 1)
        sample = replace(job, options=replace(job.options, start=start))
        with contextlib.suppress(VideoError):  # the place cannot be decoded; the job itself will say so
            images = [run[0].image for run in join_repeats(read_source(sample, max_frames=count, reports_change=False))]
            if images:
                yield upscaler.computed_share(images) * len(images) / count
                continue
        yield 1.0


def measure_moving_window(images: tuple[np.ndarray, ...], upscaler: Upscaler) -> float:
    """Seconds of a window of these images, measured on a piece of at most MEASURED_SIDE pixels a side.

    It is computed twice, unless that takes long: at first, memory is still cold. Before that the network is compiled
    and recorded, where it is: a job does so once.
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
