"""Pictures for tests of released weights, and the frames that the weights make of them."""

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ristn_cli.degradation import degrade
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.evaluation.methods import interpolate_bicubic, to_image, to_tensor
from ristn_cli.evaluation.metrics import rgb_to_y
from ristn_cli.video import compress_clip
from ristn_cli.weights import ModelChoice, load_choice


@cache
def upscaler(choice: ModelChoice) -> Upscaler:
    tiling = Tiling(window=10, tile=256, detect_cuts=False, still_tolerance=None)
    return Upscaler(load_choice(choice), Backend(torch.device("cpu"), "fp32"), tiling)


def upscale(choice: ModelChoice, frames: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    return np.stack(list(upscaler(choice).upscale(frames))).astype(np.float64)


def bicubic(frames: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    return np.stack([interpolate_bicubic(frame) for frame in frames]).astype(np.float64)


def texture(height: int, width: int, *, mean: float, spread: float) -> NDArray[np.uint8]:
    noise = np.random.default_rng(1).normal(mean, spread, (height // 2, width // 2, 3)).clip(0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def compressed_words() -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Moving words, and their LR frames from x264 at CRF 23."""
    page = Image.new("RGB", (512, 256), (40, 60, 90))
    for line, words in enumerate(["Residual", "archive", "1978, Reel 4"]):
        place = (20 + 8 * line, 20 + 70 * line)
        ImageDraw.Draw(page).text(place, words, font=ImageFont.load_default(size=44), fill=(230, 220, 200))
    hr = [np.roll(np.asarray(page), 2 * number, axis=1) for number in range(5)]
    return hr, list(compress_clip((to_image(degrade(to_tensor(frame)[None], "BI")[0]) for frame in hr), 23))


def correlation(made: NDArray[np.float64], hr: list[NDArray[np.uint8]]) -> float:
    """Correlation of luma within the border."""
    pairs = [(rgb_to_y(a.astype(np.uint8)), rgb_to_y(b)) for a, b in zip(made, hr, strict=True)]
    return float(np.corrcoef(*(np.stack(each)[:, 8:-8, 8:-8].ravel() for each in zip(*pairs, strict=True)))[0, 1])
