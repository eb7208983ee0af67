"""Encode and write single images: with Pillow up to 8 bits, with FFmpeg above, because Pillow has no 16-bit RGB."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import imageio.v3 as iio
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from ristn_cli.own_files import writing
from ristn_cli.video.types import Image, VideoError

JPEG_QUALITY = 95
WEBP_QUALITY = 95
ANIMATION_QUALITY = 90
IMAGES_WITH_ALPHA = frozenset({".png", ".tif", ".tiff", ".webp", ".exr"})
WRITABLE_IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".dpx", ".exr")
PILLOW_OPTIONS: dict[str, dict[str, Any]] = {
    ".png": {"compress_level": 6},
    ".tif": {"compression": "tiff_deflate"},
    ".tiff": {"compression": "tiff_deflate"},
    ".webp": {"quality": WEBP_QUALITY},
}
DEEP_ENCODERS = {".png": ("png", "rgb48be"), ".tif": ("tiff", "rgb48le"), ".tiff": ("tiff", "rgb48le")}


SCAN_SUFFIXES = (".dpx", ".exr")
"""Suffixes of film scans, which `renditions` writes."""


def write_image(path: str | Path, image: Image, *, overwrite: bool = True) -> None:
    """Write RGB (H, W, 3) as PNG (uint8 or uint16) or JPEG (uint8, quality 95, 4:4:4), by the suffix of `path`.

    Raises VideoError for another suffix, shape or dtype, if the file cannot be written, and without `overwrite` if it
    exists.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16):
        raise VideoError(f"{path}: cannot write {image.dtype} {image.shape}; expected uint8 or uint16 (H, W, 3)")
    if suffix not in (".png", ".jpg", ".jpeg"):
        raise VideoError(f"{path}: cannot write images ending in '{suffix}'; use .png or .jpg")
    if image.dtype == np.uint16 and suffix != ".png":
        raise VideoError(f"{path}: JPEG has 8 bits per sample, but the image has 16; use .png")
    try:
        data = encode_png(image) if suffix == ".png" else encode_jpeg(image)
        with writing(path, overwrite=overwrite) as file:
            file.write(data)
    except (OSError, ValueError) as error:
        raise VideoError(f"{path}: cannot write the image ({error}); check the folder and the free space") from error


def encode_png(image: Image) -> bytes:
    """Encode RGB (H, W, 3), uint8 or uint16, as a PNG file.

    Raises VideoError for another shape or dtype.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16):
        raise VideoError(f"cannot encode {image.dtype} {image.shape} as PNG; expected uint8 or uint16 (H, W, 3)")
    if image.dtype == np.uint16:
        return _encode_deep_png(image)
    return iio.imwrite("<bytes>", image, plugin="pillow", extension=".png")


def encode_jpeg(image: Image, quality: int = JPEG_QUALITY) -> bytes:
    """Encode RGB (H, W, 3) uint8 as a JPEG file, 4:4:4, with `quality` from 1 to 100."""
    return iio.imwrite("<bytes>", image, plugin="pillow", extension=".jpg", quality=quality, subsampling=0)


def encode_animation(images: Sequence[Image], seconds: Sequence[float], *, lossless: bool = False) -> bytes:
    """Encode images (H, W, 3) uint8 of one size as an endless animated WebP, for display in browsers.

    `seconds` are the durations of the images.
    """
    ends = np.round(1000 * np.cumsum(seconds)).astype(int)  # round end times, so that errors do not accumulate
    milliseconds = [max(1, int(length)) for length in np.diff(ends, prepend=0)]
    return iio.imwrite(
        "<bytes>",
        np.stack(images),
        plugin="pillow",
        extension=".webp",
        duration=milliseconds,
        loop=0,
        quality=ANIMATION_QUALITY,
        lossless=lossless,
        method=2,
    )


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
    """Raise VideoError if the format of `path`'s suffix does not support the bit depth."""
    suffix = Path(path).suffix.lower()
    if bit_depth > 8 and suffix not in DEEP_ENCODERS and suffix not in SCAN_SUFFIXES:
        raise VideoError(f"{path}: {suffix} has 8 bits per sample, but the input has {bit_depth}; use .png or .tif")


def encode_image(image: Image, suffix: str, alpha: Image | None = None) -> bytes:
    """Encode RGB (H, W, 3) as an image file: any of `WRITABLE_IMAGES` except DPX and EXR.

    PNG and TIFF are lossless and accept uint8 and uint16. JPEG and WebP have quality 95 and accept uint8. `alpha` (H,
    W) is for suffixes in `IMAGES_WITH_ALPHA`. Raises VideoError if encoding fails.
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
        raise VideoError(f"cannot encode {image.dtype} {image.shape} as {suffix} ({error})") from error
