"""Compression in memory: as many frames, in order, weaker at a higher strength, the same every time."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from ristn_cli.training.degradation_recipe import DegradationRecipe
from ristn_cli.training.degradations.coding import compress
from ristn_cli.training.footage import degrade_footage
from ristn_cli.training.recipe import DataRecipe
from ristn_cli.video import Compression, Image, VideoError, compress_clip, compress_images, encode_images

ENCODERS = ("libx264", "mpeg4", "mpeg2video")


def make_images(count: int, height: int, width: int) -> list[Image]:
    """A coloured wave that moves, each frame brighter than the one before."""
    y, x = np.mgrid[:height, :width]
    planes = [np.sin((x + y) / (4 + channel)) for channel in range(3)]
    wave = 100 + 40 * np.stack(planes, axis=-1)
    return [(np.roll(wave, t, axis=1) + 6 * t).astype(np.uint8) for t in range(count)]


def error(images: list[Image], compression: Compression) -> float:
    pairs = zip(images, compress_images(images, compression), strict=True)
    return float(np.mean([(a.astype(float) - b) ** 2 for a, b in pairs]))


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("size", [(36, 44), (33, 47), (9, 11)])
def test_frames_come_back_in_order_and_in_size(encoder: str, size: tuple[int, int]) -> None:
    images = make_images(9, *size)
    decoded = list(compress_images(images, Compression(encoder=encoder, strength=2, keyframe_interval=4)))
    assert [image.shape for image in decoded] == [(*size, 3)] * 9
    for image, back in zip(images, decoded, strict=True):
        assert abs(image.astype(float).mean() - back.astype(float).mean()) < 2.5  # neighbours differ by 6


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_higher_strength_leaves_less(encoder: str) -> None:
    images = make_images(5, 48, 48)
    weak, strong = (
        Compression(encoder=encoder, strength=value) for value in ((15, 35) if "x264" in encoder else (2, 20))
    )
    assert error(images, strong) > 1.5 * error(images, weak)


@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("side", [48, 56])
def test_encoders_repeat_themselves_to_the_bit(encoder: str, side: int) -> None:
    noise = np.random.default_rng(2).normal(0, 6, (side, side, 1))
    images = [(image + noise).clip(0, 255).astype(np.uint8) for image in make_images(12, side, side)]
    compression = Compression(encoder=encoder, strength=18)
    first = np.stack(list(compress_images(images, compression)))
    for size in (1000, 20_000, 300_000, 50_000, 7000, 100_000, 3000, 200_000):
        np.full(size, 77, dtype=np.uint8)  # other contents of the memory that an encoder is given
        assert np.array_equal(np.stack(list(compress_images(images, compression))), first)


def test_a_clip_is_a_stream() -> None:
    taken = 0

    def images() -> Iterator[Image]:
        nonlocal taken
        for image in make_images(120, 16, 16):
            taken += 1
            yield image

    next(iter(compress_clip(images(), 23)))
    assert taken < 80


def test_what_was_encoded_once_is_the_same_for_every_reader() -> None:
    images = make_images(40, 34, 46)
    encoded = encode_images(images, Compression(strength=20))
    first, second = list(encoded.decode()), list(encoded.decode())
    assert len(first) == 40
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert sum(map(len, encoded.packets)) < 40 * 34 * 46 * 3 / 10
    for image, back in zip(images, first, strict=True):
        assert image.shape == back.shape
        assert abs(image.astype(float).mean() - back.mean()) < 2.5  # neighbours differ by 6
    assert list(encode_images([], Compression()).decode()) == []
    with pytest.raises(VideoError, match="frame 2 is"):
        encode_images([*make_images(1, 32, 32), *make_images(1, 32, 48)], Compression())
    with pytest.raises(VideoError, match="40 of 41 encoded frames"):
        list(replace(encoded, count=41).decode())


def test_what_cannot_be_compressed_is_refused() -> None:
    assert list(compress_clip([], 23)) == []
    with pytest.raises(VideoError, match="frame 2 is"):
        list(compress_clip([*make_images(1, 32, 32), *make_images(1, 32, 48)], 23))
    with pytest.raises(ValueError, match="strength 52"):
        Compression(strength=52)
    with pytest.raises(ValueError, match="unknown encoder 'x'"):
        Compression(encoder="x")


def window() -> torch.Tensor:
    return torch.from_numpy(np.stack(make_images(3, 36, 36))).permute(0, 3, 1, 2).float().div(255)


def test_footage_depends_on_its_seed_alone_and_stays_near_the_clean_window() -> None:
    clean, data = window(), DataRecipe(degradation="real")
    results = [degrade_footage(np.random.default_rng(seed), clean, data, DegradationRecipe()) for seed in range(40)]
    for seed, result in enumerate(results):
        again = degrade_footage(np.random.default_rng(seed), clean, data, DegradationRecipe())
        assert torch.equal(result, again)
        assert result.shape == clean.shape
        assert 0 <= float(result.min()) <= float(result.max()) <= 1
        assert float((result - clean).square().mean()) < 0.004  # above 24 dB
    unchanged = sum(torch.equal(result, clean) for result in results)
    assert 3 <= unchanged <= 18


def test_clean_footage_stays() -> None:
    assert torch.equal(
        degrade_footage(np.random.default_rng(0), window(), DataRecipe(clean_share=1.0), DegradationRecipe()), window()
    )


@pytest.mark.parametrize("encoder", ["libx264", "mpeg4", "mpeg2video"])
def test_mean_colours_are_kept(encoder: str) -> None:
    """No conversion rounds down: a network that is trained on darker frames would make footage brighter."""
    colours = np.random.default_rng(2).integers(20, 236, (12, 3))
    images = [np.full((32, 32, 3), colour, np.uint8) for colour in colours]
    shifts = [
        np.stack(list(compress_images([image] * 2, Compression(encoder=encoder, strength=2)))).mean((0, 1, 2)) - colour
        for image, colour in zip(images, colours, strict=True)
    ]
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.4
    assert np.abs(shifts).max() <= 2


def test_a_window_is_compressed_as_its_images_are() -> None:
    expected = np.stack(list(compress_clip(make_images(3, 36, 36), 30)))
    found = compress(window(), Compression(strength=30)).mul(255).round().permute(0, 2, 3, 1)
    assert np.array_equal(found.numpy(), expected)
