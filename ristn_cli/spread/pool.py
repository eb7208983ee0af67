"""Workers that process segments from one queue, largest first, with retries after failures.

Each worker has a thread that drives one device, in this process or on another machine. Does not know how.
"""

import bisect
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from ristn_cli.job.manifest import JobError
from ristn_cli.job.pipeline import AT_ONCE_SECONDS, GRACE_SECONDS
from ristn_cli.job.progress import SPEED_SECONDS, WorkerProgress
from ristn_cli.spread.segments import Pulse, WorkerLost
from ristn_cli.spread.tasks import Computed, Failed, Task, Worker
from ristn_cli.weights import file_sha256

log = logging.getLogger("ristn.job")

ATTEMPTS = 4
"""Attempts at a segment before its job fails."""

STARTS = 5
"""Consecutive failed starts before a worker is given up."""

WAITING_SECONDS = 10.0
"""Without any worker for this long, the pool reports that the work is waiting."""


class _Seat:
    """A worker, its thread, and its current task."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.is_ready = False
        self.is_given_up = False
        self.task: Task | None = None
        self.done = 0  # frames of finished segments
        self.marks: deque[tuple[float, int]] = deque()


class Pool:
    """Runs workers for any number of concurrent jobs, as a context manager.

    Args:
        workers: each gets a thread.
        attempts: attempts at a segment before its job fails.
        clock: monotonic clock in seconds.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        *,
        attempts: int = ATTEMPTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seats = [_Seat(worker) for worker in workers]
        self._attempts, self._clock = attempts, clock
        self._changed = threading.Condition()
        self._waiting: list[tuple[int, int, Task]] = []  # sorted by size, largest first, then by age
        self._withdrawn: set[str] = set()
        self._order = itertools.count()
        self._is_closed = False
        self._threads: list[threading.Thread] = []
        self._last_ready = clock()
        self._has_told_waiting = False
        self._last_reason = ""

    def __enter__(self) -> Self:
        self._last_ready = self._clock()
        for seat in self._seats:
            thread = threading.Thread(target=self._work, args=(seat,), name=seat.worker.name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            self._changed.notify_all()
        # In parallel, so that an unresponsive worker does not delay the others.
        stops = [threading.Thread(target=seat.worker.stop, name="stop", daemon=True) for seat in self._seats]
        for thread in stops:
            thread.start()
        is_urgent = kind is not None and not issubclass(kind, Exception)
        until = time.monotonic() + (AT_ONCE_SECONDS if is_urgent else GRACE_SECONDS)
        for thread in (*stops, *self._threads):
            thread.join(max(0.0, until - time.monotonic()))

    def submit(self, task: Task) -> None:
        """Add a segment to the queue, unless its job was withdrawn."""
        with self._changed:
            if task.work.key in self._withdrawn:
                return
            bisect.insort(self._waiting, (-task.segment.frames, next(self._order), task))
            self._changed.notify_all()

    def withdraw(self, key: str) -> None:
        """Remove all segments of a job from the queue. Segments in progress continue, but are not retried."""
        with self._changed:
            self._withdrawn.add(key)
            self._waiting = [entry for entry in self._waiting if entry[2].work.key != key]

    def in_flight(self, key: str) -> list[Task]:
        with self._changed:
            return [seat.task for seat in self._seats if seat.task is not None and seat.task.work.key == key]

    def read(self) -> tuple[WorkerProgress, ...]:
        """Return the current segment and recent speed of each worker."""
        now = self._clock()
        with self._changed:
            shown = []
            for seat in self._seats:
                frames = seat.done + (seat.task.pulse.frames if seat.task is not None else 0)
                seat.marks.append((now, frames))
                while len(seat.marks) > 2 and seat.marks[1][0] <= now - SPEED_SECONDS:
                    seat.marks.popleft()
                since, before = seat.marks[0]
                speed = (frames - before) / (now - since) if now > since else 0.0
                segment = None if seat.task is None else seat.task.segment.number
                shown.append(
                    WorkerProgress(
                        name=seat.worker.name,
                        is_ready=seat.is_ready,
                        segment=segment,
                        frames=frames,
                        frames_per_second=max(0.0, speed),
                    )
                )
            return tuple(shown)

    def check(self) -> None:
        """Report when there has been no worker for a while, and when one is available again.

        Raises:
            JobError: all workers were given up.
        """
        with self._changed:
            if all(seat.is_given_up for seat in self._seats):
                raise JobError(f"no worker could be started: {self._last_reason}; run the same command again to resume")
            now = self._clock()
            if any(seat.is_ready for seat in self._seats):
                if self._has_told_waiting:
                    log.warning("a worker is available again; resuming")
                self._last_ready, self._has_told_waiting = now, False
            elif not self._has_told_waiting and now - self._last_ready > WAITING_SECONDS:
                self._has_told_waiting = True
                log.warning("no worker is available; waiting (Ctrl-C stops; the same command resumes)")

    def _work(self, seat: _Seat) -> None:
        failures = 0
        while not self._is_closed:
            try:
                seat.worker.start()
            except Exception as error:
                failures += 1
                self._lose(seat, f"{error}")
                if failures == STARTS:
                    seat.is_given_up = True
                    return
                self._pause(min(30.0, 0.5 * 2**failures))
                continue
            with self._changed:
                seat.is_ready = True
                self._changed.notify_all()
            if self._serve(seat):
                failures = 0

    def _pause(self, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._is_closed, seconds)

    def _serve(self, seat: _Seat) -> bool:
        """Compute segments until the pool is closed or the worker is lost; return whether any segment was finished."""
        served = False
        while (task := self._take(seat)) is not None:
            # A unique name, because workers of earlier attempts or runs may still be writing.
            job = task.work.job
            name = f"making-{task.segment.number:05}-{len(task.failed_on)}-{task.work.key[:8]}{job.part_suffix}"
            path = job.folder / name
            try:
                part = seat.worker.compute(task.work, task.segment, path, task.pulse)
                if file_sha256(path) != part.sha256:
                    raise WorkerLost(f"the part {path.name} differs from what was written")
            except (
                WorkerLost,
                OSError,
            ) as error:  # OSError: a disk or network error, which another worker may not have
                self._release(seat, finished=False)
                self._lose(seat, str(error))
                self._try_again(task, seat, error)
                return served
            except BaseException as error:
                task.events.put(Failed(error))
                self._release(seat, finished=False)
                continue
            served = True
            task.events.put(
                Computed(task.segment, part)
            )  # before the task ends, so that every segment is in flight or among the events
            self._release(seat, finished=True)
        return served

    def _take(self, seat: _Seat) -> Task | None:
        with self._changed:
            while not self._is_closed:
                ready = {other.worker.name for other in self._seats if other.is_ready}
                for index, (_, _, task) in enumerate(self._waiting):
                    # Prefer a worker on which the segment has not failed yet.
                    if seat.worker.name in task.failed_on and ready - set(task.failed_on):
                        continue
                    del self._waiting[index]
                    task.pulse, seat.task = Pulse(), task
                    return task
                self._changed.wait()
        return None

    def _release(self, seat: _Seat, *, finished: bool) -> None:
        with self._changed:
            if finished and seat.task is not None:
                seat.done += seat.task.segment.frames
            seat.task = None
            self._changed.notify_all()

    def _lose(self, seat: _Seat, reason: str) -> None:
        with self._changed:
            was_ready, seat.is_ready = seat.is_ready, False
            self._last_reason = reason
            self._changed.notify_all()
        if not self._is_closed:
            log.warning(f"{seat.worker.name} {'is lost' if was_ready else 'did not start'}: {reason}")

    def _try_again(self, task: Task, seat: _Seat, error: WorkerLost | OSError) -> None:
        task.failed_on.append(seat.worker.name)
        with self._changed:
            is_withdrawn = task.work.key in self._withdrawn
        if not is_withdrawn and len(task.failed_on) >= self._attempts:
            tried = ", ".join(task.failed_on)
            task.events.put(
                Failed(
                    JobError(
                        f"{task.work.job.source.path}: segment {task.segment.number} failed "
                        f"{len(task.failed_on)} times (on {tried}), last: {error}; finished parts are kept; "
                        "run the same command again to resume"
                    )
                )
            )
        else:
            self.submit(task)
