"""A run of a job: check, plan, upscale and encode in parts, join with every other stream of the source, verify, rename.

Yields events and raises typed errors; shows nothing.
"""

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
    """Upscale `source` into `target`, keeping its timestamps, sound, subtitles and everything else.

    The output appears under its name only when it is whole and verified. What can be refused is refused before the
    first frame. Closing the generator stops at once. Finished parts outlive a run that ends early, in
    `job_folder(target)`: the same call goes on from there and gives the same frames as an uninterrupted one. Standard
    input cannot be read again: its finished parts are kept, too, but no run goes on from them.

    Args:
        source: a video, a folder of numbered images, standard input, or what `probe` found of one of these.
        target: the video to write, whose suffix names the container, or an image or a pattern of images, or standard
            output.
        upscaler: the engine.
        options: what shapes the output.
        run: how the run behaves.
        make_parts: what makes the parts; None for `write_parts`, on the device of `upscaler`.

    Yields:
        `Planned` before the first frame; then `Progress`, `Warned` and `PartFinished`; `Completed` in the end.

    Raises:
        VideoError: the source cannot be read, the target cannot hold its streams or cannot be written, something got
            its name meanwhile, or the folder for the parts is another user's.
        JobError: an earlier run was different, or another run is at work.
        Interrupted: the run was asked to stop.
    """
    options, run = options or UpscaleOptions(), run or RunOptions()
    if make_parts is not None:  # other jobs may be at work with it: each has windows and tiles of its own
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
            source.check()  # the cause, where the video seems to be cut short or to be none
        raise


def _upscale_to_file(
    job: Job, upscaler: Upscaler, run: RunOptions, make_parts: PartMaker
) -> Generator[Event, None, None]:
    folder, target = job.folder, job.target
    check = raise_when(run.stop.is_set)
    if not job.is_resumable and os.path.lexists(folder):
        raise VideoError(f"{folder}: contains the work of an earlier run on this output; move or remove it")
    makes_parent = job.output.images is not None and not target.parent.exists()
    leaves_lock = False
    try:
        make_private_folder(folder, parents=job.output.images is not None)
        (folder / LOCK_NAME).touch()
    except OSError as error:
        raise VideoError(f"{target}: cannot write there: {error.strerror}") from error
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
            with contextlib.suppress(OSError):  # something else was put there meanwhile
                if makes_parent:
                    target.parent.rmdir()
        raise
    finally:
        if leaves_lock:
            remove_lock(folder)
    tiling = upscaler.tiling
    yield Completed(job, plan, tuple(manifest.parts), tiling.detect_cuts and tiling.context > 0)


def describe_kept(job: Job, manifest: Manifest) -> str:
    """Where the finished frames of a run are that ended early: in one file if they were joined, else in parts."""
    parts = " to ".join(dict.fromkeys([manifest.parts[0].file, manifest.parts[-1].file]))
    joined = manifest.folder / f"joined{job.target.suffix}"
    where = f"as {joined}" if joined.exists() else f"in {manifest.folder} as {parts}"
    return f"{job.source.path} cannot be read again: its {manifest.frames} finished frames are kept {where}"
