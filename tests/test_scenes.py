"""Scene cuts: found where the shot changes, not where it moves, nor where it fades."""

import numpy as np
import pytest
import torch
from PIL import Image

from ristn_cli.inference.device import Backend
from ristn_cli.inference.memory import Tiling
from ristn_cli.inference.scenes import number_scenes, scene_windows
from ristn_cli.inference.upscaler import Upscaler
from ristn_cli.model import RISTN


def shot(seed: int, frames: int, *, speed: int = 1, size: int = 48) -> list[np.ndarray]:
    """A scene of soft blobs about 16 pixels wide that pans by `speed` pixels a frame."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 24, 3)).astype(np.uint8)
    wide = np.asarray(Image.fromarray(coarse).resize((24 * 16, 6 * 16), Image.Resampling.BICUBIC))
    return [wide[:size, speed * t : speed * t + size] for t in range(frames)]


def test_a_cut_begins_a_scene() -> None:
    images = shot(0, 5) + shot(1, 2) + shot(2, 4)
    assert list(number_scenes(images)) == [0] * 5 + [1] * 2 + [2] * 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_depth_makes_no_difference(dtype: type) -> None:
    scale = np.iinfo(dtype).max // 255
    images = [image.astype(dtype) * dtype(scale) for image in shot(0, 4) + shot(1, 4)]
    assert list(number_scenes(images)) == [0] * 4 + [1] * 4


@pytest.mark.parametrize("speed", [0, 1, 5])
def test_motion_is_no_cut(speed: int) -> None:
    assert set(number_scenes(shot(3, 20, speed=speed))) == {0}


def test_a_fade_is_no_cut() -> None:
    image = shot(4, 1)[0].astype(float)
    images = [(image * (1 - t / 25)).astype(np.uint8) for t in range(26)]
    assert set(number_scenes(images)) == {0}


def test_what_comes_before_a_flash_does_not_see_it() -> None:
    images = shot(5, 9, speed=0)
    images[4] = np.full_like(images[4], 255)
    assert list(number_scenes(images)) == [0] * 4 + [1] * 5


def test_snow_is_no_cut() -> None:
    assert set(number_scenes(np.random.default_rng(0).integers(0, 256, (20, 48, 48, 3), dtype=np.uint8))) == {0}


def test_windows_never_read_across_a_cut_and_keep_every_frame_once() -> None:
    images = shot(0, 13) + shot(1, 3) + shot(2, 11)
    scenes = [0] * 13 + [1] * 3 + [2] * 11
    windows = list(scene_windows(range(27), lambda t: images[t], 6, 2))
    assert [t for window in windows for t in window.frames[window.keep]] == list(range(27))
    assert all(len({scenes[t] for t in window.frames}) == 1 for window in windows)
    without = scene_windows(range(27), lambda t: images[t], 6, 2, detect_cuts=False)
    assert any(len({scenes[t] for t in window.frames}) > 1 for window in without)


@pytest.mark.parametrize("length", [5, 6, 10])
def test_a_stream_taken_up_at_any_window_goes_on_with_the_same_windows(length: int) -> None:
    images = shot(0, 13) + shot(1, 3) + shot(2, 11)
    windows = list(scene_windows(range(27), lambda t: images[t], length, 2))
    for index, window in enumerate(windows[1:], start=1):
        rest = scene_windows(range(window.frames[0], 27), lambda t: images[t], length, 2, continued=window.keep.start)
        assert list(rest) == windows[index:]


def test_shots_are_upscaled_as_if_they_were_alone(random_model: RISTN) -> None:
    upscaler = Upscaler(random_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=6))
    first, second = shot(0, 5, size=24), shot(1, 7, size=24)
    together = list(upscaler.upscale(first + second))
    apart = [*upscaler.upscale(first), *upscaler.upscale(second)]
    assert all(np.array_equal(a, b) for a, b in zip(together, apart, strict=True))
