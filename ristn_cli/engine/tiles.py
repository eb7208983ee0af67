"""Divides a frame into equal tiles that overlap, in LR pixels."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A tile along one axis: pixels [start, stop)."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.stop - self.start


def plan_spans(length: int, tile: int, overlap: int) -> tuple[Span, ...]:
    """Divide an axis of `length` pixels into the fewest spans of one size, at most `tile`.

    Each span has at least `overlap` extra pixels on both sides, so neighbours share at least twice as many.

    Raises:
        ValueError: a tile would consist only of overlap.
    """
    if length <= tile:
        return (Span(0, length),)
    if tile <= 2 * overlap:
        raise ValueError(f"a tile of {tile} pixels is too small for an overlap of {overlap} pixels on each side")
    count = math.ceil((length - 2 * overlap) / (tile - 2 * overlap))
    size = math.ceil((length + (count - 1) * 2 * overlap) / count)
    starts = (round(index * (length - size) / (count - 1)) for index in range(count))
    return tuple(Span(start, start + size) for start in starts)
