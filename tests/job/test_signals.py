"""Ctrl-C and SIGTERM: the first stops the work at the next safe point, the second at once."""

import io
import signal
from collections.abc import Iterator

import pytest
from rich.console import Console

from ristn_cli.cli import terminal
from ristn_cli.cli.terminal import EXIT_CODES, Stopped, stop_requests


@pytest.fixture(autouse=True)
def _handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a command installs, it leaves installed."""
    monkeypatch.setattr(terminal, "late_requests", [])
    before = {number: signal.getsignal(number) for number in EXIT_CODES}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Interrupting(io.StringIO):
    """A terminal on which somebody presses Ctrl-C in the middle of the first write."""

    def __init__(self) -> None:
        super().__init__()
        self._is_writing = self._is_pressed = False

    def write(self, text: str) -> int:
        if self._is_writing:
            raise RuntimeError("reentrant call")  # as a buffered file does
        self._is_writing = True
        if not self._is_pressed:
            self._is_pressed = True
            signal.raise_signal(signal.SIGINT)
        written = super().write(text)
        self._is_writing = False
        return written


def test_a_signal_in_the_middle_of_a_write_is_told_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Interrupting()
    monkeypatch.setattr(terminal, "errors", Console(file=shown))
    with stop_requests() as received:
        terminal.errors.print("frame 1")
        assert (received.is_set(), received.signal) == (True, signal.SIGINT)
    assert shown.getvalue() == "frame 1\nstopping at the next safe point; press Ctrl-C again to stop at once\n"


def test_the_second_signal_stops_at_once_whichever_it_is() -> None:
    def stop_twice() -> None:
        with stop_requests() as received:
            signal.raise_signal(signal.SIGINT)
            assert (received.is_set(), received.signal) == (True, signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Stopped) as stopped:
        stop_twice()
    assert stopped.value.exit_code == 143
    assert terminal.late_requests == []  # it ended the work
