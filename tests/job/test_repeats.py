"""Repeated frames: computed once, written as often as they came."""

import io
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import stop_after
from jobs import run_job, short
from PIL import Image

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.job import repeats
from ristn_cli.job.checks import OutputStream
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.job.repeats import join_repeats
from ristn_cli.model import RISTN
from ristn_cli.video import Frame, read_frames

LOSSLESS = short(codec="ffv1")
PULLDOWN = [0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 4, 4, 5, 5, 5, 6, 7, 7, 8, 8, 8, 8, 8, 9, 10, 10, 11, 11, 12]
"""Which picture each frame shows: mostly film at 60 fields a second."""


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(60, 190, (16, 24, 3), dtype=np.uint8) // 8 + 10 * number


def frames(numbers: list[int]) -> list[Frame]:
    return [Frame(picture(number), Fraction(t, 60), Fraction(1, 60)) for t, number in enumerate(numbers)]


def times(run: Iterable[Frame]) -> list[Fraction]:
    return [frame.time for frame in run]


def test_equal_neighbours_are_one_run() -> None:
    runs = list(join_repeats(frames(PULLDOWN)))
    assert [len(run) for run in runs] == [2, 3, 2, 3, 2, 3, 1, 2, 5, 1, 2, 2, 1]
    assert [time for run in runs for time in times(run)] == [Fraction(t, 60) for t in range(len(PULLDOWN))]
    assert all(frame.image is run[0].image for run in runs for frame in run)


def test_one_value_makes_another_picture_and_so_does_coming_back() -> None:
    first, second, third = frames([0, 0, 0])
    changed = second.image.copy()
    changed[-1, -1, -1] ^= 1
    assert [len(run) for run in join_repeats([first, replace(second, image=changed), third])] == [1, 1, 1]


@pytest.mark.parametrize("longest", [2, 3, 32])
def test_a_stream_taken_up_at_any_run_goes_on_with_the_same_runs(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeats, "LONGEST_RUN", longest)
    stream = frames([*PULLDOWN, *[20] * 9])
    runs = list(join_repeats(stream))
    assert max(map(len, runs)) == min(longest, 9)
    for index, run in enumerate(runs):
        rest = join_repeats(frame for frame in stream if frame.time >= run[0].time)
        assert [[frame.time for frame in run] for run in rest] == [
            [frame.time for frame in run] for run in runs[index:]
        ]


@pytest.fixture
def upscaler(random_model: RISTN) -> Upscaler:
    return Upscaler(random_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=5, context=2))


def make_source(folder: Path, numbers: list[int]) -> Path:
    folder.mkdir()
    for index, number in enumerate(numbers):
        Image.fromarray(picture(number)).save(folder / f"{index:03}.png")
    return folder


def run(
    source: Path, target: Path | OutputStream, upscaler: Upscaler, options: UpscaleOptions = LOSSLESS, **keywords: Any
) -> int:
    return [now.frames for now in run_job(source, target, upscaler, options, **keywords)][-1]


def images(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(path)])


def count_kept(upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the frames that each window keeps."""
    kept: list[int] = []
    launch = upscaler.launch_window

    def count(window: Window[np.ndarray]) -> Any:
        kept.append(len(window.frames[window.keep]))
        return launch(window)

    monkeypatch.setattr(upscaler, "launch_window", count)
    return kept


def test_the_network_sees_each_picture_once_and_every_frame_is_written(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    distinct = sorted(set(PULLDOWN))
    run(make_source(tmp_path / "distinct", distinct), tmp_path / "distinct.mkv", upscaler)
    source, target = make_source(tmp_path / "repeated", PULLDOWN), tmp_path / "repeated.mkv"
    kept = count_kept(upscaler, monkeypatch)
    assert run(source, target, upscaler) == len(PULLDOWN)
    assert sum(kept) == len(distinct)
    assert np.array_equal(images(target), images(tmp_path / "distinct.mkv")[PULLDOWN])
    assert times(read_frames(target)) == times(read_frames(source))


def test_so_it_does_where_plain_frames_go_to_a_stream(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = count_kept(upscaler, monkeypatch)
    stdout = io.BytesIO()
    frames = run(make_source(tmp_path / "in", PULLDOWN), OutputStream(file=stdout), upscaler, short())
    assert frames == stdout.getvalue().count(b"FRAME\n") == len(PULLDOWN)
    assert sum(kept) == len(set(PULLDOWN))


@pytest.mark.parametrize("parts_before_stop", [1, 2, 3])
@pytest.mark.parametrize(
    "options", [LOSSLESS, replace(LOSSLESS, start=Fraction(1, 8), max_frames=24)], ids=["all", "range"]
)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    upscaler: Upscaler, tmp_path: Path, options: UpscaleOptions, parts_before_stop: int
) -> None:
    source, target = make_source(tmp_path / "in", PULLDOWN), tmp_path / "out.mkv"
    count = run(source, tmp_path / "whole.mkv", upscaler, options)
    with pytest.raises(Interrupted):
        run(source, target, upscaler, options, should_stop=stop_after(target, parts_before_stop))
    assert run(source, target, upscaler, options) == count == (options.max_frames or len(PULLDOWN))
    assert np.array_equal(images(target), images(tmp_path / "whole.mkv"))
    assert [frame.time for frame in read_frames(target)] == [
        frame.time for frame in read_frames(tmp_path / "whole.mkv")
    ]
