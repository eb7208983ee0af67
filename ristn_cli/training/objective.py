"""What a step minimises and how fast: Eq. 9 and 10, the learning rate, and the precision of the arithmetic."""

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ristn_cli.inference.device import Backend
from ristn_cli.model import SCALE
from ristn_cli.training.recipe import StageRecipe

LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
"""Y of R, G and B on the scale from 16 to 235, which PSNR-Y is measured on (ITU-R BT.601)."""

CHROMA_SHARE = 0.1
"""Of the error of RGB beside that of luma, so that colours stay right."""


def learning_rate_at(stage: StageRecipe, step: int) -> float:
    """Linear warm-up to the stage's rate, then a cosine that would reach its final rate one step after the last."""
    if step < stage.warmup:
        return stage.learning_rate * (step + 1) / stage.warmup
    progress = (step - stage.warmup) / max(1, stage.iterations - stage.warmup)
    cosine = (1 + math.cos(math.pi * progress)) / 2
    return stage.final_learning_rate + (stage.learning_rate - stage.final_learning_rate) * cosine


def training_loss(stage: StageRecipe, sr: Tensor, hr: Tensor, penalty: Tensor, step: int) -> Tensor:
    """Eq. 9 and 10: the error over all frames of the window, and lambda * sum |SM| once the stage applies it.

    Args:
        stage: which error, and how much of a patch's border is left out.
        sr: what the network made, (B, T, 3, 4H, 4W).
        hr: what it should be, in [0, 1].
        penalty: sum |SM|.
        step: of the stage.
    """
    difference = sr.float() - hr
    if stage.loss_border:
        border = SCALE * stage.loss_border
        difference = difference[..., border:-border, border:-border]
    squares = difference.square()
    error: Tensor = (squares + 1e-6).sqrt().mean() if stage.loss == "charbonnier" else squares.mean()
    if stage.loss == "luma":
        luma = torch.einsum("btchw,c->bthw", difference, difference.new_tensor(LUMA))
        error = luma.square().mean() + CHROMA_SHARE * error
    if stage.part == "all" and step >= stage.sparsity_after:
        error = error + stage.sparsity * penalty
    return error


def autocast(backend: Backend) -> Any:
    """Mixed precision as the backend asks for it."""
    if backend.precision == "fp32":
        return nullcontext()
    return torch.autocast(backend.device.type, backend.dtype)
