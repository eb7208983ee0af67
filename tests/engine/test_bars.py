"""Bars: found where they are, never where the picture is, and left in their colour."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from ristn_cli.engine.bars import MARGIN, SHARE, bars_around, find_picture
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.tiles import Span
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.evaluation.metrics import psnr
from ristn_cli.model import RISTN

CPU = Backend(torch.device("cpu"), "fp32")


def boxed(count: int, inner: tuple[slice, slice], dtype: type = np.uint8, colour: int = 16) -> list[np.ndarray]:
    """Noise within bars."""
    peak = np.iinfo(dtype).max
    generator = np.random.default_rng(0)
    images = []
    for _ in range(count):
        image = np.full((72, 96, 3), colour, dtype)
        image[inner] = generator.integers(peak // 4, 3 * peak // 4, image[inner].shape)
        images.append(image)
    return images


LETTERBOX = (slice(19, 53), slice(None))
PILLARBOX = (slice(None), slice(20, 76))
BOTH = (slice(12, 60), slice(24, 80))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("inner", [LETTERBOX, PILLARBOX, BOTH])
def test_the_picture_is_found_to_the_pixel(inner: tuple[slice, slice], dtype: type) -> None:
    picture = find_picture(boxed(3, inner, dtype))
    for span, lines, length in zip((picture.rows, picture.columns), inner, (72, 96), strict=True):
        first, last, _ = lines.indices(length)
        assert span == Span(max(0, first - MARGIN), min(length, last + MARGIN))


def test_without_bars_the_picture_is_the_whole() -> None:
    picture = find_picture(boxed(2, (slice(None), slice(None))))
    assert (picture.rows, picture.columns) == (Span(0, 72), Span(0, 96))
    assert bars_around(picture, 72, 96, 4) == []


def test_what_appears_in_a_bar_in_one_frame_is_picture() -> None:
    images = boxed(4, LETTERBOX)
    images[2][66, 40:60] = 235  # a subtitle
    assert find_picture(images).rows == Span(19 - MARGIN, 72)


def test_a_bar_with_noise_takes_a_tolerance() -> None:
    images = boxed(3, LETTERBOX)
    images[1][:19] += np.random.default_rng(0).integers(0, 2, (19, 96, 3)).astype(np.uint8)
    assert find_picture(images).rows.start == 0
    assert find_picture(images, 1).rows.start == 19 - MARGIN


def test_bars_keep_their_colour_and_the_picture_is_as_without_them(random_model: RISTN) -> None:
    images = boxed(6, LETTERBOX)
    plain, cropped = (
        list(Upscaler(random_model, CPU, Tiling(tile=128, still_tolerance=tolerance)).upscale(images))
        for tolerance in (None, 0)
    )
    for computed, image in zip(plain, cropped, strict=True):
        assert (image[: 4 * (19 - SHARE)] == 16).all()
        assert (image[4 * (53 + SHARE) :] == 16).all()
        inner = slice(4 * (19 - SHARE), 4 * (53 + SHARE))
        assert psnr(computed[inner], image[inner]) > 50


@pytest.mark.parametrize("level", [0, 130, 255])
def test_an_image_of_one_colour_stays_so(random_model: RISTN, level: int) -> None:
    images = [np.full((20, 30, 3), level, np.uint8)] * 3
    result = list(Upscaler(random_model, CPU).upscale(images))
    assert all(image.shape == (80, 120, 3) and (image == level).all() for image in result)


def test_windows_with_other_bars_agree_at_their_border(random_model: RISTN) -> None:
    """A title in a bar makes another picture of its window; elsewhere nothing jumps."""
    images = boxed(24, LETTERBOX)
    for image in images[14:]:
        image[60:66, 20:60] = 200
    images = [images[0] if index < 14 else images[14] for index in range(24)]
    upscaler = Upscaler(random_model, CPU, Tiling(window=10, tile=128, detect_cuts=False))
    inner = slice(4 * 19, 4 * 53)
    results = list(upscaler.upscale(images))
    assert min(psnr(a[inner], b[inner]) for a, b in pairwise(results[:14])) > 40
