"""Colour properties of decoded frames: tags, defaults, bit depth and alpha channel. Converts nothing."""

from __future__ import annotations

import re
from dataclasses import replace

import av
import av.filter
import av.logging
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from ristn_cli.video.filters import LOG_LOCK, Chain
from ristn_cli.video.types import UNSPECIFIED, Color, VideoError

# Luma weights (red, blue) of each supported matrix: ITU-T H.273, table 4.
LUMA_WEIGHTS: dict[str, tuple[float, float]] = {
    "bt709": (0.2126, 0.0722),
    "fcc": (0.30, 0.11),
    "bt470bg": (0.299, 0.114),
    "smpte170m": (0.299, 0.114),
    "smpte240m": (0.212, 0.087),
    "bt2020nc": (0.2627, 0.0593),
}
# Code points of ITU-T H.273, as decoded frames have them.
MATRICES = {1: "bt709", 4: "fcc", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 9: "bt2020nc"}
RANGES = {1: "tv", 2: "pc"}
GBR = 0
"""Code point of RGB, also of palettes."""
HIGH_DEFINITION_LINES = 720


def read_color_names(frame: VideoFrame) -> dict[str, str]:
    """Return FFmpeg's names of a frame's colour tags: range, matrix, primaries, transfer, chroma_location.

    PyAV does not provide the chroma location, but the log of libavfilter's showinfo contains all tags.
    """
    with LOG_LOCK:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            with av.logging.Capture() as records:
                Chain(frame, [("showinfo", "checksum=0:udu_sei_as_ascii=0")]).apply(frame)
        finally:
            av.logging.set_level(level)
    text = "".join(message for _, source, message in records if "showinfo" in source)
    names: dict[str, str] = {}
    for name, label in (
        ("range", "color_range"),
        ("matrix", "color_space"),
        ("primaries", "color_primaries"),
        ("transfer", "color_trc"),
        ("chroma_location", "cl"),
    ):
        found = re.search(rf"\b{label}:(\S+)", text)
        value = found.group(1) if found else UNSPECIFIED
        names[name] = UNSPECIFIED if value in ("unknown", "reserved") else value
    return names


def is_rgb(frame: VideoFrame) -> bool:
    """Return whether a frame is RGB or has an RGB palette."""
    return frame.format.is_rgb or frame.format.name == "pal8" or int(frame.colorspace) == GBR


def default_conversion(frame: VideoFrame, lines: int) -> tuple[str, str]:
    """Return matrix and range of an untagged frame with `lines` lines: see `Color`."""
    if is_rgb(frame):
        return "gbr", "pc"
    matrix = "bt709" if lines >= HIGH_DEFINITION_LINES else "smpte170m"
    return matrix, "pc" if frame.format.name.startswith("yuvj") else "tv"


def color_of(frame: VideoFrame, stream: Color) -> Color:
    """Return the colour tags of one frame: its own, completed by those of the stream.

    If the frame is YUV and the stream RGB, or the reverse, matrix and range of the stream are ignored.
    """
    matrix, range_ = MATRICES.get(int(frame.colorspace)), RANGES.get(int(frame.color_range))
    if is_rgb(frame) == (stream.conversion_matrix == "gbr"):
        return replace(stream, matrix=matrix or stream.matrix, range=range_ or stream.range)
    default_matrix, default_range = default_conversion(frame, frame.height)
    return replace(
        stream,
        matrix="gbr" if is_rgb(frame) else matrix or UNSPECIFIED,
        range=range_ or UNSPECIFIED,
        default_matrix=default_matrix,
        default_range=default_range,
    )


def depth_of(pixel_format: VideoFormat) -> int:
    """Return the bits per sample of the deepest component."""
    return max(component.bits for component in pixel_format.components)


def has_alpha_channel(pixel_format: VideoFormat) -> bool:
    """Return whether the format has an alpha plane or a palette, which may contain alpha."""
    return any(component.is_alpha for component in pixel_format.components)


def check_matrix(color: Color, path: object) -> None:
    """Raise VideoError for an unsupported matrix (YCgCo, ICtCp, BT.2020 constant luminance)."""
    matrix = color.conversion_matrix
    if matrix != "gbr" and matrix not in LUMA_WEIGHTS:
        raise VideoError(
            f"{path}: the colour matrix {matrix} is not supported; expected one of {', '.join(LUMA_WEIGHTS)}: "
            "convert the file to bt709 or bt2020nc first"
        )
