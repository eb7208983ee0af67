"""LR windows as people's footage shows them: blurred, resampled, noisy and compressed, moderately and in random order.

Every draw comes from the generator that is passed in, so a window depends on its seed alone.
"""

import numpy as np
import torch
from torch import Tensor

from ristn_cli.degradation import add_noise, blur, resample
from ristn_cli.training.recipe import DataRecipe
from ristn_cli.video import Compression, compress_images

PRESETS = ("veryfast", "faster", "fast", "medium")
RESAMPLING = ("bilinear", "bicubic", "area")


def degrade_footage(rng: np.random.Generator, lr: Tensor, data: DataRecipe) -> Tensor:
    """A clean LR window (T, 3, H, W) in [0, 1], as a recipe's strengths degrade it: the same shape and range.

    Some windows stay clean, so that a network learns to leave clean footage alone. Blur and resampling are the same for
    all frames of a window, noise is not.
    """
    if rng.random() < data.clean_share:
        return lr
    steps = [name for name in ("blur", "resample", "noise") if rng.random() < data.step_share]
    if rng.random() < data.compression_share:
        steps.append("compress")
    for name in rng.permutation(steps).tolist():
        if name == "blur":
            widths = rng.uniform(0.1, max(0.1, data.blur), 2)
            if rng.random() < 0.5:
                widths[1] = widths[0]
            lr = blur(lr, float(widths[0]), float(widths[1]), float(rng.uniform(0, np.pi)))
        elif name == "resample":
            height, width = lr.shape[-2:]
            factor = rng.uniform(data.smallest_resampling, 1.2)
            size = max(8, round(height * factor)), max(8, round(width * factor))
            lr = resample(lr, size, str(rng.choice(RESAMPLING)), str(rng.choice(RESAMPLING[:2])))
        elif name == "noise":
            lr = draw_noise(rng, lr, data.noise)
        else:
            lr = compress(lr, draw_compression(rng, data))
        lr = lr.clamp(0, 1)
    return lr


def draw_noise(rng: np.random.Generator, lr: Tensor, strongest: float) -> Tensor:
    """Noise of up to a standard deviation in 8-bit levels: grey or coloured, even or growing with brightness."""
    deviation = rng.uniform(0, strongest) / 255
    frames, channels, height, width = lr.shape
    shape = (frames, 1 if rng.random() < 0.4 else channels, height, width)
    noise = torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))
    return add_noise(lr, noise, deviation, is_shot=bool(rng.random() < 0.5))


def draw_compression(rng: np.random.Generator, data: DataRecipe) -> Compression:
    """One of the encoders at a random strength: mostly H.264, as most footage."""
    kind, share = rng.random(), rng.random()
    interval = int(rng.integers(1, 61))
    if kind < 0.7:
        crf = round(data.lowest_crf + share * (data.highest_crf - data.lowest_crf))
        return Compression(strength=crf, preset=str(rng.choice(PRESETS)), keyframe_interval=interval)
    encoder = "mpeg4" if kind < 0.9 else "mpeg2video"
    scale = round(2 + share * (data.highest_scale - 2))
    return Compression(encoder=encoder, strength=scale, keyframe_interval=interval)


def compress(lr: Tensor, compression: Compression) -> Tensor:
    """A window (T, 3, H, W) in [0, 1] through an encoder and back, rounded to 8 bits on the way."""
    images = lr.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    decoded = np.stack(list(compress_images(images, compression)))
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).float().div(255)
