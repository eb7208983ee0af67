"""Single RGB images: PNG and JPEG through imageio, more than 8 bits through FFmpeg, which alone keeps them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import imageio.v3 as iio
import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.convert import RgbReader, depth_of
from ristn_cli.video.info import Color, Image, VideoError
from ristn_cli.video.source import open_input

JPEG_QUALITY = 95


def read_image(path: str | Path, *, drop_alpha: bool = False) -> Image:
    """An image as RGB (H, W, 3), uint8, or uint16 on the full scale when the file has more than 8 bits; upright.

    Raises VideoError for a file that is missing, empty, not an image, or not wholly opaque (unless `drop_alpha`).
    """
    image, alpha = read_image_with_alpha(path)
    if not drop_alpha and alpha is not None and int(alpha.min()) < int(np.iinfo(alpha.dtype).max):
        raise VideoError(f"{path}: the picture has transparency; drop the alpha channel explicitly (--drop-alpha)")
    return image


def read_image_with_alpha(path: str | Path) -> tuple[Image, Image | None]:
    """The same, and its alpha (H, W) of the image's type; None when the file has none."""
    path = Path(path)
    with open_input(path) as container:
        streams = [stream for stream in container.streams if isinstance(stream, VideoStream)]
        if not streams:
            raise VideoError(f"{path}: is not an image; expected PNG or JPEG")
        pixel_format = streams[0].format  # None where nothing can be decoded, which the plugin below explains
        if pixel_format is not None and depth_of(pixel_format) > 8:  # type: ignore[redundant-expr]
            return _read_deep(path, next(container.decode(streams[0]), None))
    try:
        pixels = np.asarray(iio.imread(path, plugin="pillow", index=0, mode="RGBA", rotate=True))
    except (OSError, ValueError, SyntaxError) as error:
        raise VideoError(f"{path}: cannot be read as an image ({error}); expected PNG or JPEG") from error
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])


def _read_deep(path: Path, frame: VideoFrame | None) -> tuple[Image, Image | None]:
    if frame is None:
        raise VideoError(f"{path}: has no picture; the file is damaged")
    color = Color(default_matrix="gbr" if frame.format.is_rgb else "bt709", default_range="pc")
    return RgbReader(color, path=path).to_rgba(frame)


def write_image(path: str | Path, image: Image) -> None:
    """Write RGB (H, W, 3) as the suffix of `path` says: PNG (uint8 or uint16) or JPEG (uint8, quality 95, 4:4:4).

    Raises VideoError for another suffix, another shape or type, and when the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16):
        raise VideoError(f"{path}: cannot write {image.dtype} {image.shape}; expected uint8 or uint16 (H, W, 3)")
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise VideoError(f"{path}: cannot write images ending in '{suffix}'; use .png or .jpg")
    if image.dtype == np.uint16 and suffix != ".png":
        raise VideoError(f"{path}: JPEG holds 8 bits a sample, the picture has 16; use .png")
    try:
        if image.dtype == np.uint16:
            path.write_bytes(_encode_deep_png(image))
        elif suffix == ".png":
            iio.imwrite(path, image, plugin="pillow", extension=".png")
        else:
            iio.imwrite(path, image, plugin="pillow", extension=".jpg", quality=JPEG_QUALITY, subsampling=0)
    except (OSError, ValueError) as error:
        raise VideoError(f"{path}: cannot write the image ({error}); check the folder and the free space") from error


def encode_png(image: Image) -> bytes:
    """RGB (H, W, 3), uint8 or uint16, as the bytes of a PNG file, lossless.

    Raises VideoError for another shape or type.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16):
        raise VideoError(f"cannot encode {image.dtype} {image.shape} as PNG; expected uint8 or uint16 (H, W, 3)")
    if image.dtype == np.uint16:
        return _encode_deep_png(image)
    return iio.imwrite("<bytes>", image, plugin="pillow", extension=".png")


def encode_jpeg(image: Image, quality: int = JPEG_QUALITY) -> bytes:
    """RGB (H, W, 3) uint8 as the bytes of a JPEG file, 4:4:4, `quality` from 1 to 100."""
    return iio.imwrite("<bytes>", image, plugin="pillow", extension=".jpg", quality=quality, subsampling=0)


def _encode_deep_png(image: Image) -> bytes:
    frame = VideoFrame.from_ndarray(image, format="rgb48le").reformat(format="rgb48be")
    encoder = av.CodecContext.create("png", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "rgb48be"
    encoder.framerate = encoder.time_base = Fraction(1)
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
