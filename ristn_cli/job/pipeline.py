"""Stages of work that run at the same time, each in a thread, a bounded number of items ahead of the next.

A stage is an iterator that may read from another stage. An error that ends one is raised in the stage that reads from
it, behind the items made before it, and so reaches the caller as it would without threads. Knows nothing of what flows.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import Generic, Self, TypeVar

from ristn_cli.video import interruptible

Item = TypeVar("Item")

WAKE_SECONDS = 0.5
"""Where waiting cannot be interrupted (Windows), a signal is noticed after as long."""

GRACE_SECONDS = 30.0
"""How long a closed pipeline waits for a stage that is stuck outside of Python, before it is left to itself."""

AT_ONCE_SECONDS = 3.0
"""The same of all stages together where the program is to end at once, which no `Exception` tells."""


class Cancelled(BaseException):
    """Unwinds a stage whose pipeline was closed; does not leave the pipeline."""


class Channel(Generic[Item]):
    """What a stage has made and nobody has taken yet."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.items: deque[Item] = deque()
        self.is_finished = False
        self.error: BaseException | None = None

    @property
    def has_room(self) -> bool:
        """Whether the stage may make one more."""
        return len(self.items) < self.depth

    @property
    def has_news(self) -> bool:
        """Whether there is something to take, or nothing more will come."""
        return bool(self.items) or self.is_finished


class Pipeline:
    """Runs iterators in threads while it is open.

    As a context manager it is closed at the end, however that comes: stages that wait end at once, stages at work when
    they next make an item, read a packet or `check`, and their generators are closed in their own threads.

    Args:
        also: what `check` calls, too: what that raises ends the stage that asks.
    """

    def __init__(self, also: Callable[[], None] = lambda: None) -> None:
        self._also = also
        self._changed = threading.Condition()
        self._is_closed = False
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        is_urgent = kind is not None and not issubclass(kind, Exception)
        until = time.monotonic() + AT_ONCE_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()) if is_urgent else GRACE_SECONDS)

    def check(self) -> None:
        """For a stage to ask in the middle of long work: raises `Cancelled` once the pipeline is closed."""
        self._check_open()
        self._also()

    def _check_open(self) -> None:
        if self._is_closed:
            raise Cancelled

    def ahead(self, items: Iterable[Item], depth: int, *, name: str) -> Iterator[Item]:
        """`items` in their order, made by a thread `name` that stops while `depth` of them were not taken.

        The one in the making counts among them.
        """
        channel: Channel[Item] = Channel(depth)
        # A daemon: what is stuck outside of Python must not keep the program from ending.
        thread = threading.Thread(target=self._make, args=(iter(items), channel), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return self._take(channel)

    def _take(self, channel: Channel[Item]) -> Iterator[Item]:
        while True:
            with self._changed:
                while not channel.has_news:
                    self._check_open()
                    self._changed.wait(WAKE_SECONDS)
                self._check_open()
                if not channel.items:
                    break
                item = channel.items.popleft()
                self._changed.notify_all()
            yield item
            del item  # or it would be held while the next one is awaited
        if channel.error is not None:
            raise channel.error

    def _make(self, items: Iterator[Item], channel: Channel[Item]) -> None:
        error: BaseException | None = None
        try:
            while True:
                with self._changed:
                    while not channel.has_room:
                        self._check_open()
                        self._changed.wait(WAKE_SECONDS)
                    self._check_open()
                try:
                    with interruptible(self.check):
                        item = next(items)
                except StopIteration:
                    break
                with self._changed:
                    channel.items.append(item)
                    self._changed.notify_all()
                del item
        except BaseException as caught:
            error = caught
        close = getattr(items, "close", None)
        if close is not None and self._is_closed:
            with suppress(BaseException):  # whoever closed the pipeline has a reason of their own to tell
                close()
        with self._changed:
            channel.error, channel.is_finished = error, True
            self._changed.notify_all()
