"""A report as a picture: each case's seconds a frame, stage by stage, beside the whole and its measures."""

from importlib.util import find_spec
from pathlib import Path

from ristn_cli.bench.results import STAGES, BenchError, Case, Report
from ristn_cli.own_files import import_apart, writing

LABELS = {
    "decode": "decode",
    "convert_in": "to RGB",
    "spatial": "spatial",
    "temporal": "temporal",
    "reconstruction": "fusion and reconstruction",
    "convert_out": "blend, round, from RGB",
    "encode": "encode",
}


def check_chart() -> None:
    """Raise BenchError where no chart could be drawn; to be asked before hours of measuring."""
    if find_spec("matplotlib") is None:
        raise BenchError("a chart needs matplotlib; install it with: pip install 'ristn[train]'")


def draw_report(report: Report, path: Path) -> None:
    """A bar of stages for each case, with marks for end to end, the reference and bicubic, as PNG.

    Raises:
        BenchError: matplotlib is not installed, or there is nothing to draw.
    """
    check_chart()
    import_apart("matplotlib")
    from matplotlib.figure import Figure

    if not report.cases:
        raise BenchError("there is no case to draw; a chart shows cases, not a sweep")
    figure = Figure(figsize=(10, 2.5 + 0.7 * len(report.cases)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(report.cases))
    left = [0.0] * len(report.cases)
    for number, stage in enumerate(STAGES):
        widths = [case.stages[stage] or 0.0 for case in report.cases]
        axes.barh(rows, widths, left=left, height=0.6, color=f"C{number}", label=LABELS[stage])
        left = [before + width for before, width in zip(left, widths, strict=True)]
    whole = {row: case.end_to_end.seconds_per_frame for row, case in enumerate(report.cases) if case.end_to_end}
    plain = {row: case.reference.seconds_per_frame.median for row, case in enumerate(report.cases) if case.reference}
    bicubic = {row: case.bicubic_seconds_per_frame for row, case in enumerate(report.cases)}
    for label, style, points in (("end to end", "k|", whole), ("reference", "rx", plain), ("bicubic", "g^", bicubic)):
        told = {row: seconds for row, seconds in points.items() if seconds is not None}
        if told:
            axes.plot(list(told.values()), list(told), style, label=label, markersize=10)
    axes.set_yticks(rows, [describe_case(case) for case in report.cases])
    axes.invert_yaxis()
    axes.set_xlabel("seconds a frame")
    axes.set_title(f"{report.machine.processor}, {report.machine.threads} threads, PyTorch {report.machine.torch}")
    figure.legend(loc="outside lower center", ncols=5, fontsize="small")
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=120)


def describe_case(case: Case) -> str:
    """`ristn-lite 480x270 bf16, 62 % of the matrix rate`."""
    return f"{case.model} {case.width}x{case.height}\n{case.precision}, {case.executed_share:.0%} of the matrix rate"
