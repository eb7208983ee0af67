"""The state of a run: network, averaged weights, optimizer, and the checkpoint that contains them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from ristn_cli.engine.allocator import keep_memory
from ristn_cli.engine.compilation import keep_compiled_code
from ristn_cli.engine.device import Backend
from ristn_cli.evaluation.features import LITE0, load_feature_network
from ristn_cli.model import RISTN
from ristn_cli.own_files import ForeignFileError, open_if_own, writing
from ristn_cli.training.balance import BalancedTerms
from ristn_cli.training.losses import make_target
from ristn_cli.training.objective import (
    autocast,
    frame_error,
    learning_rate_at,
    training_loss,
    with_sparsity,
    within_border,
)
from ristn_cli.training.processes import process_count
from ristn_cli.training.recipe import Recipe, StageRecipe
from ristn_cli.training.recipe_file import changed_field
from ristn_cli.typed import Opener, build, open_at_once
from ristn_cli.weights import file_sha256, load_weights


class TrainingError(Exception):
    """A run cannot start, continue or resume."""


def build_model(recipe: Recipe, stage: StageRecipe) -> RISTN:
    """Build the network of a stage with seeded initial weights."""
    torch.manual_seed(recipe.seed)
    return RISTN(replace(recipe.model, lstm_layers=0) if stage.part == "spatial" else recipe.model)


def move_average(averages: Sequence[Tensor], values: Sequence[Tensor], share: float) -> None:
    """Move floating-point averages towards values by a share, in place. Integer counts are copied."""
    floating = [(a, v) for a, v in zip(averages, values, strict=True) if a.is_floating_point()]
    if floating:
        differences = torch._foreach_sub([v for _, v in floating], [a for a, _ in floating])
        torch._foreach_add_([a for a, _ in floating], differences, alpha=share)
    for average, value in zip(averages, values, strict=True):
        if not average.is_floating_point():
            average.copy_(value)


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """The plain values of a checkpoint that a resumed run needs."""

    iteration: int
    stage_index: int
    elapsed_seconds: float
    lr_pixels: int = 0
    start_sha256: str = ""
    losses: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        if min(self.iteration, self.stage_index, self.lr_pixels, self.elapsed_seconds) < 0:
            raise ValueError("a count is negative")


def read_checkpoint(path: Path, *, advice: str, opener: Opener = open_at_once) -> dict[str, Any]:
    """Read the result of `Run.save`. Only plain values and tensors are unpickled.

    Args:
        path: the file.
        advice: end of the error message: what the user should do.
        opener: opens the file; see `open`.

    Raises:
        TrainingError: it cannot be read.
    """
    try:
        with open(path, "rb", opener=opener) as file:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        build(_Counts, {item.name: state[item.name] for item in fields(_Counts) if item.name in state})
        return state | {"recipe": dict(state["recipe"])}
    except ForeignFileError as error:
        raise TrainingError(str(error)) from error
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise TrainingError(f"{path}: not a readable checkpoint ({reason}); {advice}") from error


class Run:
    """Everything that changes during a run, saved and restored together.

    Attributes:
        lr_pixels: LR pixels that all processes have trained on.
        losses: losses of the steps since the last log entry.
        start_sha256: SHA-256 of the initial weights file; empty for random weights.
        balance: the loss terms with a share instead of a weight; None in stages without any.

    Raises:
        FeaturesError: the recipe compares features, and the feature network is not installed.
    """

    def __init__(self, recipe: Recipe, backend: Backend) -> None:
        self.recipe = recipe
        self.backend = backend
        self.iteration = 0
        self.lr_pixels = 0
        self.elapsed_seconds = 0.0
        self.losses: list[float] = []
        self.start_sha256 = ""
        if backend.device.type == "cpu":
            keep_memory()
        self.features: nn.Module | None = None
        if any(stage.terms.features for stage in recipe.stages):
            self.features = load_feature_network(LITE0).to(backend.device)
        self.start_stage(0, previous=None)

    def start_stage(self, index: int, previous: RISTN | None) -> None:
        """Build the network of a stage. Averaged weights of the previous stage are copied where they fit."""
        stage = self.recipe.stages[index]
        self.stage_index = index
        model = build_model(self.recipe, stage)
        if previous is not None:
            mine = model.state_dict()
            mine.update({k: v for k, v in previous.state_dict().items() if k in mine and mine[k].shape == v.shape})
            model.load_state_dict(mine)
        if dist.is_initialized() and self.backend.device.type == "cuda":
            # PyTorch has no SyncBatchNorm for CPUs: there, each process normalizes over its own part of the batch.
            synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
            assert isinstance(synchronized, RISTN)
            model = synchronized
        self.model = model.to(self.backend.device)
        self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch omits it
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=stage.learning_rate, betas=(0.9, stage.beta2))
        self.average = AveragedModel(self.model, use_buffers=True)
        self.averaged_steps = 0
        self.scaler = torch.amp.GradScaler(self.backend.device.type, enabled=self.backend.precision == "fp16")
        self.balance = self.balance_terms(stage, before=None)
        self.prepare_forward()

    def balance_terms(self, stage: StageRecipe, before: BalancedTerms | None) -> BalancedTerms | None:
        """Return the stage's terms that have a share, continuing those of the previous stage; None without any."""
        if stage.terms.is_balanced:
            return BalancedTerms(stage.terms, self.model, self.features, seed=self.recipe.seed, before=before)
        if before is not None:
            before.detach()
        return None

    def prepare_forward(self) -> None:
        """Distribute and compile the network as the run requires. Code compiled for earlier stages is discarded."""
        forward: nn.Module = self.model
        if dist.is_initialized():
            devices = [self.backend.device] if self.backend.device.type == "cuda" else None
            forward = nn.parallel.DistributedDataParallel(self.model, device_ids=devices)
        if self.recipe.compile:
            keep_compiled_code()
            torch.compiler.reset()
        self.forward = torch.compile(forward, dynamic=False) if self.recipe.compile else forward

    def continue_stage(self, index: int) -> None:
        """Start a stage that keeps the network, averages and optimizer of the previous stage."""
        before, stage = self.recipe.stages[self.stage_index], self.recipe.stages[index]
        self.stage_index = index
        for group in self.optimizer.param_groups:
            group["betas"] = (0.9, stage.beta2)
        if stage.freeze_norm and not before.freeze_norm:  # averages vary less than the latest statistics
            for mine, averaged in zip(self.model.buffers(), self.averaged.buffers(), strict=True):
                mine.copy_(averaged)
        self.balance = self.balance_terms(stage, before=self.balance)
        self.prepare_forward()

    def start_from(self, weights: Path) -> None:
        """Load initial weights from a file, before the first step.

        Raises:
            WeightsError: the file cannot be read.
            TrainingError: the file contains a different network.
        """
        model = load_weights(weights)
        config, wanted = model.config.to_dict(), self.recipe.model.to_dict()
        if changed := next((name for name, value in wanted.items() if config.get(name) != value), ""):
            raise TrainingError(
                f"{weights}: {changed} is {config.get(changed)!r}, but {wanted[changed]!r} in the recipe's [model]; "
                "fine-tuning needs the same network"
            )
        self.start_stage(0, previous=model)
        self.start_sha256 = file_sha256(weights)

    @property
    def averaged(self) -> RISTN:
        module = self.average.module
        assert isinstance(module, RISTN)
        return module

    def step(self, lr: Tensor, hr: Tensor, merged: int = 1) -> float:
        """Train for one optimizer step on uint8 windows; return the loss and append it to `losses`.

        Args:
            lr: LR windows (B, T, 3, H, W).
            hr: HR windows (B, T, 3, 4H, 4W).
            merged: number of the recipe's steps whose batches are joined. The learning rate grows with its square root.
        """
        index, step = self.recipe.stage_at(self.iteration)
        stage = self.recipe.stages[index]
        if index != self.stage_index:
            if stage.continues:
                self.continue_stage(index)
            else:
                self.start_stage(index, self.averaged)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(stage, step) * math.sqrt(merged)
        self.model.train()
        if stage.freeze_norm:
            for module in self.model.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        device = self.backend.device
        lr = lr.to(device, non_blocking=True).float().div(255)
        hr = hr.to(device, non_blocking=True).float().div(255)
        with autocast(self.backend):
            sr = self.forward(lr)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.backward(stage, sr, make_target(stage.terms, hr), step)
        if stage.clip_gradient:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), stage.clip_gradient)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.update_average(stage.ema**merged)
        self.iteration += merged
        self.lr_pixels += lr.shape[0] * lr.shape[1] * lr.shape[3] * lr.shape[4] * process_count()
        self.losses.append(float(loss))
        return self.losses[-1]

    def backward(self, stage: StageRecipe, sr: Tensor, target: Tensor, step: int) -> Tensor:
        """Compute the gradients of the network; return the loss of the terms with fixed weights.

        The loss is NaN if any of the other terms is not finite.
        """
        penalty = self.model.sparsity_penalty()
        if self.balance is None:
            loss = training_loss(stage, sr, target, penalty, step)
            torch.autograd.backward(self.scaler.scale(loss))
            return loss.detach()
        sr, target = within_border(stage, sr.float()), within_border(stage, target)
        output = sr.detach().requires_grad_()
        error = frame_error(stage, output, target)
        gradient = self.balance.combine(error, output, target, iteration=self.iteration, step=step)
        loss = with_sparsity(stage, error.detach(), penalty, step)
        roots, gradients = [sr], [self.scaler.scale(gradient)]
        if loss.requires_grad:
            roots.append(self.scaler.scale(loss))
            gradients.append(torch.ones_like(loss))
        torch.autograd.backward(roots, gradients)
        is_lost = not all(map(math.isfinite, self.balance.norms.values()))
        return loss.detach() * math.nan if is_lost else loss.detach()

    @torch.no_grad()
    def update_average(self, decay: float) -> None:
        """Update the averaged weights and buffers.

        An exponential moving average whose decay grows with the number of steps, so that initial weights are forgotten
        quickly. Unlike AveragedModel's own update, the step count is a Python number, which avoids waiting for the
        device.
        """
        share = 1.0
        if self.averaged_steps:
            share = 1 - min(decay, (1 + self.averaged_steps) / (10 + self.averaged_steps))
        move_average(list(self.averaged.parameters()), list(self.model.parameters()), share)
        move_average(list(self.averaged.buffers()), list(self.model.buffers()), share)
        self.averaged_steps += 1
        self.average.n_averaged += 1

    def save(self, path: Path) -> None:
        """Write a checkpoint, completely or not at all."""
        state = {
            "recipe": self.recipe.to_dict(),
            "iteration": self.iteration,
            "lr_pixels": self.lr_pixels,
            "stage_index": self.stage_index,
            "elapsed_seconds": self.elapsed_seconds,
            "start_sha256": self.start_sha256,
            "losses": self.losses,
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "balance": self.balance.state_dict() if self.balance else None,
            "random": torch.get_rng_state(),
        }
        with writing(path) as file:
            torch.save(state, file)

    def restore(self, path: Path) -> None:
        """Resume from a checkpoint.

        Raises:
            TrainingError: the checkpoint is damaged, or belongs to another recipe.
        """
        state = read_checkpoint(path, advice="remove it to start again", opener=open_if_own)
        stored, wanted = state["recipe"], self.recipe.to_dict()
        for recipe in (stored, wanted):  # stages that have not started may change
            recipe["stages"] = list(recipe["stages"])[: state["stage_index"] + 1]
        if changed := changed_field(stored, wanted):
            raise TrainingError(f"{path}: made by another recipe ({changed!r} differs); use another --output")
        try:
            self.start_stage(state["stage_index"], previous=None)
            self.model.load_state_dict(state["model"])
            self.average.load_state_dict(state["average"])
            self.averaged_steps = int(self.average.n_averaged)
            self.optimizer.load_state_dict(state["optimizer"])
            self.scaler.load_state_dict(state["scaler"])
            if self.balance is not None:
                self.balance.load_state_dict(state["balance"])
            torch.set_rng_state(state["random"])
        except (IndexError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise TrainingError(f"{path}: is incomplete ({reason}); remove it to start again") from error
        self.iteration, self.elapsed_seconds = state["iteration"], state["elapsed_seconds"]
        self.lr_pixels = state.get("lr_pixels", self.recipe.pixels_at(self.iteration))
        self.losses = state.get("losses", [])
        self.start_sha256 = state.get("start_sha256", "")
