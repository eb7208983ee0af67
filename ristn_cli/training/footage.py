"""Degrades LR windows like real footage: first what happens before compression, then compression.

All random numbers come from the generator that is passed in.
"""

import numpy as np
import torch
from torch import Tensor

from ristn_cli.degradation import add_noise, blur, resample
from ristn_cli.training.degradation_recipe import DegradationRecipe
from ristn_cli.training.degradations import COMPRESSIONS, DEGRADATIONS, SOURCE
from ristn_cli.training.degradations.coding import PRESETS, compress
from ristn_cli.training.recipe import DataRecipe
from ristn_cli.video import Compression

RESAMPLING = ("bilinear", "bicubic", "area")


def degrade_footage(rng: np.random.Generator, lr: Tensor, data: DataRecipe, degradations: DegradationRecipe) -> Tensor:
    """Degrade a clean LR window (T, 3, H, W) in [0, 1]; return the same shape and range.

    A share of the windows stays clean, so that the network learns to leave clean footage unchanged. The degradations of
    `SOURCE` come first, in order; then blur, resampling, noise and compression in random order. Blur and resampling are
    constant within a window, noise is not.
    """
    if rng.random() < data.clean_share:
        return lr
    # A share of 0 draws no random number, so recipes without [degradations] give the same windows as ever.
    for name in SOURCE:
        share = degradations.shares[name]
        if share and rng.random() < share:
            lr = apply(rng, lr, name, degradations)
    steps = [name for name in ("blur", "resample", "noise") if rng.random() < data.step_share]
    compression = draw_kind(rng, degradations)
    if compression:
        steps.append(compression)
    elif rng.random() < data.compression_share:
        steps.append("compress")
    for name in rng.permutation(steps).tolist():
        if name == "blur":
            widths = rng.uniform(0.1, max(0.1, data.blur), 2)
            if rng.random() < 0.5:
                widths[1] = widths[0]
            lr = blur(lr, float(widths[0]), float(widths[1]), float(rng.uniform(0, np.pi)))
        elif name == "resample":
            height, width = lr.shape[-2:]
            factor = rng.uniform(data.smallest_resampling, 1.2)
            size = max(8, round(height * factor)), max(8, round(width * factor))
            lr = resample(lr, size, str(rng.choice(RESAMPLING)), str(rng.choice(RESAMPLING[:2])))
        elif name == "noise":
            lr = draw_noise(rng, lr, data.noise)
        elif name == "compress":
            lr = compress(lr, draw_compression(rng, data))
        else:
            lr = apply(rng, lr, name, degradations)
        lr = lr.clamp(0, 1)
    return lr


def apply(rng: np.random.Generator, lr: Tensor, name: str, degradations: DegradationRecipe) -> Tensor:
    """Apply a degradation at a random strength within the recipe's range."""
    strength = float(rng.uniform(degradations.weakest, degradations.strongest))
    return DEGRADATIONS[name](lr, strength, int(rng.integers(2**32)))


def draw_kind(rng: np.random.Generator, degradations: DegradationRecipe) -> str:
    """Draw one of `COMPRESSIONS` by its share, or an empty string. Draws no random number if all shares are 0."""
    shares = [degradations.shares[name] for name in COMPRESSIONS]
    if not any(shares):
        return ""
    return str(rng.choice([*COMPRESSIONS, ""], p=[*shares, max(0.0, 1 - sum(shares))]))


def draw_noise(rng: np.random.Generator, lr: Tensor, strongest: float) -> Tensor:
    """Add noise with a standard deviation of up to `strongest` 8-bit levels: grey or coloured, uniform or growing with
    brightness.
    """
    deviation = rng.uniform(0, strongest) / 255
    frames, channels, height, width = lr.shape
    shape = (frames, 1 if rng.random() < 0.4 else channels, height, width)
    noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    return add_noise(lr, noise, deviation, is_shot=bool(rng.random() < 0.5))


def draw_compression(rng: np.random.Generator, data: DataRecipe) -> Compression:
    """Draw an encoder and its strength. Most are H.264, like most footage."""
    kind, share = rng.random(), rng.random()
    interval = int(rng.integers(1, 61))
    if kind < 0.7:
        crf = round(data.lowest_crf + share * (data.highest_crf - data.lowest_crf))
        return Compression(strength=crf, preset=str(rng.choice(PRESETS)), keyframe_interval=interval)
    encoder = "mpeg4" if kind < 0.9 else "mpeg2video"
    scale = round(2 + share * (data.highest_scale - 2))
    return Compression(encoder=encoder, strength=scale, keyframe_interval=interval)
