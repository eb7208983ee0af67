"""Blends overlapping tiles to one image."""

import numpy as np
from torch import Tensor

from ristn_cli.engine.tiles import Span

FEATHER = 4
"""LR pixels over which one tile blends into the next, in the middle of their overlap."""


def blend_weights(spans: tuple[Span, ...], index: int, scale: int) -> np.ndarray:
    """Return the weight of each HR pixel of span `index` along its axis: (size * scale,) in [0, 1], float32.

    ```
    tile A  1 1 1 1 1 1 1 \\ 0 0 0                 the 0s are only context
    tile B            0 0 0 / 1 1 1 1 1 1 1
    ```

    Weights of neighbours sum to 1. Weights at the ends of the axis are 1.
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
    """Return a ramp from 0 to 1 over the middle of the overlap of two spans."""
    shared = before.stop - after.start
    middle = (before.stop + after.start) / 2
    feather = min(FEATHER, shared)
    ramp: np.ndarray = ((centres - middle) / feather + 0.5).clip(0, 1) if feather else (centres >= middle).astype(float)
    return ramp


def weigh_ends(values: Tensor, axis: int, weights: Tensor, first: int, last: int) -> None:
    """Weigh the `first` and `last` pixels along an axis in place. The pixels between have weight 1.

    Args:
        values: values of a tile.
        axis: axis of `values`.
        weights: weights of all pixels along the axis.
        first: number of pixels shared with the previous tile.
        last: number of pixels shared with the next tile. Both may include the same pixels.
    """
    begin = max(first, len(weights) - last)
    for part in (slice(first), slice(begin, None)):
        pixels = range(len(weights))[part]
        share = weights[part].view(-1, *[1] * (values.ndim - axis - 1))
        values.narrow(axis, pixels.start, len(pixels)).mul_(share)
