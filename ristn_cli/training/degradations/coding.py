"""Frames through real encoders, as strongly as people's footage: strong compression, twice in a row, and DVD."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ristn_cli.training.degradations.fields import TREATMENTS, deinterlace, split_fields, weave
from ristn_cli.video import Compression, compress_images

PRESETS = ("veryfast", "faster", "fast", "medium")

STRONG_CRF = (28, 40)
"""x264's rate factor at strengths of 0 and 1."""

SCALE_AT_28 = {"mpeg4": 8.0, "mpeg2video": 9.0}
"""Quantiser scales that have the PSNR of x264 at a rate factor of 28, on LR windows of 56x56 pixels from three clips.

Six more of the rate factor are as bad as twice the scale: within 0.3 dB up to 37; from 39 on the scale's 31 is reached.
"""

TWICE_CRF = (18, 34)
"""Rate factor of both compressions at strengths of 0 and 1."""

RESCALING = (0.6, 1.5)
"""Range of the size at which footage was compressed first."""

DVD_SCALE = (2, 10)
"""Quantiser scale at strengths of 0 and 1: 6 to 1.5 Mbit/s at 720x576, measured on three clips."""

DVD_KEYFRAME_INTERVAL = 12
"""Frames of a group of pictures on DVDs with 25 frames a second."""


def compress(frames: Tensor, compression: Compression) -> Tensor:
    """A window (T, 3, H, W) in [0, 1] through an encoder and back, rounded to 8 bits on the way."""
    images = frames.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    decoded = np.stack(list(compress_images(images, compression)))
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).float().div(255)


def equal_compression(encoder: str, crf: float, *, preset: str = "medium", keyframe_interval: int = 250) -> Compression:
    """An encoder at the quality that x264 has at a rate factor."""
    if encoder == "libx264":
        return Compression(strength=round(crf), preset=preset, keyframe_interval=keyframe_interval)
    scale = min(31, max(2, round(SCALE_AT_28[encoder] * 2 ** ((crf - 28) / 6))))
    return Compression(encoder=encoder, strength=scale, keyframe_interval=keyframe_interval)


def draw_equal(rng: np.random.Generator, crf: float) -> Compression:
    """One of the encoders, mostly H.264, at the quality of a rate factor."""
    encoder = str(rng.choice(["libx264", "mpeg4", "mpeg2video"], p=[0.6, 0.2, 0.2]))
    return equal_compression(encoder, crf, preset=str(rng.choice(PRESETS)), keyframe_interval=int(rng.integers(1, 61)))


def compress_strongly(frames: Tensor, strength: float, seed: int) -> Tensor:
    """H.264 at rate factors of 28 to 40, or MPEG-4 or MPEG-2 at matching quality."""
    lowest, highest = STRONG_CRF
    return compress(frames, draw_equal(np.random.default_rng(seed), lowest + strength * (highest - lowest)))


def compress_twice(frames: Tensor, strength: float, seed: int) -> Tensor:
    """Compressed at another size, resized to this one, and compressed again, as sites do with uploads."""
    rng = np.random.default_rng(seed)
    height, width = frames.shape[-2:]
    factor = np.exp(rng.uniform(*np.log(RESCALING)))
    size = max(16, round(height * factor)), max(16, round(width * factor))
    lowest, highest = TWICE_CRF
    crf = lowest + strength * (highest - lowest)
    first, second = (draw_equal(rng, max(0, crf + rng.uniform(-3, 3))) for _ in range(2))
    other = F.interpolate(frames, size=size, mode="bicubic", antialias=True).clamp(0, 1)
    back = F.interpolate(compress(other, first), size=(height, width), mode="bicubic", antialias=True).clamp(0, 1)
    return compress(back, second)


def compress_to_dvd(frames: Tensor, strength: float, seed: int) -> Tensor:
    """MPEG-2 at the rates of DVDs, three in four times interlaced, and deinterlaced after decoding but not well.

    Interlaced video is coded field by field. The second field of a frame shows the next frame.
    """
    rng = np.random.default_rng(seed)
    finest, coarsest = DVD_SCALE
    scale = round(finest + strength * (coarsest - finest))
    compression = Compression(encoder="mpeg2video", strength=scale, keyframe_interval=DVD_KEYFRAME_INTERVAL)
    is_film, first, treatment = rng.random() < 0.25, int(rng.integers(2)), str(rng.choice(TREATMENTS))
    if is_film:
        return compress(frames, compression)
    even = F.pad(frames, (0, 0, 0, frames.shape[2] % 2), mode="replicate")
    fields = compress(split_fields(even, first), replace(compression, keyframe_interval=2 * DVD_KEYFRAME_INTERVAL))
    threshold = (8 + 16 * strength) / 255
    result = deinterlace(weave(fields, first), first, treatment, threshold)
    return result[:, :, : frames.shape[2]].clamp(0, 1)
