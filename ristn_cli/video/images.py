"""Single RGB images: through imageio, more than 8 bits through FFmpeg, which alone keeps them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import imageio.v3 as iio
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.convert import RgbReader, depth_of
from ristn_cli.video.info import Color, Image, VideoError
from ristn_cli.video.source import open_input

JPEG_QUALITY = 95
WEBP_QUALITY = 95
IMAGES_WITH_ALPHA = frozenset({".png", ".tif", ".tiff", ".webp"})
WRITABLE_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
PILLOW_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"compress_level": 6},
    ".tif": {"compression": "tiff_deflate"},
    ".tiff": {"compression": "tiff_deflate"},
    ".webp": {"quality": WEBP_QUALITY},
}
DEEP_ENCODERS = {".png": ("png", "rgb48be"), ".tif": ("tiff", "rgb48le"), ".tiff": ("tiff", "rgb48le")}


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
    return _encode_deep(image, *DEEP_ENCODERS[".png"])


def _encode_deep(image: Image, codec: str, pixel_format: str) -> bytes:
    if image.shape[2] == 4:
        frame = VideoFrame.from_ndarray(image, format="rgba64le")
        pixel_format = pixel_format.replace("rgb48", "rgba64")
    else:
        frame = VideoFrame.from_ndarray(image, format="rgb48le")
    frame = frame.reformat(format=pixel_format)
    encoder = av.CodecContext.create(codec, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, pixel_format
    encoder.framerate = encoder.time_base = Fraction(1)
    if codec == "tiff":
        encoder.options = {"compression_algo": "deflate"}
    frame.pts = 0
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])


def check_image_depth(path: str | Path, bit_depth: int) -> None:
    """Raise VideoError when an image of the suffix of `path` cannot hold as many bits a sample."""
    suffix = Path(path).suffix.lower()
    if bit_depth > 8 and suffix not in DEEP_ENCODERS:
        raise VideoError(f"{path}: {suffix} holds 8 bits a sample, the input has {bit_depth}; use .png or .tif")


def encode_image(image: Image, suffix: str, alpha: Image | None = None) -> bytes:
    """RGB (H, W, 3) as the bytes of a file of this suffix, one of `WRITABLE_IMAGES`; quality 95 where it has losses.

    PNG and TIFF are lossless and take uint8 and uint16, the others uint8. `alpha` (H, W) is the transparency, for a
    suffix in `IMAGES_WITH_ALPHA`. Raises VideoError for what cannot be encoded.
    """
    try:
        if alpha is not None:
            image = cast("Image", np.dstack([image, alpha]))
        if image.dtype == np.uint16:
            return _encode_deep(image, *DEEP_ENCODERS[suffix])
        options = PILLOW_OPTIONS.get(suffix, {"quality": JPEG_QUALITY, "subsampling": 0})
        data: bytes = iio.imwrite("<bytes>", image, plugin="pillow", extension=suffix, **options)
        return data
    except (OSError, ValueError, KeyError) as error:
        raise VideoError(f"cannot encode {image.dtype} {image.shape} as an image of {suffix} ({error})") from error
