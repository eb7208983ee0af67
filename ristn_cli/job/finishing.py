"""Finishes a job: joins the parts, verifies the output and renames it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ristn_cli.job.checks import PUBLISHING, check_target
from ristn_cli.job.job import Job
from ristn_cli.job.manifest import Manifest
from ristn_cli.job.options import RunOptions
from ristn_cli.job.unverified import keep_unverified
from ristn_cli.own_files import check_owner, give_name
from ristn_cli.video import (
    VideoError,
    check_interruption,
    join_and_mux,
    join_images,
    publish_images,
    verify,
    verify_images,
)


def finish(job: Job, manifest: Manifest, run: RunOptions, check: Callable[[], None]) -> None:
    """Make the output from all parts and rename it. `check` raises if the run must stop.

    Raises:
        VideoError: it cannot be made, fails verification, or its name has been taken meanwhile.
    """
    check()
    check_owner(manifest.folder)
    if job.output.images is not None:
        finish_images(job, manifest, run)
        return
    joined = finish_video(job, manifest)
    check()
    check_target(job.source.path, job.target, run)  # hours have passed since the first check
    publish(joined, job.target, overwrite=run.overwrite)


def finish_video(job: Job, manifest: Manifest) -> Path:
    """Join the parts and mux them with all other streams into `joined` in the job's folder, and verify the result."""
    end = job.options.end
    if manifest.frames == job.options.max_frames:
        end = manifest.parts[-1].border.end_time - job.source.start_time
    output = replace(job.output, end=end)
    joined = manifest.folder / f"joined{job.target.suffix}"
    try:
        join_and_mux(manifest.files, output, joined)
    except VideoError as error:
        message = str(error).replace(str(joined), str(job.target))
        if job.is_resumable:
            message += f"; all frames are finished and kept in {manifest.folder}; run the same command to mux again"
        raise VideoError(message) from error
    check_interruption()
    # Lost frames shift the times, and standard input cannot be read again.
    check_times = job.is_resumable and not any(part.border.is_damaged for part in manifest.parts)
    try:
        verify(joined, output, manifest.frames, check_times=check_times)
    except VideoError as error:
        raise keep_unverified(joined, job.target, error) from error
    return joined


def finish_images(job: Job, manifest: Manifest, run: RunOptions) -> None:
    """Extract the images from the parts, verify them and rename them."""
    target, shape = job.target, job.output.shape
    joined = manifest.folder / "joined"
    shutil.rmtree(joined, ignore_errors=True)
    join_images(manifest.files, target, joined, rate=shape.rate, time_base=job.source.time_base)
    try:
        verify_images(joined, target, frames=manifest.frames, width=shape.width, height=shape.height)
    except VideoError as error:
        raise keep_unverified(joined, target, error) from error
    check_interruption()
    check_target(job.source.path, target, run)  # hours have passed since the first check
    (manifest.folder / PUBLISHING).touch()
    try:
        publish_images(joined, target, overwrite=run.overwrite)
    except FileExistsError as error:
        (manifest.folder / PUBLISHING).unlink()  # otherwise the next run would replace that file
        raise VideoError(f"{error.filename}: already exists; use --overwrite to replace it") from error


def publish(joined: Path, target: Path, *, overwrite: bool) -> None:
    """Rename a finished file. Its data is on the disk before, so a power failure cannot leave it incomplete.

    Raises:
        VideoError: a file of that name has appeared, and `overwrite` is false.
    """
    with joined.open("rb+") as file:
        os.fsync(file.fileno())
    try:
        give_name(joined, target, overwrite=overwrite)
    except FileExistsError as error:
        raise VideoError(f"{target}: already exists; use --overwrite to replace it") from error
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
