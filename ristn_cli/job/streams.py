"""A job with standard input or standard output at one of its ends: what flows through once, and cannot be resumed.

stdin --> parts --> OUT                      parts are joined at the end, as of any job
IN or stdin --> parts, one after another --> ffmpeg --> stdout, as Matroska: a part goes when it was passed on
IN or stdin --> frames --> stdout, as Y4M
"""

import contextlib
import os
import queue
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import IO, Literal

from ristn_cli.engine.upscaler import Upscaler, stoppable
from ristn_cli.job.checks import (
    check_container,
    check_images,
    check_target,
    examine,
    expected_end,
    for_target,
    job_folder,
    no_frames,
    read_source,
)
from ristn_cli.job.forecast import describe_job, settle_tiling
from ristn_cli.job.job import Interrupted, Remarks, finish_images, publish, raise_when, write_parts
from ristn_cli.job.manifest import Manifest, remove_job_folder
from ristn_cli.job.pipeline import Cancelled, Pipeline
from ristn_cli.job.plan import JobPlan, UpscaleOptions, carries_alpha, doubles_rate, estimate_frames
from ristn_cli.job.progress import Meter, Progress
from ristn_cli.job.repeats import join_repeats
from ristn_cli.job.shape import choose_shape
from ristn_cli.job.stages import staged_frames
from ristn_cli.job.unverified import keep_unverified
from ristn_cli.own_files import make_private_folder
from ristn_cli.video import (
    Frame,
    InputFiles,
    InputStream,
    RawFormat,
    Resampler,
    StreamPlan,
    VideoError,
    VideoInfo,
    Y4mWriter,
    choose_codec,
    interruptible,
    join_and_mux,
    probe,
    stream_mux,
    verify,
)

MUX_SECONDS = 2.0
"""How long a job that is to end at once waits for its mux to notice."""

PIPE = Path("-")
NAME = "standard input"
RAW = "rawvideo"
"""What writes plain frames, as FFmpeg calls it."""


@dataclass(frozen=True, kw_only=True)
class Ends:
    """Where a job reads and writes: files, or `-` for the standard streams; and what the streams carry.

    `raw` is what frames without a header on standard input are; `stdout_format` what goes to standard output.
    """

    source: Path
    target: Path
    stdin: IO[bytes]
    stdout: IO[bytes]
    raw: RawFormat | None = None
    stdout_format: Literal["y4m", "matroska"] = "y4m"

    @property
    def is_y4m(self) -> bool:
        """Whether plain frames go to standard output."""
        return self.target == PIPE and self.stdout_format == "y4m"


@contextmanager
def opened_source(
    ends: Ends, options: UpscaleOptions, should_stop: Callable[[], bool]
) -> Iterator[tuple[VideoInfo, Callable[[], None]]]:
    """The source to be read, once; from standard input only its video, of which the others must be given up.

    Also a check to make when all frames are read: it raises VideoError if reading standard input failed.

    Raises:
        VideoError: it cannot be read, or more would be lost of standard input than the options give up.
    """
    if ends.source != PIPE:
        with interruptible(raise_when(should_stop)):
            info = probe(ends.source, rate=options.image_rate, video_stream=options.video_stream)
            info = examine(info, options)
        yield info, lambda: None
        return
    if options.start is not None:
        raise VideoError(f"{NAME}: cannot be searched for --start; let the program that writes to it begin there")
    stream = InputStream(ends.stdin, ends.raw)
    try:
        with interruptible(raise_when(should_stop)):
            info = probe(stream, video_stream=options.video_stream)
        streams = info.streams
        if options.images is None and not ends.is_y4m:  # which hold nothing but pictures, and say so
            check_lost_streams(info, options)
            streams = tuple(other for other in streams if other.index == info.video_index)
        yield replace(info, streams=streams, chapters=()), stream.check
    except VideoError:
        stream.check()  # the cause, where the video seems to be cut short or to be none
        raise
    stream.check()


def check_inputs_kept(ends: Ends) -> None:
    """Refuse files behind standard input and standard output that are both ends of a job.

    Raises:
        VideoError: the output would replace the input, or be appended to it.
    """
    source = descriptor_of(ends.stdin) if ends.source == PIPE else ends.source
    target = descriptor_of(ends.stdout) if ends.target == PIPE else ends.target
    inputs = InputFiles([] if source is None else [source])
    if isinstance(target, Path):
        inputs.check_kept(target, job_folder(target))
    elif target is not None and inputs.find(target) is not None:
        raise VideoError("standard output: is the input itself; redirect it to another file")


def descriptor_of(stream: IO[bytes]) -> int | None:
    """The descriptor of a standard stream; None of a stand-in that is no file of the system."""
    try:
        return stream.fileno()
    except OSError:
        return None


def check_lost_streams(info: VideoInfo, options: UpscaleOptions) -> None:
    """Refuse sound and subtitles on standard input, which is read for its frames alone, unless they are given up."""
    for kind, is_wanted in (("audio", options.with_audio), ("subtitle", options.with_subtitles)):
        if is_wanted and any(stream.kind == kind for stream in info.streams):
            flag = "--no-audio" if kind == "audio" else "--no-subtitles"
            raise VideoError(f"{NAME}: has {kind} streams, which cannot be carried from there; name a file, or {flag}")


