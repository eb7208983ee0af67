"""Measure how much each field of interlaced frames changes from frame to frame. Does not know files."""

from __future__ import annotations

import re
from math import inf
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ristn_cli.video.reading.cadence import Change
from ristn_cli.video.types import FieldOrder

# Block size, in field rows and columns. Differences are averaged within blocks.
BLOCK_ROWS = 8
BLOCK_COLUMNS = 16
# In wider frames, only every second, third, ... column is compared.
MAX_COLUMNS = 720
# Share of the blocks that are used: those with the largest change, so that a moving mouth is enough.
USED_SHARE = 0.02
MIN_USED_BLOCKS = 4
# Share of the height that is ignored at the top and bottom: tapes have noise there.
EDGE_SHARE = 0.03

# Pixel formats that FFmpeg's fieldmatch supports, and the equivalents of packed formats.
PLANAR = re.compile(r"yuvj?4(10|11|20|22|40|44)p(9|1[0246])?(le|be)?")
EIGHT_BITS = "yuv420p|yuv422p|yuv444p|yuv411p|yuv410p|yuv440p"
ARRANGED = {
    "nv12": "yuv420p",
    "nv16": "yuv422p",
    "uyvy422": "yuv422p",
    "yuyv422": "yuv422p",
    "yvyu422": "yuv422p",
    "p010le": "yuv420p10le",
    "p210le": "yuv422p10le",
}


def planar_format(name: str) -> str | None:
    """Return the pixel format for field matching that `name` converts to without loss; None if there is none."""
    return name if PLANAR.fullmatch(name) else ARRANGED.get(name)


class FieldMeter:
    """Measures how much each field differs from that of the previous frame.

    Args:
        order: the first field in time.
    """

    def __init__(self, order: FieldOrder) -> None:
        self._kept = 0 if order == "top" else 1
        self._before: NDArray[Any] | None = None

    def push(self, frame: VideoFrame) -> Change:
        """Return the change from the previous frame to this one, in planar YUV."""
        luma, before = _luma(frame), self._before
        self._before = luma
        if before is None or before.shape != luma.shape:
            return Change(inf, inf)
        fields = [_block_means(np.abs(luma[parity::2] - before[parity::2])) for parity in (0, 1)]
        rows = min(len(field) for field in fields)
        kept, other = (fields[parity][:rows].ravel() for parity in (self._kept, 1 - self._kept))
        count = min(len(kept), max(MIN_USED_BLOCKS, int(len(kept) * USED_SHARE)))
        if not count:
            return Change(inf, inf)
        most = np.argpartition(kept + other, -count)[-count:]
        return Change(float(kept[most].mean()), float(other[most].mean()))


def _luma(frame: VideoFrame) -> NDArray[Any]:
    """Return luma in 8-bit code values, as a signed type, without the edges."""
    plane, depth = frame.planes[0], frame.format.components[0].bits
    kind = np.dtype(np.uint8 if depth <= 8 else ">u2" if frame.format.is_big_endian else "<u2")
    rows = np.frombuffer(plane, kind).reshape(plane.height, -1)  # type: ignore[call-overload]
    edge = 2 * int(frame.height * EDGE_SHARE / 2)
    step = max(1, -(-frame.width // MAX_COLUMNS))
    values: NDArray[Any] = rows[edge : frame.height - edge, : frame.width : step]
    return values.astype(np.int16) if depth <= 8 else values.astype(np.float32) / 2 ** (depth - 8)


def _block_means(differences: NDArray[Any]) -> NDArray[Any]:
    height, width = differences.shape
    down, across = max(1, height // BLOCK_ROWS), max(1, width // BLOCK_COLUMNS)
    cut = differences[: height // down * down, : width // across * across].astype(np.float32)
    means: NDArray[Any] = cut.reshape(down, height // down, across, width // across).mean(axis=(1, 3))
    return means
