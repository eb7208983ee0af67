"""Finds bars of one colour around the image content of a window: letterbox, pillarbox, and images of a single
colour.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ristn_cli.engine.tiles import Span
from ristn_cli.engine.transfer import peak_of

Image = TypeVar("Image", np.ndarray, Tensor)

MARGIN = 8
"""LR pixels of a bar that the network reads, so that the edges of the content come out as usual."""

SHARE = 4
"""LR pixels of a bar that the network makes. The rest of the bar is filled with its colour."""


@dataclass(frozen=True)
class Picture:
    """The rows and columns within the bars, plus a margin; empty if there is no content."""

    rows: Span
    columns: Span

    def crop(self, image: Image, scale: int = 1) -> Image:
        """Return a view of the content of an image that is `scale` times as large as the window's."""
        rows, columns = (slice(scale * span.start, scale * span.stop) for span in (self.rows, self.columns))
        return image[rows, columns]


def find_picture(images: Sequence[np.ndarray], tolerance: int = 0) -> Picture:
    """Return the content of a window's images (H, W, 3) of one data type.

    Bars have the colour of the first pixel of the first image, within `tolerance` levels of 8 bits, in all images.
    """
    height, width, _ = images[0].shape
    whole = Picture(Span(0, height), Span(0, width))
    colour = images[0][0, 0].astype(np.float32)
    limit = tolerance * peak_of(images[0].dtype) / 255

    def differs(image: np.ndarray) -> NDArray[np.bool_]:
        values: NDArray[np.bool_] = image != images[0][0, 0] if limit == 0 else np.abs(image - colour) > limit
        of_pixels: NDArray[np.bool_] = np.logical_or.reduce(values, axis=2)
        return of_pixels

    first = images[0]
    if all(differs(edge).any() for edge in (first[:1], first[-1:], first[:, :1], first[:, -1:])):
        return whole
    is_picture = differs(first)
    for image in images[1:]:
        is_picture |= differs(image)
    spans = []
    for lines in (np.logical_or.reduce(is_picture, axis=axis) for axis in (1, 0)):
        inside = np.flatnonzero(lines)
        if not len(inside):
            return Picture(Span(0, 0), Span(0, 0))
        spans.append(Span(max(0, int(inside[0]) - MARGIN), min(len(lines), int(inside[-1]) + 1 + MARGIN)))
    return Picture(*spans)


def bars_around(picture: Picture, height: int, width: int, scale: int) -> list[tuple[slice, slice]]:
    """Return the rows and columns of the bars, in images that are `scale` times as large as `height` x `width`."""
    bars = []
    everything = slice(None)
    for axis, (span, length) in enumerate(((picture.rows, height), (picture.columns, width))):
        parts = []
        if span.start or not span.size:
            parts.append(slice(scale * (span.start + MARGIN - SHARE)))
        if span.stop < length:
            parts.append(slice(scale * max(0, span.stop - MARGIN + SHARE), None))
        bars += [(part, everything) if axis == 0 else (everything, part) for part in parts]
    return bars
