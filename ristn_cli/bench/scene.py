"""A synthetic scene for measurements: a panning texture and a moving disc. Pure NumPy."""

from collections.abc import Iterator

import numpy as np

PAN = (2, 1)
"""Pixels per frame, to the right and down. All frames differ, and there is no scene cut."""


def make_texture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Return noise with several octaves, similar to natural images: (height, width, 3) uint8."""
    generator = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(7):
        step = 1 << octave
        grid = generator.random((height // step + 2, width // step + 2, 3), dtype=np.float32) - 0.5
        total += step**0.7 * enlarge(grid, step)[:height, :width]
    low, high = np.percentile(total[::4, ::4], (1, 99))
    texture: np.ndarray = ((total - low) * (255 / (high - low))).clip(0, 255).round().astype(np.uint8)
    return texture


def enlarge(grid: np.ndarray, step: int) -> np.ndarray:
    """Enlarge (h, w, C) to ((h - 1) * step, (w - 1) * step, C) with linear interpolation."""
    for axis in (0, 1):
        count = (grid.shape[axis] - 1) * step
        index, rest = np.divmod(np.arange(count), step)
        share = (rest / np.float32(step)).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        grid = grid.take(index, axis) * (1 - share) + grid.take(index + 1, axis) * share
    return grid


def make_scene(width: int, height: int, frames: int) -> Iterator[np.ndarray]:
    """Yield `frames` images (height, width, 3) uint8 of the scene."""
    texture = make_texture(width + PAN[0] * frames, height + PAN[1] * frames)
    rows, columns = np.mgrid[:height, :width]
    radius = max(2, min(width, height) // 8)
    for index in range(frames):
        left, top = PAN[0] * index, PAN[1] * index
        image = texture[top : top + height, left : left + width].copy()
        centre = (width // 4 + 3 * index) % width
        image[(columns - centre) ** 2 + (rows - height // 2) ** 2 < radius**2] = (200, 60, 30)
        yield image
