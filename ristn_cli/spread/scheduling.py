"""One job over the workers of a pool, as `upscale_video` takes it for `make_parts`; and several jobs at once."""

import math
import queue
import threading
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.checks import job_folder, no_frames
from ristn_cli.job.job import Interrupted, PartMaker
from ristn_cli.job.manifest import Manifest, Part, read_identity
from ristn_cli.job.pipeline import Cancelled
from ristn_cli.job.plan import SHORTEST_PART, UpscaleOptions, estimate_frames, part_length
from ristn_cli.job.progress import Meter, Progress
from ristn_cli.spread.pool import Computed, Failed, Pool, SegmentJob, Task
from ristn_cli.spread.segments import Segment, plan_segments
from ristn_cli.video import VideoInfo, interruptible, probe

Outcome = TypeVar("Outcome")

POLL_SECONDS = 0.5
"""Progress is told, and a wish to stop noticed, at least as often."""

PLANNER_SECONDS = 2.0
"""How long a job that ends waits for its planner, which asks whether to go on before each packet: it may be stuck in
reading one, and then does no harm."""

SEGMENTS_PER_WORKER = 8
"""As many, or workers wait for the last ones: docs/scaling.md has the losses."""


def settle_segments(
    source: Path, target: Path, options: UpscaleOptions, *, workers: int = 1, restart: bool = False
) -> UpscaleOptions:
    """The options with segments short enough to keep `workers` busy, unless their length was asked for.

    A job that goes on keeps what its first run chose, with however many workers.

    Raises:
        VideoError: the source cannot be read.
    """
    if options.segment_frames is not None:
        return options
    earlier = "" if restart else str(read_identity(job_folder(target)).get("segment_frames", ""))
    if earlier:
        return replace(options, segment_frames=int(earlier)) if earlier.isdigit() else options
    if workers == 1:
        return options
    info = probe(source, video_stream=options.video_stream)
    frames = estimate_frames(info, options)
    if frames is None:
        return options
    length = max(SHORTEST_PART, math.ceil(frames / (workers * SEGMENTS_PER_WORKER)))
    return options if length >= part_length(info, options) else replace(options, segment_frames=length)


def spread_over(pool: Pool) -> PartMaker:
    """Makes parts on the workers of a pool."""
    return partial(spread_parts, pool)


def spread_parts(
    pool: Pool,
    manifest: Manifest,
    info: VideoInfo,
    upscaler: Upscaler,
    options: UpscaleOptions,
    should_stop: Callable[[], bool],
    on_damage: Callable[[str], None],
) -> Iterator[Progress]:
    """As `write_parts`, on the workers of `pool`: the same parts, finished in any order.

    Raises:
        Interrupted: `should_stop` said so; what was in flight is finished and recorded.
        JobError: a segment failed again and again, or no worker can be started.
    """
    run = _Run(pool, manifest, info, upscaler, options)
    planner = threading.Thread(target=run.plan, name="plan", daemon=True)
    planner.start()
    try:
        while not run.is_finished:
            yield run.read()
            pool.check()
            run.hear()
            for message in run.take_damage():
                on_damage(message)
            if should_stop() and not run.is_stopping:
                run.is_stopping = True
                pool.withdraw(run.job.key)
        yield run.read()
    finally:
        run.is_stopping = True
        pool.withdraw(run.job.key)
        planner.join(PLANNER_SECONDS)
    if run.is_unfinished:
        raise Interrupted
    if not manifest.parts:
        raise no_frames(info)


