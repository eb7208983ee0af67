"""Ends long work on files in its middle: whoever begins the work says when, and its loops over packets and images ask.

What asks may be deep below what began the work, so the question is kept beside the call stack: each thread has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_check: ContextVar[Callable[[], None]] = ContextVar("check", default=lambda: None)


@contextmanager
def interruptible(check: Callable[[], None]) -> Iterator[None]:
    """Within, in this thread, long work calls `check` often; what that raises ends the work.

    Not around a `yield`: the caller of a generator would be within, too.
    """
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def current_check() -> Callable[[], None]:
    """What long work in this thread calls; another thread that works for it may call it, too."""
    return _check.get()


def check_interruption() -> None:
    """Raise what ends the work of this thread, if it is to end."""
    _check.get()()
