"""The training loop: the stages of a recipe, resumable at any step.

Yields progress and never prints. A run lives in one folder: `checkpoint.pt`, `log.jsonl`, `curve.png`, and at the end
of its recipe `<name>.safetensors`.
"""

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from shutil import which
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader

from ristn_cli.degradation import crop_to_multiple, degrade, quantize
from ristn_cli.evaluation.metrics import psnr_y
from ristn_cli.inference.device import Backend
from ristn_cli.model import RISTN, bicubic_upsample
from ristn_cli.training.data import CLIP_SUFFIXES, TrainingWindows, list_files, read_clip
from ristn_cli.training.recipe import Recipe, RecipeError, StageRecipe
from ristn_cli.video import VideoError
from ristn_cli.weights import save_weights

REPORT_EVERY = 10
"""Steps between entries of the log."""

VALIDATION_FRAMES = 7
VALIDATION_SIZE = 384
"""Validation windows: the middle frames of each clip, cut to this many HR pixels around the centre."""


class TrainingError(Exception):
    """A run that cannot begin, go on or resume."""


@dataclass(frozen=True, kw_only=True)
class TrainingProgress:
    """Where a run stands after a step.

    Attributes:
        iteration: steps done, of `iterations`.
        loss: mean over the steps since the last report.
        pixels_per_second: LR pixels trained on per second, all processes together.
        remaining_seconds: until the recipe ends.
        validation: the newest validation, empty before the first: `psnr_y`, `bicubic_psnr_y`, `temporal_gain` in dB,
            and `temporal_share` in [0, 1] where the network has a fusion.
    """

    iteration: int
    iterations: int
    loss: float
    learning_rate: float
    pixels_per_second: float
    remaining_seconds: float
    validation: dict[str, float]


