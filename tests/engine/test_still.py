"""Still blocks: what is held, what is not, and what never freezes."""

import numpy as np
import pytest

from ristn_cli.engine.still import BLOCK, find_changes


def pictures(count: int, height: int = 24, width: int = 40, dtype: type = np.uint8) -> list[np.ndarray]:
    """One picture of noise, as often as asked for."""
    peak = np.iinfo(dtype).max
    image = np.random.default_rng(0).integers(peak // 4, peak // 2, (height, width, 3)).astype(dtype)
    return [image.copy() for _ in range(count)]


def bits(*frames: int) -> int:
    """The mask of these frames."""
    return sum(1 << frame for frame in frames)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("tolerance", [0, 2])
def test_a_block_changes_in_the_frames_that_differ_from_the_one_before(dtype: type, tolerance: int) -> None:
    images = pictures(5, dtype=dtype)
    for image in images[2:]:
        image[9, 30, 2] += 2000 if dtype == np.uint16 else 20
    images[4][23, 0] = 0
    masks = find_changes(images, tolerance).masks
    assert masks[1, 3] == bits(2)
    assert masks[2, 0] == bits(4)
    assert np.count_nonzero(masks) == 2


def test_blocks_at_the_edges_may_be_smaller() -> None:
    images = pictures(2, 17, 9)
    images[1][16, 8] += 50
    masks = find_changes(images).masks
    assert masks.shape == (3, 2)
    assert masks[2, 1] == bits(1)
    assert np.count_nonzero(masks) == 1


def test_noise_within_the_tolerance_is_held() -> None:
    images = pictures(8)
    generator = np.random.default_rng(1)
    noisy = [image + generator.integers(-1, 2, image.shape).astype(np.int8) for image in images]
    levels = [image.astype(np.uint8) for image in noisy]
    changes = find_changes(levels, 2)
    assert np.count_nonzero(changes.masks) == 0
    assert all(np.array_equal(image, levels[0]) for image in changes.images)
    assert np.count_nonzero(find_changes(levels, 0).masks) == changes.masks.size


def test_what_lies_beyond_the_tolerance_is_taken_as_it_is() -> None:
    images = pictures(3)
    images[1][0, 0] += 3
    images[2][0, 0] += 3
    changes = find_changes(images, 2)
    assert changes.masks[0, 0] == bits(1)
    assert np.array_equal(changes.images[1], images[1])


@pytest.mark.parametrize("tolerance", [1, 2, 4])
def test_a_slow_fade_does_not_freeze(tolerance: int) -> None:
    """A level in eight frames: no frame is further from its source than the tolerance, and the end is reached."""
    images = [image + np.uint8(index // 8) for index, image in enumerate(pictures(60))]
    held = find_changes(images, tolerance).images
    off = [float(np.abs(a.astype(int) - b).mean()) for a, b in zip(images, held, strict=True)]
    assert max(off) <= max(1, tolerance / 4)
    assert abs(float(held[-1].mean() - images[-1].mean())) <= max(1, tolerance / 4)


def test_a_drifting_gradient_does_not_freeze() -> None:
    ramp = np.arange(64) * 2
    images = [np.broadcast_to((ramp + index / 4).astype(np.uint8)[None, :, None], (16, 64, 3)) for index in range(60)]
    held = find_changes(images, 2).images
    assert max(float(np.abs(a.astype(int) - b).max()) for a, b in zip(images, held, strict=True)) <= 1
    assert find_changes(images, 2).masks.any()


def test_held_blocks_are_whole_blocks() -> None:
    images = pictures(2)
    images[1] += 1
    images[1][0, 0] += 9
    held = find_changes(images, 4).images[1]
    assert np.array_equal(held[:BLOCK, :BLOCK], images[1][:BLOCK, :BLOCK])
    assert np.array_equal(held[BLOCK:], images[0][BLOCK:])
