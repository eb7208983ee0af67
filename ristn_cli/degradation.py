"""Degradations from HR to LR: BI (antialiased bicubic), BD (blur, decimate), and further steps for real footage."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Degradation = Literal["BI", "BD"]

SCALE = 4
BD_SIGMA = 1.6
"""Standard deviation of BD's Gaussian in HR pixels, as usual for 4x."""


def crop_to_multiple(frames: Tensor, multiple: int = SCALE) -> Tensor:
    """Cut (..., H, W) at the bottom and the right to multiples of `multiple`."""
    height, width = frames.shape[-2:]
    return frames[..., : height - height % multiple, : width - width % multiple]


def quantize(frames: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to 8 bits."""
    return frames.clamp(0, 1).mul(255).round().div(255)


def decimate(hr: Tensor) -> Tensor:
    """Reduce (N, C, H, W) to a quarter by averaging the middle 2x2 of every 4x4 pixels: sharp, with strong aliasing.

    Only used in early training. Each aliased frame shows different pixels, so the network learns to read neighbours.
    """
    return F.avg_pool2d(hr[..., 1:-1, 1:-1], 2, stride=SCALE)


def degrade(hr: Tensor, kind: Degradation = "BI") -> Tensor:
    """Reduce (N, C, H, W) frames in [0, 1], with H and W multiples of 4, to (N, C, H/4, W/4), not rounded.

    BI is the bicubic kernel with a = -0.5, widened by 4 for antialiasing, as in MATLAB's `imresize` and Pillow's
    BICUBIC. BD is a Gaussian with sigma 1.6, then every fourth pixel from the first.
    """
    height, width = hr.shape[-2:]
    if height % SCALE or width % SCALE:
        raise ValueError(f"{width}x{height} is not a multiple of {SCALE}: cut it first")
    if kind == "BI":
        return F.interpolate(hr, size=(height // SCALE, width // SCALE), mode="bicubic", antialias=True)
    radius = 6
    taps = torch.arange(-radius, radius + 1, dtype=hr.dtype, device=hr.device)
    kernel = torch.exp(-(taps**2) / (2 * BD_SIGMA**2))
    kernel = kernel / kernel.sum()
    channels = hr.shape[1]
    padded = F.pad(hr, [radius] * 4, mode="reflect" if min(height, width) > radius else "replicate")
    rows = F.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), stride=(SCALE, 1), groups=channels)
    return F.conv2d(rows, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), stride=(1, SCALE), groups=channels)


def blur(frames: Tensor, along: float, across: float, angle: float) -> Tensor:
    """Blur (N, C, H, W) with a Gaussian; edges are repeated.

    The standard deviations, above 0 and at most 2 pixels, apply along and across a direction in radians.
    """
    radius = math.ceil(3 * max(along, across))
    taps = torch.arange(-radius, radius + 1, dtype=frames.dtype, device=frames.device)
    y, x = torch.meshgrid(taps, taps, indexing="ij")
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    kernel = torch.exp(-((u / along) ** 2 + (v / across) ** 2) / 2)
    kernel = kernel / kernel.sum()
    channels = frames.shape[1]
    padded = F.pad(frames, [radius] * 4, mode="replicate")
    return F.conv2d(padded, kernel.expand(channels, 1, -1, -1), groups=channels)


def resample(frames: Tensor, size: tuple[int, int], there: str, back: str) -> Tensor:
    """Resize (N, C, H, W) to `size` and back with `bilinear` or `bicubic`, not antialiased, or `area`."""
    original = frames.shape[-2:]
    return F.interpolate(F.interpolate(frames, size=size, mode=there), size=original, mode=back)


def add_noise(frames: Tensor, noise: Tensor, deviation: float, *, is_shot: bool) -> Tensor:
    """Add Gaussian noise to frames in [0, 1], without clamping. The amount of shot noise grows with brightness.

    The variance of shot noise is proportional to the signal: twice the given variance at 1, and the given one at 0.5.
    """
    if is_shot:
        return frames + deviation * (2 * frames.clamp(0, 1)).sqrt() * noise
    return frames + deviation * noise
