"""What every command shares: options, the terminal, signals, errors in one line, and the log file.

The package's own modules are imported inside functions: `ristn --help` must not wait for torch.
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

FAILED = 1
OS_HINTS = {
    errno.ENAMETOOLONG: "; give it a shorter name",
    errno.ELOOP: " (a loop of links); name the file itself",
    errno.EISDIR: "; name a file",
    errno.ENOTDIR: "; a part of the path is a file",
    errno.EACCES: "; check its permissions",
    errno.ENOSPC: "; make room",
}
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}

console = Console(soft_wrap=True, highlight=False)
errors = Console(stderr=True, soft_wrap=True, highlight=False)
log = logging.getLogger("ristn")
log.addHandler(logging.NullHandler())


@contextmanager
def logged_to(path: Path | None) -> Iterator[None]:
    """Within, what happens is appended to the file `path`, each line with its time; None keeps no log."""
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
    """Text that a terminal shows as it is: no control characters, no markup, no emoji by name."""
    return Text(printable(text))


def show(line: object, where: Console = console) -> None:
    """Show a line of plain text."""
    where.print(plain(line))


def describe_error(error: object) -> str:
    """An error in words; those of the system begin with the file's name, too."""
    if not isinstance(error, OSError) or error.filename is None or error.strerror is None:
        return str(error)
    hint = OS_HINTS.get(error.errno or 0, "")
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else str(error.filename)
    return f"{name}: {error.strerror[:1].lower()}{error.strerror[1:]}{hint}"


def show_error(error: object) -> None:
    """Show an error in one line on stderr."""
    errors.print(Text.assemble(("error:", "bold red"), " ", printable(describe_error(error))))


class PlainColumn(ProgressColumn):
    """A column of a progress bar that shows a text of each task: its description, or one of its fields."""

    def __init__(self, field: str | None = None) -> None:
        super().__init__(Column(no_wrap=True))
        self._field = field

    def render(self, task: Task) -> Text:
        """The text of one task."""
        return plain(task.description if self._field is None else task.fields[self._field])


def warn(message: str) -> None:
    """A line on stderr and in the log, of something that is not right and did not stop the work."""
    log.warning(message)
    show(f"warning: {message}", errors)


class _Shown(logging.Handler):
    """Shows what the packages that do the work log; the log file has it from the logger above."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "warning: " if record.levelno >= logging.WARNING else ""
        show(f"{prefix}{record.getMessage()}", errors)


for _name, _level in (("video", logging.WARNING), ("job", logging.WARNING), ("engine", logging.INFO)):
    logging.getLogger(f"ristn.{_name}").addHandler(_Shown(_level))


def note(message: str, *, is_shown: bool = True) -> None:
    """A line in the log, and on stderr if it `is_shown`."""
    log.info(message)
    if is_shown:
        show(message, errors)


class Stopped(BaseException):
    """A signal that ends the run at once; unwinds like KeyboardInterrupt, so that everything is cleaned up."""

    def __init__(self, number: int) -> None:
        self.exit_code = EXIT_CODES[signal.Signals(number)]


def stop_at_once(number: int, _: Any) -> None:
    """Signal handler outside of work that can be finished first."""
    raise Stopped(number)


class StopRequest(threading.Event):
    """Set when the work is asked to stop; `signal` is what asked."""

    signal: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of the program that was asked to stop."""
        return EXIT_CODES[self.signal] if self.signal is not None else FAILED


@contextmanager
def stop_requests(stop: StopRequest | None = None) -> Iterator[StopRequest]:
    """Within, a first Ctrl-C or SIGTERM sets the request for the work to notice; a second stops at once.

    A request that came too late to end the work within is kept for `heed_stop`.
    """
    request = stop or StopRequest()
    messages: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def receive(number: int, frame: Any) -> None:
        if request.signal is not None:
            stop_at_once(number, frame)
        request.signal = signal.Signals(number)
        request.set()
        # A handler may run in the middle of a write to the terminal or to the log, so it must not write itself.
        messages.put("finishing what is in flight; once more stops at once")

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
"""Signals that came when the work was as good as done, so that it was finished."""


def heed_stop() -> None:
    """Between two pieces of work: leave if the first was asked to stop when it was as good as done."""
    if late_requests:
        raise typer.Exit(EXIT_CODES[late_requests[0]])


def expected_errors() -> tuple[type[Exception], ...]:
    """The errors that are told in one line, without a traceback."""
    from ristn_cli.bench.results import BenchError
    from ristn_cli.engine.device import DeviceError
    from ristn_cli.engine.short_memory import OutOfMemory
    from ristn_cli.job.manifest import JobError
    from ristn_cli.training.recipe import RecipeError
    from ristn_cli.training.state import TrainingError
    from ristn_cli.video import VideoError
    from ristn_cli.weights import WeightsError

    ours = (VideoError, WeightsError, DeviceError, JobError, OutOfMemory, RecipeError, TrainingError, BenchError)
    return (*ours, MalformedError, OSError)


@contextmanager
def reported_errors(debug: bool, log_file: Path | None = None) -> Iterator[None]:
    """Show and log an expected error as one line and leave with its exit code; signals leave with theirs."""
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
    model: str,
    weights: Path | None,
    device: str,
    precision: str,
    *,
    tiling: AutoTiling | None = None,
    compilation: Literal["auto", "on", "off"] = "auto",
    quiet: bool = False,
) -> Upscaler:
    """The engine that the common options describe."""
    from ristn_cli.engine.device import choose_backend
    from ristn_cli.engine.upscaler import Upscaler
    from ristn_cli.weights import find_weights, load_weights

    network = load_weights(weights if weights is not None else find_weights(model))
    backend = choose_backend(device, precision)
    if backend.is_emulated:
        warn("bf16 is emulated on this CPU: it halves memory but is no faster")
    logging.getLogger("ristn.engine").setLevel(logging.WARNING if quiet else logging.INFO)
    return Upscaler(network, backend, tiling, compilation=compilation)


def format_seconds(seconds: float | None) -> str:
    """`M:SS` or `H:MM:SS`; dashes when unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_bar(*, is_shown: bool | None = None) -> Progress:
    """A bar with elapsed time and a `note` on stderr; left to itself it is shown on terminals only."""
    return Progress(
        PlainColumn(),
        BarColumn(),
        MofNCompleteColumn(),
        PlainColumn("note"),
        TimeElapsedColumn(),
        console=errors,
        disable=not (errors.is_terminal if is_shown is None else is_shown),
    )
