"""Overlapping tiles blended into one image."""

import numpy as np
from torch import Tensor

from ristn_cli.engine.tiles import Span

FEATHER = 4
"""LR pixels over which one tile gives way to the next, centred in what they share."""


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


def weigh_ends(values: Tensor, axis: int, weights: Tensor, first: int, last: int) -> None:
    """Weigh the `first` and `last` pixels along an axis, in place: those between, which no other tile reaches, weigh 1.

    Args:
        values: of a tile.
        axis: of `values`.
        weights: of all pixels along it.
        first: how many are shared with the tile before.
        last: how many are shared with the one behind; some of them may be among the first.
    """
    begin = max(first, len(weights) - last)
    for part in (slice(first), slice(begin, None)):
        pixels = range(len(weights))[part]
        share = weights[part].view(-1, *[1] * (values.ndim - axis - 1))
        values.narrow(axis, pixels.start, len(pixels)).mul_(share)
