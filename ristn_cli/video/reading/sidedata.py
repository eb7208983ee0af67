"""What a decoded frame carries beside its picture: how to turn it upright, HDR metadata, closed captions."""

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
    """How to turn a decoded picture upright: transpose, flip x, flip y; and the same in degrees clockwise.

    The display matrix takes source (p, q) to (a p + c q, b p + d q); only quarter turns and mirrors are honoured.
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
    """Apply an orientation to an image (H, W, 3) or (H, W); a view where nothing moves, else a contiguous copy."""
    turned: NDArray[Any] = image
    if transposed:
        turned = turned.swapaxes(0, 1)
    if flipped_x:
        turned = turned[:, ::-1]
    if flipped_y:
        turned = turned[::-1]
    return np.ascontiguousarray(turned)


def read_mastering(frame: VideoFrame) -> MasteringMetadata:
    """HDR10 mastering display and light level from the frame's side data (libavutil's structures)."""
    display = light = None
    mastering = _side_data(frame, SideData.MASTERING_DISPLAY_METADATA)
    if mastering is not None:
        # Ten ratios (red, green, blue, white as x and y; darkest, brightest), then whether each half is there.
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
    """A kind of side data that this PyAV has no name for, such as the EXIF of a photograph.

    Without it, PyAV shows none of the side data of a frame that has such a kind.
    """
    kind = object.__new__(cls)
    kind._name_, kind._value_ = f"UNNAMED_{value}", value
    return kind


SideData._missing_ = classmethod(_unnamed_side_data)  # type: ignore[assignment,method-assign]


def _side_data(frame: VideoFrame, kind: SideData) -> bytes | None:
    """The raw structure of a kind of side data, None when the frame has none."""
    # PyAV's stubs say that iteration gives names; it gives the entries.
    for entry in cast("Iterator[SideDataEntry]", iter(frame.side_data)):
        if entry.type == kind:
            return bytes(entry)
    return None
