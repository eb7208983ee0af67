"""One job over the workers of a pool, as `upscale_video` takes it for `make_parts`."""

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
"""Progress is told, and a wish to stop noticed, at least as often."""

PLANNER_SECONDS = 2.0
"""How long a job that ends waits for its planner, which asks whether to go on before each packet: it may be stuck in
reading one, and then does no harm."""


def spread_over(pool: Pool) -> PartMaker:
    """Makes parts on the workers of a pool."""
    return partial(spread_parts, pool)


def spread_parts(
    pool: Pool, job: Job, manifest: Manifest, upscaler: Upscaler, stop: threading.Event
) -> Iterator[Event]:
    """As `write_parts`, on the workers of `pool`: the same parts, finished in any order.

    Raises:
        Interrupted: the run was asked to stop; what was in flight is finished and recorded.
        JobError: a segment failed again and again, or no worker can be started.
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
    """Where a job over a pool stands. `plan` has a thread of its own and touches only `events` and `warnings`."""

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
        """Find the segments, and put them into `events`."""
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
        """Raise Cancelled when no more segments are wanted."""
        if self.is_stopping:
            raise Cancelled

    @property
    def is_finished(self) -> bool:
        """Whether nothing more will come: all is done, or what was in flight when the job was stopped."""
        if self.is_stopping:
            return not self.pool.in_flight(self.work.key) and self.events.empty()
        return self.is_planned and len(self.finished) == self.planned

    @property
    def is_unfinished(self) -> bool:
        """Whether parts are missing."""
        return not self.is_planned or len(self.finished) < self.planned

    def read(self) -> Progress:
        """Where the job stands, with what is at work."""
        tasks = self.pool.in_flight(self.work.key)
        at_work = sum(task.pulse.frames for task in tasks if task.segment.number not in self.finished)
        finished = len(self.finished)
        now = self.meter.read(self.frames + at_work, min(finished + 1, max(1, self.planned)))
        return replace(now, segments=(finished, self.planned), workers=self.pool.read())

    def drain_events(self) -> Iterator[PartFinished]:
        """Handle all events that there are, waiting for the first a little."""
        try:
            event = self.events.get(timeout=POLL_SECONDS)
            while True:
                yield from self.handle(event)
                event = self.events.get_nowait()
        except queue.Empty:
            return

    def handle(self, event: object) -> Iterator[PartFinished]:
        """Handle one event. Raises the error of a Failed."""
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
        """Give a part that a worker made its name."""
        folder = self.manifest.folder
        named = replace(part, file=self.job.part_name(segment.number))
        (folder / part.file).replace(folder / named.file)
        return named

    def finish(self, segment: Segment, part: Part) -> PartFinished:
        """Record a part."""
        self.manifest.record(segment.number, part)
        self.finished.add(segment.number)
        self.frames += segment.frames
        return PartFinished(segment.number, self.frames)
