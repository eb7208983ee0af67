"""The progress and speed of a job. Does not know what the job does."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

SPEED_SECONDS = 60.0
"""The speed is the mean of this time: long enough to be steady, short enough to follow the machine."""


@dataclass(frozen=True, kw_only=True)
class WorkerProgress:
    """The state of one of several workers.

    Attributes:
        name: name of the worker for people.
        is_ready: false while it starts.
        segment: number of its current segment; None for none.
        frames: frames it has written for all jobs, including those of the current segment.
        frames_per_second: recent speed.
    """

    name: str
    is_ready: bool
    segment: int | None
    frames: int
    frames_per_second: float


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of a job.

    Attributes:
        frames: frames written, including those of earlier runs.
        resumed_frames: frames of earlier runs.
        total: estimate from the container's hints; None if unknown.
        part: number of the current part, from 1.
        elapsed_seconds: time since this run started.
        frames_per_second: recent speed; 0 before the first frame.
        segments: number of finished segments and of segments planned so far; None with a single device.
        workers: state of each worker; empty with a single device.
    """

    frames: int
    resumed_frames: int = 0
    total: int | None = None
    part: int = 1
    elapsed_seconds: float = 0.0
    frames_per_second: float = 0.0
    segments: tuple[int, int] | None = None
    workers: tuple[WorkerProgress, ...] = ()

    @property
    def mean_frames_per_second(self) -> float:
        """Mean speed of this run."""
        return (self.frames - self.resumed_frames) / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """Estimate from the recent speed; None if unknown."""
        if self.total is None or not self.frames_per_second:
            return None
        return max(0, self.total - self.frames) / self.frames_per_second


class Meter:
    """Makes `Progress` from numbers of frames.

    Args:
        resumed_frames: frames of earlier runs.
        total: all frames; None if unknown.
        clock: returns monotonic time in seconds.
    """

    def __init__(self, resumed_frames: int, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._resumed, self._total, self._clock = resumed_frames, total, clock
        self._began = clock()
        self._marks: deque[tuple[float, int]] = deque([(self._began, resumed_frames)])

    def skip(self, frames: int) -> None:
        """Count `frames` further frames as finished by earlier runs."""
        self._resumed += frames
        self._marks = deque((at, before + frames) for at, before in self._marks)

    def read(self, frames: int, part: int) -> Progress:
        """Return the progress after `frames` written frames.

        The number may decrease if a worker is lost with its segment. That does not make the speed negative.
        """
        now = self._clock()
        lost = max(0, self._marks[-1][1] - frames)
        if lost:
            self._marks = deque((at, before - lost) for at, before in self._marks)
        self._marks.append((now, frames))
        while len(self._marks) > 2 and self._marks[1][0] <= now - SPEED_SECONDS:
            self._marks.popleft()
        since, before = self._marks[0]
        return Progress(
            frames=frames,
            resumed_frames=self._resumed,
            total=self._total,
            part=part,
            elapsed_seconds=now - self._began,
            frames_per_second=(frames - before) / (now - since) if now > since else 0.0,
        )
