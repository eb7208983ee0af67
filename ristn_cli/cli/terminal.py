"""Shared by all commands: terminal, signals, one-line errors, and the log file.

Imports other packages inside functions, so that `ristn --help` does not wait for PyTorch.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import queue
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from ristn_cli.printable import OneLineFormatter, printable
from ristn_cli.typed import MalformedError

if TYPE_CHECKING:
    from ristn_cli.engine.auto_tiling import AutoTiling
    from ristn_cli.engine.upscaler import Upscaler
    from ristn_cli.weights import ModelChoice

FAILED = 1
OS_HINTS = {
    errno.ENAMETOOLONG: "; give it a shorter name",
    errno.ELOOP: " (links form a loop); name the file itself",
    errno.EISDIR: "; name a file",
    errno.ENOTDIR: "; a part of the path is a file",
    errno.EACCES: "; check its permissions",
    errno.ENOSPC: "; free some space",
}
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}

console = Console(soft_wrap=True, highlight=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False)
log = logging.getLogger("ristn")
log.addHandler(logging.NullHandler())


@contextmanager
def logged_to(path: Path | None) -> Iterator[None]:
    """Append log lines with their time to the file `path` while the context is active; None for no log."""
    if path is None:
        yield
        return
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(OneLineFormatter("%(asctime)s %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        handler.close()


def plain(text: object) -> Text:
    """Return text for a terminal, without control characters, markup or emoji names."""
    return Text(printable(text))


def show(line: object, where: Console = console) -> None:
    """Print a line of plain text."""
    where.print(plain(line))


def describe_error(error: object) -> str:
    """Describe an error; a system error begins with the name of the file."""
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return str(error)
    hint = OS_HINTS.get(error.errno or 0, "")
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    return f"{name}: {error.strerror[:1].lower()}{error.strerror[1:]}{hint}"


def show_error(error: object) -> None:
    """Print an error in one line on stderr."""
    errors.print(Text.assemble(("error:", "bold red"), " ", printable(describe_error(error))))


class PlainColumn(ProgressColumn):
    """A progress column with the description of a task, or one of its fields."""

    def __init__(self, field: str | None = None) -> None:
        super().__init__(Column(no_wrap=True))
        self._field = field

    def render(self, task: Task) -> Text:
        """Return the text of a task."""
        return plain(task.description if self._field is None else task.fields[self._field])


def warn(message: str) -> None:
    """Print a warning on stderr and log it."""
    log.warning(message)
    show(f"warning: {message}", errors)


class _TerminalHandler(logging.Handler):
    """Prints log messages of the packages that do the work."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        show(f"{prefix}{record.getMessage()}", errors)


for _name, _level in (("video", logging.WARNING), ("job", logging.WARNING), ("engine", logging.INFO)):
    logging.getLogger(f"ristn.{_name}").addHandler(_TerminalHandler(_level))


def note(message: str, *, is_shown: bool = True) -> None:
    """Log a line, and print it on stderr if it `is_shown`."""
    log.info(message)
    if is_shown:
        show(message, errors)


class Stopped(BaseException):
    """A signal that ends the run at once. Like KeyboardInterrupt, it unwinds the stack, so that everything is
    cleaned up.
    """

    def __init__(self, number: int) -> None:
        self.exit_code = EXIT_CODES[signal.Signals(number)]


def stop_at_once(number: int, _: Any) -> None:
    """Handle a signal while there is no work to finish."""
    raise Stopped(number)


class StopRequest(threading.Event):
    """Set when the user asks to stop; `signal` is the signal."""

    signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """Exit code after the signal."""
        return EXIT_CODES[self.signal] if self.signal is not None else FAILED


