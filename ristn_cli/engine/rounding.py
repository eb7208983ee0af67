"""Rounds the network's values to integer levels, or clips them for float images."""

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

STRIP_ROWS = 16
"""Number of image rows to round at a time."""


def write_levels(values: Tensor, levels: Sequence[Tensor], peak: float) -> Tensor:
    """Clip values (T, H, W, 3) to [0, 1], scale them to [0, `peak`], and write them to T images (H, W, 3).

    Values for integer images are rounded. `values` is overwritten.

    Returns:
        A tensor that is true if all values are finite. The call does not wait for the device.
    """
    if values.device.type != "cpu":
        is_finite = values.sum(dtype=torch.float32).isfinite()
        values.clamp_(0, 1).mul_(peak).add_(0 if levels[0].is_floating_point() else 0.5)
        for value, level in zip(values, levels, strict=True):
            level.copy_(value)
        return is_finite
    images = [(value.numpy(), level.numpy(), peak) for value, level in zip(values, levels, strict=True)]
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        return torch.tensor(all(list(pool.map(lambda image: write_image_levels(*image), images))))


def write_image_levels(values: NDArray[np.float32], levels: NDArray[Any], peak: float) -> bool:
    """Do the work of `write_levels` for one image (H, W, 3) in main memory.

    A few rows at a time stay in the cache, and NumPy casts during the addition. This takes half the time of PyTorch.
    """
    scratch = np.empty_like(values[:STRIP_ROWS])
    half = 0.0 if levels.dtype.kind == "f" else 0.5
    total = 0.0
    with np.errstate(invalid="ignore"):
        for top in range(0, len(values), STRIP_ROWS):
            strip = values[top : top + STRIP_ROWS]
            total += float(strip.sum())
            clipped = np.clip(strip, 0, 1, out=scratch[: len(strip)])
            clipped *= np.float32(peak)
            np.add(clipped, half, out=levels[top : top + STRIP_ROWS], casting="unsafe")
    return math.isfinite(total)
