"""Limit on the size of decoded frames. A small malicious file could otherwise request all memory."""

from __future__ import annotations

import os

from ristn_cli.video.types import VideoError

LIMIT_VARIABLE = "RISTN_MAX_PIXELS"
"""Environment variable that overrides the limit, in pixels."""

DEFAULT_LIMIT = 225_000_000
"""In pixels.

Film scans of 16K (16384x12288) and images of 200 megapixels fit. A 16-bit RGB frame of this size has 1.4 GB. FFmpeg
itself decodes at most about 268 million pixels.
"""


def pixel_limit() -> int:
    """Return the largest frame that is decoded, in pixels. Raises VideoError for an invalid variable."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    if not text:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and 0 < len(text) <= 15 and int(text) > 0):
        raise VideoError(f"{LIMIT_VARIABLE} is {text[:50]!r}; expected a number of pixels such as {DEFAULT_LIMIT}")
    return int(text)


def decoder_options() -> dict[str, str]:
    """Return options that make FFmpeg's decoders refuse larger frames, also in the middle of a stream."""
    return {"max_pixels": str(min(pixel_limit(), 2**31 - 1))}


def limit_variables() -> dict[str, str]:
    """Return the environment variables that processes on other machines need for the same limit."""
    return {LIMIT_VARIABLE: os.environ[LIMIT_VARIABLE]} if os.environ.get(LIMIT_VARIABLE) else {}


def too_large(source: object, width: int, height: int) -> VideoError:
    pixels = width * height
    return VideoError(
        f"{source}: a frame of {width}x{height} has {pixels / 1e6:.0f} megapixels, more than the limit of "
        f"{pixel_limit() / 1e6:g}; if you trust the file, set {LIMIT_VARIABLE}={pixels}"
    )
