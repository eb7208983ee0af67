"""One file: probe, plan, upscale and encode in parts, join with every other stream of the source, verify, rename.

Yields progress and raises typed errors; shows nothing.
"""

import contextlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Generator, Iterator
from copy import copy
from functools import partial
from pathlib import Path
from typing import Protocol

from ristn_cli.engine.upscaler import Upscaler, stoppable
from ristn_cli.job.checks import (
    PUBLISHING,
    check_job,
    check_target,
    for_target,
    identify,
    job_folder,
    no_frames,
    part_suffix_of,
)
from ristn_cli.job.forecast import check_disk, describe_job, settle_tiling
from ristn_cli.job.manifest import LOCK_NAME, JobError, Manifest, lock, remove_job_folder, remove_lock
from ristn_cli.job.pipeline import Pipeline
from ristn_cli.job.plan import (
    JobPlan,
    UpscaleOptions,
    carries_alpha,
    doubles_rate,
    estimate_frames,
    part_length,
)
from ristn_cli.job.progress import Meter, Progress
from ristn_cli.job.reading import place_behind, source_windows
from ristn_cli.job.shape import choose_shape
from ristn_cli.job.stages import Written, staged_parts
from ristn_cli.job.unverified import keep_unverified
from ristn_cli.model import SCALE
from ristn_cli.own_files import check_owner, give_name, make_private_folder
from ristn_cli.video import (
    FrameWriter,
    ImagesWriter,
    StreamPlan,
    VideoError,
    VideoInfo,
    check_interruption,
    interruptible,
    join_and_mux,
    join_images,
    publish_images,
    verify,
    verify_images,
)


class Interrupted(Exception):
    """The job was asked to stop, and did so where no finished part is lost: the same command goes on."""


def raise_when(should_stop: Callable[[], bool]) -> Callable[[], None]:
    """What raises Interrupted once `should_stop` says so, as `interruptible` takes it."""

    def check() -> None:
        if should_stop():
            raise Interrupted

    return check


class Remarks:
    """What one thread notes and another one tells."""

    def __init__(self, tell_one: Callable[[str], None]) -> None:
        self._tell_one = tell_one
        self._waiting: deque[str] = deque()
        self.were_noted = False

    def note(self, message: str) -> None:
        """Keep a message until `tell`."""
        self.were_noted = True
        self._waiting.append(message)

    def tell(self) -> None:
        """Tell what was noted since."""
        while self._waiting:
            self._tell_one(self._waiting.popleft())


class PartMaker(Protocol):
    """Makes the parts that a manifest lacks and records them there: `write_parts`, or one with several devices."""

    def __call__(
        self,
        manifest: Manifest,
        info: VideoInfo,
        upscaler: Upscaler,
        options: UpscaleOptions,
        should_stop: Callable[[], bool],
        on_damage: Callable[[str], None],
    ) -> Iterator[Progress]: ...


