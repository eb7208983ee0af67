"""The results of `ristn bench` as tables for the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from ristn_cli.cli.terminal import plain

if TYPE_CHECKING:
    from ristn_cli.bench.results import Case, Comparison, Report

LABELS = {
    "decode": "decode",
    "convert_in": "to RGB",
    "spatial": "spatial",
    "temporal": "temporal",
    "reconstruction": "fusion and reconstruction",
    "convert_out": "blend, round, from RGB",
    "encode": "encode",
}


def make_table(title: str, *columns: str) -> Table:
    """Make a table whose first column is text and whose others are numbers."""
    table = Table(title=plain(title) if title else None, title_justify="left")
    for index, column in enumerate(columns):
        table.add_column(plain(column), justify="left" if index == 0 else "right")
    return table


def shown(value: float | None, form: Callable[[float], str]) -> str:
    """Format a figure, or return a dash for None."""
    return "-" if value is None else form(value)


def describe_report(report: Report) -> Iterator[Table | Text]:
    """Yield the machine and the tables."""
    machine = report.machine
    yield plain(
        f"{machine.processor}, {machine.cores} cores, {machine.threads} threads; {machine.device}; "
        f"PyTorch {machine.torch}; ristn {report.version}"
    )
    if report.cases:
        yield describe_cases(report.cases)


def name_of(case: Case) -> str:
    """Return a name that distinguishes a case from the others."""
    weights = "" if case.weights == "released" else f" ({case.weights} weights)"
    return f"{case.model}{weights} {case.width}x{case.height} {case.precision}"


def describe_cases(cases: list[Case]) -> Table:
    """Make a table with a row per figure and a column per case."""
    table = make_table("", "", *(name_of(case) for case in cases))
    columns = [list(case_figures(case)) for case in cases]
    for rows in zip(*columns, strict=True):
        table.add_row(rows[0][0], *(text for _, text in rows))
    return table


def case_figures(case: Case) -> Iterator[tuple[str, str]]:
    """Yield name and value of each figure of a case."""

    def seconds(value: float | None) -> str:
        return shown(value, lambda known: f"{known:.3f} s")

    took, rates, flops, whole, reference = case.network, case.limits, case.arithmetic, case.end_to_end, case.reference
    yield "window, tile, tiles", f"{case.window}, {case.tile}, {case.tiles}"
    yield "network, per frame", seconds(took.median)
    yield "  lowest to highest", f"{took.lowest:.3f}-{took.highest:.3f} s ({took.repeats}x)"
    yield "  frames per second", f"{case.frames_per_second:.2f}"
    for stage, label in LABELS.items():
        yield f"  {label}", shown(case.stages[stage], lambda known: f"{1000 * known:.1f} ms")
    yield "arithmetic of the network, per frame", f"{flops.network_flops / 1e9:.1f} GFLOP"
    yield "  executed, with context and overlap", f"{flops.executed_flops / 1e9:.1f} GFLOP"
    yield "machine: matrix product", f"{rates.matrix_flops_per_second / 1e9:.0f} GFLOP/s"
    yield "  best 3x3 convolution", f"{rates.convolution_flops_per_second / 1e9:.0f} GFLOP/s"
    yield "  copy, read and written", f"{rates.copy_bytes_per_second / 1e9:.1f} GB/s"
    yield "share of the matrix rate, network", f"{case.network_share:.0%}"
    yield "  executed", f"{case.executed_share:.0%}"
    yield "end to end, per frame", seconds(None if whole is None else whole.seconds_per_frame)
    yield "  network alone on the same clip", seconds(None if whole is None else whole.network_seconds_per_frame)
    yield "  ratio", shown(None if whole is None else whole.ratio, lambda known: f"{known:.2f}")
    yield (
        "peak memory of the process",
        shown(case.peak_memory_bytes, lambda known: f"{known / (1 << 20):.0f} MiB"),
    )
    if case.device_memory_bytes is not None:
        yield "  of the device", f"{case.device_memory_bytes / (1 << 20):.0f} MiB"
    yield "bicubic by ffmpeg, per frame", seconds(case.bicubic_seconds_per_frame)
    yield "reference, per frame", seconds(None if reference is None else reference.seconds_per_frame.median)
    yield (
        "  network / reference",
        shown(None if reference is None else reference.ratio, lambda known: f"{known:.3f}"),
    )


def describe_comparison(rows: list[Comparison]) -> Table | str:
    """Make a table of each figure in both reports."""
    if not rows:
        return "nothing to compare: the older report contains none of these cases"
    table = make_table("compared", "case", "figure", "now", "then", "ratio")
    for row in rows:
        table.add_row(
            plain(row.case),
            row.figure,
            shown(row.now, lambda value: f"{value:.4g}"),
            shown(row.then, lambda value: f"{value:.4g}"),
            shown(row.ratio, lambda value: f"{value:.3f}"),
        )
    return table
