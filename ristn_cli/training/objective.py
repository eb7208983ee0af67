"""What a step minimises and how fast: Eq. 9 and 10, the learning rate, and the precision of the arithmetic."""

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ristn_cli.inference.device import Backend
from ristn_cli.training.recipe import StageRecipe


def learning_rate_at(stage: StageRecipe, step: int) -> float:
    """Linear warm-up to the stage's rate, then a cosine that would reach its final rate one step after the last."""
    if step < stage.warmup:
        return stage.learning_rate * (step + 1) / stage.warmup
    progress = (step - stage.warmup) / max(1, stage.iterations - stage.warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return stage.final_learning_rate + (stage.learning_rate - stage.final_learning_rate) * cosine


def training_loss(stage: StageRecipe, sr: Tensor, hr: Tensor, penalty: Tensor, step: int) -> Tensor:
    """Eq. 9 and 10: the error over all frames of the window, and lambda * sum |SM| once the stage applies it."""
    difference = sr.float() - hr
    error: Tensor = difference.square().mean() if stage.loss == "mse" else (difference.square() + 1e-6).sqrt().mean()
    if stage.part == "all" and step >= stage.sparsity_after:
        error = error + stage.sparsity * penalty
    return error


def autocast(backend: Backend) -> Any:
    """Mixed precision as the backend asks for it."""
    if backend.precision == "fp32":
        return nullcontext()
    return torch.autocast(backend.device.type, backend.dtype)
