"""Runs a job: check, plan, upscale and encode parts, mux with all other streams, verify, rename. Does not print."""

import contextlib
import logging
import os
from collections.abc import Generator
from copy import copy
from pathlib import Path

from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.checks import OutputStream, check_inputs_kept, check_job, identify
from ristn_cli.job.events import Completed, Event, Planned
from ristn_cli.job.finishing import finish
from ristn_cli.job.forecast import check_disk, describe_job
from ristn_cli.job.job import Job
from ristn_cli.job.manifest import LOCK_NAME, JobError, Manifest, lock, remove_job_folder, remove_lock
from ristn_cli.job.options import RunOptions, UpscaleOptions
from ristn_cli.job.parts import PartMaker, raise_when, write_parts
from ristn_cli.job.regrain import settle_grain
from ristn_cli.job.settling import settle_parts, settle_tiling
from ristn_cli.job.standard_output import stream_out
from ristn_cli.own_files import make_private_folder
from ristn_cli.video import InputStream, VideoError, VideoInfo, interruptible

log = logging.getLogger("ristn.job")


def upscale_video(
    source: Path | InputStream | VideoInfo,
    target: Path | OutputStream,
    upscaler: Upscaler,
    options: UpscaleOptions | None = None,
    run: RunOptions | None = None,
    make_parts: PartMaker | None = None,
) -> Generator[Event, None, None]:
    """Upscale `source` into `target`, and keep its timestamps, audio, subtitles and other streams.

    The output gets its name only after verification. Errors that can be found early are raised before the first frame.
    Closing the generator stops at once. Finished parts of a stopped run remain in `job_folder(target)`. The same call
    resumes it and gives the same frames as an uninterrupted run. A run from standard input cannot be resumed; its parts
    are kept too.

    Args:
        source: a video, a folder of numbered images, standard input, or the result of `probe`.
        target: video to write, whose extension selects the container; an image; a pattern of images; or standard
            output.
        upscaler: the engine.
        options: what shapes the output.
        run: options of the run.
        make_parts: makes the parts; None for `write_parts` on the device of `upscaler`.

    Yields:
        `Planned` before the first frame; then `Progress`, `Warned` and `PartFinished`; finally `Completed`.

    Raises:
        VideoError: the source cannot be read, the target cannot hold its streams or cannot be written, its name has
            been taken meanwhile, or the folder of the parts belongs to another user.
        JobError: an earlier run had other options, or another process is running the job.
        Interrupted: the run was stopped on request.
    """
    options, run = options or UpscaleOptions(), run or RunOptions()
    if make_parts is not None:  # concurrent jobs have their own windows and tiles
        upscaler = copy(upscaler)
    check = raise_when(run.stop.is_set)
    try:
        with interruptible(check):
            if isinstance(source, InputStream) or isinstance(target, OutputStream):
                check_inputs_kept(source.path if isinstance(source, VideoInfo) else source, target)
            job = check_job(source, target, options, run)
        check()
        if isinstance(target, OutputStream):
            yield from stream_out(job, target.file, upscaler, run.stop)
        else:
            yield from _upscale_to_file(job, upscaler, run, make_parts or write_parts)
    except VideoError:
        if isinstance(source, InputStream):
            source.check()  # a read error may be the cause
        raise


def _upscale_to_file(
    job: Job, upscaler: Upscaler, run: RunOptions, make_parts: PartMaker
) -> Generator[Event, None, None]:
    folder, target = job.folder, job.target
    check = raise_when(run.stop.is_set)
    if not job.is_resumable and os.path.lexists(folder):
        raise VideoError(f"{folder}: contains the parts of an earlier run; move or remove this folder")
    makes_parent = job.output.images is not None and not target.parent.exists()
    leaves_lock = False
    try:
        make_private_folder(folder, parents=job.output.images is not None)
        (folder / LOCK_NAME).touch()
    except OSError as error:
        raise VideoError(f"{target}: cannot write to this folder: {error.strerror}") from error
    job = settle_parts(job, run.workers, restart=run.restart)
    settle_tiling(job, upscaler, restart=run.restart)
    with interruptible(check):
        job = settle_grain(job, upscaler, restart=run.restart)
    manifest = Manifest(folder, identify(job, upscaler))
    try:
        with lock(folder / LOCK_NAME):
            if job.is_resumable and not run.restart:
                with interruptible(check):
                    manifest.load()
            plan = describe_job(job, manifest, upscaler)
            if run.disk_check:
                check_disk(plan, target)
            yield Planned(plan)
            check()
            yield from make_parts(job, manifest, upscaler, run.stop)
            with interruptible(check):
                finish(job, manifest, run, check)
                leaves_lock = remove_job_folder(folder)
    except BaseException as error:
        if not job.is_resumable and manifest.parts:
            log.warning(describe_kept(job, manifest))
        elif not job.is_resumable or (not manifest.path.exists() and not isinstance(error, JobError)):
            remove_job_folder(folder)
            with contextlib.suppress(OSError):  # it contains other files
                if makes_parent:
                    target.parent.rmdir()
        raise
    finally:
        if leaves_lock:
            remove_lock(folder)
    tiling = upscaler.tiling
    yield Completed(job, plan, tuple(manifest.parts), tiling.detect_cuts and tiling.context > 0)


def describe_kept(job: Job, manifest: Manifest) -> str:
    """Return a line that states where the frames of a stopped run are: in one file if joined, else in parts."""
    parts = " to ".join(dict.fromkeys([manifest.parts[0].file, manifest.parts[-1].file]))
    joined = manifest.folder / f"joined{job.target.suffix}"
    where = f"as {joined}" if joined.exists() else f"in {manifest.folder} as {parts}"
    return f"{job.source.path} cannot be read again; its {manifest.frames} finished frames are kept {where}"
