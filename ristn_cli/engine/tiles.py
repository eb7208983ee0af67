"""Tiles over a frame: equal squares that share borders, and the weights that blend them. Pure geometry in LR pixels."""

import math
from dataclasses import dataclass

import numpy as np

FEATHER = 4
"""LR pixels over which one tile gives way to the next, centred in what they share."""


@dataclass(frozen=True)
class Span:
    """One tile along one axis: pixels [start, stop)."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """Pixels covered."""
        return self.stop - self.start


def plan_spans(length: int, tile: int, overlap: int) -> tuple[Span, ...]:
    """Cut an axis of `length` pixels into the fewest spans of one size, at most `tile`.

    Each reads `overlap` pixels or more beyond its share, on both sides, so neighbours have at least twice as many in
    common.

    Raises:
        ValueError: a tile would be all overlap.
    """
    if length <= tile:
        return (Span(0, length),)
    if tile <= 2 * overlap:
        raise ValueError(f"a tile of {tile} pixels is all overlap with {overlap} pixels on each side")
    count = math.ceil((length - 2 * overlap) / (tile - 2 * overlap))
    size = math.ceil((length + (count - 1) * 2 * overlap) / count)
    starts = (round(index * (length - size) / (count - 1)) for index in range(count))
    return tuple(Span(start, start + size) for start in starts)


def blend_weights(spans: tuple[Span, ...], index: int, scale: int) -> np.ndarray:
    """Weight of each HR pixel of span `index` along its axis: (size * scale,) in [0, 1], float32.

    ```
    tile A  1 1 1 1 1 1 1 \\ 0 0 0                 the 0s are read for context and not used
    tile B            0 0 0 / 1 1 1 1 1 1 1
    ```

    Weights of neighbours sum to 1 over the frame, whatever they share, and ends of the axis are full.
    """
    span = spans[index]
    centres = span.start + (np.arange(span.size * scale) + 0.5) / scale
    weights = np.ones(span.size * scale)
    if index > 0:
        weights = np.minimum(weights, _ramp(centres, spans[index - 1], span))
    if index < len(spans) - 1:
        weights = np.minimum(weights, 1 - _ramp(centres, span, spans[index + 1]))
    return weights.astype(np.float32)


def _ramp(centres: np.ndarray, before: Span, after: Span) -> np.ndarray:
    """From 0 to 1 over the middle of what two neighbours share."""
    shared = before.stop - after.start
    middle = (before.stop + after.start) / 2
    feather = min(FEATHER, shared)
    ramp: np.ndarray = ((centres - middle) / feather + 0.5).clip(0, 1) if feather else (centres >= middle).astype(float)
    return ramp
