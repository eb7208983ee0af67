"""HR to LR as the field degrades: BI (antialiased bicubic) and BD (blur, decimate). And what else footage suffers."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Degradation = Literal["BI", "BD"]

SCALE = 4
BD_SIGMA = 1.6
"""Standard deviation of BD's Gaussian in HR pixels, the field's for 4x."""


def crop_to_multiple(frames: Tensor, multiple: int = SCALE) -> Tensor:
    """Cut (..., H, W) at the bottom and the right to multiples of `multiple`."""
    height, width = frames.shape[-2:]
    return frames[..., : height - height % multiple, : width - width % multiple]


def quantize(frames: Tensor) -> Tensor:
    """Round values in [0, 1] to what 8 bits can hold, clamping what overshoots."""
    return frames.clamp(0, 1).mul(255).round().div(255)


def decimate(hr: Tensor) -> Tensor:
    """Reduce (N, C, H, W) to a quarter by the mean of the middle 2x2 of every 4x4 pixels: sharp, and full of aliases.

    Only for the first steps of training, where it makes neighbouring frames worth reading: each shows other pixels.
    """
    return F.avg_pool2d(hr[..., 1:-1, 1:-1], 2, stride=SCALE)


def degrade(hr: Tensor, kind: Degradation = "BI") -> Tensor:
    """Reduce (N, C, H, W) float frames in [0, 1], H and W multiples of 4, to (N, C, H/4, W/4), not rounded.

    BI is the bicubic kernel with a = -0.5, widened by 4 against aliasing: MATLAB's `imresize` and Pillow's BICUBIC. BD
    is a Gaussian of sigma 1.6, then every fourth pixel from the first.
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
    """(N, C, H, W) under a Gaussian with standard deviations in pixels along and across a direction in radians.

    Above 0, at most 2; edges are repeated.
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
    """(N, C, H, W) resized to `size` and back: `bilinear`, `bicubic` (neither antialiased) or `area` each way."""
    original = frames.shape[-2:]
    return F.interpolate(F.interpolate(frames, size=size, mode=there), size=original, mode=back)


def add_noise(frames: Tensor, noise: Tensor, deviation: float, *, is_shot: bool) -> Tensor:
    """Frames in [0, 1] and normal noise times a standard deviation; shot noise grows with the root of the brightness.

    The result is not clamped. Shot noise is that of photons: its variance is in proportion to the signal, and at full
    brightness it has twice the deviation's variance, so that mid-grey has just the deviation.
    """
    if is_shot:
        return frames + deviation * (2 * frames.clamp(0, 1)).sqrt() * noise
    return frames + deviation * noise
