"""Read single images as RGB: with Pillow up to 8 bits, with FFmpeg above, because Pillow reduces them to 8 bits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import cast

import imageio.v3 as iio
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from imageio.core.request import InitializationError

from ristn_cli.video.colors import depth_of
from ristn_cli.video.convert import RgbReader
from ristn_cli.video.reading.sidedata import read_orientation, turn_upright
from ristn_cli.video.reading.source import STILL_FORMATS, check_size, open_input
from ristn_cli.video.reading.streams import has_decoder
from ristn_cli.video.types import Color, Image, VideoError, peak_of

# Pillow warns about more pixels, and refuses twice as many.
MAX_PILLOW_PIXELS = 2**30 // 12


def read_image(path: str | Path, *, drop_alpha: bool = False, on_damage: Callable[[str], None] | None = None) -> Image:
    """Read an upright RGB image (H, W, 3): uint8, or uint16 in [0, 65535] if the file has more than 8 bits per sample.

    With `on_damage`, a damaged image is read as far as possible and reported. Raises VideoError for a file that is
    missing, empty, not an image, damaged (without `on_damage`), or not fully opaque (unless `drop_alpha`).
    """
    image, alpha = read_image_with_alpha(path, on_damage=on_damage)
    if not drop_alpha and alpha is not None and float(alpha.min()) < peak_of(alpha.dtype):
        raise VideoError(f"{path}: the image has transparency; use --drop alpha to remove the alpha channel")
    return image


def read_image_with_alpha(
    path: str | Path, *, on_damage: Callable[[str], None] | None = None
) -> tuple[Image, Image | None]:
    """Read an image as `read_image` does, and its alpha (H, W) of the same dtype; None if the file has none.

    FFmpeg also reads very large images, and images that Pillow cannot read.
    """
    path = Path(path)
    with open_input(path) as container:
        streams = [stream for stream in container.streams if isinstance(stream, VideoStream)]
        if not streams:
            raise VideoError(f"{path}: is not an image; expected PNG or JPEG")
        if has_decoder(streams[0]):
            check_size(path, streams[0])
        is_still = container.format.name.endswith(STILL_FORMATS)
        stream, context = streams[0], streams[0].codec_context
        pixel_format = stream.format  # None if undecodable; Pillow reports why
        is_deep = pixel_format is not None and depth_of(pixel_format) > 8  # type: ignore[redundant-expr]
        if is_deep or (is_still and context.width * context.height > MAX_PILLOW_PIXELS):
            return _to_rgba(path, next(container.decode(stream), None))
    try:
        # Pass bytes, because Pillow allocates as much memory as a damaged length in a file requests.
        pixels = np.asarray(iio.imread(path.read_bytes(), plugin="pillow", index=0, mode="RGBA", rotate=True))
    except Exception as error:  # damaged files cause many kinds of exceptions
        # imageio's message for a header that Pillow does not accept is not useful.
        reason = str(error) or type(error).__name__ if error.__cause__ is None else "its header is damaged"
        is_unknown = isinstance(error.__cause__, InitializationError)
        if not is_still or (on_damage is None and not is_unknown):
            raise VideoError(f"{path}: cannot be read as an image ({reason}); expected PNG or JPEG") from error
        with open_input(path) as container:
            decoded = _to_rgba(path, next(container.decode(video=0), None))
        if on_damage is not None and not is_unknown:
            on_damage(f"the image is damaged ({reason}); errors were concealed")
        return decoded
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])


def _to_rgba(path: Path, frame: VideoFrame | None) -> tuple[Image, Image | None]:
    """Convert a frame decoded by FFmpeg to upright RGB and alpha."""
    if frame is None:
        raise VideoError(f"{path}: contains no image; the file is damaged")
    if depth_of(frame.format) > 8:
        color = Color(default_matrix="gbr" if frame.format.is_rgb else "bt709", default_range="pc")
    else:  # JPEG frames have their own tags; WebP is BT.601
        color = Color(default_matrix="gbr" if frame.format.is_rgb else "smpte170m")
    image, alpha = RgbReader(color, path=path).to_rgba(frame)
    swap, flip_x, flip_y, _ = read_orientation(frame)
    upright = [None if part is None else turn_upright(part, swap, flip_x, flip_y) for part in (image, alpha)]
    return cast("Image", upright[0]), upright[1]
