"""Cuts a job into segments that any device can compute alone, with the same parts and frames as a run on one device.

Finding the start of a segment needs decoding, but no network.
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
    """A segment differs from its plan: the source reads differently here or now."""


class WorkerLost(Exception):
    """A worker died, hung, ran out of memory or lost its machine. Another worker can retry its segment."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Consecutive frames that become one part.

    Attributes:
        number: number of the part, from 1.
        frames: number of frames that it keeps.
        begins: border before it; None at the start of the job.
        ends: border after it.
    """

    number: int
    frames: int
    begins: Border | None
    ends: Border

    def is_made_by(self, part: Part) -> bool:
        """Return whether a finished `part` of an earlier run belongs to this segment."""
        return (part.frames, part.border) == (self.frames, self.ends)


class Pulse:
    """Activity of the threads that compute a segment, read by the thread that waits for it.

    Attributes:
        frames: frames encoded so far.
        beats: layers of the network started and packets read so far.
        stopped: set it to stop the work at the next beat.
    """

    def __init__(self) -> None:
        self.frames = self.beats = 0
        self.stopped = threading.Event()

    def beat(self) -> None:
        """Count a beat. Raises WorkerLost after `stopped` is set."""
        if self.stopped.is_set():
            raise WorkerLost("stopped")
        self.beats += 1


def plan_segments(job: Job, manifest: Manifest, upscaler: Upscaler, warnings: Warnings) -> Iterator[Segment]:
    """Yield the segments that follow the manifest's parts, with the borders that `write_parts` finds.

    Decodes the source once and keeps one window of frames in memory.
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
    """Yield the windows of a segment. Raises SegmentError if they do not end where the segment does."""
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
    """Upscale and encode a segment into the file `path`. Reading, network and encoding run concurrently.

    Args:
        job: the job, with the path of the source on this machine.
        segment: a segment planned for the same job, window and context.
        upscaler: the engine.
        path: file of the part.
        pulse: receives the progress.

    Raises:
        SegmentError: the source reads differently from when it was planned.
        WorkerLost: the pulse was stopped.
        VideoError, OutOfMemory, DeviceError: see `upscale_video`.
    """
    source = job.source.path
    pipeline = Pipeline(pulse.beat)
    with stoppable(upscaler.model, pipeline.check), pipeline:
        # The planner reads the whole source and reports changes within it.
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
            # The last border of these windows lacks what follows the segment; the plan has it.
            return replace(event, border=segment.ends)
    raise SegmentError(f"{source}: segment {segment.number} has no frames; upscale this file on one device")
