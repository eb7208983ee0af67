"""Artefacts that released weights must not add: shifts of colour, texture in flat areas, patterns, pumping, ringing."""

from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from ristn_cli.degradation import degrade
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.evaluation.methods import interpolate_bicubic, to_image, to_tensor
from ristn_cli.evaluation.metrics import rgb_to_y
from ristn_cli.video import compress_clip, read_frames
from ristn_cli.weights import RELEASES, find_weights, load_weights

EXAMPLE = Path(__file__).parents[2] / "examples" / "bbb.mp4"
pytestmark = pytest.mark.parametrize("name", RELEASES)


@cache
def upscaler(name: str) -> Upscaler:
    tiling = Tiling(window=10, tile=256, detect_cuts=False, still_tolerance=None)
    return Upscaler(load_weights(find_weights(name)), Backend(torch.device("cpu"), "fp32"), tiling)


def upscale(name: str, frames: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    return np.stack(list(upscaler(name).upscale(frames))).astype(np.float64)


def bicubic(frames: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    return np.stack([interpolate_bicubic(frame) for frame in frames]).astype(np.float64)


def texture(height: int, width: int, *, mean: float, spread: float) -> NDArray[np.uint8]:
    noise = np.random.default_rng(1).normal(mean, spread, (height // 2, width // 2, 3)).clip(0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


def moving(picture: NDArray[np.uint8], width: int, frames: int) -> list[NDArray[np.uint8]]:
    return [np.ascontiguousarray(picture[:, 2 * number : 2 * number + width]) for number in range(frames)]


def test_footage_keeps_its_mean_colours(name: str) -> None:
    frames = [np.ascontiguousarray(frame.image[40:120, 100:200]) for frame in islice(read_frames(EXAMPLE), 6)]
    shift = (upscale(name, frames) - bicubic(frames)).mean(axis=(0, 1, 2))
    assert np.abs(shift).max() < 0.3


@pytest.mark.parametrize("colour", [(16, 16, 16), (128, 128, 128), (200, 30, 40), (20, 90, 200), (250, 250, 240)])
def test_flat_fields_stay_flat(colour: tuple[int, int, int], name: str) -> None:
    field = upscale(name, [np.full((24, 24, 3), colour, np.uint8)] * 5)[:, 16:-16, 16:-16]
    assert field.std(axis=(1, 2)).max() < 0.6
    assert np.abs(field - colour).max() <= 3


def test_smooth_areas_have_no_pattern(name: str) -> None:
    """The spectrum of what the network adds to bicubic has no peak at periods of 2, 4 and 8 pixels."""
    y, x = np.mgrid[0:40, 0:40]
    ramps = [60 + 1.7 * x + 0.5 * y, 180 - 1.1 * x - 0.8 * y, 90 + 0.9 * y + 20 * np.sin(x / 15)]
    smooth = np.rint(np.stack(ramps, axis=-1)).astype(np.uint8)
    made = upscale(name, [smooth] * 5)[2].astype(np.uint8)
    added = (rgb_to_y(made) - rgb_to_y(interpolate_bicubic(smooth)))[16:-16, 16:-16]
    amplitudes = 2 * np.abs(np.fft.fft2(added)) / added.size
    for period in (2, 4, 8):
        k = len(added) // period
        assert max(amplitudes[k, 0], amplitudes[0, k], amplitudes[k, k]) < 0.25, period


def test_a_dark_scene_does_not_pump(name: str) -> None:
    rng = np.random.default_rng(5)
    still = texture(48, 64, mean=14, spread=6)
    noisy = [np.rint(rng.normal(0, 2, still.shape) + still).clip(0, 255).astype(np.uint8) for _ in range(24)]
    frames = list(compress_clip(noisy, 28))
    shift = (upscale(name, frames) - bicubic(frames)).mean(axis=(1, 2, 3))
    assert np.abs(np.diff(shift)).max() < 0.15
    assert np.abs(shift).max() < 1


def test_bars_of_compressed_films_do_not_ring(name: str) -> None:
    frames = moving(texture(48, 96, mean=110, spread=45), 64, 12)
    for frame in frames:
        frame[:10] = frame[-10:] = 16
    frames = list(compress_clip(frames, 28))
    within = np.s_[:, : 4 * (10 - 2)]
    ours, theirs = (np.abs(made[within] - 16).mean() for made in (upscale(name, frames), bicubic(frames)))
    assert ours < theirs + 0.75


def test_compressed_words_are_closer_to_the_original_than_bicubic(name: str) -> None:
    page = Image.new("RGB", (512, 256), (40, 60, 90))
    for line, words in enumerate(["Residual", "archive", "1978, Reel 4"]):
        place = (20 + 8 * line, 20 + 70 * line)
        ImageDraw.Draw(page).text(place, words, font=ImageFont.load_default(size=44), fill=(230, 220, 200))
    hr = [np.roll(np.asarray(page), 2 * number, axis=1) for number in range(5)]
    lr = list(compress_clip((to_image(degrade(to_tensor(frame)[None], "BI")[0]) for frame in hr), 23))

    def correlation(made: NDArray[np.float64]) -> float:
        pairs = [(rgb_to_y(a.astype(np.uint8)), rgb_to_y(b)) for a, b in zip(made, hr, strict=True)]
        return float(np.corrcoef(*(np.stack(each)[:, 8:-8, 8:-8].ravel() for each in zip(*pairs, strict=True)))[0, 1])

    assert correlation(upscale(name, lr)) > correlation(bicubic(lr)) + 0.05
