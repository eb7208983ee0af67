"""Single RGB images: through imageio, more than 8 bits through FFmpeg, which alone keeps them."""

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

# Pillow warns of more, and refuses twice as many.
MOST_PILLOW_PIXELS = 2**30 // 12


def read_image(path: str | Path, *, drop_alpha: bool = False, on_damage: Callable[[str], None] | None = None) -> Image:
    """An image as RGB (H, W, 3), uint8, or uint16 on the full scale when the file has more than 8 bits; upright.

    With `on_damage` a damaged image is read as far as it goes, and reported in one line. Raises VideoError for a file
    that is missing, empty, not an image, damaged (without `on_damage`), or not wholly opaque (unless `drop_alpha`).
    """
    image, alpha = read_image_with_alpha(path, on_damage=on_damage)
    if not drop_alpha and alpha is not None and float(alpha.min()) < peak_of(alpha.dtype):
        raise VideoError(f"{path}: the picture has transparency; drop the alpha channel explicitly (--drop alpha)")
    return image


def read_image_with_alpha(
    path: str | Path, *, on_damage: Callable[[str], None] | None = None
) -> tuple[Image, Image | None]:
    """The same, and its alpha (H, W) of the image's type; None when the file has none.

    Pillow reads images of up to 8 bits. FFmpeg reads deeper and very large ones, and what Pillow cannot read.
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
        pixel_format = stream.format  # None where nothing can be decoded, which Pillow explains
        is_deep = pixel_format is not None and depth_of(pixel_format) > 8  # type: ignore[redundant-expr]
        if is_deep or (is_still and context.width * context.height > MOST_PILLOW_PIXELS):
            return _to_rgba(path, next(container.decode(stream), None))
    try:
        # The bytes rather than the file, in which Pillow takes the memory that a damaged length asks for.
        pixels = np.asarray(iio.imread(path.read_bytes(), plugin="pillow", index=0, mode="RGBA", rotate=True))
    except Exception as error:  # Pillow raises whatever a damaged file leads it into
        # What imageio says of a header that Pillow does not accept tells nothing.
        reason = str(error) or type(error).__name__ if error.__cause__ is None else "its header is damaged"
        is_unknown = isinstance(error.__cause__, InitializationError)
        if not is_still or (on_damage is None and not is_unknown):
            raise VideoError(f"{path}: cannot be read as an image ({reason}); expected PNG or JPEG") from error
        with open_input(path) as container:
            decoded = _to_rgba(path, next(container.decode(video=0), None))
        if on_damage is not None and not is_unknown:
            on_damage(f"the image is damaged ({reason}) and was concealed")
        return decoded
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])


def _to_rgba(path: Path, frame: VideoFrame | None) -> tuple[Image, Image | None]:
    """A frame that FFmpeg decoded, upright."""
    if frame is None:
        raise VideoError(f"{path}: has no picture; the file is damaged")
    if depth_of(frame.format) > 8:
        color = Color(default_matrix="gbr" if frame.format.is_rgb else "bt709", default_range="pc")
    else:  # a JPEG has its own tags; WebP is BT.601
        color = Color(default_matrix="gbr" if frame.format.is_rgb else "smpte170m")
    image, alpha = RgbReader(color, path=path).to_rgba(frame)
    swap, flip_x, flip_y, _ = read_orientation(frame)
    upright = [None if part is None else turn_upright(part, swap, flip_x, flip_y) for part in (image, alpha)]
    return cast("Image", upright[0]), upright[1]