def learning_rate_at(stage: StageRecipe, step: int) -> float:
    """Linear warm-up to the stage's rate, then a cosine that would reach its final rate one step after the last."""
    if step < stage.warmup:
        return stage.learning_rate * (step + 1) / stage.warmup
    progress = (step - stage.warmup) / max(1, stage.iterations - stage.warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return stage.final_learning_rate + (stage.learning_rate - stage.final_learning_rate) * cosine


def moving_average(decay: float, average: Tensor, value: Tensor, count: Tensor | int) -> Tensor:
    """Exponential moving average that forgets the initial weights quickly: its decay grows with the steps averaged."""
    return average + (1 - min(decay, (1 + int(count)) / (10 + int(count)))) * (value - average)


def training_loss(stage: StageRecipe, sr: Tensor, hr: Tensor, penalty: Tensor, step: int) -> Tensor:
    """Eq. 9 and 10: the error over all frames of the window, and lambda * sum |SM| once the stage applies it."""
    difference = sr.float() - hr
    error: Tensor = difference.square().mean() if stage.loss == "mse" else (difference.square() + 1e-6).sqrt().mean()
    if stage.part == "all" and step >= stage.sparsity_after:
        error = error + stage.sparsity * penalty
    return error


def load_validation(recipe: Recipe, folder: Path) -> list[Tensor]:
    """HR validation windows, each (T, 3, H, W) in [0, 1]: the middle of each validation clip."""
    if not recipe.data.validation:
        return []
    paths = list_files(folder / recipe.data.validation, CLIP_SUFFIXES)
    if not paths:
        raise RecipeError(f"{folder / recipe.data.validation}: no clips to validate on")
    windows = []
    for path in paths:
        clip = read_clip(path)
        first = max(0, (len(clip) - VALIDATION_FRAMES) // 2)
        height, width = clip.shape[-2:]
        top, left = max(0, (height - VALIDATION_SIZE) // 2), max(0, (width - VALIDATION_SIZE) // 2)
        window = clip[first : first + VALIDATION_FRAMES, :, top:, left:][..., :VALIDATION_SIZE, :VALIDATION_SIZE]
        windows.append(crop_to_multiple(window.float().div(255)))
    return windows


@torch.inference_mode()
def validate(model: RISTN, windows: list[Tensor], backend: Backend) -> dict[str, float]:
    """PSNR-Y of the middle frames in dB, bicubic's, the temporal gain, and the temporal path's share of the features.

    The temporal gain is PSNR with the true neighbours minus PSNR with the middle frame repeated: what the network takes
    from other frames.
    """

    def upscale(lr: Tensor, middle: int) -> Tensor:
        with autocast(backend):
            sr: Tensor = model(lr[None].to(backend.device), keep=slice(middle, middle + 1))
        return sr[0, 0].float().cpu()

    def to_image(frame: Tensor) -> Any:
        return quantize(frame).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    model.eval()
    rows = []
    for hr in windows:
        lr = quantize(degrade(hr))
        middle = len(hr) // 2
        truth = to_image(hr[middle])
        moving = upscale(lr, middle)
        still = upscale(lr[middle].expand_as(lr), middle)
        bicubic = bicubic_upsample(lr[middle][None])[0]
        psnr, still_psnr, bicubic_psnr = (
            psnr_y(to_image(image), truth, crop_border=8) for image in (moving, still, bicubic)
        )
        with autocast(backend):
            share = model.temporal_share(lr[None].to(backend.device))
        row = {"psnr_y": psnr, "bicubic_psnr_y": bicubic_psnr, "temporal_gain": psnr - still_psnr}
        rows.append(row if share is None else row | {"temporal_share": share})
    return {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in rows[0]}


def autocast(backend: Backend) -> Any:
    """Mixed precision as the backend asks for it."""
    if backend.precision == "fp32":
        return nullcontext()
    return torch.autocast(backend.device.type, backend.dtype)


def build_model(recipe: Recipe, stage: StageRecipe) -> RISTN:
    """The network of a stage with seeded initial weights."""
    torch.manual_seed(recipe.seed)
    return RISTN(replace(recipe.model, lstm_layers=0) if stage.part == "spatial" else recipe.model)


class Run:
    """Everything that changes while a recipe is carried out, saved and restored as one.

    `losses` are those of the steps since the newest entry of the log.
    """

    def __init__(self, recipe: Recipe, backend: Backend) -> None:
        self.recipe = recipe
        self.backend = backend
        self.iteration = 0
        self.elapsed_seconds = 0.0
        self.losses: list[float] = []
        self.start_stage(0, previous=None)

    def start_stage(self, index: int, previous: RISTN | None) -> None:
        """Build the network of a stage, with what fits of the averaged weights of the stage before."""
        stage = self.recipe.stages[index]
        self.stage_index = index
        model = build_model(self.recipe, stage)
        if previous is not None:
            mine = model.state_dict()
            mine.update({k: v for k, v in previous.state_dict().items() if k in mine and mine[k].shape == v.shape})
            model.load_state_dict(mine)
        self.model = model.to(self.backend.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch omits it
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=stage.learning_rate)
        self.average = AveragedModel(self.model, avg_fn=partial(moving_average, stage.ema), use_buffers=True)
        self.scaler = torch.amp.GradScaler(self.backend.device.type, enabled=self.backend.precision == "fp16")
        forward: nn.Module = self.model
        if dist.is_initialized():
            devices = [self.backend.device] if self.backend.device.type == "cuda" else None
            forward = nn.parallel.DistributedDataParallel(self.model, device_ids=devices)
        self.forward = torch.compile(forward) if self.recipe.compile else forward

    @property
    def averaged(self) -> RISTN:
        """The network with averaged weights."""
        module = self.average.module
        assert isinstance(module, RISTN)
        return module

    def step(self, lr: Tensor, hr: Tensor) -> float:
        """One optimiser step on a batch of uint8 windows; returns the loss, and adds it to `losses`."""
        index, step = self.recipe.stage_at(self.iteration)
        if index != self.stage_index:
            self.start_stage(index, self.averaged)
        stage = self.recipe.stages[index]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(stage, step)
        self.model.train()
        device = self.backend.device
        lr = lr.to(device, non_blocking=True).float().div(255)
        hr = hr.to(device, non_blocking=True).float().div(255)
        with autocast(self.backend):
            sr = self.forward(lr)
        loss = training_loss(stage, sr, hr, self.model.sparsity_penalty(), step)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(self.scaler.scale(loss))
        if stage.clip_gradient:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), stage.clip_gradient)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update_parameters(self.model)
        self.iteration += 1
        self.losses.append(float(loss.detach()))
        return self.losses[-1]

    def save(self, path: Path) -> None:
        """Write a checkpoint whole or not at all: temporary file, fsync, rename."""
        state = {
            "recipe": self.recipe.to_dict(),
            "iteration": self.iteration,
            "stage_index": self.stage_index,
            "elapsed_seconds": self.elapsed_seconds,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "random": torch.get_rng_state(),
        }
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    def restore(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises:
            TrainingError: it is damaged, or of another recipe.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            made_by = dict(state["recipe"])
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
            raise TrainingError(f"{path}: not a readable checkpoint ({reason}); remove it to start afresh") from error
        if made_by != self.recipe.to_dict():
            changed = next((k for k, v in self.recipe.to_dict().items() if made_by.get(k) != v), "")
            raise TrainingError(f"{path}: made by another recipe ({changed!r} differs); use another --output")
        self.start_stage(state["stage_index"], previous=None)
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])
        torch.set_rng_state(state["random"])
        self.iteration, self.elapsed_seconds = state["iteration"], state["elapsed_seconds"]
        self.losses = state.get("losses", [])


