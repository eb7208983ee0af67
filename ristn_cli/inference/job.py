"""One file: probe, plan, upscale and encode in parts, join with every other stream of the source, verify, rename.

Yields progress and raises typed errors; shows nothing.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ristn_cli.inference.manifest import JobError, Manifest, Part, lock
from ristn_cli.inference.plan import (
    JobPlan,
    UpscaleOptions,
    estimate_frames,
    part_length,
)
from ristn_cli.inference.preflight import (
    PUBLISHING,
    check_disk,
    check_job,
    check_target,
    describe_job,
    for_target,
    identify,
    job_folder,
    no_frames,
    part_suffix_of,
    read_source,
    settle_tiling,
)
from ristn_cli.inference.progress import Meter, Progress
from ristn_cli.inference.upscaler import Upscaler
from ristn_cli.inference.windows import Window
from ristn_cli.model import SCALE
from ristn_cli.video import (
    Frame,
    FrameWriter,
    ImagesWriter,
    VideoError,
    VideoInfo,
    choose_codec,
    join_and_mux,
    join_images,
    publish_images,
    verify,
    verify_images,
)
from ristn_cli.weights import file_sha256


class Interrupted(Exception):
    """The job was asked to stop, and did so after a finished part: the same command goes on."""


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
) -> Iterator[Progress]:
    """Upscale `source` into `target`, keeping its timestamps, sound, subtitles and everything else.

    The output appears under its name only when it is whole and verified. What can be refused is refused before the
    first frame. Finished parts outlive a run that ends early, in `job_folder(target)`: the same call goes on from there
    and gives the same frames as an uninterrupted one.

    Args:
        source: a video, or a folder of numbered images.
        target: the video to write; its suffix names the container.
        upscaler: the engine.
        options: what shapes the output.
        overwrite: replace an existing `target`.
        restart: forget what an earlier run finished.
        disk_check: refuse to begin when, by an estimate, the disk is too small.
        should_stop: asked at the end of each part.
        on_plan: told once, before the first frame, what will be done.
        on_damage: told in one line of each packet that could not be decoded and was concealed.

    Raises:
        VideoError: the source cannot be read, the target cannot hold its streams or cannot be written.
        JobError: an earlier run was different, or another run is at work.
        Interrupted: `should_stop` said so.
    """
    options = for_target(options or UpscaleOptions(), target)
    info, streams = check_job(source, target, options, overwrite=overwrite)
    folder = job_folder(target)
    try:
        folder.mkdir(exist_ok=True, parents=options.images is not None)
        (folder / "lock").touch()
    except OSError as error:
        raise VideoError(f"{target}: cannot write there: {error.strerror}") from error
    settle_tiling(upscaler, info, folder, restart=restart)
    manifest = Manifest(folder, identify(info, upscaler, options))
    try:
        with lock(folder / "lock"):
            if not restart:
                manifest.load()
            plan = describe_job(manifest, info, streams, upscaler, options)
            if disk_check:
                check_disk(plan, target)
            on_plan(plan)
            yield from write_parts(manifest, info, upscaler, options, should_stop, on_damage)
            if options.images is not None:
                finish_images(manifest, info, target, plan, check=lambda: check_target(source, target, overwrite))
                return
            end = options.end
            if manifest.frames == options.max_frames:
                end = manifest.parts[-1].end_time - info.start_time
            joined = folder / f"joined{target.suffix}"
            join_and_mux(
                manifest.files,
                info,
                joined,
                start=options.start,
                end=end,
                codec=choose_codec(options.codec, info.bit_depth),
                with_audio=options.with_audio,
                with_subtitles=options.with_subtitles,
            )
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
                    check_times=not any(part.is_damaged for part in manifest.parts),
                )
            except VideoError as error:
                raise VideoError(f"{error}; what was made is kept as {joined}") from error
            check_target(source, target, overwrite)  # hours have passed
            publish(joined, target)
            shutil.rmtree(folder, ignore_errors=True)
    except BaseException as error:
        if not manifest.path.exists() and not isinstance(error, JobError):
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):  # made for numbered images, or not empty
                if options.images is not None:
                    target.parent.rmdir()
        raise


def finish_images(
    manifest: Manifest, info: VideoInfo, target: Path, plan: JobPlan, *, check: Callable[[], None]
) -> None:
    """Take the images out of the parts, verify them, and give them their names; `check` raises if they may not."""
    joined = manifest.folder / "joined"
    shutil.rmtree(joined, ignore_errors=True)
    join_images(manifest.files, info, target, joined)
    verify_images(joined, target, frames=manifest.frames, width=plan.width, height=plan.height)
    check()  # hours have passed
    (manifest.folder / PUBLISHING).touch()
    publish_images(joined, target)
    shutil.rmtree(manifest.folder, ignore_errors=True)


def publish(joined: Path, target: Path) -> None:
    """Give a finished file its name, so that even a power cut right after leaves it whole under it."""
    with joined.open("rb+") as file:
        os.fsync(file.fileno())
    joined.replace(target)
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
    """Upscale and encode what the manifest lacks, part by part, cut between windows."""
    meter = Meter(manifest.frames, estimate_frames(info, options))
    length = part_length(info)
    yield meter.read(manifest.frames, max(1, len(manifest.parts)))
    if options.max_frames is not None and manifest.frames >= options.max_frames:
        return
    damage: list[str] = []

    def report(message: str) -> None:
        damage.append(message)
        on_damage(message)

    windows = upscaler.windows(
        continued_frames(manifest, info, options, report),
        lambda frame: frame.image,
        continued=manifest.parts[-1].next_context if manifest.parts else 0,
    )
    window = next(windows, None)
    while window is not None:
        before = manifest.frames
        file = f"part-{len(manifest.parts) + 1:05}{part_suffix_of(options)}"
        with open_writer(manifest.folder / file, info, options) as writer:
            while window is not None and writer.frames_written < length:
                for frame in upscale_window(window, upscaler):
                    writer.write(frame)
                written, window = window, next(windows, None)
                yield meter.read(before + writer.frames_written, len(manifest.parts) + 1)
        last = written.frames[written.keep][-1]
        begins = window or Window((last,), slice(1, None))  # at the end of the stream nothing is left to keep
        manifest.add(
            Part(
                file=file,
                frames=writer.frames_written,
                next_time=begins.frames[0].time,
                next_context=begins.keep.start,
                end_time=last.time + (last.duration or 1 / info.rate),
                sha256=file_sha256(manifest.folder / file),
                is_damaged=bool(damage),
            )
        )
        if window is not None and should_stop():
            raise Interrupted
    if not manifest.parts:
        raise no_frames(info)


def continued_frames(
    manifest: Manifest, info: VideoInfo, options: UpscaleOptions, on_damage: Callable[[str], None]
) -> Iterator[Frame]:
    """The source's frames from the first that the next window reads."""
    start, frames = options.start, options.max_frames
    if manifest.parts:
        last = manifest.parts[-1]
        start = last.next_time - info.start_time
        if frames is not None:
            frames -= manifest.frames - last.next_context
    return read_source(info, options, start=start, max_frames=frames, on_damage=on_damage)


def open_writer(path: Path, info: VideoInfo, options: UpscaleOptions) -> FrameWriter | ImagesWriter:
    """The encoder of one part."""
    if options.images is not None:
        return ImagesWriter(path, width=SCALE * info.width, height=SCALE * info.height, suffix=options.images)
    return FrameWriter(
        path,
        width=SCALE * info.width,
        height=SCALE * info.height,
        rate=info.rate,
        time_base=info.time_base,
        color=info.color,
        sample_aspect_ratio=info.sample_aspect_ratio,
        codec=options.codec,
        crf=options.crf,
        preset=options.preset,
        pixel_format=options.pixel_format,
        encoder_options=options.encoder_options,
        mastering=info.mastering,
    )


def upscale_window(window: Window[Frame], upscaler: Upscaler) -> Iterator[Frame]:
    """A window's kept frames at 4x, each with its own timestamp."""
    images = Window(tuple(frame.image for frame in window.frames), window.keep)
    for source, image in zip(window.frames[window.keep], upscaler.upscale_window(images), strict=True):
        yield Frame(image, source.time, source.duration)
