"""Where a job stands, and how fast it goes. Knows nothing of what is done."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

SPEED_SECONDS = 60.0
"""The speed is the mean of as many last seconds: long enough to hold still, short enough to follow the machine."""


@dataclass(frozen=True, kw_only=True)
class WorkerProgress:
    """What one of several workers is at.

    Attributes:
        name: by which people know it.
        is_ready: false while it is started, or waited for.
        segment: number of the segment at work; None for none.
        frames: it has written for all jobs, of segments at work included.
        frames_per_second: of late.
    """

    name: str
    is_ready: bool
    segment: int | None
    frames: int
    frames_per_second: float


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a job stands.

    Attributes:
        frames: frames written, those of earlier runs included.
        resumed_frames: of these, the ones of earlier runs.
        total: an estimate from the container's hints; None when there is none.
        part: number of the part at work, from 1.
        elapsed_seconds: since this run read its first frame.
        frames_per_second: of late; 0 before the first frame.
        segments: how many are finished, and how many are planned so far; None with a single device.
        workers: what each is at; empty with a single device.
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
        """Estimate from the speed of late; None when there is nothing to tell it from."""
        if self.total is None or not self.frames_per_second:
            return None
        return max(0, self.total - self.frames) / self.frames_per_second


class Meter:
    """Makes `Progress` from counts.

    Args:
        resumed_frames: frames of earlier runs.
        total: frames in all, if known.
        clock: seconds that only grow.
    """

    def __init__(self, resumed_frames: int, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._resumed, self._total, self._clock = resumed_frames, total, clock
        self._began = clock()
        self._marks: deque[tuple[float, int]] = deque([(self._began, resumed_frames)])

    def skip(self, frames: int) -> None:
        """Count as many frames more as finished by earlier runs."""
        self._resumed += frames
        self._marks = deque((at, before + frames) for at, before in self._marks)

    def read(self, frames: int, part: int) -> Progress:
        """Where the job stands now that `frames` are written.

        They may become fewer, where a worker is lost with its segment: that is no negative speed.
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
