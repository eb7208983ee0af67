"""Measure strength (by brightness) and size of film grain in flat areas of images. Does not know files.

An image is divided into blocks, and the linear gradient of each block is subtracted. In a flat block the remaining
variance is that of the grain. In a static block it is half of the variance of the difference to the next image. Texture
and motion can only increase these values. So each block counts with the smaller one, and each brightness level with its
blocks of lowest variance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristn_cli.video.grain import LEVELS, PLANES, REACH, Floats, Grain, Profile, make_field, to_planes, to_rgb

BLOCK = 16
FLAT_SHARE = 0.05
"""Share of the blocks of a brightness level, those with the lowest variance, that count as flat."""
FLAT_RATIO = 1.8
"""Largest variance of a flat block, relative to the `FLAT_SHARE` quantile."""
MIN_BLOCKS, MIN_SHARE = 8, 0.15
"""Smallest number and share of flat blocks that an estimate for a brightness level needs."""
MIN_COVERED = 0.4
"""Smallest share of blocks whose brightness level has an estimate. With fewer, texture could be mistaken for grain."""
MIN_BRIGHTNESS, MAX_BRIGHTNESS = 0.02, 0.98
"""Range of the mean brightness of used blocks. Outside it, grain is clipped, and there are black bars."""
MIN_STRENGTH = 0.5 / 255
"""Weaker grain is considered rounding noise."""
LAGS = 7
TEST_STRENGTH, TEST_SIZE = 0.04, 256
"""Strength and size of the synthetic grain that calibrates the meter."""
DIGITS = 5
ROUNDS = 4


class GrainMeter:
    """Measures the grain of several images of one source."""

    def __init__(self) -> None:
        self._levels: list[NDArray[np.intp]] = []
        self._variances: list[Floats] = []
        self._products: list[Floats] = []

    def add(self, image: NDArray[Any], following: NDArray[Any] | None = None) -> None:
        """Add an image (H, W, 3), and optionally the next different image, of the same size."""
        blocks = _blocks_of(to_planes(image))
        means = blocks[0].mean(axis=(1, 2))
        kept = (means > MIN_BRIGHTNESS) & (means < MAX_BRIGHTNESS)
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
        """Return the measured grain, or None if there is no grain or no flat area."""
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
            if len(here) < MIN_BLOCKS:
                continue
            luma = variances[0, here]
            chosen = here[luma <= FLAT_RATIO * np.quantile(luma, FLAT_SHARE)]
            if len(chosen) < max(MIN_BLOCKS, MIN_SHARE * len(here)):
                continue
            flat[chosen] = True
            strength[:, level] = np.sqrt(variances[:, chosen].mean(axis=1))
        is_known = ~np.isnan(strength[0])
        if np.count_nonzero(is_known[levels]) < MIN_COVERED * len(levels):
            return None
        strength[strength < MIN_STRENGTH] = 0
        if not strength[:, is_known].any():
            return None
        steps = np.arange(LEVELS)
        profiles = [tuple(np.interp(steps, steps[is_known], row[is_known]).tolist()) for row in strength]
        sums = products[:, :, flat].sum(axis=2)  # (2, planes, lags)
        across, down = zip(*(_filters_of(*sums[:, plane]) for plane in range(PLANES)), strict=True)
        return Grain(strength=tuple(profiles), across=across, down=down)


def _blocks_of(planes: Floats) -> Floats:
    """Divide planes (PLANES, H, W) into blocks (PLANES, blocks, BLOCK, BLOCK). Incomplete blocks are not used."""
    rows, columns = (size // BLOCK for size in planes.shape[1:])
    blocks = planes[:, : rows * BLOCK, : columns * BLOCK].reshape(PLANES, rows, BLOCK, columns, BLOCK)
    cut: Floats = blocks.swapaxes(2, 3).reshape(PLANES, rows * columns, BLOCK, BLOCK)
    return cut


def _without_gradient(blocks: Floats) -> Floats:
    """Subtract the mean and the linear gradient from blocks (..., BLOCK, BLOCK)."""
    ramp = np.linspace(-1, 1, BLOCK, dtype=np.float32)
    ramp /= np.sqrt(np.square(ramp).sum() * BLOCK)
    rest: Floats = blocks - blocks.mean(axis=(-2, -1), keepdims=True)
    rest -= (rest * ramp).sum(axis=(-2, -1), keepdims=True) * ramp
    rest -= (rest * ramp[:, None]).sum(axis=(-2, -1), keepdims=True) * ramp[:, None]
    return rest


def _lagged_products(rest: Floats) -> Floats:
    """Return autocovariances along rows and along columns, (2, PLANES, blocks, LAGS)."""
    along = []
    for values in (rest, rest.swapaxes(-2, -1)):
        lags = [
            (values[..., : BLOCK - lag] * values[..., lag:]).mean(axis=(-2, -1), dtype=np.float32)
            for lag in range(LAGS)
        ]
        along.append(np.stack(lags, axis=-1))
    return np.stack(along)


def _filters_of(across: NDArray[Any], down: NDArray[Any]) -> tuple[Profile, Profile]:
    """Return the row and column filters (centre and right half) of grain with these autocovariances, each (LAGS,).

    Subtracting the gradient removes three basis functions from each block, and so lowers all lags by about the same
    amount. That amount depends on the filters, so it is estimated iteratively.
    """
    lost = 0.0
    for _ in range(ROUNDS):
        filters = _filter_of(across + lost), _filter_of(down + lost)
        longest = np.prod([(taps[0] + 2 * sum(taps[1:])) ** 2 for taps in filters])
        lost = float(across[0] + lost) * 3 / BLOCK**2 * min(float(longest), BLOCK**2 / 6)
    return filters


def _filter_of(autocovariance: NDArray[Any]) -> Profile:
    """Return the half filter of unit energy that gives white noise this autocovariance (LAGS,)."""
    if autocovariance[0] <= 0:
        return (1.0,) + (0.0,) * REACH
    correlation = autocovariance / autocovariance[0]
    angles = np.linspace(0, np.pi, 65)
    power = np.maximum(1 + 2 * sum(correlation[lag] * np.cos(lag * angles) for lag in range(1, LAGS)), 0)
    taps = np.fft.irfft(np.sqrt(power))[: REACH + 1]
    taps /= np.sqrt(taps[0] ** 2 + 2 * np.square(taps[1:]).sum())
    return tuple(round(float(tap), DIGITS) for tap in taps)


def _errors_of(grain: Grain) -> list[float]:
    """Return a correction factor for the strength of each plane, from measuring synthetic grain of known strength."""
    images = []
    for number in range(2):
        fields = [make_field(grain, plane, number, TEST_SIZE, TEST_SIZE) for plane in range(PLANES)]
        images.append(to_rgb(np.stack(fields) * np.float32(TEST_STRENGTH)) + np.float32(0.53))
    meter = GrainMeter()
    meter.add(*images)
    read = meter._estimate()
    assert read is not None
    return [TEST_STRENGTH / max(max(profile), TEST_STRENGTH / 2) for profile in read.strength]
