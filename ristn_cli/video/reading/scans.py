"""Read film scans as the values that the network receives: see `scan_curve`."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ristn_cli.video.convert import scale_codes
from ristn_cli.video.reading import scan_curve as curve
from ristn_cli.video.reading.images import read_image_with_alpha
from ristn_cli.video.reading.scan_header import read_scan
from ristn_cli.video.reading.source import check_size, open_input, undecodable
from ristn_cli.video.types import Scan, Transfer, VideoError


def read_scan_picture(
    path: Path, first: Scan, *, on_damage: Callable[[str], None] | None = None
) -> tuple[NDArray[Any], NDArray[Any] | None, str | None]:
    """Read a DPX or EXR image (H, W, 3), its alpha (H, W) and its timecode.

    Values and dtype are those of `first`, the first image of the sequence. EXR colours stay premultiplied with alpha.
    Raises VideoError if the file cannot be read.
    """
    scan = read_scan(path)
    image: NDArray[Any]
    alpha: NDArray[Any] | None
    if scan is None:
        image, alpha = read_image_with_alpha(path, on_damage=on_damage)
        image = _convert(image, Scan("dpx", "display", 8 * image.itemsize), first)
    elif scan.kind == "exr":
        light, alpha = _read_light(path)
        image = _convert(curve.in_strips(curve.light_to_values, light), scan, first)
    else:
        image, alpha = read_image_with_alpha(path, on_damage=on_damage)
        if scan.is_curved:
            image = np.take(_curved_codes(scan.transfer, scan.dtype is np.float32), as_type(image, np.uint16))
        image = _convert(image, scan, first)
    return image, None if alpha is None else as_type(alpha, first.dtype), None if scan is None else scan.timecode


def _convert(image: NDArray[Any], scan: Scan, first: Scan) -> NDArray[Any]:
    """Convert an image from the values of `scan` to the values and dtype of `first`."""
    if scan.is_curved != first.is_curved:
        if scan.is_curved:
            image = curve.in_strips(values_to_display, curve.to_unit(image))
        else:
            image = curve.in_strips(_display_to_values, curve.to_unit(image))
    return as_type(image, first.dtype)


def as_type(image: NDArray[Any], dtype: type[np.generic]) -> NDArray[Any]:
    """Return an image scaled to another dtype; the image itself if it has that dtype."""
    if image.dtype == dtype:
        return image
    if dtype == np.float32:
        return curve.to_unit(image)
    if image.dtype == np.float32:
        return curve.to_levels(image, np.dtype(dtype))
    return scale_codes(image, 8 * image.itemsize, 8 * np.dtype(dtype).itemsize)


def values_to_display(values: NDArray[Any]) -> NDArray[Any]:
    """Convert curved values in [0, 1] to BT.709 video, clipped at black and white."""
    return curve.light_to_display(curve.values_to_light(values))


def _display_to_values(display: NDArray[Any]) -> NDArray[Any]:
    return curve.light_to_values(curve.inverse_camera_curve(display))


@cache
def _curved_codes(transfer: Transfer, is_float: bool) -> NDArray[Any]:
    """Return the curved values, uint16 or float32, of all 16-bit codes."""
    codes = curve.all_codes()
    values = curve.light_to_values(curve.log_to_light(codes) if transfer == "log" else codes)
    return values.astype(np.float32) if is_float else curve.to_levels(values, np.dtype(np.uint16))


def _read_light(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the unmodified floats (H, W, 3) of an EXR file, and its alpha (H, W) clipped to [0, 1]."""
    with open_input(path) as container:
        streams = [stream for stream in container.streams if isinstance(stream, VideoStream)]
        if not streams:
            raise VideoError(f"{path}: contains no image; the file is damaged")
        check_size(path, streams[0])
        frame = next(container.decode(streams[0]), None)
    if frame is None:
        raise VideoError(f"{path}: contains no image; the file is damaged")
    name = frame.format.name
    if not name.startswith(("gbrpf", "gbrapf", "grayf")):
        raise undecodable(path, ValueError(f"its pixel format is {name}"))
    if name.startswith("grayf"):
        gray = _float_plane(frame, 0)
        return np.repeat(gray[..., None], 3, axis=2), None
    light = np.stack([_float_plane(frame, index) for index in (2, 0, 1)], axis=-1)
    if not name.startswith("gbrapf"):
        return light, None
    return light, np.clip(np.nan_to_num(_float_plane(frame, 3).astype(np.float32)), 0, 1)


def _float_plane(frame: VideoFrame, index: int) -> NDArray[Any]:
    dtype = np.dtype("<f2" if "f16" in frame.format.name else "<f4")
    source = frame.planes[index]
    rows = np.frombuffer(source, np.uint8).view(dtype).reshape(-1, source.line_size // dtype.itemsize)  # type: ignore[call-overload]
    return rows[: frame.height, : frame.width]  # type: ignore[no-any-return]
