"""How much memory an encoder holds: an estimate, from the peaks of processes that did nothing but encode.

They wrote 1920x1080 to 15360x8640 on two cores: x264 in six settings is met within a fifth, most within a tenth. What
the user's own encoder options change is not looked at.
"""

import math

from ristn_cli.video.codecs import X26X_PRESETS
from ristn_cli.video.writing.encoder import bounded_lookahead, is_large, usable_cores

PLAIN = {"libx264": 35.0, "libx265": 80.0, "libsvtav1": 340.0, "ffv1": 50.0, "rawvideo": 5.5, "dpx": 24.0, "exr": 36.0}
"""Bytes a pixel of 8 bits that an encoder holds whatever its settings."""
OTHERS = 12.0
"""The same of all others: ProRes, images, and what a GPU's encoder has in main memory."""
AHEAD = {"libx264": 3.0, "libx265": 5.0}
"""Bytes a pixel of a picture that waits for what comes behind it."""
REFERENCES = dict(zip(X26X_PRESETS, (1, 1, 1, 2, 2, 3, 5, 8, 16), strict=True))
REFERENCE = 5.5
"""Bytes a pixel of a picture that x264 predicts others from: it keeps three planes between pixels, too."""
THREADS, THREAD = 12.0, 8.5
"""Bytes a pixel that x264 holds more when it works on several pictures, and for each of these."""
DEEP_SHARE = 1.7
"""Of 10 bits to 8."""


def encoder_bytes(encoder: str, *, preset: str, width: int, height: int, is_deep: bool) -> int:
    """Memory that `encoder` holds at most for pictures of `width` x `height` pixels.

    Args:
        encoder: FFmpeg's name of it, or a kind of images.
        preset: by x264's name.
        width: of the output.
        height: of the output.
        is_deep: its pictures have more than 8 bits.
    """
    pixels = width * height
    held = PLAIN.get(encoder, OTHERS)
    if encoder in AHEAD and preset in X26X_PRESETS:
        held += AHEAD[encoder] * bounded_lookahead(encoder, preset, pixels)
    if encoder == "libx264":
        held += REFERENCE * REFERENCES.get(preset, 1)
        held += 0 if is_large(pixels) else THREADS + THREAD * math.ceil(1.5 * usable_cores())
    return math.ceil(held * pixels * (DEEP_SHARE if is_deep else 1))
