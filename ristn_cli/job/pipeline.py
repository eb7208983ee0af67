"""Runs stages at the same time, each in a thread and a limited number of items ahead. Does not know what the items are.

A stage is an iterator that may read from another stage. If a stage fails, the stage that reads from it gets the items
made before, and then the error. So errors reach the caller as they would without threads.
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
"""On Windows, where waiting cannot be interrupted, a signal is noticed after this time."""

GRACE_SECONDS = 30.0
"""Time that a closed pipeline waits for a stage that is blocked outside of Python. After that, it abandons the stage.
"""

AT_ONCE_SECONDS = 3.0
"""The same for all stages together if the program must end at once, that is after an error that is not an `Exception`.
"""


class Cancelled(BaseException):
    """Unwinds a stage whose pipeline was closed. It does not leave the pipeline."""


class Channel(Generic[Item]):
    """The finished items of a stage that the next stage has not read yet."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.items: deque[Item] = deque()
        self.is_finished = False
        self.error: BaseException | None = None

    @property
    def has_room(self) -> bool:
        """Whether the stage may make another item."""
        return len(self.items) < self.depth

    @property
    def has_news(self) -> bool:
        """Whether there is an item, or there will be none."""
        return bool(self.items) or self.is_finished


class Pipeline:
    """Runs iterators in threads while the context is active.

    At the end of the context, waiting stages end at once. Working stages end when they next make an item, read a packet
    or call `check`. Generators are closed in their own threads.

    Args:
        also: function that `check` also calls. If it raises, the stage that called `check` ends.
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
        """Raise `Cancelled` if the pipeline is closed. A stage calls it during long work."""
        self._check_open()
        self._also()

    def _check_open(self) -> None:
        if self._is_closed:
            raise Cancelled

    def ahead(self, items: Iterable[Item], depth: int, *, name: str) -> Iterator[Item]:
        """Return `items` in order, made in a thread called `name`, at most `depth` items ahead, including the current
        one.
        """
        channel: Channel[Item] = Channel(depth)
        # A daemon thread, so that a stage that is blocked outside of Python cannot keep the program running.
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
            del item  # otherwise it would stay in memory during the wait
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
            with suppress(BaseException):  # the error that closed the pipeline matters more
                close()
        with self._changed:
            channel.error, channel.is_finished = error, True
            self._changed.notify_all()
