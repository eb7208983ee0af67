"""Artefacts that released weights must not add: shifts of colour, texture in flat areas, patterns, pumping, ringing."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from released_pictures import bicubic, compressed_words, correlation, texture, upscale

from ristn_cli.evaluation.methods import interpolate_bicubic
from ristn_cli.evaluation.metrics import rgb_to_y
from ristn_cli.video import compress_clip, read_frames
from ristn_cli.weights import DEFAULT_DETAIL, RELEASES, ModelChoice, choose_detail

EXAMPLE = Path(__file__).parents[2] / "examples" / "bbb.mp4"
CHOICES = [*(ModelChoice(name) for name in RELEASES), choose_detail(DEFAULT_DETAIL)]
"""All released weights, and the default for compressed footage."""

pytestmark = pytest.mark.parametrize("choice", CHOICES, ids=lambda choice: choice.label)


def moving(picture: NDArray[np.uint8], width: int, frames: int) -> list[NDArray[np.uint8]]:
    return [np.ascontiguousarray(picture[:, 2 * number : 2 * number + width]) for number in range(frames)]


def test_footage_keeps_its_mean_colours(choice: ModelChoice) -> None:
    frames = [np.ascontiguousarray(frame.image[40:120, 100:200]) for frame in islice(read_frames(EXAMPLE), 6)]
    shift = (upscale(choice, frames) - bicubic(frames)).mean(axis=(0, 1, 2))
    assert np.abs(shift).max() < 0.3


@pytest.mark.parametrize("colour", [(16, 16, 16), (128, 128, 128), (200, 30, 40), (20, 90, 200), (250, 250, 240)])
def test_flat_fields_stay_flat(colour: tuple[int, int, int], choice: ModelChoice) -> None:
    field = upscale(choice, [np.full((24, 24, 3), colour, np.uint8)] * 5)[:, 16:-16, 16:-16]
    assert field.std(axis=(1, 2)).max() < 0.6
    assert np.abs(field - colour).max() <= 3


def test_smooth_areas_have_no_pattern(choice: ModelChoice) -> None:
    """The spectrum of what the network adds to bicubic has no peak at periods of 2, 4 and 8 pixels."""
    y, x = np.mgrid[0:40, 0:40]
    ramps = [60 + 1.7 * x + 0.5 * y, 180 - 1.1 * x - 0.8 * y, 90 + 0.9 * y + 20 * np.sin(x / 15)]
    smooth = np.rint(np.stack(ramps, axis=-1)).astype(np.uint8)
    made = upscale(choice, [smooth] * 5)[2].astype(np.uint8)
    added = (rgb_to_y(made) - rgb_to_y(interpolate_bicubic(smooth)))[16:-16, 16:-16]
    amplitudes = 2 * np.abs(np.fft.fft2(added)) / added.size
    for period in (2, 4, 8):
        k = len(added) // period
        assert max(amplitudes[k, 0], amplitudes[0, k], amplitudes[k, k]) < 0.25, period


def test_a_dark_scene_does_not_pump(choice: ModelChoice) -> None:
    rng = np.random.default_rng(5)
    still = texture(48, 64, mean=14, spread=6)
    noisy = [np.rint(rng.normal(0, 2, still.shape) + still).clip(0, 255).astype(np.uint8) for _ in range(24)]
    frames = list(compress_clip(noisy, 28))
    shift = (upscale(choice, frames) - bicubic(frames)).mean(axis=(1, 2, 3))
    assert np.abs(np.diff(shift)).max() < 0.15
    assert np.abs(shift).max() < 1


def test_bars_of_compressed_films_do_not_ring(choice: ModelChoice) -> None:
    frames = moving(texture(48, 96, mean=110, spread=45), 64, 12)
    for frame in frames:
        frame[:10] = frame[-10:] = 16
    frames = list(compress_clip(frames, 28))
    within = np.s_[:, : 4 * (10 - 2)]
    ours, theirs = (np.abs(made[within] - 16).mean() for made in (upscale(choice, frames), bicubic(frames)))
    assert ours < theirs + 0.75


def test_compressed_words_are_closer_to_the_original_than_bicubic(choice: ModelChoice) -> None:
    hr, lr = compressed_words()
    assert correlation(upscale(choice, lr), hr) > correlation(bicubic(lr), hr) + 0.05
