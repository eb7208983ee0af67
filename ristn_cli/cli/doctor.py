"""`ristn doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import typer

from ristn_cli.cli.arguments import DebugOption, DeviceOption, PrecisionOption
from ristn_cli.cli.terminal import FAILED, reported_errors, show

if TYPE_CHECKING:
    from ristn_cli.bench.installation import Problem, Section

LABEL_WIDTH = 20


def doctor(device: DeviceOption = "auto", precision: PrecisionOption = "auto", debug: DebugOption = False) -> None:
    """Check this installation, for a bug report.

    Prints versions, device, codecs, weights, memory, disk and speed, then a line with a cure for each problem. Prints
    no folder, user or host names. The exit code is 1 if ristn cannot work.
    """
    from ristn_cli.bench.installation import check_installation

    problems: list[Problem] = []

    def report(section: Section) -> None:
        for line in describe_section(section):
            show(line)
        problems.extend(section.problems)

    report(check_installation())
    if not any(problem.is_fatal for problem in problems):  # the other checks need every package
        with reported_errors(debug):
            from ristn_cli.bench.diagnosis import check_codecs, check_device, check_room, check_speed, check_weights
            from ristn_cli.engine.device import choose_backend

            backend = choose_backend(device, precision)
            report(check_device(backend))
            report(check_codecs())
            report(check_weights())
            report(check_room(backend))
            report(check_speed(backend))
    for line in describe_problems(problems):
        show(line)
    if any(problem.is_fatal for problem in problems):
        raise typer.Exit(FAILED)


def describe_section(section: Section) -> Iterator[str]:
    """Yield the title, a line per fact, and an empty line."""
    yield section.title
    for label, value in section.facts:
        yield f"  {label.ljust(LABEL_WIDTH)}{value}"
    yield ""


def describe_problems(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield a line with a cure for each problem."""
    if not problems:
        yield "No problems found."
        return
    yield "Problems"
    for problem in problems:
        yield f"  {problem.text} Cure: {problem.cure}."
