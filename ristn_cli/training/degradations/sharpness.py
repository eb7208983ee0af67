"""Wrong sharpness: halos of a sharpening filter, and frames enlarged from a smaller size."""

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ristn_cli.training.degradations.planes import smooth, to_rgb, to_ycbcr

SHARPENING = 1.6
"""Amount of the strongest unsharp mask."""

HALOS = (0.7, 1.8)
"""Range of the width of halos: standard deviation of the mask's blur, in pixels."""

REDUCTION = 2.5
"""Largest factor by which frames are reduced and enlarged again."""


def sharpen(frames: Tensor, strength: float, seed: int) -> Tensor:
    """Apply an unsharp mask to luma, which leaves halos along edges."""
    deviation = float(np.random.default_rng(seed).uniform(*HALOS))
    luma, chroma = to_ycbcr(frames)
    return to_rgb(luma + strength * SHARPENING * (luma - smooth(luma, deviation, deviation)), chroma)


def upscale_before(frames: Tensor, strength: float, seed: int) -> Tensor:
    """Reduce by a factor of 1 to `REDUCTION` with antialiasing, and enlarge again with a bilinear or bicubic filter."""
    back = "bilinear" if np.random.default_rng(seed).random() < 0.4 else "bicubic"
    height, width = frames.shape[-2:]
    factor = 1 / (1 + strength * (REDUCTION - 1))
    size = max(8, round(height * factor)), max(8, round(width * factor))
    small = F.interpolate(frames, size=size, mode="bicubic", antialias=True)
    return F.interpolate(small, size=(height, width), mode=back).clamp(0, 1)
