"""Jobs of a batch over several workers: while one is told of, the next is at work, so that none idles at its end."""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ristn_cli.job.progress import Progress
    from ristn_cli.spread.scheduling import Told

AT_ONCE = 2
"""Jobs at work: the one that is told of, and the next, whose segments fill what the first leaves idle."""

Pair = tuple[Path, Path]
Begin = Callable[..., "Generator[Progress, None, None]"]


class Turn:
    """What a job tells by callbacks, kept until it is its turn to be told of."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_over = False
        self._hooks: dict[str, Callable[..., Any]] | None = None
        self._waiting: list[tuple[str, object]] = []

    def tell(self, hook: str, message: object) -> None:
        """Call a hook, or keep the call."""
        with self._lock:
            if self._hooks is None:
                self._waiting.append((hook, message))
                return
        self._hooks[hook](message)

    def should_stop(self) -> bool:
        """What the hook says, if it is this job's turn; true once no turn will come."""
        return self._is_over or (self._hooks is not None and bool(self._hooks["should_stop"]()))

    def end(self) -> None:
        """No turn will come any more: the job is to stop."""
        self._is_over = True

    def come(self, hooks: dict[str, Callable[..., Any]]) -> None:
        """It is this job's turn: what it told so far, and will tell, goes to `hooks`."""
        with self._lock:
            waiting, self._hooks = self._waiting, hooks
        for hook, message in waiting:
            hooks[hook](message)


class Ahead(AbstractContextManager["Ahead"]):
    """Begins the jobs of `pairs` in their order, some before their turn.

    Args:
        begin: makes a job of a source, a target and the hooks `should_stop`, `on_plan` and `on_damage`.
        pairs: sources and targets. The next is asked for when the job before it is at work, or has ended.
    """

    def __init__(self, begin: Begin, pairs: Iterable[Pair]) -> None:
        from ristn_cli.spread.scheduling import run_together

        self._begun: list[Pair] = []
        self._turns: dict[Pair, Turn] = defaultdict(Turn)
        self._told: dict[Pair, deque[Told[Progress]]] = defaultdict(deque)
        self._events = run_together(self._jobs(begin, pairs), at_once=AT_ONCE)

    def __contains__(self, pair: Pair) -> bool:
        """Whether the job of a pair has begun."""
        return pair in self._begun

    def __exit__(self, *error: object) -> None:
        for turn in self._turns.values():
            turn.end()
        self._events.close()

    def _jobs(self, begin: Begin, pairs: Iterable[Pair]) -> Iterator[Callable[[], Generator[Progress, None, None]]]:
        for pair in pairs:
            self._begun.append(pair)
            yield partial(self._begin, begin, *pair, self._turns[pair])

    def _begin(self, begin: Begin, source: Path, target: Path, turn: Turn) -> Generator[Progress, None, None]:
        target.parent.mkdir(parents=True, exist_ok=True)
        return begin(
            source,
            target,
            should_stop=turn.should_stop,
            on_plan=partial(turn.tell, "on_plan"),
            on_damage=partial(turn.tell, "on_damage"),
        )

    def follow(self, source: Path, target: Path, **hooks: Callable[..., Any]) -> Generator[Progress, None, None]:
        """What the job of a pair yields, now that it is its turn; raises what ends it. Others go on meanwhile.

        The pair has begun, or is the first.
        """
        self._turns[source, target].come(hooks)
        told = self._told[source, target]
        while True:
            while not told:
                self._keep(next(self._events))
            now = told.popleft()
            if now.error is not None:
                raise now.error
            if now.is_finished:
                return
            assert now.progress is not None
            yield now.progress

    def _keep(self, now: Told[Progress]) -> None:
        """Of a job that waits for its turn the newest progress is enough."""
        told = self._told[self._begun[now.index]]
        if told and not now.is_finished:
            told.clear()
        told.append(now)
