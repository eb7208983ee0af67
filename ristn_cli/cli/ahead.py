"""Starts the next job of a batch before the current one ends, so that no worker is idle at its end."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ristn_cli.job.events import Event


class Background:
    """Runs a job in a thread. Its events, and an error that ends it, are queued.

    Args:
        events: events of the job.
        stop: stops the job when set.
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
        """Stop the job without losing finished parts, and wait for its end."""
        self._stop.set()
        self._thread.join()
