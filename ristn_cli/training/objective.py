"""What a step minimises and how fast: Eq. 9 and 10, the learning rate, and the precision of the arithmetic."""

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ristn_cli.engine.device import Backend
from ristn_cli.model import SCALE
from ristn_cli.training.losses import (
    direction_term,
    gradient_term,
    pattern_term,
    smooth_abs,
    temporal_term,
    to_luma,
)
from ristn_cli.training.recipe import StageRecipe

CHROMA_SHARE = 0.1
"""Of the error of RGB beside that of luma, so that colours stay right."""


def learning_rate_at(stage: StageRecipe, step: int) -> float:
    """Linear warm-up to the stage's rate, then a cosine that would reach its final rate one step after the last."""
    if step < stage.warmup:
        return stage.learning_rate * (step + 1) / stage.warmup
    progress = (step - stage.warmup) / max(1, stage.iterations - stage.warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return stage.final_learning_rate + (stage.learning_rate - stage.final_learning_rate) * cosine


def training_loss(stage: StageRecipe, sr: Tensor, target: Tensor, penalty: Tensor, step: int) -> Tensor:
    """Eq. 9 and 10: the error over all frames of the window, and lambda * sum |SM| once the stage applies it.

    Args:
        stage: which error, and how much of a patch's border is left out.
        sr: what the network made, (B, T, 3, 4H, 4W).
        target: what it should be, in [0, 1].
        penalty: sum |SM|.
        step: of the stage.
    """
    error = frame_error(stage, within_border(stage, sr.float()), within_border(stage, target))
    return with_sparsity(stage, error, penalty, step)


def frame_error(stage: StageRecipe, sr: Tensor, target: Tensor) -> Tensor:
    """All terms with fixed weights: the error of the pixels, and those of the stage's `[loss]` table."""
    difference = sr - target
    error = smooth_abs(difference).mean() if stage.loss == "charbonnier" else difference.square().mean()
    if stage.loss == "luma":
        error = to_luma(difference).square().mean() + CHROMA_SHARE * error
    for weight, term in (
        (stage.terms.temporal, temporal_term),
        (stage.terms.gradient, gradient_term),
        (stage.terms.direction, direction_term),
        (stage.terms.pattern, pattern_term),
    ):
        if weight:
            error = error + weight * term(sr, target)
    return error


def within_border(stage: StageRecipe, frames: Tensor) -> Tensor:
    """HR frames without the border that does not count."""
    border = SCALE * stage.loss_border
    return frames[..., border:-border, border:-border] if border else frames


def with_sparsity(stage: StageRecipe, error: Tensor, penalty: Tensor, step: int) -> Tensor:
    """The error, and lambda * sum |SM| once the stage applies it."""
    if stage.part == "all" and step >= stage.sparsity_after:
        error = error + stage.sparsity * penalty
    return error


def autocast(backend: Backend) -> Any:
    """Mixed precision as the backend asks for it."""
    if backend.precision == "fp32":
        return nullcontext()
    return torch.autocast(backend.device.type, backend.dtype)
