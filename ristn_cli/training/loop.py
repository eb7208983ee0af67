"""The training loop: the stages of a recipe, resumable at any step.

Yields progress and never prints. A run lives in one folder: `checkpoint.pt`, `log.jsonl`, `curve.png`, and at the end
of its recipe `<name>.safetensors`.
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
"""Steps between entries of the log."""


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """Where a run stands after a step.

    Attributes:
        iteration: steps done, of `iterations`.
        loss: mean over the steps since the last report.
        pixels_per_second: LR pixels trained on per second, all processes together.
        remaining_seconds: until the recipe ends.
        validation: the newest validation, as of `Scores.summary`; empty before the first.
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
    """Carry out a recipe, going on from the checkpoint in `output` if there is one.

    Args:
        recipe: what to do.
        data: folder that the recipe's folders are relative to.
        output: the run's folder.
        backend: device and precision.
        minutes: save and stop after this long, to be resumed later; None for no limit.
        workers: processes that make batches; 0 makes them in this one.
        should_stop: asked after each step; a true answer saves and stops.
        cache: decoded material of an earlier run on the same folder in this process; None to decode anew.
        merged: batches of the recipe that make one optimiser step, for a GPU that has room for them. The learning rate
            grows with the root of their number.
        on_device: windows are rendered on the device that trains, and all material is kept there.

    Raises:
        RecipeError: no training material, or the recipe compares features and the network for them is missing.
        TrainingError: what the `train` extra installs is missing, the checkpoint or a training file cannot be used, an
            output of a new run exists already, or the loss is no longer a number.
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
        may_replace = is_resumed and weights.exists()  # the result of this run before stages were added
        run = Run(recipe, backend)
        if is_resumed:
            run.restore(checkpoint)
        elif recipe.start_from:
            run.start_from(locate_weights(recipe.start_from))
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
                raise TrainingError(f"the loss is {loss} at step {run.iteration}: lower the learning rate")

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
                # A stop between entries leaves none: the one that comes after resuming covers all of its steps.
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
                    f"{weights}: already exists, written by another program during training; rename it, and the same "
                    "command writes the weights"
                ) from error


def refuse_existing(*outputs: Path) -> None:
    """Raise TrainingError for a file with the name of an output, before the first step of a new run."""
    if taken := next(filter(os.path.lexists, outputs), None):
        raise TrainingError(f"{taken}: already exists; rename it, or use another --output")


def locate_weights(name: str) -> Path:
    """File of a recipe's `start_from`: a path, or released weights.

    Raises:
        WeightsError: unknown or damaged released weights.
    """
    return Path(name) if name.endswith(".safetensors") else find_weights(name)


def has_compiler() -> bool:
    """Whether torch.compile will find a C++ compiler for processor code."""
    return any(which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++", "cl"))
