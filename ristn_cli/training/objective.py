"""The training objective: Eq. 9 and 10, the learning rate schedule, and mixed precision."""

import math
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ristn_cli.engine.device import Backend
from ristn_cli.model import SCALE
from ristn_cli.training.losses import (
    chroma_term,
    colour_term,
    direction_term,
    gradient_term,
    pattern_term,
    smooth_power,
    temporal_term,
    to_luma,
)
from ristn_cli.training.recipe import StageRecipe

CHROMA_SHARE = 0.1
"""Weight of the RGB error beside the luma error, which keeps colours correct."""


def learning_rate_at(stage: StageRecipe, step: int) -> float:
    """Return the learning rate: linear warm-up, then a cosine that reaches the final rate one step after the last."""
    if step < stage.warmup:
        return stage.learning_rate * (step + 1) / stage.warmup
    progress = (step - stage.warmup) / max(1, stage.iterations - stage.warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return stage.final_learning_rate + (stage.learning_rate - stage.final_learning_rate) * cosine


def training_loss(stage: StageRecipe, sr: Tensor, target: Tensor, penalty: Tensor, step: int) -> Tensor:
    """Return the loss of Eq. 9 and 10: the error over all frames of the window, plus lambda * sum |SM| once it applies.

    Args:
        stage: the stage, which selects the error and the border without loss.
        sr: output of the network, (B, T, 3, 4H, 4W).
        target: target of the same shape, in [0, 1].
        penalty: sum |SM|.
        step: step of the stage.
    """
    error = frame_error(stage, within_border(stage, sr.float()), within_border(stage, target))
    return with_sparsity(stage, error, penalty, step)


def frame_error(stage: StageRecipe, sr: Tensor, target: Tensor) -> Tensor:
    """Return the pixel error plus all terms with fixed weights of the stage's `[loss]` table."""
    difference = sr - target
    error = difference.square().mean()
    if stage.loss == "charbonnier":
        error = smooth_power(difference, stage.terms.power).mean()
    if stage.loss == "luma":
        error = to_luma(difference).square().mean() + CHROMA_SHARE * error
    for weight, term in (
        (stage.terms.temporal, temporal_term),
        (stage.terms.colour, colour_term),
        (stage.terms.chroma, partial(chroma_term, power=stage.terms.power)),
        (stage.terms.gradient, gradient_term),
        (stage.terms.direction, direction_term),
        (stage.terms.pattern, pattern_term),
    ):
        if weight:
            error = error + weight * term(sr, target)
    return error


def within_border(stage: StageRecipe, frames: Tensor) -> Tensor:
    """Crop the border without loss from HR frames."""
    border = SCALE * stage.loss_border
    return frames[..., border:-border, border:-border] if border else frames


def with_sparsity(stage: StageRecipe, error: Tensor, penalty: Tensor, step: int) -> Tensor:
    """Add lambda * sum |SM| to the error, once the stage applies it."""
    if stage.part == "all" and step >= stage.sparsity_after:
        error = error + stage.sparsity * penalty
    return error


def autocast(backend: Backend) -> Any:
    """Return a context with the backend's mixed precision."""
    if backend.precision == "fp32":
        return nullcontext()
    return torch.autocast(backend.device.type, backend.dtype)