def upscale_video(
    source: Path,
    target: Path,
    upscaler: Upscaler,
    options: UpscaleOptions | None = None,
    *,
    overwrite: bool = False,
    restart: bool = False,
    disk_check: bool = True,
    should_stop: Callable[[], bool] = lambda: False,
    on_plan: Callable[[JobPlan], None] = lambda plan: None,
    on_damage: Callable[[str], None] = lambda message: None,
    make_parts: PartMaker | None = None,
) -> Generator[Progress, None, None]:
    """Upscale `source` into `target`, keeping its timestamps, sound, subtitles and everything else.

    The output appears under its name only when it is whole and verified. What can be refused is refused before the
    first frame. Closing the generator stops at once. Finished parts outlive a run that ends early, in
    `job_folder(target)`: the same call goes on from there and gives the same frames as an uninterrupted one.

    Args:
        source: a video, or a folder of numbered images.
        target: the video to write; its suffix names the container.
        upscaler: the engine.
        options: what shapes the output.
        overwrite: replace an existing `target`.
        restart: forget what an earlier run finished.
        disk_check: refuse to begin when, by an estimate, the disk is too small.
        should_stop: asked, often and by any thread, until the first frame is finished; then at the end of each part;
            and often again when all are.
        on_plan: told once, before the first frame, what will be done.
        on_damage: told in one line of each packet that could not be decoded and was concealed.
        make_parts: what makes the parts; None for `write_parts`, on the device of `upscaler`.

    Raises:
        VideoError: the source cannot be read, the target cannot hold its streams or cannot be written, something got
            its name meanwhile, or the folder for the parts is another user's.
        JobError: an earlier run was different, or another run is at work.
        Interrupted: `should_stop` said so.
    """
    if make_parts is not None:  # other jobs may be at work with it: each has windows and tiles of its own
        upscaler = copy(upscaler)
    options = for_target(options or UpscaleOptions(), target)
    check = raise_when(should_stop)
    with interruptible(check):
        info, streams = check_job(source, target, options, overwrite=overwrite)
    check()
    folder = job_folder(target)
    makes_parent = options.images is not None and not target.parent.exists()
    leaves_lock = False
    try:
        make_private_folder(folder, parents=options.images is not None)
        (folder / LOCK_NAME).touch()
    except OSError as error:
        raise VideoError(f"{target}: cannot write there: {error.strerror}") from error
    settle_tiling(upscaler, info, options, folder, restart=restart)
    manifest = Manifest(folder, identify(info, upscaler, options))
    try:
        with lock(folder / LOCK_NAME):
            if not restart:
                with interruptible(check):
                    manifest.load()
            plan = describe_job(manifest, info, streams, upscaler, options)
            if disk_check:
                check_disk(plan, target)
            on_plan(plan)
            check()
            yield from (make_parts or write_parts)(manifest, info, upscaler, options, should_stop, on_damage)
            with interruptible(check):
                check()
                if options.images is not None:
                    check_last = partial(check_target, source, target, overwrite)
                    finish_images(manifest, info, target, plan, check=check_last, overwrite=overwrite)
                else:
                    finish_video(manifest, info, target, plan, streams, options)
                    check()
                    check_target(source, target, overwrite)  # hours have passed
                    publish(folder / f"joined{target.suffix}", target, overwrite=overwrite)
                leaves_lock = remove_job_folder(folder)
    except BaseException as error:
        if not manifest.path.exists() and not isinstance(error, JobError):
            remove_job_folder(folder)
            with contextlib.suppress(OSError):  # something else was put there meanwhile
                if makes_parent:
                    target.parent.rmdir()
        raise
    finally:
        if leaves_lock:
            remove_lock(folder)


def finish_video(
    manifest: Manifest,
    info: VideoInfo,
    target: Path,
    plan: JobPlan,
    streams: tuple[StreamPlan, ...],
    options: UpscaleOptions,
) -> None:
    """Join the parts with all other streams of the source into `joined` in the job's folder, and verify it."""
    end = options.end
    if manifest.frames == options.max_frames:
        end = manifest.parts[-1].end_time - info.start_time
    joined = manifest.folder / f"joined{target.suffix}"
    check_owner(manifest.folder)
    try:
        join_and_mux(manifest.files, info, joined, start=options.start, end=end, rate=plan.rate, plan=streams)
    except VideoError as error:
        message = str(error).replace(str(joined), str(target))
        raise VideoError(
            f"{message}; all frames are finished and kept in {manifest.folder}: the same command tries the mux again"
        ) from error
    check_interruption()
    try:
        verify(
            joined,
            frames=manifest.frames,
            width=plan.width,
            height=plan.height,
            source=info,
            start=options.start,
            end=end,
            plan=streams,
            has_alpha=plan.has_alpha,
            has_field_rate=doubles_rate(info, options),
            check_times=not any(part.is_damaged for part in manifest.parts),
        )
    except VideoError as error:
        raise keep_unverified(joined, target, error) from error


