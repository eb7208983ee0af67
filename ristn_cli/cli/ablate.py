"""`ristn ablate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ristn_cli.cli.effects import Given
from ristn_cli.cli.evaluate import draw
from ristn_cli.cli.terminal import (
    DebugOption,
    DeviceOption,
    PrecisionOption,
    console,
    note,
    progress_bar,
    reported_errors,
    show,
    stop_requests,
)
from ristn_cli.printable import printable


def ablate(
    context: typer.Context,
    data: Annotated[Path, typer.Option(help="Folder with train/photos and train/clips.")] = Path("data"),
    output: Annotated[Path, typer.Option(help="Folder of the runs; what is finished there is not done again.")] = Path(
        "ablation"
    ),
    test: Annotated[
        Path | None, typer.Option(help="Clips to score on, such as Vid4; validation/clips in DATA if not given.")
    ] = None,
    table: Annotated[
        list[int] | None, typer.Option(min=1, max=3, help="Only this table of the paper; repeat it for several.")
    ] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="Steps of each network; 600 if not given.")] = None,
    frames: Annotated[int, typer.Option(min=1, help="Frames of each test clip that are scored.")] = 10,
    minutes: Annotated[float | None, typer.Option(min=0, help="Save and stop after this long.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    debug: DebugOption = False,
) -> None:
    """Train and evaluate the paper's ablations (Tables 1 to 3) small, beside its figures. Goes on after a stop."""
    if as_json:
        Given.of(context).refuse("--json prints one object instead of tables; give one of them", "markdown")
    with reported_errors(debug):
        from ristn_cli.engine.device import choose_backend
        from ristn_cli.evaluation.tables import to_markdown
        from ristn_cli.training.ablation_tables import (
            ablation_json,
            ablation_tables,
            check_orderings,
            ordering_table,
            state_budget,
        )
        from ristn_cli.training.ablations import Ablation, read_results, run_ablation, score_bicubic

        ablation = Ablation(
            data=data,
            test=test or data / "validation" / "clips",
            output=output,
            tables=tuple(sorted(set(table or (1, 2, 3)))),
            iterations=iterations,
            frames=frames,
        )
        with progress_bar() as bar, stop_requests() as stop:
            task = bar.add_task("ablation", total=None, note="")
            for done in run_ablation(
                ablation, choose_backend(device, precision), minutes=minutes, should_stop=stop.is_set
            ):
                completed = done.position * done.iterations + done.iteration
                bar.update(task, total=done.count * done.iterations, completed=completed, note=done.name)
        results = read_results(ablation)
        is_finished = all(variant.key in results for variant in ablation.variants)
        if stop.is_set() and not is_finished:
            note(f"stopped; the same command goes on from {output}")
            raise typer.Exit(stop.exit_code)
        if not is_finished:
            note(f"time is up with {len(results)} networks finished; the same command goes on from {output}")
        bicubic = score_bicubic(ablation)
        if as_json:
            sys.stdout.write(json.dumps(ablation_json(ablation, results, bicubic)) + "\n")
            return
        tables = ablation_tables(ablation, results, bicubic)
        if orderings := check_orderings(ablation, results):
            tables.append(ordering_table(orderings))
        if markdown:
            sys.stdout.write(
                "\n\n".join([*map(to_markdown, tables), *map(printable, state_budget(ablation, results))]) + "\n"
            )
            return
        for drawn in map(draw, tables):
            console.print(drawn)
        for line in state_budget(ablation, results):
            show(line)
