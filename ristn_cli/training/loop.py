"""The training loop: carries out the stages of a recipe, and can resume at any step.

Yields progress and never prints. The folder of a run contains `checkpoint.pt`, `log.jsonl`, `curve.png`, and finally
`<name>.safetensors`.
"""

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

from ristn_cli.engine.device import Backend
from ristn_cli.own_files import import_apart, open_own
from ristn_cli.training.batches import make_batches, make_batches_on, merge_batches
from ristn_cli.training.data import TrainingWindows
from ristn_cli.training.journal import draw_curve, trim_log
from ristn_cli.training.material import FrameCache
from ristn_cli.training.processes import agree, joined_processes, mean_of_processes
from ristn_cli.training.recipe import Recipe
from ristn_cli.training.state import Run, TrainingError
from ristn_cli.training.validation import Scores, load_validation, validate
from ristn_cli.weights import find_weights, save_weights

REPORT_EVERY = 10
"""Steps between log entries."""


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """The state of a run after a step.

    Attributes:
        iteration: finished steps, of `iterations`.
        loss: mean loss since the last report.
        pixels_per_second: LR pixels per second, of all processes together.
        remaining_seconds: estimated time to the end of the recipe.
        validation: `Scores.summary` of the latest validation; empty before the first.
    """

    iteration: int
    iterations: int
    loss: float
    learning_rate: float
    pixels_per_second: float
    remaining_seconds: float
    validation: dict[str, float]