class _Run:
    """Where a job over a pool stands. `plan` has a thread of its own and touches nothing but `events` and `damage`."""

    def __init__(
        self, pool: Pool, manifest: Manifest, info: VideoInfo, upscaler: Upscaler, options: UpscaleOptions
    ) -> None:
        self.pool, self.manifest, self.info, self.upscaler, self.options = pool, manifest, info, upscaler, options
        for stray in manifest.folder.glob("making-*"):
            stray.unlink(missing_ok=True)
        self.job = SegmentJob(
            key=uuid.uuid4().hex,
            info=replace(info, path=info.path.absolute(), images=tuple(path.absolute() for path in info.images)),
            options=options,
            tiling=upscaler.tiling,
            folder=manifest.folder.absolute(),
            network=upscaler.fingerprint,
        )
        self.events: queue.SimpleQueue[object] = queue.SimpleQueue()
        self.damage: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.meter = Meter(manifest.frames, estimate_frames(info, options))
        self.planned = len(manifest.parts)
        self.finished = set(range(1, self.planned + 1))
        self.frames = manifest.frames
        self.is_planned = self.is_stopping = False

    def plan(self) -> None:
        """Find the segments, and put them into `events`."""
        try:
            with interruptible(self.check_plan):
                for segment in plan_segments(self.manifest, self.info, self.upscaler, self.options, self.damage.put):
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
            return not self.pool.in_flight(self.job.key) and self.events.empty()
        return self.is_planned and len(self.finished) == self.planned

    @property
    def is_unfinished(self) -> bool:
        """Whether parts are missing."""
        return not self.is_planned or len(self.finished) < self.planned

    def take_damage(self) -> Iterator[str]:
        """What was found damaged since the last time."""
        while not self.damage.empty():
            yield self.damage.get()

    def read(self) -> Progress:
        """Where the job stands, with what is at work."""
        tasks = self.pool.in_flight(self.job.key)
        at_work = sum(task.frames for task in tasks if task.segment.number not in self.finished)
        finished = len(self.finished)
        now = self.meter.read(self.frames + at_work, min(finished + 1, max(1, self.planned)))
        return replace(now, segments=(finished, self.planned), workers=self.pool.read())

    def hear(self) -> None:
        """Take all events that there are, waiting for the first a little."""
        try:
            event = self.events.get(timeout=POLL_SECONDS)
            while True:
                self.take(event)
                event = self.events.get_nowait()
        except queue.Empty:
            return

    def take(self, event: object) -> None:
        """Act on one event. Raises the error of a Failed."""
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
                    self.finish(segment, earlier)
                elif not self.is_stopping:
                    self.pool.submit(Task(self.job, segment, self.events))
            case Computed(segment, part):
                self.finish(segment, self.keep(segment, part))

    def keep(self, segment: Segment, part: Part) -> Part:
        """Give a part that a worker made its name."""
        made = self.job.folder / part.file
        named = replace(part, file=f"part-{segment.number:05}{made.suffix}")
        made.replace(self.job.folder / named.file)
        return named

    def finish(self, segment: Segment, part: Part) -> None:
        """Record a part."""
        self.manifest.record(segment.number, part)
        self.finished.add(segment.number)
        self.frames += segment.frames


@dataclass(frozen=True)
class Told(Generic[Outcome]):
    """What one of several jobs yielded, or how it ended: with a result or an error."""

    index: int
    progress: Outcome | None = None
    error: BaseException | None = None
    is_finished: bool = False


def run_together(
    jobs: Iterable[Callable[[], Generator[Outcome, None, object]]], *, at_once: int
) -> Generator[Told[Outcome], None, None]:
    """Run several jobs, `at_once` of them at a time, in order, each in a thread; what they yield, as it comes.

    While one is joined and verified, the segments of the next keep the workers of their pool busy. An error ends the
    job that raised it, no other. Jobs that are at work when the iterator is closed are closed at their next step.
    The next job is taken from `jobs` when the one before it has yielded for the first time, or has ended.
    """
    events: queue.SimpleQueue[Told[Outcome]] = queue.SimpleQueue()
    is_closed = threading.Event()

    def run(index: int, begin: Callable[[], Generator[Outcome, None, object]]) -> None:
        try:
            job = begin()
            try:
                for progress in job:
                    if is_closed.is_set():
                        return
                    events.put(Told(index, progress))
            finally:
                job.close()
        except BaseException as error:
            events.put(Told(index, error=error, is_finished=True))
        else:
            events.put(Told(index, is_finished=True))

    threads: list[threading.Thread] = []
    running, has_begun = 0, True
    coming = iter(jobs)
    try:
        while True:
            if running < at_once and has_begun and (begin := next(coming, None)) is not None:
                thread = threading.Thread(
                    target=run, args=(len(threads), begin), name=f"job {len(threads)}", daemon=True
                )
                threads.append(thread)
                thread.start()
                running, has_begun = running + 1, False
            if not running:
                return
            told = events.get()
            running -= told.is_finished
            has_begun = has_begun or told.index == len(threads) - 1
            yield told
    finally:
        is_closed.set()
        for thread in threads:
            thread.join()
