"""Scene cuts: found where the shot changes, not where it moves, nor where it fades."""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ristn_cli.engine import scenes
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.scenes import SceneDetector, scene_windows
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.evaluation.metrics import psnr
from ristn_cli.model import RISTN
from ristn_cli.video import ReadOptions, read_frames
from ristn_cli.weights import find_weights, load_weights

BBB = Path(__file__).parents[2] / "examples" / "bbb.mp4"


def shot(seed: int, frames: int, *, speed: int = 1, size: int = 48) -> list[np.ndarray]:
    """A scene of soft blobs about 16 pixels wide that pans by `speed` pixels a frame."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 24, 3)).astype(np.uint8)
    wide = np.asarray(Image.fromarray(coarse).resize((24 * 16, 6 * 16), Image.Resampling.BICUBIC))
    return [wide[:size, speed * t : speed * t + size] for t in range(frames)]


def number_scenes(images: Iterable[np.ndarray]) -> Iterator[int]:
    """The number of the scene of each image, from 0."""
    detector = SceneDetector()
    begins = [detector.push(image) for image in [*images, None]]
    return accumulate(begins[1:])


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


def test_a_flash_is_a_scene_of_its_own() -> None:
    """Neither what comes before it nor what comes after it sees it."""
    images = shot(5, 9, speed=0)
    images[4] = np.full_like(images[4], 255)
    assert list(number_scenes(images)) == [0] * 4 + [1] + [2] * 4


@pytest.mark.parametrize("first", ["white", "black"])
def test_neither_is_the_second_of_two_flashes_seen_by_what_follows(first: str) -> None:
    images = shot(5, 10, speed=0)
    images[4], images[5] = (np.full_like(images[4], level) for level in ((255, 0) if first == "white" else (0, 255)))
    assert list(number_scenes(images)) == [0] * 4 + [1, 2] + [3] * 4


def test_a_black_image_before_a_film_is_no_part_of_it() -> None:
    images = shot(5, 5)
    assert list(number_scenes([np.zeros_like(images[0]), *images])) == [0] + [1] * 5


def test_a_shot_of_two_images_that_move_is_not_cut() -> None:
    """They differ by 8 percent, the next shot from them by 51: only what is steadier cuts a first image off."""
    images = [np.full((8, 8, 3), level, np.uint8) for level in (0, 20, 150, 158, 166)]
    assert list(number_scenes(images)) == [0, 0, 1, 1, 1]


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
@pytest.mark.parametrize("flash", [None, 0, 5, 14, 20, 26])
def test_a_stream_taken_up_at_any_window_goes_on_with_the_same_windows(length: int, flash: int | None) -> None:
    images = shot(0, 13) + shot(1, 3) + shot(2, 11)
    if flash is not None:
        images[flash] = np.full_like(images[flash], 255)
    windows = list(scene_windows(range(27), lambda t: images[t], length, 2))
    for index, window in enumerate(windows[1:], start=1):
        rest = scene_windows(range(window.frames[0], 27), lambda t: images[t], length, 2, continued=window.keep.start)
        assert list(rest) == windows[index:]


@pytest.mark.parametrize("length", [3, 4])
def test_so_does_one_that_flickers_with_a_single_frame_of_context(length: int) -> None:
    """Differences that would be a flash's at the start of a scene, and are none where they have grown slowly."""
    images = [
        np.full((8, 8, 3), level, np.uint8) for level in (0, 92, 199, 77, 199, 77, 199, 77, 199, 77, 199, 77, 199)
    ]
    windows = list(scene_windows(range(13), lambda t: images[t], length, 1))
    assert sum(window.keep.start for window in windows) == len(windows) - 1
    for index, window in enumerate(windows[1:], start=1):
        rest = scene_windows(range(window.frames[0], 13), lambda t: images[t], length, 1, continued=window.keep.start)
        assert list(rest) == windows[index:]


def test_shots_are_upscaled_as_if_they_were_alone(random_model: RISTN) -> None:
    upscaler = Upscaler(random_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=6))
    first, second = shot(0, 5, size=24), shot(1, 7, size=24)
    together = list(upscaler.upscale(first + second))
    apart = [*upscaler.upscale(first), *upscaler.upscale(second)]
    assert all(np.array_equal(a, b) for a, b in zip(together, apart, strict=True))


@pytest.fixture(scope="module")
def footage() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Two shots of film, 20 frames (96, 128, 3) each, as HR."""
    whole = [frame.image for frame in read_frames(BBB, ReadOptions(max_frames=28))]
    first = [image[:96, :128] for image in whole[:20]]
    return first, [np.ascontiguousarray(image[60:156, 287:159:-1]) for image in whole[8:]]


def mix(before: np.ndarray, after: np.ndarray, share: float) -> np.ndarray:
    return (before * (1 - share) + after * share).round().astype(np.uint8)


def cost_of_joining(before: list[np.ndarray], between: list[np.ndarray], after: list[np.ndarray]) -> list[float]:
    """PSNR in dB that the two frames on each side of `between` lose, by the released weights, against two films."""
    upscaler = Upscaler(load_weights(find_weights("ristn-lite")), Backend(torch.device("cpu"), "fp32"))

    def upscale(images: list[np.ndarray]) -> list[np.ndarray]:
        small = [Image.fromarray(image).resize((32, 24), Image.Resampling.BICUBIC) for image in images]
        return list(upscaler.upscale([np.asarray(image) for image in small]))

    together = upscale([*before, *between, *after])
    joined = together[len(before) - 2 : len(before)] + together[len(before) + len(between) :][:2]
    apart = upscale(before)[-2:] + upscale(after)[:2]
    return [psnr(a, hr) - psnr(j, hr) for a, j, hr in zip(apart, joined, before[-2:] + after[:2], strict=True)]


@pytest.mark.parametrize("kind", ["cut", "flash", "two flashes", "cross-fade", "fade to black and back"])
def test_transitions_cost_their_neighbours_little(
    footage: tuple[list[np.ndarray], list[np.ndarray]], kind: str
) -> None:
    first, second = footage
    white, black = np.full_like(first[0], 255), np.zeros_like(first[0])
    shares = [(t + 1) / 7 for t in range(6)]
    leaving = [mix(image, black, share) for image, share in zip(first[8:14], shares, strict=True)]
    coming = [mix(black, image, share) for image, share in zip(second[2:8], shares, strict=True)]
    before, between, after = {
        "cut": (first[:8], [], second[8:16]),
        "flash": (first[:8], [white], first[8:16]),
        "two flashes": (first[:8], [white, black], first[8:16]),
        "cross-fade": (first[:8], list(map(mix, first[8:14], second[2:8], shares)), second[8:16]),
        "fade to black and back": (first[:8], leaving + coming, second[8:16]),
    }[kind]
    costs = cost_of_joining(before, between, after)
    if kind == "cross-fade":  # it has no cut, and no recipe trains with cross-fades
        assert np.mean(costs) <= 0.4
        return
    assert np.mean(costs) <= 0.1
    if "fade" not in kind:
        assert max(costs) <= 0.1


def test_without_cuts_found_there_would_be_a_cost(
    footage: tuple[list[np.ndarray], list[np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "CUT_SCORE", 101.0)
    monkeypatch.setattr(scenes, "FLASH_SCORE", 101.0)
    first, _ = footage
    assert max(cost_of_joining(first[:8], [np.full_like(first[0], 255)], first[8:16])) > 0.1
