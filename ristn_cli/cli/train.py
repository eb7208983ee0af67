"""`ristn train`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from ristn_cli.cli.terminal import (
    EXIT_CODES,
    DebugOption,
    DeviceOption,
    PrecisionOption,
    format_seconds,
    note,
    progress_bar,
    reported_errors,
    stop_requests,
)


def train(
    recipe: Annotated[str, typer.Argument(help="A .toml file, or one of ristn's: ablation, lite, lite-real, paper.")],
    data: Annotated[Path, typer.Option(help="Folder that the recipe's folders are in.")] = Path("data"),
    output: Annotated[Path, typer.Option(help="Folder of the run: checkpoint, log, curve, weights.")] = Path("run"),
    minutes: Annotated[float | None, typer.Option(min=0, help="Save and stop after this long.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    start_from: Annotated[
        str | None, typer.Option(help="Begin with released weights by name or a .safetensors file: fine-tuning.")
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 1,
    debug: DebugOption = False,
) -> None:
    """Train weights by a recipe. The same command goes on where a stopped run was."""
    with reported_errors(debug):
        from ristn_cli.inference.device import choose_backend
        from ristn_cli.training.recipe import load_recipe
        from ristn_cli.training.train import train as run_training

        chosen = load_recipe(recipe)
        if start_from is not None:
            chosen = replace(chosen, start_from=start_from)
        is_first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started
        with progress_bar(is_shown=None if is_first else False) as bar, stop_requests() as received:
            task = bar.add_task(chosen.name, total=chosen.iterations, note="")
            for done in run_training(
                chosen,
                data=data,
                output=output,
                backend=choose_backend(device, precision),
                minutes=minutes,
                workers=workers,
                should_stop=lambda: bool(received),
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
        if received:
            note(f"stopped; the same command goes on from {output}")
            raise typer.Exit(EXIT_CODES[received[0]])
