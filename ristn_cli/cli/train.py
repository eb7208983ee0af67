"""`ristn train`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ristn_cli.cli.arguments import DebugOption, DeviceOption, PrecisionOption
from ristn_cli.cli.completion import complete_recipes, complete_weights
from ristn_cli.cli.effects import Given
from ristn_cli.cli.terminal import console, format_seconds, note, progress_bar, reported_errors, stop_requests


def train(
    context: typer.Context,
    recipe: Annotated[
        str,
        typer.Argument(
            help="Recipe: a .toml file, or lite, lite-real, lite-sharp, paper.",
            autocompletion=complete_recipes,
        ),
    ],
    data: Annotated[Path, typer.Option(help="Folder that contains the data folders of the recipe.")] = Path("data"),
    output: Annotated[Path, typer.Option(help="Folder of the run: checkpoint, log, curve, weights.")] = Path("run"),
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Time after which to save and stop, in minutes. Default: none.")
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    start_from: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from, by name or as a .safetensors file. Default: those of the recipe.",
            autocompletion=complete_weights,
        ),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Number of processes that prepare batches.")] = 1,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Compare the validations of the run in --output with those of the run in this folder, with standard "
            "errors, instead of training. Default: train.",
        ),
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Train weights with a recipe. Run the same command again to resume a stopped run."""
    if compare is not None:
        Given.of(context).refuse_all_but("--compare does not train", "compare", "output", "debug")
        with reported_errors(debug):
            show_comparison(output, compare)
        return
    with reported_errors(debug):
        from ristn_cli.engine.device import choose_backend
        from ristn_cli.training.loop import train as run_training
        from ristn_cli.training.recipe_file import load_recipe

        chosen = load_recipe(recipe)
        if start_from is not None:
            chosen = replace(chosen, start_from=start_from)
        is_first = os.environ.get("RANK", "0") == "0"  # process of torchrun
        with progress_bar(is_shown=None if is_first else False) as bar, stop_requests() as stop:
            task = bar.add_task(chosen.name, total=chosen.iterations, note="")
            for done in run_training(
                chosen,
                data=data,
                output=output,
                backend=choose_backend(device, precision),
                minutes=minutes,
                workers=workers,
                should_stop=stop.is_set,
            ):
                speed = (
                    f"{done.pixels_per_second / 1000:.1f} k LR pixels/s, {format_seconds(done.remaining_seconds)} left"
                )
                if done.validation:
                    speed += f", PSNR-Y {done.validation['psnr_y']:.2f} dB"
                bar.update(task, completed=done.iteration, note=speed)
                if done.validation and done.iteration % chosen.validate_every == 0:
                    shown = ", ".join(f"{name} {value:.3f}" for name, value in done.validation.items())
                    bar.console.print(f"step {done.iteration}: loss {done.loss:.6f}, {shown}")
        if stop.is_set():
            note(f"stopped; run the same command to resume from {output}")
            raise typer.Exit(stop.exit_code)


def show_comparison(ours: Path, theirs: Path) -> None:
    """Print how far one run is ahead of another, for each validation that both have.

    Raises:
        TrainingError: they have no validation in common.
    """
    from ristn_cli.training.journal import compare_logs, read_log
    from ristn_cli.training.state import TrainingError

    rows = compare_logs(*(read_log(run / "log.jsonl") for run in (ours, theirs)))
    if not rows:
        raise TrainingError(
            f"{ours} and {theirs} cannot be compared: they have no validation on the same windows after the same "
            "number of LR pixels"
        )
    table = Table(box=None, pad_edge=False)
    for title in (
        "million LR pixels",
        "PSNR-Y, dB",
        "ahead, dB",
        "standard error",
        "temporal gain ahead, dB",
        "windows",
    ):
        table.add_column(title, justify="right")
    for row in rows:
        table.add_row(
            f"{row.lr_pixels / 1e6:.1f}",
            f"{row.psnr_y:.2f}",
            f"{row.ahead:+.3f}",
            f"{row.error:.3f}",
            f"{row.gain_ahead:+.3f}",
            str(row.windows),
        )
    console.print(table)
