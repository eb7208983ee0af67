"""The grain of images, from their flat areas: how strong it is by brightness, and how large. Knows no files.

An image is cut into blocks. From each its linear gradient is taken away. The variance of what is left is that of grain
where the block is flat. Half the variance of the difference to the next image is that of grain where nothing moves.
Elsewhere each is larger, so the smaller one counts, and of all blocks of a brightness the calmest do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristn_cli.video.grain import LEVELS, PLANES, REACH, Floats, Grain, Profile, make_field, to_planes, to_rgb

BLOCK = 16
CALM_SHARE = 0.05
"""Of the blocks of a brightness, the calmest, which are taken for flat."""
FLAT_RATIO = 1.8
"""Flat blocks have at most this many times the variance of the most agitated of the calmest ones."""
LEAST_BLOCKS, LEAST_SHARE = 8, 0.15
"""Flat blocks of a brightness, for an estimate: their number, and their share."""
LEAST_COVERED = 0.4
"""Share of the blocks whose brightness has an estimate: where it is less, texture would be taken for grain."""
DARKEST, BRIGHTEST = 0.02, 0.98
"""Of blocks: beyond, grain is clipped, and there are black bars."""
LEAST_STRENGTH = 0.5 / 255
"""Below, it is rounding rather than grain."""
LAGS = 7
TEST_STRENGTH, TEST_SIZE = 0.04, 256
"""Of grain that is made to learn by how much the meter errs."""
DIGITS = 5
ROUNDS = 4


class GrainMeter:
    """Measures the grain of several images of one source."""

    def __init__(self) -> None:
        self._levels: list[NDArray[np.intp]] = []
        self._variances: list[Floats] = []
        self._products: list[Floats] = []

    def add(self, image: NDArray[Any], following: NDArray[Any] | None = None) -> None:
        """Look at an image (H, W, 3), and at a different one of the same size that follows it."""
        blocks = _blocks_of(to_planes(image))
        means = blocks[0].mean(axis=(1, 2))
        kept = (means > DARKEST) & (means < BRIGHTEST)
        rest = _without_gradient(blocks[:, kept])
        if following is not None:
            change = _without_gradient(blocks[:, kept] - _blocks_of(to_planes(following))[:, kept])
            change *= np.float32(0.5**0.5)
            is_calmer = np.square(change[0]).mean(axis=(1, 2)) < np.square(rest[0]).mean(axis=(1, 2))
            rest = np.where(is_calmer[:, None, None], change, rest)
        self._levels.append((means[kept] * LEVELS).astype(np.intp))
        self._variances.append(np.square(rest).mean(axis=(2, 3)))
        self._products.append(_lagged_products(rest))

    def read(self) -> Grain | None:
        """The grain of the images so far; None where they have none, or no flat areas."""
        found = self._estimate()
        if found is None:
            return None
        grain, corrections = found, _errors_of(found)
        strength = [
            tuple(round(value * correction, DIGITS) for value in profile)
            for profile, correction in zip(grain.strength, corrections, strict=True)
        ]
        return Grain(strength=tuple(strength), across=grain.across, down=grain.down)

    def _estimate(self) -> Grain | None:
        if not self._levels:
            return None
        levels = np.concatenate(self._levels)
        variances, products = np.concatenate(self._variances, axis=1), np.concatenate(self._products, axis=2)
        flat = np.zeros(len(levels), bool)
        strength = np.full((PLANES, LEVELS), np.nan)
        for level in range(LEVELS):
            here = np.flatnonzero(levels == level)
            if len(here) < LEAST_BLOCKS:
                continue
            luma = variances[0, here]
            chosen = here[luma <= FLAT_RATIO * np.quantile(luma, CALM_SHARE)]
            if len(chosen) < max(LEAST_BLOCKS, LEAST_SHARE * len(here)):
                continue
            flat[chosen] = True
            strength[:, level] = np.sqrt(variances[:, chosen].mean(axis=1))
        is_known = ~np.isnan(strength[0])
        if np.count_nonzero(is_known[levels]) < LEAST_COVERED * len(levels):
            return None
        strength[strength < LEAST_STRENGTH] = 0
        if not strength[:, is_known].any():
            return None
        steps = np.arange(LEVELS)
        profiles = [tuple(np.interp(steps, steps[is_known], row[is_known]).tolist()) for row in strength]
        sums = products[:, :, flat].sum(axis=2)  # (2, planes, lags)
        across, down = zip(*(_filters_of(*sums[:, plane]) for plane in range(PLANES)), strict=True)
        return Grain(strength=tuple(profiles), across=across, down=down)


def _blocks_of(planes: Floats) -> Floats:
    """Planes (PLANES, H, W) as blocks (PLANES, blocks, BLOCK, BLOCK); what is left at the edges is not used."""
    rows, columns = (size // BLOCK for size in planes.shape[1:])
    blocks = planes[:, : rows * BLOCK, : columns * BLOCK].reshape(PLANES, rows, BLOCK, columns, BLOCK)
    cut: Floats = blocks.swapaxes(2, 3).reshape(PLANES, rows * columns, BLOCK, BLOCK)
    return cut


def _without_gradient(blocks: Floats) -> Floats:
    """Blocks (..., BLOCK, BLOCK) without their mean and their linear gradient."""
    ramp = np.linspace(-1, 1, BLOCK, dtype=np.float32)
    ramp /= np.sqrt(np.square(ramp).sum() * BLOCK)
    rest: Floats = blocks - blocks.mean(axis=(-2, -1), keepdims=True)
    rest -= (rest * ramp).sum(axis=(-2, -1), keepdims=True) * ramp
    rest -= (rest * ramp[:, None]).sum(axis=(-2, -1), keepdims=True) * ramp[:, None]
    return rest


def _lagged_products(rest: Floats) -> Floats:
    """Autocovariances along rows and along columns, (2, PLANES, blocks, LAGS)."""
    along = []
    for values in (rest, rest.swapaxes(-2, -1)):
        lags = [
            (values[..., : BLOCK - lag] * values[..., lag:]).mean(axis=(-2, -1), dtype=np.float32)
            for lag in range(LAGS)
        ]
        along.append(np.stack(lags, axis=-1))
    return np.stack(along)


def _filters_of(across: NDArray[Any], down: NDArray[Any]) -> tuple[Profile, Profile]:
    """Halves of the filters along rows and columns of grain with these autocovariances, each (LAGS,).

    With a block's gradient went three of the waves that it is made of, and with them what grain has of long waves: that
    is the same in all lags. How much it is follows from the filters.
    """
    lost = 0.0
    for _ in range(ROUNDS):
        filters = _filter_of(across + lost), _filter_of(down + lost)
        longest = np.prod([(taps[0] + 2 * sum(taps[1:])) ** 2 for taps in filters])
        lost = float(across[0] + lost) * 3 / BLOCK**2 * min(float(longest), BLOCK**2 / 6)
    return filters


def _filter_of(autocovariance: NDArray[Any]) -> Profile:
    """Half of the symmetric filter that gives white noise an autocovariance (LAGS,), of unit energy."""
    if autocovariance[0] <= 0:
        return (1.0,) + (0.0,) * REACH
    correlation = autocovariance / autocovariance[0]
    angles = np.linspace(0, np.pi, 65)
    power = np.maximum(1 + 2 * sum(correlation[lag] * np.cos(lag * angles) for lag in range(1, LAGS)), 0)
    taps = np.fft.irfft(np.sqrt(power))[: REACH + 1]
    taps /= np.sqrt(taps[0] ** 2 + 2 * np.square(taps[1:]).sum())
    return tuple(round(float(tap), DIGITS) for tap in taps)


def _errors_of(grain: Grain) -> list[float]:
    """What to multiply the strength of each plane with: the meter reads grain of known strength."""
    images = []
    for number in range(2):
        fields = [make_field(grain, plane, number, TEST_SIZE, TEST_SIZE) for plane in range(PLANES)]
        images.append(to_rgb(np.stack(fields) * np.float32(TEST_STRENGTH)) + np.float32(0.53))
    meter = GrainMeter()
    meter.add(*images)
    read = meter._estimate()
    assert read is not None
    return [TEST_STRENGTH / max(max(profile), TEST_STRENGTH / 2) for profile in read.strength]
