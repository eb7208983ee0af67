"""What a job tells while it runs, one value after another."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from ristn_cli.job.job import Job
from ristn_cli.job.manifest import Part
from ristn_cli.job.plan import JobPlan
from ristn_cli.job.progress import Progress


@dataclass(frozen=True)
class Planned:
    """Told once, before the first frame: what will be done."""

    plan: JobPlan


@dataclass(frozen=True)
class Warned:
    """Something is not right, in one line, and does not end the job; `is_damage`: a place that was concealed."""

    message: str
    is_damage: bool = True


@dataclass(frozen=True)
class PartFinished:
    """Part `number`, from 1, is finished and recorded; `frames` are all that are."""

    number: int
    frames: int


@dataclass(frozen=True)
class Completed:
    """Told once, when the output has its name: what it was made of. `finds_cuts`: scene cuts were looked for."""

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
        """Keep the message of a place that was concealed."""
        self.is_damaged = True
        self._waiting.append(message)

    def drain(self) -> Iterator[Warned]:
        """The messages that were added since the last call."""
        while self._waiting:
            yield Warned(self._waiting.popleft())
