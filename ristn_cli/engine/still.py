"""Still blocks: where a frame of a window shows what the frame before it showed. Knows no tiles and no network.

A block is held while it differs from the frame that was last taken for it by no more than a tolerance: never from the
frame before, which is how a slow fade or a drifting gradient would freeze.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ristn_cli.engine.transfer import peak_of

BLOCK = 8
"""LR pixels a side."""

MOST_FRAMES = 64
"""Frames of a window whose changes are told: a bit for each."""

MEAN_SHARE = 0.25
"""Of the tolerance, what the mean of a block may change. Noise has a mean of zero, a fade or a gradient has not."""


@dataclass(frozen=True)
class Changes:
    """When each block of a window changes.

    Attributes:
        images: the window's, with held blocks in the place of those that changed within the tolerance.
        masks: (blocks down, blocks across) of uint64; bit t is set where frame t differs from frame t - 1.
    """

    images: tuple[np.ndarray, ...]
    masks: NDArray[np.uint64]


def find_changes(images: Sequence[np.ndarray], tolerance: int = 0) -> Changes:
    """Compare a window's images, block by block.

    Args:
        images: (H, W, 3) of one type, at most MOST_FRAMES.
        tolerance: levels of 8 bits by which a value may differ and still be held; 0 holds only what is equal.
    """
    height, width, _ = images[0].shape
    masks = np.zeros((-(-height // BLOCK), -(-width // BLOCK)), np.uint64)
    if tolerance == 0:
        for index in range(1, len(images)):
            masks |= block_any(images[index] != images[index - 1]).astype(np.uint64) << np.uint64(index)
        return Changes(tuple(images), masks)
    level = peak_of(images[0].dtype) / 255
    held = [images[0]]
    for index, image in enumerate(images[1:], 1):
        steady, changed = hold_blocks(held[-1], image, tolerance * level)
        held.append(steady)
        masks |= changed.astype(np.uint64) << np.uint64(index)
    return Changes(tuple(held), masks)


def block_any(values: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether any value of each block of (H, W, 3) is true: (blocks down, blocks across)."""
    rows = np.logical_or.reduceat(values, range(0, values.shape[0], BLOCK), axis=0)
    blocks = np.logical_or.reduceat(rows, range(0, values.shape[1], BLOCK), axis=1)
    result: NDArray[np.bool_] = blocks.max(axis=2)
    return result


def hold_blocks(held: np.ndarray, image: np.ndarray, tolerance: float) -> tuple[np.ndarray, NDArray[np.bool_]]:
    """`image` with the blocks of `held` that it differs from within `tolerance`, and which blocks it changes.

    A block whose mean has moved by more than MEAN_SHARE of the tolerance, in any channel, is not held.
    """
    height, width, _ = image.shape
    down, across = range(0, height, BLOCK), range(0, width, BLOCK)
    difference = np.subtract(image, held, dtype=np.float32)
    sums = np.add.reduceat(np.add.reduceat(difference, down, axis=0), across, axis=1)
    pixels = np.outer(np.diff([*down, height]), np.diff([*across, width]))[:, :, None]
    has_moved: NDArray[np.bool_] = np.abs(sums) > MEAN_SHARE * tolerance * pixels
    changed = block_any(np.abs(difference) > tolerance)
    changed |= has_moved.max(axis=2)
    fresh = changed.repeat(BLOCK, axis=0)[:height].repeat(BLOCK, axis=1)[:, :width]
    return np.where(fresh[:, :, None], image, held), changed