def upscale_stream(
    ends: Ends,
    upscaler: Upscaler,
    options: UpscaleOptions | None = None,
    *,
    overwrite: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    on_plan: Callable[[JobPlan], None] = lambda plan: None,
    on_damage: Callable[[str], None] = lambda message: None,
    on_loss: Callable[[str], None] = lambda message: None,
) -> Generator[Progress, None, None]:
    """`upscale_video` where an end of the job is a standard stream. A run that ends early cannot be continued.

    Standard input cannot be read again: its finished parts are kept when a run to a file ends early. `on_loss` is told
    in a line where they are, and what Y4M cannot hold.

    Raises:
        VideoError: as `upscale_video`, and when whoever reads standard output stopped doing so.
        Interrupted: `should_stop` said so.
    """
    options = for_target(options or UpscaleOptions(), ends.target)
    check_inputs_kept(ends)
    with opened_source(ends, options, should_stop) as (info, check_read):
        if ends.target != PIPE:
            yield from _to_file(
                info, ends.target, upscaler, options, overwrite, should_stop, on_plan, on_damage, on_loss, check_read
            )
        elif ends.is_y4m:
            yield from _to_y4m(info, ends.stdout, upscaler, options, should_stop, on_plan, on_damage, on_loss)
        else:
            yield from _to_matroska(info, ends.stdout, upscaler, options, should_stop, on_plan, on_damage)


def _to_file(
    info: VideoInfo,
    target: Path,
    upscaler: Upscaler,
    options: UpscaleOptions,
    overwrite: bool,
    should_stop: Callable[[], bool],
    on_plan: Callable[[JobPlan], None],
    on_damage: Callable[[str], None],
    on_loss: Callable[[str], None],
    check_read: Callable[[], None],
) -> Iterator[Progress]:
    check_target(info.path, target, overwrite)
    with interruptible(raise_when(should_stop)):
        streams = check_images(info, target, options) if options.images else check_container(info, target, options)
    folder = job_folder(target)
    if os.path.lexists(folder):
        raise VideoError(f"{folder}: contains the work of an earlier run on this output; move or remove it")
    makes_parent = options.images is not None and not target.parent.exists()
    make_private_folder(folder, parents=options.images is not None)
    manifest = Manifest(folder, {"input": NAME})
    joined = folder / f"joined{target.suffix}"
    try:
        settle_tiling(upscaler, info, options, folder, restart=True)
        plan = _flowing(describe_job(manifest, info, streams, upscaler, options))
        on_plan(plan)
        yield from write_parts(manifest, info, upscaler, options, should_stop, on_damage)
        check_read()
        if options.images is not None:
            check_last = partial(check_target, info.path, target, overwrite)
            finish_images(manifest, info, target, plan, check=check_last, overwrite=overwrite)
            remove_job_folder(folder)
            return
        try:
            join_and_mux(manifest.files, info, joined, rate=plan.rate, plan=streams)
        except VideoError as error:
            raise VideoError(str(error).replace(str(joined), str(target))) from error
        try:
            verify(
                joined,
                frames=manifest.frames,
                width=plan.width,
                height=plan.height,
                source=info,
                plan=streams,
                has_alpha=plan.has_alpha,
                has_field_rate=doubles_rate(info, options),
                check_times=False,  # the source cannot be read again
            )
        except VideoError as error:
            raise keep_unverified(joined, target, error) from error
        check_target(info.path, target, overwrite)
        publish(joined, target, overwrite=overwrite)
        remove_job_folder(folder)
    except BaseException:
        if manifest.parts:
            on_loss(describe_kept(manifest, joined))
        else:
            remove_job_folder(folder)
            if makes_parent:
                with contextlib.suppress(OSError):  # something else was put there meanwhile
                    target.parent.rmdir()
        raise


def describe_kept(manifest: Manifest, joined: Path) -> str:
    """Where the finished frames of a run are that ended early: in one file if they were joined, else in parts."""
    parts = " to ".join(dict.fromkeys([manifest.parts[0].file, manifest.parts[-1].file]))
    where = f"as {joined}" if joined.exists() else f"in {manifest.folder} as {parts}"
    return f"{NAME} cannot be read again: its {manifest.frames} finished frames are kept {where}"


