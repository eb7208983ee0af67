"""Defects of analogue video: shifted chroma and worn tape. Lengths are in pixels of the frames."""

import numpy as np
import torch
from torch import Tensor

from ristn_cli.training.degradations.planes import convolve, gaussian, smooth, to_rgb, to_ycbcr
from ristn_cli.training.degradations.sensor import correlated_noise

CHROMA_SHIFT, CHROMA_BLUR = 3.0, 1.5
"""Largest shift of chroma, and largest standard deviation of its blur."""

TAPE_LUMA_BLUR, TAPE_LUMA_NOISE = 1.1, 11 / 255
"""Blur of luma along lines, and standard deviation of its noise, on the most worn tape."""

TAPE_PEAKING = 0.8
"""Amount of the recorder's sharpening along lines."""

TAPE_JITTER = 0.35
"""Standard deviation of the horizontal shift of each line, from time base errors."""

TAPE_BLEED, TAPE_DELAY, TAPE_CHROMA_NOISE = 5.0, 2.0, 5 / 255
"""Chroma: length over which colour bleeds to the right, shift to the right, and standard deviation of the noise."""


def shift_chroma(frames: Tensor, strength: float, seed: int) -> Tensor:
    """Shift chroma by `strength` times `CHROMA_SHIFT`, mostly along lines, and blur it. Luma is unchanged."""
    rng = np.random.default_rng(seed)
    angle = rng.normal(0, 0.4) + (np.pi if rng.random() < 0.5 else 0)
    length, deviation = strength * CHROMA_SHIFT, strength * CHROMA_BLUR * rng.uniform(0.3, 1)
    luma, chroma = to_ycbcr(frames)
    right, below = float(length * np.cos(angle)), float(length * np.sin(angle))
    return to_rgb(luma, smooth(chroma, float(deviation), float(deviation) / 2, right=right, below=below))


def wear_tape(frames: Tensor, strength: float, seed: int) -> Tensor:
    """Simulate VHS: blurred, sharpened, noisy and jittering lines; delayed, bleeding and flickering chroma."""
    rng = np.random.default_rng(seed)
    count, _, height, width = frames.shape
    luma, chroma = to_ycbcr(frames)
    luma = convolve(luma, gaussian(strength * TAPE_LUMA_BLUR), -1)
    luma = luma + strength * TAPE_PEAKING * (luma - convolve(luma, gaussian(1.5), -1))
    noise = correlated_noise(rng, (count, 1, height, width), rng.uniform(0.6, 1.4), 0)
    luma = luma + strength * TAPE_LUMA_NOISE * noise
    chroma = smooth(chroma, strength, strength, right=strength * TAPE_DELAY)
    chroma = convolve(chroma, fade(strength * TAPE_BLEED), -1)
    noise = correlated_noise(rng, (count, 2, height, width), rng.uniform(3, 6), rng.uniform(1, 2))
    worn = to_rgb(luma, chroma + strength * TAPE_CHROMA_NOISE * noise)
    lines = torch.from_numpy(rng.standard_normal((count, height), dtype=np.float32))
    return shift_lines(worn, strength * TAPE_JITTER * lines)


def fade(length: float) -> Tensor:
    """Return the taps of an exponential that decays to the right over `length` pixels, with sum 1; see `convolve`."""
    radius = int(np.ceil(4 * length))
    taps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.where(taps < 0, 0.0, torch.exp(-taps / max(length, 1e-3)))
    return kernel / kernel.sum()


def shift_lines(frames: Tensor, offsets: Tensor) -> Tensor:
    """Shift each line of frames (T, C, H, W) right by its offset (T, H) in pixels, with linear interpolation."""
    width = frames.shape[-1]
    columns = (torch.arange(width, dtype=torch.float32) - offsets[..., None]).clamp(0, width - 1)
    left = columns.floor().long().clamp(max=max(0, width - 2))
    share = (columns - left)[:, None]
    index = left[:, None].expand(frames.shape)
    return torch.lerp(frames.gather(-1, index), frames.gather(-1, (index + 1).clamp(max=width - 1)), share)
