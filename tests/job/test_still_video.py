"""Video of which much is still: the same frames however it is run, and an estimate that knows."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import stop_after
from jobs import make_job, run_job, short
from PIL import Image

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.forecast import SAMPLES, computed_shares
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.spread.local_worker import LocalWorker
from ristn_cli.spread.pool import Pool
from ristn_cli.spread.scheduling import spread_over
from ristn_cli.video import read_frames

LOSSLESS = short(codec="ffv1")


@pytest.fixture
def upscaler(random_model: RISTN) -> Upscaler:
    return Upscaler(random_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=9, context=2, tile=64))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A still picture within bars, a square that crosses it in the first half, and a title in a bar at the end."""
    image = np.zeros((96, 128, 3), np.uint8)
    image[20:76] = np.random.default_rng(0).integers(60, 190, (56, 128, 3))
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(30):
        frame = image.copy()
        if index < 15:
            frame[30:66, 4 * index : 4 * index + 30] = 240 - index
        frame[25, index] = 255  # so that no two frames are the same
        if index >= 24:
            frame[84:90, 30:90] = 220
        Image.fromarray(frame).save(folder / f"{index:03}.png")
    return folder


def images(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(path)])


def count_read(upscaler: Upscaler, source: Path, target: Path) -> int:
    """Values that the network reads while a job runs."""
    read = [0]

    def add(_: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        read[0] += arguments[0].numel()

    handle = upscaler.model.register_forward_pre_hook(add)
    list(run_job(source, target, upscaler, LOSSLESS))
    handle.remove()
    return read[0]


def test_less_is_computed(upscaler: Upscaler, source: Path, tmp_path: Path) -> None:
    shared = count_read(upscaler, source, tmp_path / "shared.mkv")
    upscaler.tiling = Tiling(window=9, context=2, tile=64, still_tolerance=None)
    assert shared < 0.7 * count_read(upscaler, source, tmp_path / "all.mkv")


@pytest.mark.parametrize("parts_before_stop", [1, 3])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    upscaler: Upscaler, source: Path, tmp_path: Path, parts_before_stop: int
) -> None:
    list(run_job(source, tmp_path / "whole.mkv", upscaler, LOSSLESS))
    target = tmp_path / "out.mkv"
    with pytest.raises(Interrupted):
        list(run_job(source, target, upscaler, LOSSLESS, should_stop=stop_after(target, parts_before_stop)))
    list(run_job(source, target, upscaler, LOSSLESS))
    assert np.array_equal(images(target), images(tmp_path / "whole.mkv"))


def test_two_devices_give_the_frames_of_one(
    upscaler: Upscaler, random_model: RISTN, source: Path, tmp_path: Path
) -> None:
    list(run_job(source, tmp_path / "one.mkv", upscaler, LOSSLESS))
    with Pool([LocalWorker(name, Upscaler(random_model, upscaler.backend, upscaler.tiling)) for name in "ab"]) as pool:
        list(run_job(source, tmp_path / "two.mkv", upscaler, LOSSLESS, make_parts=spread_over(pool)))
    assert np.array_equal(images(tmp_path / "two.mkv"), images(tmp_path / "one.mkv"))


def test_the_estimate_looks_at_several_places(upscaler: Upscaler, source: Path, tmp_path: Path) -> None:
    shares = list(computed_shares(make_job(source, tmp_path / "out.mkv", short()), upscaler, 5))
    assert len(shares) == SAMPLES
    assert all(0 < share < 0.9 for share in shares)
    rest = make_job(source, tmp_path / "out.mkv", short(start=Fraction(16, 25)))
    assert max(computed_shares(rest, upscaler, 5)) < shares[0]


def test_what_moves_is_estimated_in_full(upscaler: Upscaler, tmp_path: Path) -> None:
    folder = tmp_path / "noise"
    folder.mkdir()
    for index in range(12):
        noise = np.random.default_rng(index).integers(0, 256, (64, 64, 3)).astype(np.uint8)
        Image.fromarray(noise).save(folder / f"{index:03}.png")
    assert list(computed_shares(make_job(folder, tmp_path / "out.mkv", short()), upscaler, 5)) == [1.0] * SAMPLES
