"""Finds still blocks: parts of a window that do not change from frame to frame. Does not know tiles or the network.

A block is compared with the last frame that changed it, not with the previous frame, which would freeze slow fades.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ristn_cli.engine.transfer import peak_of

BLOCK = 8
"""Side of a block in LR pixels."""

MOST_FRAMES = 64
"""Most frames per window, one bit of a mask each."""

MEAN_SHARE = 0.25
"""Share of the tolerance by which the mean of a still block may change. The mean of noise is zero, that of a fade is
not."""


@dataclass(frozen=True)
class Changes:
    """The changes of each block of a window.

    Attributes:
        images: the window's images, with still blocks copied from earlier frames.
        masks: (blocks down, blocks across) of uint64; bit t is set if frame t differs from frame t - 1.
    """

    images: tuple[np.ndarray, ...]
    masks: NDArray[np.uint64]


def find_changes(images: Sequence[np.ndarray], tolerance: int = 0) -> Changes:
    """Compare a window's images block by block.

    Args:
        images: (H, W, 3) of one data type, at most MOST_FRAMES.
        tolerance: levels of 8 bits by which a still value may differ; 0 for equal values only.
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
    """Return whether any value of each block of (H, W, 3) is true: (blocks down, blocks across)."""
    rows = np.logical_or.reduceat(values, range(0, values.shape[0], BLOCK), axis=0)
    blocks = np.logical_or.reduceat(rows, range(0, values.shape[1], BLOCK), axis=1)
    result: NDArray[np.bool_] = blocks.max(axis=2)
    return result


def hold_blocks(held: np.ndarray, image: np.ndarray, tolerance: float) -> tuple[np.ndarray, NDArray[np.bool_]]:
    """Return `image` with its still blocks copied from `held`, and which blocks changed.

    A block changes if a value differs by more than `tolerance`, or the mean of a channel by more than MEAN_SHARE of it.
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
