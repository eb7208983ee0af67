"""Types that a pool and its workers exchange."""

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
    """A job for workers: `tiling` has its windows and tiles, `network` is the fingerprint of one of the networks that
    the workers received, and `key` identifies the run.
    """

    key: str
    job: Job
    tiling: Tiling
    network: str


class Worker(Protocol):
    """Computes segments, one at a time. All methods except `stop` are called from one thread."""

    @property
    def name(self) -> str:
        """Name in messages and progress."""

    def start(self) -> None:
        """Get ready, for the first time or after a loss, however long it takes. Raises WorkerLost."""

    def compute(self, work: SegmentJob, segment: Segment, path: Path, pulse: Pulse) -> Part:
        """Write the part of a segment to `path`. Raises WorkerLost, or the errors of the job."""

    def stop(self) -> None:
        """Interrupt `start` or `compute` soon, with any error, and release resources."""


@dataclass(frozen=True)
class Computed:
    segment: Segment
    part: Part


@dataclass(frozen=True)
class Failed:
    error: BaseException


@dataclass
class Task:
    """A queued or running segment. Its outcome is added to `events`."""

    work: SegmentJob
    segment: Segment
    events: "queue.SimpleQueue[object]"
    failed_on: list[str] = field(default_factory=list)
    pulse: Pulse = field(default_factory=Pulse)
