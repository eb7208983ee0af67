"""Shows the progress of one job: frames, speed, time and memory, as a bar or as JSON lines."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ristn_cli.cli.terminal import errors, format_seconds, plain
from ristn_cli.cli.workers import describe_workers

if TYPE_CHECKING:
    from ristn_cli.job.progress import Progress

ProgressMode = Literal["auto", "bar", "json", "none"]

REFRESHES_PER_SECOND = 4
NARROWEST_WITH_BAR = 40
"""Columns of the narrowest terminal with room for a bar between name and frames."""

MEMORY_SECONDS = 1.0
"""Time between measurements of memory, which visit every child process."""


class JobBar:
    """A bar, and lines of figures below it that fit the width of the terminal.

    Args:
        name: name of the job.
        weights: name of the weights.
        read_memory: returns the memory in use as text; empty if unknown.
        clock: returns monotonic time in seconds. Elapsed and remaining time are updated between frames.
    """

    def __init__(
        self,
        name: str,
        weights: str,
        read_memory: Callable[[], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._weights, self._read_memory, self._clock = name, weights, read_memory, clock
        self._done: Progress | None = None
        self._updated_at = self._began = clock()
        self._memory, self._memory_at = "", float("-inf")

    def update(self, done: Progress) -> None:
        """Set the progress to show."""
        self._done, self._updated_at = done, self._clock()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines, none wider than the terminal."""
        width = options.max_width
        done = self._done
        frames, total = (0, None) if done is None else (done.frames, done.total)
        count = "" if done is None else f"{frames}/{'?' if total is None else max(total, frames)} frames"
        name = plain(self._name)
        figures = list(self._figures())
        if width < NARROWEST_WITH_BAR:
            name.truncate(width, overflow="ellipsis")
            yield name
            figures = [count, *figures] if count else figures
        else:
            name.truncate(width // 3, overflow="ellipsis")
            bar = ProgressBar(
                total=None if total is None else max(total, frames, 1),
                completed=frames,
                pulse=total is None,
                animation_time=self._clock(),
            )
            head = Table.grid(padding=(0, 1), expand=True)
            head.add_column(no_wrap=True)
            head.add_column(ratio=1)
            head.add_column(no_wrap=True)
            head.add_row(name, bar, count)
            yield head
        for line in pack(figures, width):
            yield Text(line, no_wrap=True, overflow="ellipsis")

    def _figures(self) -> Iterator[str]:
        """Yield the figures below the bar, the most important first."""
        now = self._clock()
        done = self._done
        if done is None:
            yield from ("getting ready", f"{format_seconds(now - self._began)} elapsed")
        else:
            since = now - self._updated_at
            left = done.remaining_seconds
            yield format_speed(done.frames_per_second) if done.frames_per_second else "no frame yet"
            yield f"{format_seconds(done.elapsed_seconds + since)} elapsed"
            yield f"{format_seconds(None if left is None else max(0.0, left - since))} left"
            yield from describe_workers(done).removeprefix(", ").split(", ") if done.segments else [f"part {done.part}"]
        if now - self._memory_at >= MEMORY_SECONDS:
            self._memory, self._memory_at = self._read_memory(), now
        if self._memory:
            yield self._memory
        yield str(plain(self._weights))


def format_speed(frames_per_second: float) -> str:
    """Format a positive speed as frames per second, or as seconds per frame if it is low."""
    if frames_per_second < 0.1:
        return f"{1 / frames_per_second:.0f} s per frame"
    return f"{frames_per_second:.2f} fps"


def pack(figures: Iterable[str], width: int) -> list[str]:
    """Join figures with commas to lines that fit into the width."""
    lines: list[str] = []
    for figure in figures:
        if lines and cell_len(joined := f"{lines[-1]}, {figure}") <= width:
            lines[-1] = joined
        else:
            lines.append(figure)
    return lines


@contextmanager
def shown_bar(bar: JobBar, *, is_shown: bool) -> Iterator[None]:
    """Show the bar below all other lines on stderr while the context is active. Its last state remains."""
    if not is_shown:
        yield
        return
    with Live(bar, console=errors, refresh_per_second=REFRESHES_PER_SECOND, redirect_stdout=False):
        yield


@contextmanager
def shown_progress(
    mode: ProgressMode, bar: JobBar, labels: Mapping[str, str] | None = None
) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows progress: as a bar (`auto`: on a terminal), as JSON lines on stderr, or not at
    all.

    Each JSON line contains `labels`.
    """
    if mode == "json":
        yield partial(write_progress, labels=labels or {})
        return
    with shown_bar(bar, is_shown=mode == "bar" or (mode == "auto" and errors.is_terminal)):
        yield bar.update


def describe_memory() -> str:
    """Return the memory in use by the program and its workers here; empty if unknown."""
    from ristn_cli.engine.memory_in_use import gpu_memory_in_use, main_memory_in_use
    from ristn_cli.job.plan import format_bytes

    main, gpu = main_memory_in_use(), gpu_memory_in_use()
    parts = [f"memory {format_bytes(main)}"] if main is not None else []
    parts += [f"GPU {format_bytes(gpu)}"] if gpu is not None else []
    return ", ".join(parts)


def write_progress(done: Progress, labels: Mapping[str, str]) -> None:
    """Write one JSON object as a line on stderr, with null for unknown values."""
    remaining = done.remaining_seconds
    values: dict[str, object] = {
        **labels,
        "frames": done.frames,
        "total": done.total,
        "fps": round(done.frames_per_second, 3),
        "elapsed": round(done.elapsed_seconds, 3),
        "remaining": None if remaining is None else round(remaining, 3),
        "part": done.part,
    }
    if done.segments is not None:
        values["segments"] = dict(zip(("finished", "planned"), done.segments, strict=True))
        values["workers"] = [
            asdict(worker) | {"frames_per_second": round(worker.frames_per_second, 3)} for worker in done.workers
        ]
    sys.stderr.write(json.dumps(values) + "\n")
    sys.stderr.flush()