def train(
    recipe: Recipe,
    *,
    data: Path,
    output: Path,
    backend: Backend,
    minutes: float | None = None,
    workers: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
    cache: FrameCache | None = None,
    merged: int = 1,
    on_device: bool = False,
) -> Iterator[TrainingProgress]:
    """Carry out a recipe, resuming from the checkpoint in `output` if there is one.

    Args:
        recipe: the recipe.
        data: folder that the recipe's folders are relative to.
        output: folder of the run.
        backend: device and precision.
        minutes: save and stop after this many minutes, to be resumed later; None for no limit.
        workers: number of processes that make batches; 0 to make them in this process.
        should_stop: called after each step; if it returns true, the run is saved and stops.
        cache: decoded material of an earlier run in this process with the same data; None to decode it.
        merged: number of the recipe's batches per optimizer step, for large GPUs. The learning rate grows with its
            square root.
        on_device: render windows on the training device, and keep all material in its memory.

    Raises:
        RecipeError: there is no training material, or the feature network is not installed.
        TrainingError: the `train` extra is not installed, the checkpoint or a training file cannot be used, an output
            of a new run already exists, or the loss is not finite.
    """
    if recipe.compile and backend.device.type == "cpu" and not has_compiler():
        raise TrainingError(f"{recipe.name}: compile = true needs a C++ compiler; install one, or set compile = false")
    missing = [name for name in ("matplotlib", "PIL") if find_spec(name) is None]
    if missing:
        raise TrainingError(f"training needs {' and '.join(missing)}: pip install 'ristn[train]'")
    import_apart("matplotlib")
    with joined_processes(backend) as (backend, rank, world):
        output.mkdir(parents=True, exist_ok=True)
        checkpoint, log = output / "checkpoint.pt", output / "log.jsonl"
        curve, weights = output / "curve.png", output / f"{recipe.name}.safetensors"
        is_resumed = os.path.lexists(checkpoint)
        if not is_resumed:
            refuse_existing(weights, *([] if log.exists() else [curve]))
        may_replace = is_resumed and weights.exists()  # an earlier result of this run, before stages were added
        run = Run(recipe, backend)
        if is_resumed:
            run.restore(checkpoint)
        elif recipe.start_from:
            run.start_from(find_weights(recipe.start_from))
        history = trim_log(log, run.iteration) if rank == 0 else []
        windows = TrainingWindows(recipe, data, world, makers=max(1, workers), cache=cache)
        validation = load_validation(recipe, data) if rank == 0 else []
        newest: dict[str, float] = next(
            (entry["validation"] for entry in reversed(history) if "validation" in entry), {}
        )
        numbers = range(run.iteration * world + rank, recipe.iterations * world, world)
        if on_device:
            batches = make_batches_on(backend.device, windows, numbers, workers=workers)
        else:
            batches = make_batches(windows, numbers, backend, workers=workers)
        began = time.monotonic() - run.elapsed_seconds
        session_began, steps, report_began, pixels_before = time.monotonic(), 0, time.monotonic(), run.lr_pixels
        for lr, hr, count in merge_batches(batches, recipe, run.iteration, merged):
            loss = run.step(lr, hr, count)
            steps += count
            now = time.monotonic()
            run.elapsed_seconds = now - began
            finished = run.iteration == recipe.iterations
            out_of_time = minutes is not None and now - session_began >= 60 * minutes
            is_lost = not math.isfinite(loss)
            stopping = finished or agree(out_of_time or should_stop() or is_lost, backend)
            if is_lost:
                raise TrainingError(f"the loss is {loss} at step {run.iteration}; use a lower learning rate")

            def has_passed(every: int, count: int = count) -> bool:
                return run.iteration // every > (run.iteration - count) // every

            due = finished or has_passed(recipe.validate_every)
            logged = due or has_passed(REPORT_EVERY)
            if logged or stopping:
                scores: Scores | None = None
                if rank == 0 and due and validation:
                    scores = validate(run.averaged, validation, backend, recipe.data.validation_crf)
                    newest = scores.summary
                done = TrainingProgress(
                    iteration=run.iteration,
                    iterations=recipe.iterations,
                    loss=mean_of_processes(sum(run.losses) / len(run.losses), backend),
                    learning_rate=run.optimizer.param_groups[0]["lr"],
                    pixels_per_second=(run.lr_pixels - pixels_before) / max(1e-9, now - report_began),
                    remaining_seconds=(recipe.iterations - run.iteration) * (now - report_began) / steps,
                    validation=newest,
                )
            if logged:
                # A stop between two entries writes none: the next entry after resuming covers these steps too.
                run.losses = []
                entry: dict[str, Any] = {
                    "iteration": done.iteration,
                    "lr_pixels": run.lr_pixels,
                    "seconds": round(run.elapsed_seconds, 1),
                    "loss": done.loss,
                    "learning_rate": done.learning_rate,
                    "pixels_per_second": round(done.pixels_per_second),
                }
                if run.balance is not None:
                    entry["gradient_norms"] = dict(run.balance.norms)
                if run.start_sha256 and not history:
                    entry["start_sha256"] = run.start_sha256
                if scores is not None:
                    entry |= {"validation": scores.summary, "windows": scores.windows}
                history.append(entry)
            if rank == 0:
                if logged:
                    with open_own(log) as file:
                        file.write(json.dumps(history[-1]).encode() + b"\n")
                if stopping or has_passed(recipe.checkpoint_every):
                    run.save(checkpoint)
                if (due or stopping) and history:
                    draw_curve(history, curve, recipe.name)
            if logged or stopping:
                yield done
                steps, report_began, pixels_before = 0, time.monotonic(), run.lr_pixels
            if stopping:
                break
        if run.iteration == recipe.iterations and rank == 0:
            metadata: dict[str, Any] = {
                "recipe": recipe.name,
                "iterations": recipe.iterations,
                "seconds": round(run.elapsed_seconds),
            }
            if run.start_sha256:
                metadata["start_sha256"] = run.start_sha256
            try:
                save_weights(run.averaged, weights, metrics=newest | metadata, overwrite=may_replace)
            except FileExistsError as error:
                raise TrainingError(
                    f"{weights}: already exists, written by another program during training; rename it and run the "
                    "same command again to write the weights"
                ) from error


def refuse_existing(*outputs: Path) -> None:
    """Raise TrainingError if one of the outputs exists, before the first step of a new run."""
    if taken := next(filter(os.path.lexists, outputs), None):
        raise TrainingError(f"{taken}: already exists; rename it, or use another --output")


def has_compiler() -> bool:
    """Return whether torch.compile will find a C++ compiler for CPU code."""
    return any(which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++", "cl"))
