"""How large a picture may be that a file asks to be decoded: a file of kilobytes can ask for all memory there is."""

from __future__ import annotations

import os

from ristn_cli.video.types import VideoError

LIMIT_VARIABLE = "RISTN_MAX_PIXELS"
"""An environment variable with another limit, in pixels."""

DEFAULT_LIMIT = 225_000_000
"""Pixels. Film scans of 16K (16384x12288) and stills of 200 megapixels have fewer; a frame of 16-bit RGB takes 1.4 GB.
FFmpeg itself decodes no more than about 268 million."""


def pixel_limit() -> int:
    """The most pixels of a picture that are decoded. Raises VideoError for a variable that is no number."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 15 and int(text) > 0):
        raise VideoError(f"{LIMIT_VARIABLE} is {text[:50]!r}, expected a number of pixels such as {DEFAULT_LIMIT}")
    return int(text)


def decoder_options() -> dict[str, str]:
    """Options with which FFmpeg's decoders refuse larger pictures, in the middle of a stream, too."""
    return {"max_pixels": str(min(pixel_limit(), 2**31 - 1))}


def limit_variables() -> dict[str, str]:
    """The environment variables that processes on other machines need to have the same limit."""
    return {LIMIT_VARIABLE: os.environ[LIMIT_VARIABLE]} if os.environ.get(LIMIT_VARIABLE) else {}


def too_large(source: object, width: int, height: int) -> VideoError:
    """The error of a picture beyond the limit."""
    pixels = width * height
    return VideoError(
        f"{source}: a picture of {width}x{height} has {pixels / 1e6:.0f} megapixels, more than the limit of "
        f"{pixel_limit() / 1e6:g}; if the file is meant to be so large, set {LIMIT_VARIABLE}={pixels}"
    )
