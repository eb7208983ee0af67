"""Writes a job to standard output, once and without resuming.

Matroska: source --> parts, one after another --> ffmpeg --> stdout; a part is deleted after it was passed on
Y4M:      source --> frames --> stdout
"""

import queue
import tempfile
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

from ristn_cli.engine.upscaler import Upscaler, stoppable
from ristn_cli.job.checks import no_frames
from ristn_cli.job.events import Event, PartFinished, Planned, Warned, Warnings
from ristn_cli.job.forecast import describe_job
from ristn_cli.job.job import Y4M, Job
from ristn_cli.job.manifest import Manifest
from ristn_cli.job.parts import Interrupted, check_stream, raise_when, write_parts
from ristn_cli.job.pipeline import Cancelled, Pipeline
from ristn_cli.job.progress import Meter
from ristn_cli.job.reading import source_windows
from ristn_cli.job.regrain import settle_grain
from ristn_cli.job.settling import settle_tiling
from ristn_cli.job.stages import bordered_windows, staged_frames
from ristn_cli.video import Y4mWriter, interruptible, stream_mux

MUX_SECONDS = 2.0
"""Time that an urgent end waits for the mux to stop."""


def stream_out(job: Job, stdout: IO[bytes], upscaler: Upscaler, stop: threading.Event) -> Iterator[Event]:
    """Upscale into an open file, with the events and errors of `upscale_video`.

    Raises:
        VideoError: the reading program closed the output.
    """
    settle_tiling(job, upscaler, restart=True)
    job = settle_grain(job, upscaler, restart=True)
    with tempfile.TemporaryDirectory(prefix="ristn-stream-") as scratch:
        manifest = Manifest(Path(scratch), {})
        yield Planned(describe_job(job, manifest, upscaler))
        if job.target == Y4M:
            yield from write_y4m(job, stdout, upscaler, stop)
        else:
            yield from write_matroska(job, manifest, stdout, upscaler, stop)


def write_matroska(
    job: Job, manifest: Manifest, stdout: IO[bytes], upscaler: Upscaler, stop: threading.Event
) -> Iterator[Event]:
    """Write parts, and pass each finished part to a mux in its own thread."""
    ready: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
    failure: list[BaseException] = []
    is_over = threading.Event()

    def check_wanted() -> None:
        if is_over.is_set():
            raise Cancelled

    def finished_parts() -> Iterator[Path]:
        while (path := ready.get()) is not None:
            yield path
            path.unlink()  # the next part is only requested after this one was passed on

    def pass_on() -> None:
        try:
            with interruptible(check_wanted):
                stream_mux(finished_parts(), job.output, stdout.fileno())
        except BaseException as error:
            failure.append(error)

    mux = threading.Thread(target=pass_on, name="mux", daemon=True)

    def finish() -> None:
        ready.put(None)
        if mux.ident is not None:
            mux.join()

    try:
        for event in write_parts(job, manifest, upscaler, stop):
            if isinstance(event, PartFinished):
                if mux.ident is None:
                    mux.start()
                ready.put(manifest.files[-1])
            if failure:
                raise failure[0]
            yield event
        finish()
    except Exception:
        finish()  # pass on finished parts after an error, but not if the program must end at once
        raise
    finally:
        is_over.set()
        ready.put(None)
        if mux.ident is not None:
            mux.join(MUX_SECONDS)
    if failure:
        raise failure[0]


def write_y4m(job: Job, stdout: IO[bytes], upscaler: Upscaler, stop: threading.Event) -> Iterator[Event]:
    """Write frames as soon as they are upscaled."""
    source, shape = job.source, job.output.shape
    others = [stream for stream in source.streams if stream.index != source.video_index and stream.kind != "data"]
    if others:
        yield _loss(f"Y4M holds only frames: {len(others)} other streams are dropped")
    meter = Meter(0, job.frames)
    yield meter.read(0, 1)
    writer = Y4mWriter(stdout, shape, job.output.encoder, is_deep=source.bit_depth > 8)
    warnings = Warnings()
    first: Fraction | None = None
    is_even = True
    pipeline = Pipeline(raise_when(stop.is_set))
    with stoppable(upscaler.model, pipeline.check), pipeline:
        windows = bordered_windows(source_windows(job, None, upscaler, warnings.add), None, shape.rate, warnings)
        try:
            for made in staged_frames(pipeline, windows, upscaler, job.finisher(None)):
                yield from warnings.drain()
                time = made.frame.time
                first = time if first is None else first
                ideal = first + writer.frames_written / shape.rate
                if is_even and abs(time - ideal) > max(source.time_base, Fraction(1, 500)):
                    is_even = False
                    yield _loss(
                        "the frames are not evenly spaced, and Y4M has no timestamps; use --format mkv to keep them"
                    )
                writer.write(made.frame)
                del made  # otherwise it would stay in memory during the wait
                yield meter.read(writer.frames_written, 1)
                if stop.is_set():
                    raise Interrupted
        except Exception:
            yield from warnings.drain()
            raise
        yield from warnings.drain()
    check_stream(job)
    if not writer.frames_written:
        raise no_frames(source)


def _loss(message: str) -> Warned:
    return Warned(message, is_damage=False)
