"""A job cut into segments that any device can compute by itself: the parts of a run on one device, and the same frames.

To find where a segment begins takes decoding, and no network.
"""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ristn_cli.engine.upscaler import Upscaler, stoppable
from ristn_cli.engine.windows import Window
from ristn_cli.job.border import Border
from ristn_cli.job.events import Warnings
from ristn_cli.job.job import Job
from ristn_cli.job.manifest import Manifest, Part
from ristn_cli.job.pipeline import Pipeline
from ristn_cli.job.reading import source_windows
from ristn_cli.job.repeats import Run
from ristn_cli.job.stages import PartWriting, Written, bordered_windows, staged_parts
from ristn_cli.video import VideoError


class SegmentError(VideoError):
    """A segment read again was not what was planned: the source reads differently here or now."""


class WorkerLost(Exception):
    """A worker died, hung, ran out of memory or lost its machine: what it was at can be tried again elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of frames that becomes one part.

    Attributes:
        number: of its part, from 1.
        frames: that it keeps.
        begins: the border before it; None at the start of the job.
        ends: the border behind it.
    """

    number: int
    frames: int
    begins: Border | None
    ends: Border

    def is_made_by(self, part: Part) -> bool:
        """Whether `part`, finished by an earlier run, is this segment's."""
        return (part.frames, part.border) == (self.frames, self.ends)


class Pulse:
    """Signs of life of the work on a segment: set by the threads that do it, read by whoever waits for it.

    Attributes:
        frames: encoded so far.
        beats: layers of the network begun, and packets read, so far.
        stopped: set it to end the work at the next beat.
    """

    def __init__(self) -> None:
        self.frames = self.beats = 0
        self.stopped = threading.Event()

    def beat(self) -> None:
        """Count a beat. Raises WorkerLost once the work is to end."""
        if self.stopped.is_set():
            raise WorkerLost("stopped")
        self.beats += 1


def plan_segments(job: Job, manifest: Manifest, upscaler: Upscaler, warnings: Warnings) -> Iterator[Segment]:
    """The segments behind the manifest's parts, each as soon as it is known, with the borders that `write_parts` finds.

    One pass over the source, decoding only; it holds a window of frames.
    """
    if job.options.max_frames is not None and manifest.frames >= job.options.max_frames:
        return
    begins = manifest.border
    number, before = len(manifest.parts) + 1, manifest.frames
    windows = source_windows(job, begins, upscaler, warnings.add)
    for _, border in bordered_windows(windows, begins, job.output.shape.rate, warnings):
        frames = border.frames - before
        if frames >= job.part_frames or border.is_last:
            yield Segment(number=number, frames=frames, begins=begins, ends=border)
            number, before, begins = number + 1, border.frames, border


def windows_of(segment: Segment, windows: Iterator[Window[Run]], path: Path) -> Iterator[Window[Run]]:
    """The windows that keep a segment's frames, and no more. Raises SegmentError when they do not end where it does."""
    frames = 0
    while frames < segment.frames:
        window = next(windows, None)
        if window is None:
            break
        frames += sum(map(len, window.frames[window.keep]))
        if frames <= segment.frames:
            yield window
    if frames != segment.frames:
        raise SegmentError(
            f"{path}: segment {segment.number} was planned with {segment.frames} frames and has {frames} when read "
            "again; upscale this file on one device (without --ray)"
        )


def compute_segment(job: Job, segment: Segment, upscaler: Upscaler, path: Path, pulse: Pulse) -> Part:
    """Upscale and encode a segment into the file `path`; reading, network and encoding run at the same time.

    Args:
        job: with the source wherever its file is here.
        segment: of a plan of the same job, with the same window and context.
        upscaler: the engine.
        path: the part to write.
        pulse: told how far the work is.

    Raises:
        SegmentError: the source reads differently from when it was planned.
        WorkerLost: the pulse was stopped.
        VideoError, OutOfMemory, DeviceError: as in `upscale_video`.
    """
    source = job.source.path
    pipeline = Pipeline(pulse.beat)
    with stoppable(upscaler.model, pipeline.check), pipeline:
        # The plan reports what changes on the way: it reads the whole source.
        windows = source_windows(job, segment.begins, upscaler, reports_change=False)
        bordered = bordered_windows(
            windows_of(segment, windows, source), segment.begins, job.output.shape.rate, Warnings()
        )
        writing = PartWriting(lambda: job.open_writer(path), segment.frames, job.finisher(segment.begins))
        for event in staged_parts(pipeline, bordered, upscaler, writing):
            if isinstance(event, Written):
                pulse.frames = event.frames
                continue
            if event.frames != segment.frames or not event.border.is_last:
                raise SegmentError(f"{source}: segment {segment.number} came out with {event.frames} frames")
            # Its last border knows nothing of what comes behind: the plan does.
            return replace(event, border=segment.ends)
    raise SegmentError(f"{source}: segment {segment.number} has no frames; upscale this file on one device")
