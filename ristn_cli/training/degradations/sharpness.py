"""Wrong sharpness: halos of a sharpening filter, and pictures that were small before."""

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ristn_cli.training.degradations.planes import smooth, to_rgb, to_ycbcr

SHARPENING = 1.6
"""Amount of the strongest unsharp mask."""

HALOS = (0.7, 1.8)
"""Range of the width of halos: the standard deviation in pixels of the mask's Gaussian."""

REDUCTION = 2.5
"""Factor by which footage was smaller at most."""


def sharpen(frames: Tensor, strength: float, seed: int) -> Tensor:
    """An unsharp mask of luma, which leaves halos along edges."""
    deviation = float(np.random.default_rng(seed).uniform(*HALOS))
    luma, chroma = to_ycbcr(frames)
    return to_rgb(luma + strength * SHARPENING * (luma - smooth(luma, deviation, deviation)), chroma)


def upscale_before(frames: Tensor, strength: float, seed: int) -> Tensor:
    """Reduced by 1 to `REDUCTION` without aliases, and enlarged again by a bilinear or a bicubic filter."""
    back = "bilinear" if np.random.default_rng(seed).random() < 0.4 else "bicubic"
    height, width = frames.shape[-2:]
    factor = 1 / (1 + strength * (REDUCTION - 1))
    size = max(8, round(height * factor)), max(8, round(width * factor))
    small = F.interpolate(frames, size=size, mode="bicubic", antialias=True)
    return F.interpolate(small, size=(height, width), mode=back).clamp(0, 1)
