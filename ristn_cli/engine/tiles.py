"""Tiles over a frame: equal squares that share borders. Pure geometry in LR pixels."""

import math
from dataclasses import dataclass


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
