"""Tiles of a window: they cover it, follow what moves, and read and finish no more frames than they must."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch

from ristn_cli.engine.bars import Picture
from ristn_cli.engine.compilation import RecordedNetwork
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.still import find_changes
from ristn_cli.engine.tile_plan import (
    READ_EVERY,
    Frames,
    Strip,
    TilePlanner,
    count_bits,
    pad_frames,
    plan_frames,
    tiles_cost,
)
from ristn_cli.engine.tiles import Span, plan_spans
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.evaluation.metrics import psnr
from ristn_cli.model import RISTN

CPU = Backend(torch.device("cpu"), "fp32")


def still_scene(count: int, height: int = 96, width: int = 160, size: int = 12) -> list[np.ndarray]:
    """A still picture of noise, and a square of noise that crosses its lower half."""
    generator = np.random.default_rng(0)
    ground = generator.integers(60, 190, (height, width, 3)).astype(np.uint8)
    images = []
    for index in range(count):
        image = ground.copy()
        left = 4 + 3 * index
        image[height - 24 : height - 24 + size, left : left + size] = generator.integers(60, 190, (size, size, 3))
        images.append(image)
    return images


def planned(images: Sequence[np.ndarray], tiling: Tiling, *, keep: slice = slice(None)) -> list[Strip]:
    """The tiles of a window."""
    height, width, _ = images[0].shape
    window = Window(tuple(images), keep)
    picture = Picture(Span(0, height), Span(0, width))
    return TilePlanner(tiling, window, picture, find_changes(images)).plan()


@pytest.mark.parametrize("keep", [slice(0, 20), slice(2, 18), slice(5, 6)])
@pytest.mark.parametrize("changes", [(), (7,), (1, 2, 3), (19,), tuple(range(1, 20)), (3, 11, 12)])
def test_runs_are_read_in_part_finished_once_and_shared(keep: slice, changes: tuple[int, ...]) -> None:
    frames = plan_frames(20, keep, sum(1 << index for index in changes))
    runs = np.cumsum([index in changes for index in range(20)])
    kept = range(20)[keep]
    assert {0, *changes} <= set(frames.read)
    assert max(np.diff([*frames.read, 20])) <= READ_EVERY
    assert list(frames.read) == sorted(set(frames.read))
    assert len(frames.finished) == len({runs[index] for index in kept})
    assert [runs[frames.read[frames.finished[place]]] for place in frames.shared] == [runs[index] for index in kept]


def test_where_everything_moves_every_frame_is_read_and_kept_ones_are_finished() -> None:
    frames = plan_frames(20, slice(2, 18))
    assert list(frames.read) == list(range(20))
    assert list(frames.finished) == list(range(2, 18))
    assert list(frames.shared) == list(range(16))


def test_bits_are_counted() -> None:
    masks = np.array([[0, 1, 3], [1 << 63, (1 << 64) - 1, 0b1011 << 30]], np.uint64)
    assert count_bits(masks).tolist() == [[0, 1, 2], [1, 64, 3]]


@pytest.mark.parametrize(("height", "width"), [(96, 160), (97, 131), (40, 200)])
@pytest.mark.parametrize(
    "tiling", [Tiling(tile=512), Tiling(tile=64), Tiling(tile=48, overlap=4), Tiling(tile=24, overlap=5)]
)
def test_tiles_cover_the_picture_and_have_no_more_pixels_than_planned(height: int, width: int, tiling: Tiling) -> None:
    strips = planned(still_scene(12, height, width), tiling)
    squares = [plan_spans(length, tiling.tile, tiling.overlap)[0].size for length in (height, width)]
    spans = [[strip.row for strip in strips], *[strip.columns for strip in strips]]
    for along, length in zip(spans, [height, *[width] * len(strips)], strict=True):
        assert (along[0].start, along[-1].stop) == (0, length)
        for before, after in pairwise(along):
            assert before.stop - after.start >= 2 * tiling.overlap
        for before, after in zip(along[:-2], along[2:], strict=True):
            assert before.stop <= after.start
    for strip in strips:
        assert all(strip.row.size * column.size <= squares[0] * squares[1] for column in strip.columns)


def test_tiles_follow_what_moves() -> None:
    images = still_scene(20, 192, 320)
    everything = planned(np.random.default_rng(0).integers(0, 256, (20, 192, 320, 3)).astype(np.uint8), Tiling())
    strips = planned(images, Tiling())
    assert tiles_cost(strips) < 0.5 * tiles_cost(everything)
    assert len(strips) > 1


def test_where_everything_moves_tiles_are_the_equal_squares() -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 100, 140, 3)).astype(np.uint8)
    strips = planned(images, Tiling(tile=64))
    assert [strip.row for strip in strips] == list(plan_spans(100, 64, 8))
    assert all(strip.columns == plan_spans(140, 64, 8) for strip in strips)


@pytest.mark.parametrize("needed", [1, 4, 5, 6, 10, 11, 20])
def test_a_recorded_network_reads_few_numbers_of_frames(needed: int) -> None:
    keep = slice(2, 18)
    frames = Frames(range(needed), range(needed), [index % needed for index in range(16)])
    padded = pad_frames(frames, 20, keep)
    assert len(padded.read) == (5 if needed <= 5 else 10 if needed <= 10 else 20)
    if needed <= 10:
        shown = [padded.read[padded.finished[place]] for place in padded.shared]
        assert shown == [frames.read[frames.finished[place]] for place in frames.shared]
    else:
        assert padded == plan_frames(20, keep)


def test_still_tiles_show_what_computing_all_of_them_shows(random_model: RISTN) -> None:
    images = still_scene(20)
    plain, shared = (
        np.stack(list(Upscaler(random_model, CPU, Tiling(tile=64, still_tolerance=tolerance)).upscale(images)))
        for tolerance in (None, 0)
    )
    assert min(map(psnr, plain, shared)) > 45
    still = shared[:, : 4 * 40]
    assert all(np.array_equal(still[0], image) for image in still)
    moving = shared[:, 4 * 80 :]
    assert not any(np.array_equal(a, b) for a, b in pairwise(moving))


def test_what_moves_in_every_place_is_computed_as_ever(random_model: RISTN) -> None:
    images = list(np.random.default_rng(0).integers(0, 256, (6, 70, 90, 3)).astype(np.uint8))
    plain, shared = (
        list(Upscaler(random_model, CPU, Tiling(tile=48, still_tolerance=tolerance)).upscale(images))
        for tolerance in (None, 0)
    )
    assert all(np.array_equal(a, b) for a, b in zip(plain, shared, strict=True))


def test_the_network_reads_and_finishes_what_was_planned(random_model: RISTN) -> None:
    upscaler = Upscaler(random_model, CPU, Tiling(tile=512))
    read: list[tuple[int, list[int]]] = []
    network = upscaler.model

    def observe(lr: torch.Tensor, keep: Sequence[int]) -> torch.Tensor:
        read.append((lr.shape[1], list(keep)))
        return network(lr, keep)

    upscaler.model = observe  # type: ignore[assignment]
    ground = np.random.default_rng(0).integers(60, 190, (32, 32, 3)).astype(np.uint8)
    images = [ground] * 10
    result = upscaler.upscale_window(Window(tuple(images), slice(2, 8)))
    assert read == [(2, [1])]
    assert len(result) == 6
    assert all(np.array_equal(result[0], image) for image in result)


class Recorder:
    """Records nothing, and tells the shapes."""

    def __init__(self) -> None:
        self.shapes: list[int] = []

    def record(self, function, given):  # type: ignore[no-untyped-def]
        self.shapes.append(given.shape[1])
        return function


def test_a_recorded_network_shares_still_tiles_too(random_model: RISTN) -> None:
    images = still_scene(20)
    upscaler = Upscaler(random_model, CPU, Tiling(tile=64))
    recorder = Recorder()
    upscaler.recorded = RecordedNetwork(upscaler.model, recorder)
    for _ in range(2):
        recorded = upscaler.upscale_window(Window(tuple(images), slice(2, 18)))
    assert 1 < len(recorder.shapes) <= 3
    assert set(recorder.shapes) <= {5, 10, 20}
    upscaler.recorded = None
    upscaler.tiling = Tiling(tile=64, still_tolerance=None)
    plain = upscaler.upscale_window(Window(tuple(images), slice(2, 18)))
    assert min(map(psnr, plain, recorded)) > 40
