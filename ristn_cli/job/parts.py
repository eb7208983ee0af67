"""Upscales and encodes the frames of a job in parts, and records each part."""

import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Protocol

from ristn_cli.engine.upscaler import Upscaler, stoppable
from ristn_cli.job.checks import no_frames
from ristn_cli.job.events import Event, PartFinished, Warnings
from ristn_cli.job.job import Job
from ristn_cli.job.manifest import Manifest
from ristn_cli.job.pipeline import Pipeline
from ristn_cli.job.progress import Meter
from ristn_cli.job.reading import source_windows
from ristn_cli.job.stages import PartWriting, Written, bordered_windows, staged_parts
from ristn_cli.video import FrameWriter, ImagesWriter, InputStream


class Interrupted(Exception):
    """The job stopped on request, after a finished part. The same command resumes it."""


def raise_when(should_stop: Callable[[], bool]) -> Callable[[], None]:
    """Return a function for `interruptible` that raises Interrupted if `should_stop` returns true."""

    def check() -> None:
        if should_stop():
            raise Interrupted

    return check


class PartMaker(Protocol):
    """Makes the parts that a manifest lacks, and records them: `write_parts`, or a version for several devices.

    After `stop` is set, it raises Interrupted: once the current part is finished, or at once before the first frame.
    """

    def __call__(self, job: Job, manifest: Manifest, upscaler: Upscaler, stop: threading.Event) -> Iterator[Event]: ...


def check_stream(job: Job) -> None:
    """Raise VideoError if reading standard input has failed, because then frames are missing."""
    if isinstance(job.source.stream, InputStream):
        job.source.stream.check()


def write_parts(job: Job, manifest: Manifest, upscaler: Upscaler, stop: threading.Event) -> Iterator[Event]:
    """Upscale and encode the frames that the manifest lacks, part by part. Parts end between windows.

    Reading, upscaling and encoding run at the same time. The result is the same as without threads. If a stage fails,
    the parts that were finished before are recorded.
    """
    meter = Meter(manifest.frames, job.frames)
    yield meter.read(manifest.frames, max(1, len(manifest.parts)))
    if job.options.max_frames is not None and manifest.frames >= job.options.max_frames:
        return
    warnings = Warnings()
    is_begun = False
    numbers = count(len(manifest.parts) + 1)

    def open_part() -> FrameWriter | ImagesWriter:
        return job.open_writer(manifest.folder / job.part_name(next(numbers)))

    pipeline = Pipeline(raise_when(lambda: not is_begun and stop.is_set()))
    with stoppable(upscaler.model, pipeline.check), pipeline:
        windows = source_windows(job, manifest.border, upscaler, warnings.add)
        bordered = bordered_windows(windows, manifest.border, job.output.shape.rate, warnings)
        try:
            writing = PartWriting(open_part, job.part_frames, job.finisher(manifest.border))
            for event in staged_parts(pipeline, bordered, upscaler, writing):
                yield from warnings.drain()
                is_begun = True
                if isinstance(event, Written):
                    yield meter.read(manifest.frames + event.frames, len(manifest.parts) + 1)
                    continue
                manifest.add(event)
                yield PartFinished(len(manifest.parts), manifest.frames)
                if not event.border.is_last and stop.is_set():
                    raise Interrupted
        except Exception:
            yield from warnings.drain()
            raise
        yield from warnings.drain()
    check_stream(job)
    if not manifest.parts:
        raise no_frames(job.source)
