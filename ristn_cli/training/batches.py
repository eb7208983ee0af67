"""Makes a run's batches, in worker processes or on the training device."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ristn_cli.engine.device import Backend
from ristn_cli.training.data import BatchPlan, TrainingWindows
from ristn_cli.training.material import MaterialError
from ristn_cli.training.motion import Source
from ristn_cli.training.processes import ignore_group_signals
from ristn_cli.training.recipe import Recipe, RecipeError
from ristn_cli.training.state import TrainingError

Batch = tuple[Tensor, Tensor]


class Plans(Dataset[BatchPlan]):
    """The plans of batches by number: all random choices, nothing rendered."""

    def __init__(self, windows: TrainingWindows) -> None:
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, number: int) -> BatchPlan:
        return self.windows.plan(number)


def make_batches(windows: TrainingWindows, numbers: range, backend: Backend, *, workers: int) -> Iterator[Batch]:
    """Yield LR and HR batches, uint8, made by `workers` processes, or in this process with 0.

    Raises:
        TrainingError: a file cannot be used. The message is one line, whichever process read the file.
    """
    loader = open_loader(windows, numbers, workers=workers, pin_memory=backend.device.type == "cuda")
    yield from with_one_line_errors(loader)


def make_batches_on(device: torch.device, windows: TrainingWindows, numbers: range, *, workers: int) -> Iterator[Batch]:
    """Yield the batches of `make_batches`, within rounding. Worker processes draw the plans; the device renders them.

    Sources stay in the device's memory.

    Raises:
        TrainingError: as for `make_batches`, or the recipe's degradation is not BI.
    """
    if windows.recipe.data.degradation != "BI":
        raise TrainingError(f"{windows.recipe.name}: only degradation 'BI' can be rendered on the training device")
    kept: dict[Source, Tensor] = {}

    def get(source: Source) -> Tensor:
        if source not in kept:
            kept[source] = windows.read(source).to(device)
        return kept[source]

    for plan in with_one_line_errors(open_loader(Plans(windows), numbers, workers=workers)):
        hr = plan.render(get)
        yield plan.cut(plan.reduce(hr), hr)


def open_loader(dataset: Dataset[Any], numbers: range, *, workers: int, pin_memory: bool = False) -> DataLoader[Any]:
    """Return a loader of the given items of a dataset, in order."""
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
        pin_memory=pin_memory,
        worker_init_fn=ignore_group_signals,
        generator=torch.Generator(),  # a separate one, because the loader must not use the run's random state
    )


def with_one_line_errors(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield the loader's items, and convert errors of training files to a TrainingError."""
    try:
        yield from loader
    except (RecipeError, MaterialError) as error:
        # The message from a worker process contains its traceback; the last line is the error.
        reason = str(error).strip().splitlines()[-1].removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")
        raise TrainingError(reason) from error


def merge_batches(
    batches: Iterator[Batch], recipe: Recipe, iteration: int, merged: int
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Join batches to larger ones, never across stages. Yields LR, HR and the number of joined batches."""
    while iteration < recipe.iterations:
        index, step = recipe.stage_at(iteration)
        group = list(islice(batches, min(merged, recipe.stages[index].iterations - step)))
        if not group:
            return
        lr, hr = group[0] if len(group) == 1 else (torch.cat(part) for part in zip(*group, strict=True))
        yield lr, hr, len(group)
        iteration += len(group)
