"""Runs a job on the workers of a pool, as the `make_parts` of `upscale_video`."""

import queue
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.checks import no_frames
from ristn_cli.job.events import Event, PartFinished, Warnings
from ristn_cli.job.job import Job
from ristn_cli.job.manifest import Manifest, Part
from ristn_cli.job.parts import Interrupted, PartMaker
from ristn_cli.job.pipeline import Cancelled
from ristn_cli.job.progress import Meter, Progress
from ristn_cli.spread.pool import Pool
from ristn_cli.spread.segments import Segment, plan_segments
from ristn_cli.spread.tasks import Computed, Failed, SegmentJob, Task
from ristn_cli.video import interruptible

POLL_SECONDS = 0.5
"""Longest time between progress events, and between checks for a stop request."""

PLANNER_SECONDS = 2.0
"""Longest time to wait for the planner when a job ends. It checks for the end before each packet, but may be blocked in
reading one, which is harmless.
"""


def spread_over(pool: Pool) -> PartMaker:
    """Return a `make_parts` function that uses the workers of a pool."""
    return partial(spread_parts, pool)


def spread_parts(
    pool: Pool, job: Job, manifest: Manifest, upscaler: Upscaler, stop: threading.Event
) -> Iterator[Event]:
    """Write the same parts as `write_parts` on the workers of `pool`, in any order.

    Raises:
        Interrupted: the run was stopped. Segments in progress are finished and recorded first.
        JobError: a segment failed too often, or no worker can be started.
    """
    run = _Run(pool, job, manifest, upscaler)
    planner = threading.Thread(target=run.plan, name="plan", daemon=True)
    planner.start()
    try:
        while not run.is_finished:
            yield run.read()
            pool.check()
            yield from run.drain_events()
            yield from run.warnings.drain()
            if stop.is_set() and not run.is_stopping:
                run.is_stopping = True
                pool.withdraw(run.work.key)
        yield run.read()
    finally:
        run.is_stopping = True
        pool.withdraw(run.work.key)
        planner.join(PLANNER_SECONDS)
    if run.is_unfinished:
        raise Interrupted
    if not manifest.parts:
        raise no_frames(job.source)


class _Run:
    """State of a job on a pool. `plan` runs in its own thread and only accesses `events` and `warnings`."""

    def __init__(self, pool: Pool, job: Job, manifest: Manifest, upscaler: Upscaler) -> None:
        self.pool, self.job, self.manifest, self.upscaler = pool, job, manifest, upscaler
        for stray in manifest.folder.glob("making-*"):
            stray.unlink(missing_ok=True)
        source = job.source
        here = job.with_source_files(source.path.absolute(), tuple(path.absolute() for path in source.images))
        self.work = SegmentJob(
            key=uuid.uuid4().hex,
            job=replace(here, target=job.target.absolute()),
            tiling=upscaler.tiling,
            network=upscaler.fingerprint,
        )
        self.events: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.warnings = Warnings()
        self.meter = Meter(manifest.frames, job.frames)
        self.planned = len(manifest.parts)
        self.finished = set(range(1, self.planned + 1))
        self.frames = manifest.frames
        self.is_planned = self.is_stopping = False

    def plan(self) -> None:
        try:
            with interruptible(self.check_plan):
                for segment in plan_segments(self.job, self.manifest, self.upscaler, self.warnings):
                    self.check_plan()
                    self.events.put(segment)
            self.events.put(None)
        except Cancelled:
            return
        except BaseException as error:
            self.events.put(Failed(error))

    def check_plan(self) -> None:
        """Raise Cancelled if no more segments are needed."""
        if self.is_stopping:
            raise Cancelled

    @property
    def is_finished(self) -> bool:
        """Whether all segments are done or, after a stop request, those in progress."""
        if self.is_stopping:
            return not self.pool.in_flight(self.work.key) and self.events.empty()
        return self.is_planned and len(self.finished) == self.planned

    @property
    def is_unfinished(self) -> bool:
        return not self.is_planned or len(self.finished) < self.planned

    def read(self) -> Progress:
        tasks = self.pool.in_flight(self.work.key)
        at_work = sum(task.pulse.frames for task in tasks if task.segment.number not in self.finished)
        finished = len(self.finished)
        now = self.meter.read(self.frames + at_work, min(finished + 1, max(1, self.planned)))
        return replace(now, segments=(finished, self.planned), workers=self.pool.read())

    def drain_events(self) -> Iterator[PartFinished]:
        """Handle all pending events, waiting briefly for the first one."""
        try:
            event = self.events.get(timeout=POLL_SECONDS)
            while True:
                yield from self.handle(event)
                event = self.events.get_nowait()
        except queue.Empty:
            return

    def handle(self, event: object) -> Iterator[PartFinished]:
        """Handle one event. Raises the error of a Failed event."""
        match event:
            case None:
                self.is_planned = True
            case Failed(error):
                raise error
            case Segment() as segment:
                self.planned += 1
                earlier = self.manifest.earlier.get(segment.number)
                if earlier is not None and segment.is_made_by(earlier):
                    self.meter.skip(segment.frames)
                    yield self.finish(segment, earlier)
                elif not self.is_stopping:
                    self.pool.submit(Task(self.work, segment, self.events))
            case Computed(segment, part):
                yield self.finish(segment, self.adopt_part(segment, part))

    def adopt_part(self, segment: Segment, part: Part) -> Part:
        """Rename a worker's part to its final name."""
        folder = self.manifest.folder
        named = replace(part, file=self.job.part_name(segment.number))
        (folder / part.file).replace(folder / named.file)
        return named

    def finish(self, segment: Segment, part: Part) -> PartFinished:
        self.manifest.record(segment.number, part)
        self.finished.add(segment.number)
        self.frames += segment.frames
        return PartFinished(segment.number, self.frames)
