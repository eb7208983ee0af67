"""Film grain, and noise of a camera sensor in low light. Both are independent in every frame."""

import math

import numpy as np
import torch
from torch import Tensor

from ristn_cli.training.degradations.planes import convolve, gaussian, to_rgb, to_ycbcr

GRAIN = 13 / 255
"""Standard deviation of the strongest grain at mid-gray."""

GRAIN_SIZES = (0.35, 0.9)
"""Range of the size of grains: standard deviation in pixels of the Gaussian that filters white noise."""

GREY_SHARE = 0.9
"""Share of the grain's variance that all colour channels have in common."""

LOW_LIGHT = 8 / 255
"""Standard deviation of the strongest low-light noise of luma at full brightness. For Cb and Cr it is half."""

READ_NOISE = 0.25
"""Brightness below which read noise exceeds photon noise. Gamma amplifies read noise in shadows."""

BLOTCHES = (1.2, 2.5)
"""Range of the size of coloured blotches in pixels, which remain after demosaicing and a camera's denoising."""


def correlated_noise(rng: np.random.Generator, shape: tuple[int, int, int, int], across: float, down: float) -> Tensor:
    """Return normal noise (N, C, H, W) of variance 1, filtered by Gaussians of two standard deviations in pixels."""
    kernels = gaussian(down), gaussian(across)
    rows, columns = (len(kernel) // 2 for kernel in kernels)
    count, channels, height, width = shape
    wider = count, channels, height + 2 * rows, width + 2 * columns  # keeps the variance at borders
    noise = torch.from_numpy(rng.standard_normal(wider, dtype=np.float32))
    for kernel, axis in zip(kernels, (-2, -1), strict=True):
        noise = convolve(noise, kernel / kernel.square().sum().sqrt(), axis)
    return noise[..., rows : rows + height, columns : columns + width]


def add_grain(frames: Tensor, strength: float, seed: int) -> Tensor:
    """Add film grain: mostly grey, strongest in midtones, none in black and white."""
    rng = np.random.default_rng(seed)
    size = rng.uniform(*GRAIN_SIZES)
    count, _, height, width = frames.shape
    grey = correlated_noise(rng, (count, 1, height, width), size, size)
    colour = correlated_noise(rng, (count, 3, height, width), size, size)
    grain = math.sqrt(GREY_SHARE) * grey + math.sqrt(1 - GREY_SHARE) * colour
    deviation: Tensor = strength * GRAIN * 2 * (frames * (1 - frames)).sqrt()
    return (frames + deviation * grain).clamp(0, 1)


def add_low_light_noise(frames: Tensor, strength: float, seed: int) -> Tensor:
    """Add sensor noise of low light: fine in luma, blotchy in chroma, stronger in shadows."""
    rng = np.random.default_rng(seed)
    count, _, height, width = frames.shape
    blotch = rng.uniform(*BLOTCHES)
    luma, chroma = to_ycbcr(frames)
    deviation = strength * LOW_LIGHT * low_light_profile(luma)
    luma_noise = correlated_noise(rng, (count, 1, height, width), 0.5, 0.5)
    chroma_noise = correlated_noise(rng, (count, 2, height, width), blotch, blotch)
    return to_rgb(luma + deviation * luma_noise, chroma + deviation / 2 * chroma_noise)


def low_light_profile(luma: Tensor) -> Tensor:
    """Return the noise at a luma in [0, 1] relative to the noise at 1.

    After gamma, photon noise is nearly the same at every brightness. Read noise is constant before gamma, so after
    gamma it grows towards black.
    """
    variance: Tensor = 1 + (READ_NOISE / (luma.clamp(0, 1) + 0.1)) ** 2
    return (variance / (1 + (READ_NOISE / 1.1) ** 2)).sqrt()