def _to_matroska(
    info: VideoInfo,
    stdout: IO[bytes],
    upscaler: Upscaler,
    options: UpscaleOptions,
    should_stop: Callable[[], bool],
    on_plan: Callable[[JobPlan], None],
    on_damage: Callable[[str], None],
) -> Iterator[Progress]:
    with interruptible(raise_when(should_stop)):
        streams = check_container(info, Path("-.mkv"), options)
    end = expected_end(info, options)  # the time of the last frame is not known yet
    ready: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
    failure: list[BaseException] = []
    is_over = threading.Event()

    def check_wanted() -> None:
        if is_over.is_set():
            raise Cancelled

    def pass_on() -> None:
        try:
            with interruptible(check_wanted):
                stream_mux(
                    _passing(ready),
                    info,
                    stdout.fileno(),
                    rate=choose_shape(info, options).rate,
                    codec=choose_codec(options.codec, info.bit_depth),
                    plan=streams,
                    start=options.start,
                    end=end,
                )
        except BaseException as error:
            failure.append(error)

    with tempfile.TemporaryDirectory(prefix="ristn-stream-") as scratch:
        settle_tiling(upscaler, info, options, Path(scratch), restart=True)
        manifest = Manifest(Path(scratch), {"input": NAME})
        on_plan(_flowing(describe_job(manifest, info, streams, upscaler, options)))
        mux = threading.Thread(target=pass_on, name="mux", daemon=True)
        sent = 0

        def send_parts() -> None:
            nonlocal sent
            if manifest.parts and not sent:
                mux.start()
            for path in manifest.files[sent:]:
                ready.put(path)
                sent += 1

        def finish() -> None:
            send_parts()
            ready.put(None)
            if sent:
                mux.join()

        try:
            for progress in write_parts(manifest, info, upscaler, options, should_stop, on_damage):
                send_parts()
                if failure:
                    raise failure[0]
                yield progress
            finish()
        except Exception:
            finish()  # finished parts are passed on whatever went wrong, but not where all is to end at once
            raise
        finally:
            is_over.set()
            ready.put(None)
            if sent:
                mux.join(MUX_SECONDS)
        if failure:
            raise failure[0]


def _passing(ready: "queue.SimpleQueue[Path | None]") -> Iterator[Path]:
    """Parts as they come; each is removed when the next is asked for."""
    while (path := ready.get()) is not None:
        yield path
        path.unlink()


def _to_y4m(
    info: VideoInfo,
    stdout: IO[bytes],
    upscaler: Upscaler,
    options: UpscaleOptions,
    should_stop: Callable[[], bool],
    on_plan: Callable[[JobPlan], None],
    on_damage: Callable[[str], None],
    on_loss: Callable[[str], None],
) -> Iterator[Progress]:
    others = [stream for stream in info.streams if stream.index != info.video_index and stream.kind != "data"]
    streams = tuple(
        StreamPlan(stream, "upscale", RAW)
        if stream.index == info.video_index
        else StreamPlan(stream, "drop", stream.codec, "Y4M holds nothing but pictures")
        for stream in info.streams
    )
    if others:
        on_loss(f"Y4M holds nothing but pictures: {len(others)} other streams are left out")
    if carries_alpha(info, options):
        raise VideoError(f"{info.path}: has transparency, which Y4M cannot hold; use --drop-alpha to go on without it")
    settle_tiling(upscaler, info, options, Path(), restart=True, encoder=RAW)
    manifest = Manifest(Path(tempfile.gettempdir()) / "-", {})
    on_plan(_flowing(describe_job(manifest, info, streams, upscaler, options, encoder=RAW)))
    meter = Meter(0, estimate_frames(info, options))
    yield meter.read(0, 1)
    shape = choose_shape(info, options)
    resampler = Resampler(shape.width, shape.height)
    writer = Y4mWriter(
        stdout,
        width=shape.width,
        height=shape.height,
        rate=shape.rate,
        color=info.color,
        is_deep=info.bit_depth > 8,
        sample_aspect_ratio=shape.sample_aspect_ratio,
        pixel_format=options.pixel_format,
    )
    damage, losses = Remarks(on_damage), Remarks(on_loss)
    frames = read_source(info, options, max_frames=options.max_frames, on_damage=damage.note)
    pipeline = Pipeline(raise_when(should_stop))
    with stoppable(upscaler.model, pipeline.check), pipeline:
        runs = join_repeats(_told_if_uneven(frames, shape.rate, info.time_base, losses.note))
        windows = ((window, None) for window in upscaler.windows(runs, lambda run: run[0].image))
        try:
            for made in staged_frames(pipeline, windows, upscaler):
                damage.tell()
                losses.tell()
                writer.write(resampler.apply(made.frame.image))
                del made  # or it would be held while the next one is awaited
                yield meter.read(writer.frames_written, 1)
                if should_stop():
                    raise Interrupted
        finally:
            damage.tell()
            losses.tell()
    if not writer.frames_written:
        raise no_frames(info)


def _told_if_uneven(
    frames: Iterator[Frame], rate: Fraction, time_base: Fraction, report: Callable[[str], None]
) -> Iterator[Frame]:
    """The same frames; reported once when they do not lie evenly in time, which Y4M cannot tell."""
    first: Fraction | None = None
    is_even = True
    for number, frame in enumerate(frames):
        first = frame.time if first is None else first
        if is_even and abs(frame.time - first - number / rate) > max(time_base, Fraction(1, 500)):
            is_even = False
            report("the frames do not lie evenly in time, which Y4M cannot tell; use --stdout-format matroska")
        yield frame


def _flowing(plan: JobPlan) -> JobPlan:
    """The plan without the space on the disk, which is not estimated of what flows through."""
    return replace(plan, needed_bytes=None)