@contextmanager
def stop_requests(stop: StopRequest | None = None) -> Iterator[StopRequest]:
    """While the context is active, a first Ctrl-C or SIGTERM sets the request; a second stops at once.

    A request that came too late to stop the work is kept for `exit_if_stopped`.
    """
    request = stop or StopRequest()
    messages: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def receive(number: int, frame: Any) -> None:
        if request.signal is not None:
            stop_at_once(number, frame)
        request.signal = signal.Signals(number)
        request.set()
        # The signal may interrupt a write to the terminal or the log, so another thread prints the message.
        messages.put("stopping at the next safe point; press Ctrl-C again to stop at once")

    def show_messages() -> None:
        while (message := messages.get()) is not None:
            note(message)

    printer = threading.Thread(target=show_messages, name="signals", daemon=True)
    printer.start()
    for number in EXIT_CODES:
        signal.signal(number, receive)
    try:
        yield request
    finally:
        for number in EXIT_CODES:
            signal.signal(number, stop_at_once)
        messages.put(None)
        printer.join()
    if request.signal is not None:
        late_requests.append(request.signal)


late_requests: list[signal.Signals] = []
"""Signals that came too late to stop the work."""


def exit_if_stopped() -> None:
    """Exit between two pieces of work if a signal came too late to stop the first."""
    if late_requests:
        raise typer.Exit(EXIT_CODES[late_requests[0]])


def expected_errors() -> tuple[type[Exception], ...]:
    """Return the exceptions that are shown in one line without a traceback."""
    from ristn_cli.bench.results import BenchError
    from ristn_cli.engine.device import DeviceError
    from ristn_cli.engine.short_memory import OutOfMemory
    from ristn_cli.evaluation.features import FeaturesError
    from ristn_cli.job.manifest import JobError
    from ristn_cli.training.recipe import RecipeError
    from ristn_cli.training.state import TrainingError
    from ristn_cli.video import VideoError
    from ristn_cli.weights import WeightsError

    files = (VideoError, WeightsError, MalformedError, OSError)
    return (*files, DeviceError, JobError, OutOfMemory, RecipeError, TrainingError, BenchError, FeaturesError)


@contextmanager
def reported_errors(debug: bool, log_file: Path | None = None) -> Iterator[None]:
    """Show and log an expected error in one line, and exit with its code. A signal exits with its own code."""
    late_requests.clear()
    for number in EXIT_CODES:
        signal.signal(number, stop_at_once)
    try:
        expected = expected_errors()
        try:
            with logged_to(log_file):
                try:
                    yield
                except expected as error:
                    log.error(describe_error(error))
                    raise
        except expected as error:
            if debug:
                raise
            show_error(error)
            raise typer.Exit(FAILED) from error
    except Stopped as stopped:
        note("stopped at once")
        raise typer.Exit(stopped.exit_code) from stopped


def build_upscaler(
    choice: ModelChoice,
    device: str,
    precision: str,
    *,
    tiling: AutoTiling | None = None,
    compilation: Literal["auto", "on", "off"] = "auto",
    quiet: bool = False,
) -> Upscaler:
    """Build the engine for the shared options."""
    from ristn_cli.engine.device import choose_backend
    from ristn_cli.engine.upscaler import Upscaler
    from ristn_cli.weights import load_choice

    network = load_choice(choice)
    backend = choose_backend(device, precision)
    if backend.is_emulated:
        warn("bf16 is emulated on this CPU: it halves memory but is not faster")
    logging.getLogger("ristn.engine").setLevel(logging.WARNING if quiet else logging.INFO)
    return Upscaler(network, backend, tiling, compilation=compilation)


def format_seconds(seconds: float | None) -> str:
    """Format as `M:SS` or `H:MM:SS`; dashes if unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_bar(*, is_shown: bool | None = None) -> Progress:
    """Make a progress bar with a `note` and elapsed time on stderr. By default, it is shown only on a terminal."""
    return Progress(
        PlainColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        PlainColumn("note"),
        TimeElapsedColumn(),
        console=errors,
        disable=not (errors.is_terminal if is_shown is None else is_shown),
    )
