"""Interrupt long work on files: loops over packets and images call a check that the caller has set.

The check is a context variable, so it need not be passed through all functions in between. Each thread has its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_check: ContextVar[Callable[[], None]] = ContextVar("check", default=lambda: None)


@contextmanager
def interruptible(check: Callable[[], None]) -> Iterator[None]:
    """Within this context, long work in this thread often calls `check`. An exception of `check` ends the work.

    Do not use it around a `yield`: it would also apply to the caller of the generator.
    """
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def current_check() -> Callable[[], None]:
    """Return the check of this thread, to pass it to another thread that works for this one."""
    return _check.get()


def check_interruption() -> None:
    """Call the check of this thread. It raises an exception if the work must end."""
    _check.get()()
