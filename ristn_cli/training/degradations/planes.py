"""Arithmetic that degradations share: luma and chroma, and filters along one axis."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

RED, GREEN, BLUE = 0.299, 0.587, 0.114
"""Luma weights of BT.601."""


def to_ycbcr(frames: Tensor) -> tuple[Tensor, Tensor]:
    """Convert RGB (T, 3, H, W) in [0, 1] to luma (T, 1, H, W) in [0, 1] and chroma Cb, Cr (T, 2, H, W) in [-0.5,
    0.5].
    """
    red, green, blue = frames.unbind(1)
    luma = RED * red + GREEN * green + BLUE * blue
    chroma = torch.stack([(blue - luma) / (2 - 2 * BLUE), (red - luma) / (2 - 2 * RED)], dim=1)
    return luma[:, None], chroma


def to_rgb(luma: Tensor, chroma: Tensor) -> Tensor:
    """Invert `to_ycbcr`, and clamp to [0, 1]."""
    y, (cb, cr) = luma[:, 0], chroma.unbind(1)
    red, blue = y + (2 - 2 * RED) * cr, y + (2 - 2 * BLUE) * cb
    return torch.stack([red, (y - RED * red - BLUE * blue) / GREEN, blue], dim=1).clamp(0, 1)


def gaussian(deviation: float, centre: float = 0.0) -> Tensor:
    """Return the taps of a Gaussian with a standard deviation in pixels. The sum is 1 and the number of taps odd.

    The mean is `centre` pixels from the middle tap; fractions use linear interpolation.
    """
    taps = torch.arange(-math.ceil(3 * deviation), math.ceil(3 * deviation) + 1, dtype=torch.float64)
    spread = torch.exp(-((taps / max(deviation, 1e-3)) ** 2) / 2)
    taps = torch.arange(-math.ceil(abs(centre)), math.ceil(abs(centre)) + 1, dtype=torch.float64)
    place = (1 - (taps - centre).abs()).clamp(min=0)
    kernel = torch.from_numpy(np.convolve(spread, place))
    return (kernel / kernel.sum()).float()


def convolve(planes: Tensor, kernel: Tensor, axis: int) -> Tensor:
    """Convolve (N, C, H, W) with an odd number of taps along the last axis (-1) or the one before (-2).

    The tap k places after the middle moves pixels k places to the right or down. Borders are replicated.
    """
    radius, channels = len(kernel) // 2, planes.shape[1]
    kernel = kernel.flip(0).to(planes)
    if axis == -1:
        padded = F.pad(planes, (radius, radius, 0, 0), mode="replicate")
        return F.conv2d(padded, kernel.expand(channels, 1, 1, -1), groups=channels)
    padded = F.pad(planes, (0, 0, radius, radius), mode="replicate")
    return F.conv2d(padded, kernel[:, None].expand(channels, 1, -1, 1), groups=channels)


def smooth(planes: Tensor, across: float, down: float, *, right: float = 0.0, below: float = 0.0) -> Tensor:
    """Blur (N, C, H, W) with Gaussians of two standard deviations, and shift it right and down. All are in pixels."""
    return convolve(convolve(planes, gaussian(across, right), -1), gaussian(down, below), -2)
