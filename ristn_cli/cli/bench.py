"""`ristn bench`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ristn_cli.cli.bench_tables import describe_comparison, describe_report
from ristn_cli.cli.effects import Given
from ristn_cli.cli.info import JsonOption
from ristn_cli.cli.terminal import (
    CompileOption,
    DebugOption,
    DeviceOption,
    MemoryOption,
    TileOption,
    WindowOption,
    console,
    note,
    parse_bytes,
    reported_errors,
)

if TYPE_CHECKING:
    from ristn_cli.bench.results import Case, Report, Setting

DEFAULT_SIZE = "480x270"
NOT_FOR_SWEEP = ("compilation", "memory_limit", "frames", "preset", "network_only")


def parse_size(text: str) -> tuple[int, int]:
    """Width and height of `480x270`.

    Raises:
        typer.BadParameter: it is none.
    """
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and 1 <= int(width) <= 16384 and 1 <= int(height) <= 16384):
        raise typer.BadParameter(f"{text!r} is not a size; expected such as {DEFAULT_SIZE}")
    return int(width), int(height)


def bench(
    context: typer.Context,
    source: Annotated[
        Path | None, typer.Argument(help="Video to measure with; without one, a moving scene is made.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(help="Network: ristn-lite, ristn, paper, paper-2x2 or a .safetensors file; may be repeated."),
    ] = None,
    size: Annotated[
        list[str] | None, typer.Option(help=f"Of the frames before upscaling; {DEFAULT_SIZE}; may be repeated.")
    ] = None,
    precision: Annotated[list[str] | None, typer.Option(help="auto, fp32, fp16 or bf16; may be repeated.")] = None,
    device: DeviceOption = "auto",
    compilation: CompileOption = "auto",
    window: WindowOption = None,
    tile: TileOption = None,
    memory_limit: MemoryOption = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Of PyTorch; all cores if not given.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Of the clip that goes from end to end.")] = None,
    preset: Annotated[str, typer.Option(help="Speed preset of the encoder.")] = "veryfast",
    seconds: Annotated[float, typer.Option(min=1, help="About how long a case, or the whole sweep, may take.")] = 60,
    network_only: Annotated[bool, typer.Option("--network-only", help="Leave out reading and writing files.")] = False,
    reference: Annotated[
        bool, typer.Option("--reference", help="Also run the plain float32 module, a window for every frame.")
    ] = False,
    sweep: Annotated[bool, typer.Option("--sweep", help="Look for the fastest precision, tile and window.")] = False,
    save_default: Annotated[
        bool, typer.Option("--save-default", help="Let upscale use what the sweep found, on this machine.")
    ] = False,
    forget_default: Annotated[bool, typer.Option("--forget-default", help="Forget what was saved.")] = False,
    compare: Annotated[Path | None, typer.Option(help="Show ratios to this older report.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the report as JSON into this file.")] = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how fast networks run here, stage by stage, and how near the machine's limits that is."""
    sizes = [parse_size(text) for text in size or [DEFAULT_SIZE]]
    limit = parse_bytes(memory_limit)
    given = Given.of(context)
    if forget_default:
        given.refuse_all_but("--forget-default measures nothing", "forget_default", "debug")
        if source is not None:
            raise typer.BadParameter(f"{source} is not read: --forget-default measures nothing")
    if source is not None and size:
        raise typer.BadParameter("--size is of made frames; a video has its own")
    if save_default and not sweep:
        raise typer.BadParameter("--save-default goes with --sweep")
    if sweep and (source is not None or reference or compare or window or tile):
        raise typer.BadParameter(
            "--sweep chooses windows and tiles on made frames, and goes with none of SOURCE, "
            "--window, --tile, --reference, --compare"
        )
    if sweep:
        given.refuse("--sweep measures the network alone, with its own windows and tiles", *NOT_FOR_SWEEP)
    if network_only:
        given.refuse("--network-only writes no file", "frames", "preset")
    if as_json:
        given.refuse("--json prints the report alone, without ratios; give one of them", "compare")
    if save_default and (len(sizes) > 1):
        raise typer.BadParameter("--save-default takes what one --size shows")
    with reported_errors(debug):
        if forget_default:
            from ristn_cli.engine.defaults import forget_defaults

            console.print(f"forgot {forget_defaults()} saved defaults")
            return
        import torch

        from ristn_cli.bench.measure import Request
        from ristn_cli.bench.results import compare_reports, read_report
        from ristn_cli.bench.suite import make_report, run_cases

        older = None if compare is None else read_report(compare)
        models, precisions = model or ["ristn-lite"], precision or ["auto"]
        cases: list[Case] = []
        settings: list[Setting] = []
        if threads is not None:
            torch.set_num_threads(threads)
        if sweep:
            for name in models:
                for width, height in sizes:
                    settings += run_sweep(name, width, height, device, precision, seconds, save_default)
        else:
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
        report = make_report(cases, settings, device)
        if output is not None:
            write_report(report, output)
        if as_json:
            write_report(report, None)
            return
        for table in describe_report(report):
            console.print(table)
        if older is not None:
            console.print(describe_comparison(compare_reports(report, older)))


def run_sweep(
    name: str, width: int, height: int, device: str, precisions: list[str] | None, seconds: float, is_saved: bool
) -> list[Setting]:
    """Try settings, tell of each, and keep the best where that is asked for."""
    from ristn_cli.bench.networks import open_network
    from ristn_cli.bench.sweep import as_default, sweep, sweep_backends
    from ristn_cli.engine.defaults import save_default

    network = open_network(name)
    note(f"sweeping {name}, {width}x{height}")
    found = sweep(network, sweep_backends(device, precisions), (width, height), seconds=seconds, tell=note)
    if is_saved:
        path = save_default(as_default(found, network))
        tiling = found.tiling
        best = f"{found.backend.precision}, tiles of {tiling.tile} pixels, windows of {tiling.window} frames"
        note(f"saved for {name} in {path}: {best}; ristn bench --forget-default undoes it")
    return found.settings


def write_report(report: Report, path: Path | None) -> None:
    """The report as JSON, into a file or on stdout."""
    import json

    from ristn_cli.own_files import write_text

    text = json.dumps(report.to_dict(), indent=2, allow_nan=False) + "\n"
    if path is None:
        sys.stdout.write(text)
    else:
        write_text(path, text)
