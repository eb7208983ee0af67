"""The events that a running job yields."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from ristn_cli.job.job import Job
from ristn_cli.job.manifest import Part
from ristn_cli.job.plan import JobPlan
from ristn_cli.job.progress import Progress


@dataclass(frozen=True)
class Planned:
    """Yielded once before the first frame."""

    plan: JobPlan


@dataclass(frozen=True)
class Warned:
    """A problem that does not end the job, in one line. `is_damage`: part of the source could not be decoded."""

    message: str
    is_damage: bool = True


@dataclass(frozen=True)
class PartFinished:
    """Part `number`, from 1, is recorded; `frames` are finished in total."""

    number: int
    frames: int


@dataclass(frozen=True)
class Completed:
    """Yielded once when the output has its final name. `finds_cuts`: scene cuts were detected."""

    job: Job
    plan: JobPlan
    parts: tuple[Part, ...]
    finds_cuts: bool


Event = Planned | Warned | Progress | PartFinished | Completed


class Warnings:
    """Messages that one thread adds and another one yields as events."""

    def __init__(self) -> None:
        self._waiting: deque[str] = deque()
        self.is_damaged = False

    def add(self, message: str) -> None:
        """Add a message about damage in the source."""
        self.is_damaged = True
        self._waiting.append(message)

    def drain(self) -> Iterator[Warned]:
        """Yield the messages that were added since the last call."""
        while self._waiting:
            yield Warned(self._waiting.popleft())
