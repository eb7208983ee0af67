"""Compression with real encoders: strong compression, compression twice, and DVD."""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ristn_cli.training.degradations.fields import TREATMENTS, deinterlace, split_fields, weave
from ristn_cli.video import Compression, compress_images

PRESETS = ("veryfast", "faster", "fast", "medium")

STRONG_CRF = (28, 40)
"""x264's crf at strengths 0 and 1."""

SCALE_AT_28 = {"mpeg4": 8.0, "mpeg2video": 9.0}
"""Quantizer scales with the PSNR of x264 at crf 28, measured on LR windows of 56x56 pixels from three clips.

An increase of crf by 6 corresponds to twice the scale, within 0.3 dB up to crf 37. From crf 39 the scale is at its
limit of 31.
"""

TWICE_CRF = (18, 34)
"""crf of both compressions at strengths 0 and 1."""

RESCALING = (0.6, 1.5)
"""Range of the size of the first compression, relative to the final size."""

DVD_SCALE = (2, 10)
"""Quantizer scale at strengths 0 and 1: 6 to 1.5 Mbit/s at 720x576, measured on three clips."""

DVD_KEYFRAME_INTERVAL = 12
"""Frames per group of pictures on DVDs with 25 frames per second."""


def compress(frames: Tensor, compression: Compression) -> Tensor:
    """Encode and decode a window (T, 3, H, W) in [0, 1], via 8 bits."""
    images = frames.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    decoded = np.stack(list(compress_images(images, compression)))
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).float().div(255)


def equal_compression(encoder: str, crf: float, *, preset: str = "medium", keyframe_interval: int = 250) -> Compression:
    """Return settings of an encoder that match the quality of x264 at a crf."""
    if encoder == "libx264":
        return Compression(strength=round(crf), preset=preset, keyframe_interval=keyframe_interval)
    scale = min(31, max(2, round(SCALE_AT_28[encoder] * 2 ** ((crf - 28) / 6))))
    return Compression(encoder=encoder, strength=scale, keyframe_interval=keyframe_interval)


def draw_equal(rng: np.random.Generator, crf: float) -> Compression:
    """Draw an encoder, mostly H.264, with the quality of x264 at a crf."""
    encoder = str(rng.choice(["libx264", "mpeg4", "mpeg2video"], p=[0.6, 0.2, 0.2]))
    return equal_compression(encoder, crf, preset=str(rng.choice(PRESETS)), keyframe_interval=int(rng.integers(1, 61)))


def compress_strongly(frames: Tensor, strength: float, seed: int) -> Tensor:
    """Compress with x264 at crf 28 to 40, or with MPEG-4 or MPEG-2 of matching quality."""
    lowest, highest = STRONG_CRF
    return compress(frames, draw_equal(np.random.default_rng(seed), lowest + strength * (highest - lowest)))


def compress_twice(frames: Tensor, strength: float, seed: int) -> Tensor:
    """Compress at another size, resize to the final size and compress again, as video sites do with uploads."""
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
    """Compress with MPEG-2 at bit rates of DVDs. Three of four windows are interlaced, and poorly deinterlaced after
    decoding.

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
