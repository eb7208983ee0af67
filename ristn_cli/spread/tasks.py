"""What a pool and its workers give each other."""

import queue
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ristn_cli.engine.memory import Tiling
from ristn_cli.job.job import Job
from ristn_cli.job.manifest import Part
from ristn_cli.spread.segments import Pulse, Segment


@dataclass(frozen=True, kw_only=True)
class SegmentJob:
    """A job as workers need it: `tiling` are its windows and tiles, `network` is the fingerprint of its network, one of
    those that the workers were given. `key` tells the run from others."""

    key: str
    job: Job
    tiling: Tiling
    network: str


class Worker(Protocol):
    """What computes segments, one at a time. Its methods are called by one thread, but for `stop`."""

    @property
    def name(self) -> str:
        """By which people know it."""

    def start(self) -> None:
        """Make ready, or ready again after a loss, however long it takes. Raises WorkerLost."""

    def compute(self, work: SegmentJob, segment: Segment, path: Path, pulse: Pulse) -> Part:
        """Make a segment's part at `path`. Raises WorkerLost, or the errors of the job."""

    def stop(self) -> None:
        """End what `start` or `compute` is at, soon, with any error; give back what is held."""


@dataclass(frozen=True)
class Computed:
    """A segment's part is finished by a worker."""

    segment: Segment
    part: Part


@dataclass(frozen=True)
class Failed:
    """A job cannot go on."""

    error: BaseException


@dataclass
class Task:
    """A segment that waits or is at work. What becomes of it goes to `events`."""

    work: SegmentJob
    segment: Segment
    events: "queue.SimpleQueue[object]"
    failed_on: list[str] = field(default_factory=list)
    pulse: Pulse = field(default_factory=Pulse)
