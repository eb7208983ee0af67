"""Resize and label 8-bit images for people to look at."""

from __future__ import annotations

from typing import Literal

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from ristn_cli.video.types import Image

Scaling = Literal["nearest", "bicubic"]

LABEL_INK = (255, 255, 255)
LABEL_GROUND = (24, 24, 27)
_FILTERS = {"nearest": Picture.Resampling.NEAREST, "bicubic": Picture.Resampling.BICUBIC}


def to_eight_bits(image: Image) -> Image:
    """Convert a uint8 or uint16 RGB image to uint8, rounded: 65535 becomes 255."""
    if image.dtype == np.uint8:
        return image
    return ((image.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def resize_image(image: Image, width: int, height: int, scaling: Scaling = "bicubic") -> Image:
    """Resize a uint8 image (H, W, 3). Bicubic downscaling widens its kernel to avoid aliasing."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Picture.fromarray(image).resize((width, height), _FILTERS[scaling]))


def draw_label(image: Image, text: str, *, x: int, y: int, width: int, size: int) -> None:
    """Draw `text` of `size` pixels in light letters on a dark box with its upper left corner at (x, y), in place.

    The box is at most `width` pixels wide. The middle of a longer text is replaced by an ellipsis.
    """
    font = ImageFont.load_default(size)
    padding = max(2, round(size * 0.4))
    text = _shorten(text, font, width - 2 * padding)
    left, _, right, _ = font.getbbox(text)
    wide, high = min(width, round(right - left) + 2 * padding), round(size * 1.25) + padding
    plate = Picture.new("RGB", (max(1, wide), high), LABEL_GROUND)
    ImageDraw.Draw(plate).text((padding - left, high / 2), text, LABEL_INK, font, anchor="lm")
    bottom, end = min(y + high, image.shape[0]), min(x + wide, image.shape[1])
    image[y:bottom, x:end] = np.asarray(plate)[: bottom - y, : end - x]


def _shorten(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """Return the text, with an ellipsis in its middle if it is too wide."""
    kept = len(text)
    shown = text
    while kept > 0 and font.getlength(shown) > width:
        kept -= 1
        shown = f"{text[: (kept + 1) // 2]}...{text[len(text) - kept // 2 :]}"
    return shown