def finish_images(
    manifest: Manifest, info: VideoInfo, target: Path, plan: JobPlan, *, check: Callable[[], None], overwrite: bool
) -> None:
    """Take the images out of the parts, verify them, and give them their names; `check` raises if they may not."""
    joined = manifest.folder / "joined"
    check_owner(manifest.folder)
    shutil.rmtree(joined, ignore_errors=True)
    join_images(manifest.files, target, joined, rate=plan.rate, time_base=info.time_base)
    try:
        verify_images(joined, target, frames=manifest.frames, width=plan.width, height=plan.height)
    except VideoError as error:
        raise keep_unverified(joined, target, error) from error
    check_interruption()
    check()  # hours have passed
    (manifest.folder / PUBLISHING).touch()
    try:
        publish_images(joined, target, overwrite=overwrite)
    except FileExistsError as error:
        (manifest.folder / PUBLISHING).unlink()  # or the next run would take that file for one of this job
        raise VideoError(f"{error.filename}: already exists; use --overwrite to replace it") from error


def publish(joined: Path, target: Path, *, overwrite: bool) -> None:
    """Give a finished file its name, so that even a power cut right after leaves it whole under it.

    Raises:
        VideoError: something has got the name meanwhile, and `overwrite` is false.
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


def write_parts(
    manifest: Manifest,
    info: VideoInfo,
    upscaler: Upscaler,
    options: UpscaleOptions,
    should_stop: Callable[[], bool],
    on_damage: Callable[[str], None],
) -> Iterator[Progress]:
    """Upscale and encode what the manifest lacks, part by part, cut between windows.

    Reading, the network and encoding run at the same time. Frames and parts are those of one after another, and so is
    what a failure leaves: each part that was finished before it is recorded.
    """
    meter = Meter(manifest.frames, estimate_frames(info, options))
    yield meter.read(manifest.frames, max(1, len(manifest.parts)))
    if options.max_frames is not None and manifest.frames >= options.max_frames:
        return
    damage = Remarks(on_damage)
    is_begun = False
    pipeline = Pipeline(raise_when(lambda: not is_begun and should_stop()))
    with stoppable(upscaler.model, pipeline.check), pipeline:
        windows = source_windows(place_behind(manifest), info, upscaler, options, damage.note)

        def open_part(number: int) -> FrameWriter | ImagesWriter:
            return open_writer(manifest.folder / f"part-{number:05}{part_suffix_of(options)}", info, options)

        events = staged_parts(
            pipeline,
            windows,
            choose_shape(info, options).rate,
            upscaler,
            open_part,
            part_length(info, options),
            finished=len(manifest.parts),
            is_damaged=lambda: damage.were_noted,
        )
        try:
            for event in events:
                damage.tell()
                is_begun = True
                if isinstance(event, Written):
                    yield meter.read(manifest.frames + event.frames, event.part)
                    continue
                manifest.add(event.part)
                if not event.is_last and should_stop():
                    raise Interrupted
        finally:
            damage.tell()
    if not manifest.parts:
        raise no_frames(info)


def open_writer(path: Path, info: VideoInfo, options: UpscaleOptions) -> FrameWriter | ImagesWriter:
    """The encoder of one part, which takes the network's frames and resamples them where another size is asked for."""
    shape = choose_shape(info, options)
    check_owner(path.parent)  # others may have renamed it where they can write above it
    if options.images is not None:
        return ImagesWriter(
            path,
            width=shape.width,
            height=shape.height,
            frame_size=(SCALE * info.width, SCALE * info.height),
            suffix=options.images,
        )
    return FrameWriter(
        path,
        width=shape.width,
        height=shape.height,
        frame_size=(SCALE * info.width, SCALE * info.height),
        rate=shape.rate,
        time_base=shape.time_base,
        color=info.color,
        sample_aspect_ratio=shape.sample_aspect_ratio,
        codec=options.codec,
        crf=options.crf,
        preset=options.preset,
        pixel_format=options.pixel_format,
        encoder_options=options.encoder_options,
        mastering=info.mastering,
        has_alpha=carries_alpha(info, options),
    )