def train(
    recipe: Recipe,
    *,
    data: Path,
    output: Path,
    backend: Backend,
    minutes: float | None = None,
    workers: int = 1,
    should_stop: Callable[[], bool] = lambda: False,
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

    Raises:
        RecipeError: no training material.
        TrainingError: what the `train` extra installs is missing, the checkpoint or a training file cannot be used, or
            the loss is no longer a number.
    """
    if recipe.compile and backend.device.type == "cpu" and not has_compiler():
        raise TrainingError(f"{recipe.name}: compile = true needs a C++ compiler; install one, or set compile = false")
    missing = [name for name in ("matplotlib", "PIL") if find_spec(name) is None]
    if missing:
        raise TrainingError(f"training needs {' and '.join(missing)}: pip install 'ristn[train]'")
    with joined_processes(backend) as (backend, rank, world):
        output.mkdir(parents=True, exist_ok=True)
        checkpoint, log = output / "checkpoint.pt", output / "log.jsonl"
        run = Run(recipe, backend)
        if checkpoint.exists():
            run.restore(checkpoint)
        history = trim_log(log, run.iteration) if rank == 0 else []
        windows = TrainingWindows(recipe, data, world)
        validation = load_validation(recipe, data) if rank == 0 else []
        newest: dict[str, float] = next(
            (entry["validation"] for entry in reversed(history) if "validation" in entry), {}
        )
        loader = DataLoader(
            windows,
            batch_size=None,
            sampler=range(run.iteration * world + rank, recipe.iterations * world, world),
            num_workers=workers,
            prefetch_factor=8 if workers else None,
            pin_memory=backend.device.type == "cuda",
            worker_init_fn=leave_signals_to_parent,
            generator=torch.Generator(),  # its own: starting it again must not draw from the run's random state
        )
        began = time.monotonic() - run.elapsed_seconds
        session_began, steps, pixels, report_began = time.monotonic(), 0, 0, time.monotonic()
        for lr, hr in read_batches(loader):
            loss = run.step(lr, hr)
            steps += 1
            pixels += lr.shape[0] * lr.shape[1] * lr.shape[3] * lr.shape[4] * world
            now = time.monotonic()
            run.elapsed_seconds = now - began
            finished = run.iteration == recipe.iterations
            out_of_time = minutes is not None and now - session_began >= 60 * minutes
            is_lost = not math.isfinite(loss)
            stopping = finished or agree(out_of_time or should_stop() or is_lost, backend)
            if is_lost:
                raise TrainingError(f"the loss is {loss} at step {run.iteration}: lower the learning rate")
            due = finished or run.iteration % recipe.validate_every == 0
            logged = due or run.iteration % REPORT_EVERY == 0
            if logged or stopping:
                if rank == 0 and due and validation:
                    newest = validate(run.averaged, validation, backend)
                index, step = recipe.stage_at(run.iteration - 1)
                done = TrainingProgress(
                    iteration=run.iteration,
                    iterations=recipe.iterations,
                    loss=sum(run.losses) / len(run.losses),
                    learning_rate=learning_rate_at(recipe.stages[index], step),
                    pixels_per_second=pixels / max(1e-9, now - report_began),
                    remaining_seconds=(recipe.iterations - run.iteration) * (now - report_began) / steps,
                    validation=newest,
                )
            if logged:
                # A stop between entries leaves none: the one that comes after resuming covers all of its steps.
                run.losses = []
                entry: dict[str, Any] = {
                    "iteration": done.iteration,
                    "seconds": round(run.elapsed_seconds, 1),
                    "loss": done.loss,
                    "learning_rate": done.learning_rate,
                    "pixels_per_second": round(done.pixels_per_second),
                }
                history.append(entry | {"validation": newest} if due and validation else entry)
            if rank == 0:
                if logged:
                    with log.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(history[-1]) + "\n")
                if stopping or run.iteration % recipe.checkpoint_every == 0:
                    run.save(checkpoint)
                if (due or stopping) and history:
                    draw_curve(history, output / "curve.png", recipe.name)
            if logged or stopping:
                yield done
                steps, pixels, report_began = 0, 0, time.monotonic()
            if stopping:
                break
        if run.iteration == recipe.iterations and rank == 0:
            metadata = {"recipe": recipe.name, "iterations": recipe.iterations, "seconds": round(run.elapsed_seconds)}
            save_weights(run.averaged, output / f"{recipe.name}.safetensors", metrics=newest | metadata)


@contextmanager
def joined_processes(backend: Backend) -> Iterator[tuple[Backend, int, int]]:
    """Join the other processes that torchrun started, if it did: this one's backend, its rank, and their number."""
    if "WORLD_SIZE" not in os.environ:
        yield backend, 0, 1
        return
    if backend.device.type == "cuda":
        backend = replace(backend, device=torch.device("cuda", int(os.environ["LOCAL_RANK"])))
        torch.cuda.set_device(backend.device)
    dist.init_process_group("nccl" if backend.device.type == "cuda" else "gloo")
    try:
        yield backend, dist.get_rank(), dist.get_world_size()
        dist.barrier()  # none leaves while another still talks to it
    finally:
        dist.destroy_process_group()


def read_batches(loader: DataLoader[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """What the loader gives; a file that cannot be used is one line, whichever process read it.

    Raises:
        TrainingError: such a file.
    """
    try:
        yield from loader
    except (RecipeError, VideoError) as error:
        # Another process sends its traceback along, whose last line is the error itself.
        reason = str(error).strip().splitlines()[-1].removeprefix(f"{type(error).__module__}.{type(error).__name__}: ")
        raise TrainingError(reason) from error


def has_compiler() -> bool:
    """Whether torch.compile will find a C++ compiler for processor code."""
    return any(which(name) for name in (os.environ.get("CXX", "g++"), "g++", "clang++", "cl"))


def leave_signals_to_parent(_: int) -> None:
    """A batch-making process does not die of a Ctrl-C or SIGTERM to its parent's group: only its parent ends it."""
    if os.name == "posix":
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def agree(stop: bool, backend: Backend) -> bool:
    """Whether any process of the run wants to stop: they must do so at the same step."""
    if not dist.is_initialized():
        return stop
    votes = torch.tensor(float(stop), device=backend.device)
    dist.all_reduce(votes)
    return bool(votes > 0)


def trim_log(path: Path, iteration: int) -> list[dict[str, Any]]:
    """Entries up to `iteration`; what a killed run wrote after its last checkpoint is cut off, for it comes again."""
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        if entry["iteration"] > iteration:
            break
        entries.append(entry)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    temporary.replace(path)
    return entries


def draw_curve(history: list[dict[str, Any]], path: Path, title: str) -> None:
    """Learning curve as PNG: loss, validation PSNR-Y against bicubic, and the temporal gain, over hours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots(3, sharex=True)
    hours = [entry["seconds"] / 3600 for entry in history]
    block = max(1, len(history) // 200)
    blocks = range(0, len(history), block)
    means = [sum(entry["loss"] for entry in history[i : i + block]) / len(history[i : i + block]) for i in blocks]
    axes[0].semilogy([hours[i] for i in blocks], means)
    axes[0].set_ylabel("training loss")
    axes[0].set_title(title)
    validated = [
        (hour, entry["validation"]) for hour, entry in zip(hours, history, strict=True) if "validation" in entry
    ]
    for axis, names in ((axes[1], ("psnr_y", "bicubic_psnr_y")), (axes[2], ("temporal_gain",))):
        for name in names:
            axis.plot([hour for hour, _ in validated], [values[name] for _, values in validated], ".-", label=name)
        axis.set_ylabel("dB")
        axis.legend()
    axes[2].set_xlabel("hours")
    figure.savefig(path, dpi=100)
