"""The next job of a batch, begun while the one before it is at work: several workers would idle at its end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ristn_cli.job.events import Event


class Background:
    """A job that runs in a thread. Its events wait until they are asked for; so does the error that ends it.

    Args:
        events: of the job.
        stop: ends it when it is set.
    """

    def __init__(self, events: Generator[Event, None, None], stop: threading.Event) -> None:
        self._job, self._stop = events, stop
        self._waiting: queue.SimpleQueue[Event | BaseException | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="next job", daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            for event in self._job:
                self._waiting.put(event)
            self._waiting.put(None)
        except BaseException as error:
            self._waiting.put(error)

    def __iter__(self) -> Iterator[Event]:
        while (event := self._waiting.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event

    def close(self) -> None:
        """End the job where no finished part is lost, and wait for that."""
        self._stop.set()
        self._thread.join()
