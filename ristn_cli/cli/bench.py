"""`ristn bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ristn_cli.cli.arguments import (
    CompileOption,
    DebugOption,
    DeviceOption,
    MemoryOption,
    TileOption,
    WindowOption,
    parse_bytes,
    parse_size,
)
from ristn_cli.cli.bench_tables import describe_comparison, describe_report
from ristn_cli.cli.compare import check_targets
from ristn_cli.cli.completion import complete_networks, complete_precisions, complete_presets
from ristn_cli.cli.effects import Given
from ristn_cli.cli.info import JsonOption
from ristn_cli.cli.terminal import console, note, reported_errors

if TYPE_CHECKING:
    from ristn_cli.bench.results import Report

DEFAULT_SIZE = "480x270"
LARGEST_SIDE = 16384


def bench(
    context: typer.Context,
    source: Annotated[
        Path | None, typer.Argument(help="Video to measure with. Default: a synthetic moving scene.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Network: ristn-lite, ristn, paper, paper-2x2 or a .safetensors file. May be repeated. "
            "Default: ristn-lite.",
            autocompletion=complete_networks,
        ),
    ] = None,
    size: Annotated[
        list[str] | None,
        typer.Option(help=f"Size of the frames before upscaling. May be repeated. Default: {DEFAULT_SIZE}."),
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="Precision: auto, fp32, fp16 or bf16. May be repeated. Default: auto.",
            autocompletion=complete_precisions,
        ),
    ] = None,
    device: DeviceOption = "auto",
    compilation: CompileOption = "auto",
    window: WindowOption = None,
    tile: TileOption = None,
    memory_limit: MemoryOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Number of PyTorch threads. Default: all cores.")] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="Number of frames of the end-to-end clip. Default: by time limit.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="Speed preset of the encoder.", autocompletion=complete_presets)
    ] = "veryfast",
    seconds: Annotated[float, typer.Option(min=1, help="Approximate time limit of a case, in seconds.")] = 60,
    network_only: Annotated[
        bool, typer.Option("--network-only", help="Measure the network alone, without files.")
    ] = False,
    reference: Annotated[
        bool, typer.Option("--reference", help="Also measure the plain float32 module, with one window per frame.")
    ] = False,
    compare: Annotated[Path | None, typer.Option(help="Older report to compare with. Default: none.")] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file to write the report to. Default: none.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report.")] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how fast networks run here, stage by stage, and how near the machine's limits that is."""
    sizes = [parse_size(text, largest=LARGEST_SIDE) for text in size or [DEFAULT_SIZE]]
    limit = parse_bytes(memory_limit)
    given = Given.of(context)
    if source is not None and size:
        raise typer.BadParameter("--size is for synthetic frames; a video has its own size")
    if network_only:
        given.refuse("--network-only writes no file", "frames", "preset")
    if as_json:
        given.refuse("--json prints the report without ratios; use one of them", "compare")
    if output is None:
        given.refuse("there is no --output", "overwrite")
    else:
        check_targets([output], [path for path in (source, compare) if path is not None], overwrite)
    with reported_errors(debug):
        import torch

        from ristn_cli.bench.measure import Request
        from ristn_cli.bench.results import compare_reports, read_report
        from ristn_cli.bench.suite import make_report, run_cases

        older = None if compare is None else read_report(compare)
        models, precisions = model or ["ristn-lite"], precision or ["auto"]
        if threads is not None:
            torch.set_num_threads(threads)
        cases = run_cases(
            [
                Request(
                    network=name,
                    width=width,
                    height=height,
                    source=None if source is None else str(source),
                    device=device,
                    precision=chosen,
                    window=window,
                    tile=tile,
                    memory_bytes=limit,
                    compilation=compilation,
                    threads=threads,
                    frames=frames,
                    preset=preset,
                    seconds=seconds,
                    network_only=network_only,
                    with_reference=reference,
                )
                for name in models
                for width, height in sizes
                for chosen in precisions
            ],
            note,
        )
        report = make_report(cases, device)
        if output is not None:
            write_report(report, output, overwrite=overwrite)
        if as_json:
            write_report(report, None)
            return
        for table in describe_report(report):
            console.print(table)
        if older is not None:
            console.print(describe_comparison(compare_reports(report, older)))


def write_report(report: Report, path: Path | None, *, overwrite: bool = False) -> None:
    """Write the report as JSON to a file, or to stdout."""
    import json

    from ristn_cli.own_files import write_text

    text = json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"
    if path is None:
        sys.stdout.write(text)
    else:
        write_text(path, text, overwrite=overwrite)
