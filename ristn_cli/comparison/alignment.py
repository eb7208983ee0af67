"""Matches frames, sizes and places of several images of one scene. Does not read files."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ristn_cli.video import Image

SHAPE_TOLERANCE = 0.02
"""Aspect ratios that differ by less are equal, for example if a border was cropped to a multiple of 4."""


class Crop(NamedTuple):
    """A rectangle in pixels: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


def nearest_index(times: Sequence[Fraction], time: Fraction) -> int:
    """Return the index of the nearest time in ascending `times`; the earlier one of two equally near.

    The nearest time, not the latest before, because Matroska rounds to milliseconds: 0.033 s must find a frame at 1/30
    s.
    """
    after = bisect_left(times, time)
    if after == 0:
        return 0
    if after == len(times) or time - times[after - 1] <= times[after] - time:
        return after - 1
    return after


def choose_times(
    times: Sequence[Fraction],
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    every: int | None = None,
    most: int | None = None,
) -> list[Fraction]:
    """Return times in [start, end): with `every`, the first `most` of every n-th time; else `most` evenly spread
    ones.

    Those are the first times of `most` equal stretches, so a single one is the first.
    """
    kept = [time for time in times if time >= (start or 0) and (end is None or time < end)]
    if every is not None:
        return kept[::every][:most]
    if most is None or len(kept) <= most:
        return kept
    return [kept[k * len(kept) // most] for k in range(most)]


def common_size(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the largest (width, height), to which the others are scaled.

    Raises:
        ValueError: aspect ratios differ by more than `SHAPE_TOLERANCE`.
    """
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    for other_width, other_height in sizes:
        ratio = other_width * height / (other_height * width)
        if max(ratio, 1 / ratio) > 1 + SHAPE_TOLERANCE:
            raise ValueError(f"{other_width}x{other_height} and {width}x{height} have different aspect ratios")
    return width, height


def distinct_labels(paths: Sequence[Path]) -> list[str]:
    """Return file names without extensions; with extensions and then parent folders if needed to distinguish them."""
    resolved = [path.resolve() for path in paths]
    labels = [path.stem for path in resolved]
    deepest = max(len(path.parts) for path in resolved)
    for depth in range(1, deepest + 1):
        if len(set(labels)) == len(labels):
            return labels
        labels = ["/".join(path.parts[-depth:]) for path in resolved]
    return [f"{label} ({number})" for number, label in enumerate(labels, start=1)]


def find_details(image: Image, side: int, count: int) -> list[Crop]:
    """Return `count` squares of `side` pixels with the strongest gradients, half a side apart, the strongest first.

    `image` is (H, W, 3). Fewer are returned if no more fit. `side` is limited to the size of the image.
    """
    side = min(side, *image.shape[:2])
    boxes = sum_gradients(image, side, side)
    reach = side + side // 2
    found: list[Crop] = []
    while len(found) < count and np.isfinite(boxes).any():
        y, x = (int(k) for k in np.unravel_index(int(np.argmax(boxes)), boxes.shape))
        found.append(Crop(x, y, side, side))
        boxes[max(0, y - reach + 1) : y + reach, max(0, x - reach + 1) : x + reach] = -np.inf
    return found


def find_place(image: Image, width: int, height: int) -> Crop:
    """Return the rectangle of `width` x `height` pixels, limited to the image, with the strongest gradients."""
    height, width = min(height, image.shape[0]), min(width, image.shape[1])
    boxes = sum_gradients(image, width, height)
    y, x = (int(k) for k in np.unravel_index(int(np.argmax(boxes)), boxes.shape))
    return Crop(x, y, width, height)


def sum_gradients(image: Image, width: int, height: int) -> NDArray[np.float64]:
    """Return the sums of absolute differences of neighbouring pixels of (H, W, 3) in every box, by its top left
    corner.
    """
    luma: NDArray[np.float64] = image.astype(np.float64).mean(axis=2)
    energy = np.abs(np.diff(luma, axis=0, append=luma[-1:])) + np.abs(np.diff(luma, axis=1, append=luma[:, -1:]))
    sums = np.zeros((energy.shape[0] + 1, energy.shape[1] + 1))
    sums[1:, 1:] = energy.cumsum(axis=0).cumsum(axis=1)
    return sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]


def detail(image: Image) -> float:
    """Return the mean absolute difference of neighbouring pixels of an (H, W, 3) image, in levels."""
    luma: NDArray[np.float64] = image.astype(np.float64).mean(axis=2)
    return float(sum(np.abs(np.diff(luma, axis=axis)).mean() if luma.shape[axis] > 1 else 0 for axis in (0, 1)))
