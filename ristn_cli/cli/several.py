"""`ristn upscale` with several inputs: runs them in turn, continues after a failure, and shows a table at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.table import Table

from ristn_cli.cli.ahead import Background
from ristn_cli.cli.terminal import (
    FAILED,
    Stopped,
    StopRequest,
    console,
    describe_error,
    exit_if_stopped,
    log,
    note,
    plain,
    show,
    show_error,
)
from ristn_cli.cli.work import Begun

if TYPE_CHECKING:
    from ristn_cli.cli.work import Finished, Work
    from ristn_cli.job.batch import Item, Record


@dataclass(frozen=True)
class Outcome:
    """The result of an input: `done`, `done already`, `failed`, `stopped` or `not begun`, with a description."""

    source: Path
    state: str
    words: str = ""
    compare: str | None = None  # the command that compares the output with the input


def run_batch(
    items: Sequence[Item],
    record: Record,
    work: Work,
    *,
    debug: bool,
) -> None:
    """Run all items that are not finished.

    After a failure, the next item follows, and the program exits with the code of a failure at the end. A stop, which
    arrives as `typer.Exit`, ends the batch, and the same command continues it. An item that was running when an earlier
    run crashed comes last, because it may crash again.
    """
    items = sorted(items, key=record.was_left)
    for item in filter(record.was_left, items):
        note(f"{item.source}: an earlier run crashed or was killed during this input, so it comes last")
    outcomes: list[Outcome] = []
    begun: set[Item] = set()  # including an item that has started early

    def begin(item: Item) -> None:
        record.begin(item)
        begun.add(item)

    try:
        with LookAhead(items, record, work, begin) as ahead:
            for number, item in enumerate(items, start=1):
                try:
                    exit_if_stopped()
                    begun.add(item)
                    with record.at_work(item):
                        outcomes.append(_run_item(item, record, work, ahead, f"{number}/{len(items)} "))
                except (typer.Exit, Stopped):
                    raise
                except Exception as error:  # a bad file must not end a long batch
                    words = _describe_failure(error)
                    outcomes.append(Outcome(item.source, "failed", words))
                    if debug or work.engines.is_unusable:
                        raise
                    _report(error, words)
    finally:
        outcomes += [
            Outcome(item.source, "stopped", "the same command resumes it")
            if item in begun
            else Outcome(item.source, "not begun")
            for item in items[len(outcomes) :]
        ]
        _show(outcomes, console, quiet=work.quiet)
    if any(outcome.state == "failed" for outcome in outcomes):
        raise typer.Exit(FAILED)


class LookAhead(AbstractContextManager["LookAhead"]):
    """Runs the items of a batch in order. With several workers, the next item starts early.

    It starts when the current one is running, if it needs the same weights, so that no worker is idle during the last
    segments and the mux.

    Args:
        items: all items of the batch.
        record: finished items.
        work: options that all items share.
        on_begin: called with an item before it starts.
    """

    def __init__(self, items: Sequence[Item], record: Record, work: Work, on_begin: Callable[[Item], None]) -> None:
        self._items, self._record, self._work, self._on_begin = items, record, work, on_begin
        self._next: tuple[Item, Begun] | None = None

    def __exit__(self, *error: object) -> None:
        if self._next is not None:
            self._next[1].job.close()

    def run(self, item: Item, name: str) -> Finished:
        """Run an item, which may have started early."""
        begun = None
        if self._next is not None and self._next[0] == item:
            begun, self._next = self._next[1], None
        return self._work.run(item.source, item.target, name, begun=begun, on_begun=partial(self._begin_after, item))

    def _begin_after(self, item: Item) -> None:
        """Start the item after this one, if possible."""
        try:
            rest = self._items[self._items.index(item) + 1 :]
            following = next((other for other in rest if _is_to_do(other, self._record, self._work)), None)
            if following is None or self._next is not None:
                return
            engines = self._work.engines
            choice = engines.choose(following.source)
            if choice.label != engines.choose(item.source).label or engines.open(choice).make_parts is None:
                return
            stop = StopRequest()
            job = self._work.begin(following.source, following.target, engines.open(choice), stop)
            self._on_begin(following)
            following.target.parent.mkdir(parents=True, exist_ok=True)
        except Exception:  # the error is shown in the item's turn
            return
        self._next = following, Begun(Background(job, stop), stop)


def show_plans(items: Sequence[Item], record: Record, work: Work, *, as_json: bool, debug: bool) -> None:
    """Print the plan of each item: one JSON object per line, or a heading and lines."""
    failures = 0
    for item in items:
        try:
            if not as_json:
                show(f"{item.source} to {item.target}")
            if _is_done(item, record, work):
                note(f"{item.target}: done already")
                continue
            work.show_plan(item.source, item.target, as_json=as_json, makes_folder=True)
        except Exception as error:
            if debug or work.engines.is_unusable:
                raise
            failures += 1
            _report(error, _describe_failure(error))
    if failures:
        raise typer.Exit(FAILED)


def _describe_failure(error: Exception) -> str:
    """Describe the error of an item in one line."""
    ours = isinstance(error, OSError) or type(error).__module__.startswith("ristn_cli")
    return describe_error(error) if ours else f"unexpected {type(error).__name__}: {error}"


def _report(error: Exception, words: str) -> None:
    """Show and log the error of an item. The log contains the traceback of an unexpected one."""
    log.error(words, exc_info=None if words == describe_error(error) else error)
    show_error(words)


def _run_item(item: Item, record: Record, work: Work, ahead: LookAhead, prefix: str) -> Outcome:
    if _is_done(item, record, work):
        note(f"{item.target}: done already", is_shown=False)
        return Outcome(item.source, "done already", str(item.target))
    item.target.parent.mkdir(parents=True, exist_ok=True)
    record.begin(item)
    finished = ahead.run(item, prefix + item.source.name)
    record.add(item, finished.frames)
    return Outcome(item.source, "done", f"{item.target}: {finished.made}", finished.compare)


def _is_to_do(item: Item, record: Record, work: Work) -> bool:
    """Return whether an item will be run. Errors are shown in its turn."""
    try:
        return not _is_done(item, record, work)
    except Exception:
        return False


def _is_done(item: Item, record: Record, work: Work) -> bool:
    """Return whether there is nothing to do. Raises JobError if the output of another job would be replaced."""
    from ristn_cli.job.manifest import JobError

    try:
        return not work.restart and record.is_done(item)
    except JobError:
        if work.overwrite:
            return False
        raise


def _show(outcomes: Sequence[Outcome], where: Console, *, quiet: bool) -> None:
    """Print a table of all inputs, and the number of inputs per state."""
    states = dict.fromkeys(outcome.state for outcome in outcomes)
    counts = ", ".join(f"{sum(outcome.state == state for outcome in outcomes)} {state}" for state in states)
    log.info("batch: %s", counts)
    if quiet:
        return
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for outcome in outcomes:
        table.add_row(plain(outcome.source), outcome.state, plain(outcome.words))
    where.print(table)
    where.print(f"{len(outcomes)} inputs: {counts}")
    compare = next((outcome.compare for outcome in outcomes if outcome.compare is not None), None)
    if compare is not None:
        show(f"to compare the first one: {compare}", where)
