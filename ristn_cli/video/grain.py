"""Add film grain of a given strength and size to images at 4x. Does not know files.

Grain consists of three planes: Y' of BT.709, B' - Y' and R' - Y'. It is generated at the source's size and resampled to
the size of the image, so its size relative to the frame is that of the source. The grain of a frame depends only on
`Grain`, the size and the frame number. It is the same on every machine: raw bits of Philox, float32 sums in a fixed
order, and libswscale in bit-exact mode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristn_cli.video.resample import Resampler
from ristn_cli.video.types import peak_of

Floats = NDArray[np.float32]

PLANES = 3
LEVELS = 16
"""Number of brightness levels with their own strength."""
REACH = 6
"""Radius of the grain filters, in source pixels."""
RED, GREEN, BLUE = np.float32(0.2126), np.float32(0.7152), np.float32(0.0722)

SEED = 0x5249_5354_4E
LANES = 4
"""Number of uniform 16-bit values that are summed to approximate a normal distribution."""
LANES_MEAN = LANES * 65535 / 2
LANES_DEVIATION = (LANES * (65536**2 - 1) / 12) ** 0.5
FIELD_UNIT = 6000
"""Standard deviation of the grain in 16-bit levels while it is resampled."""
FIELD_MIDDLE = 32768
STRIP_ROWS = 32
"""Rows per step, so that intermediate values stay in the CPU cache."""

Profile = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Grain:
    """Parameters of film grain.

    Attributes:
        strength: standard deviation for each plane at `LEVELS` evenly spaced levels from black to white; white is 1.
        across: for each plane, the centre and right half (`REACH` + 1 taps) of the symmetric row filter that gives
            white noise the size of the grain, in source pixels.
        down: the same for columns.
    """

    strength: tuple[Profile, ...]
    across: tuple[Profile, ...]
    down: tuple[Profile, ...]

    def __post_init__(self) -> None:
        """Raise ValueError for wrong lengths: the values may come from a damaged file."""
        for values, length in ((self.strength, LEVELS), (self.across, REACH + 1), (self.down, REACH + 1)):
            if len(values) != PLANES or any(len(profile) != length for profile in values):
                raise ValueError(f"grain parameters have the wrong size: expected {PLANES} x {length} numbers")

    @property
    def is_nothing(self) -> bool:
        return not any(map(any, self.strength))


def to_planes(image: NDArray[Any]) -> Floats:
    """Return the three grain planes (3, H, W) of an image (H, W, 3); white is 1."""
    values = image if image.dtype == np.float32 else image.astype(np.float32) * np.float32(1 / peak_of(image.dtype))
    luma = values[..., 0] * RED + values[..., 1] * GREEN + values[..., 2] * BLUE
    return np.stack([luma, values[..., 2] - luma, values[..., 0] - luma])


def to_rgb(planes: Floats) -> Floats:
    """Convert changes of the planes (3, H, W) to changes of R', G' and B' (H, W, 3)."""
    luma, blue, red = planes
    green = (red * RED + blue * BLUE) * (-1 / GREEN)
    return np.stack([luma + red, luma + green, luma + blue], axis=-1)


def make_field(grain: Grain, plane: int, number: int, height: int, width: int) -> Floats:
    """Return the grain (H, W) of one plane of a frame, at the source's size and with a standard deviation of 1."""
    shape = (height + 2 * REACH, width + 2 * REACH)
    bits = np.random.Philox(key=[SEED, PLANES * number + plane]).random_raw(shape[0] * shape[1])
    total = bits.astype("<u8").view("<u2").reshape(*shape, LANES).sum(axis=-1, dtype=np.uint32)
    white = (total.astype(np.float32) - np.float32(LANES_MEAN)) * np.float32(1 / LANES_DEVIATION)
    rows = _filter(white, grain.across[plane])
    return np.ascontiguousarray(_filter(rows.T, grain.down[plane]).T)


def _filter(values: Floats, taps: Profile) -> Floats:
    """Apply a symmetric filter to rows. The result is `REACH` values shorter at both ends."""
    inner = values.shape[1] - 2 * REACH
    result = values[:, REACH : REACH + inner] * np.float32(taps[0])
    for offset, tap in enumerate(taps[1:], start=1):
        if tap:
            left, right = (values[:, REACH + side : REACH + side + inner] for side in (-offset, offset))
            result += (left + right) * np.float32(tap)
    return result


class GrainMaker:
    """Adds grain to images at `scale` times the source's size. Not thread-safe."""

    def __init__(self, grain: Grain, scale: int) -> None:
        self._grain, self._scale = grain, scale
        steps = np.linspace(0, 1, 256)
        self._tables = [table_of(profile, steps) for profile in grain.strength]
        self._resampler: Resampler | None = None

    def field(self, plane: int, number: int, height: int, width: int) -> Floats:
        """Return the grain (H, W) of one plane of a frame at the image's size.

        Resampling changes the standard deviation.
        """
        if self._resampler is None or (self._resampler.height, self._resampler.width) != (height, width):
            self._resampler = Resampler(width, height)
        small = make_field(self._grain, plane, number, height // self._scale, width // self._scale)
        levels = np.clip(small * np.float32(FIELD_UNIT) + np.float32(FIELD_MIDDLE + 0.5), 0, 65535).astype(np.uint16)
        large = self._resampler.apply(levels).astype(np.float32)
        large -= np.float32(FIELD_MIDDLE)
        large *= np.float32(1 / FIELD_UNIT)
        return large

    def apply(self, image: NDArray[Any], number: int) -> NDArray[Any]:
        """Return a copy of an image (H, W, 3) with the grain of frame `number`."""
        height, width = image.shape[:2]
        fields = [
            self.field(plane, number, height, width) if profile.any() else None
            for plane, profile in enumerate(self._tables)
        ]
        result = np.empty_like(image)
        peak = np.float32(peak_of(image.dtype))
        half = np.float32(0 if image.dtype.kind == "f" else 0.5)
        for top in range(0, height, STRIP_ROWS):
            rows = slice(top, top + STRIP_ROWS)
            values = image[rows].astype(np.float32) * (1 / peak)
            luma = values[..., 0] * RED + values[..., 1] * GREEN + values[..., 2] * BLUE
            steps = (luma * np.float32(255) + np.float32(0.5)).astype(np.uint8)
            planes = np.zeros((PLANES, *steps.shape), np.float32)
            for plane, field in enumerate(fields):
                if field is not None:
                    np.multiply(self._tables[plane][steps], field[rows], out=planes[plane])
            values += to_rgb(planes)
            np.clip(values, 0, 1, out=values)
            result[rows] = values * peak + half
        return result


def table_of(strength: Profile, steps: NDArray[Any]) -> Floats:
    """Return the strength at each of `steps` in [0, 1]. It is 0 at pure black and white, as in bars and titles."""
    places = np.linspace(0, 1, LEVELS + 1)
    middles = (places[1:] + places[:-1]) / 2
    found = np.interp(steps, middles, strength)
    return np.where((steps <= 0) | (steps >= 1), 0, found).astype(np.float32)
