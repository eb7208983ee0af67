"""Side data of decoded frames: orientation, HDR metadata and closed captions."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from math import atan2, degrees
from typing import Any, cast

import numpy as np
from av.sidedata.sidedata import SideData as SideDataEntry
from av.sidedata.sidedata import Type as SideData
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ristn_cli.video.types import Image, MasteringMetadata

DYNAMIC_HDR = {
    "Dolby Vision": {"DOVI_RPU_BUFFER", "DOVI_METADATA"},
    "HDR10+": {"DYNAMIC_HDR_PLUS"},
    "HDR Vivid": {"DYNAMIC_HDR_VIVID"},
}
"""PyAV's names of side data, by what the metadata is called."""


def read_orientation(frame: VideoFrame) -> tuple[bool, bool, bool, int]:
    """Return how to turn a decoded frame upright: transpose, flip x, flip y; and the same in degrees clockwise.

    The display matrix maps source (p, q) to (a p + c q, b p + d q). Only quarter turns and mirrors are supported.
    """
    data = _side_data(frame, SideData.DISPLAYMATRIX)
    if data is None:
        return False, False, False, 0
    matrix = struct.unpack("=9i", data)
    a, b, c, d = matrix[0], matrix[1], matrix[3], matrix[4]
    turn = round(degrees(atan2(b, a)) / 90) * 90 % 360
    if abs(b) > abs(a):
        return True, c < 0, b < 0, turn
    return False, a < 0, d < 0, turn


def turn_upright(image: Image, transposed: bool, flipped_x: bool, flipped_y: bool) -> Image:
    """Apply an orientation to an image (H, W, 3) or (H, W). Returns a contiguous array."""
    turned: NDArray[Any] = image
    if transposed:
        turned = turned.swapaxes(0, 1)
    if flipped_x:
        turned = turned[:, ::-1]
    if flipped_y:
        turned = turned[::-1]
    return np.ascontiguousarray(turned)


def read_mastering(frame: VideoFrame) -> MasteringMetadata:
    """Return HDR10 mastering display and content light level from the frame's side data (structures of libavutil)."""
    display = light = None
    mastering = _side_data(frame, SideData.MASTERING_DISPLAY_METADATA)
    if mastering is not None:
        # Ten fractions (x and y of red, green, blue, white; minimum and maximum luminance), then a flag for each half.
        numbers = struct.unpack("=22i", mastering[:88])
        if numbers[20] and numbers[21]:
            ratios = [Fraction(numbers[2 * k], numbers[2 * k + 1] or 1) for k in range(10)]
            chroma = [round(ratio * 50000) for ratio in ratios[:8]]
            lowest, highest = (round(ratio * 10000) for ratio in ratios[8:])
            red, green, blue, white = (f"({chroma[k]},{chroma[k + 1]})" for k in (0, 2, 4, 6))
            display = f"G{green}B{blue}R{red}WP{white}L({highest},{lowest})"
    levels = _side_data(frame, SideData.CONTENT_LIGHT_LEVEL)
    if levels is not None:
        most, average = struct.unpack("=2I", levels[:8])
        light = f"{most},{average}"
    return MasteringMetadata(display, light)


def read_captions(frame: VideoFrame) -> bytes | None:
    """Closed captions of the frame as `cc_data` of CTA-708: triplets of a byte of flags and two bytes of data."""
    return _side_data(frame, SideData.A53_CC) or None


def read_dynamic_hdr(frame: VideoFrame) -> tuple[str, ...]:
    """The kinds of HDR metadata that change from frame to frame, by their names."""
    # PyAV's stubs say that iteration gives names; it gives the entries.
    found = {entry.type.name for entry in cast("Iterator[SideDataEntry]", iter(frame.side_data))}
    return tuple(name for name, kinds in DYNAMIC_HDR.items() if found & kinds)


def _unnamed_side_data(cls: type[SideData], value: Any) -> SideData:
    """Return a member for a kind of side data that this version of PyAV does not name, such as EXIF.

    Without it, PyAV cannot access any side data of a frame that has an unknown kind.
    """
    kind = object.__new__(cls)
    kind._name_, kind._value_ = f"UNNAMED_{value}", value
    return kind


SideData._missing_ = classmethod(_unnamed_side_data)  # type: ignore[assignment,method-assign]


def _side_data(frame: VideoFrame, kind: SideData) -> bytes | None:
    """Return the raw structure of a kind of side data; None if the frame has none."""
    # According to PyAV's stubs, iteration yields names, but it yields entries.
    for entry in cast("Iterator[SideDataEntry]", iter(frame.side_data)):
        if entry.type == kind:
            return bytes(entry)
    return None
