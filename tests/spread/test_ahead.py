"""A batch over several workers begins the next job while one is at work, and tells of them in order."""

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_clip
from commands import in_process

from ristn_cli import video
from ristn_cli.cli.ahead import Ahead
from ristn_cli.cli.work import Engines, Work
from ristn_cli.cli.workers import Devices
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import MIB, AutoTiling, Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.job import Interrupted
from ristn_cli.job.manifest import Manifest
from ristn_cli.job.plan import UpscaleOptions
from ristn_cli.job.progress import Progress
from ristn_cli.model import RISTN
from ristn_cli.video import VideoError, VideoInfo, read_frames

PAIRS = [(Path(f"in{number}"), Path(f"out{number}")) for number in range(3)]


def follow(ahead: Ahead, number: int, told: list[object], *, should_stop: Callable[[], bool] = lambda: False) -> None:
    hooks: dict[str, Any] = {"should_stop": should_stop, "on_plan": told.append, "on_damage": told.append}
    told.extend(now.frames for now in ahead.follow(*PAIRS[number], **hooks))


def test_the_next_job_is_at_work_before_its_turn_and_told_of_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    second_began = threading.Event()

    def begin(source: Path, target: Path, **hooks: Callable[..., Any]) -> Generator[Progress, None, None]:
        number = int(source.name[2:])
        hooks["on_plan"](f"plan {number}")
        yield Progress(frames=0)
        if number == 0:
            assert second_began.wait(30)  # or no worker would find anything to do at this job's end
        if number == 1:
            second_began.set()
            hooks["on_damage"]("damage 1")
            yield Progress(frames=10)
            raise VideoError("broken")
        yield Progress(frames=number + 1)

    told: list[object] = []
    with Ahead(begin, PAIRS) as ahead:
        assert PAIRS[1] not in ahead
        follow(ahead, 0, told)
        assert PAIRS[1] in ahead
        assert told[:1] == ["plan 0"]
        assert told[-1] == 1
        del told[:]
        with pytest.raises(VideoError, match="broken"):
            follow(ahead, 1, told)
        assert told[:2] == ["plan 1", "damage 1"]
        del told[:]
        follow(ahead, 2, told)
        assert told[0] == "plan 2"
        assert told[-1] == 3


def test_a_stop_closes_the_job_that_waits_for_its_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    closed: list[int] = []
    began = threading.Event()
    deadline = time.monotonic() + 30

    def begin(source: Path, target: Path, **hooks: Callable[..., Any]) -> Generator[Progress, None, None]:
        number = int(source.name[2:])
        try:
            while not hooks["should_stop"]():
                assert time.monotonic() < deadline
                if number == 1:
                    began.set()
                yield Progress(frames=number)
            raise KeyError("stopped")
        finally:
            closed.append(number)

    with pytest.raises(KeyError, match="stopped"), Ahead(begin, PAIRS[:2]) as ahead:
        follow(ahead, 0, [], should_stop=began.is_set)
    assert sorted(closed) == [0, 1]


def test_a_stop_reaches_the_checks_of_the_job_that_waits_for_its_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It yields nothing while it looks through its source, so that it cannot be closed."""
    monkeypatch.chdir(tmp_path)
    is_looking = threading.Event()
    deadline = time.monotonic() + 30
    ended: list[bool] = []

    def begin(source: Path, target: Path, **hooks: Callable[..., Any]) -> Generator[Progress, None, None]:
        if source == PAIRS[1][0]:
            is_looking.set()
            while not hooks["should_stop"]() and time.monotonic() < deadline:
                time.sleep(0.01)
            ended.append(time.monotonic() < deadline)
            raise Interrupted
        while not is_looking.is_set():
            yield Progress(frames=0)
        raise Interrupted

    with pytest.raises(Interrupted), Ahead(begin, PAIRS[:2]) as ahead:
        follow(ahead, 0, [])
    assert ended == [True]


def test_a_batch_over_two_devices_is_that_of_one(tmp_path: Path, tiny_weights: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b", "d"):
        make_clip(tmp_path / f"{name}.mkv", frames=8, width=48, height=32).rename(source / f"{name}.mkv")
    (source / "c.mkv").write_bytes(b"not a video")
    common = ["upscale", source, "--weights", tiny_weights, "--precision", "fp32", "--window", "5"]
    common += ["--codec", "ffv1", "--segment-frames", "2"]
    outputs = {}
    for devices in ("cpu", "cpu,cpu"):
        target = tmp_path / devices
        code, stdout, stderr = in_process(*common, target, "--device", devices)
        assert code == 1
        assert "4 inputs: 3 done, 1 failed" in stdout
        assert "c.mkv" in stderr
        outputs[devices] = [[f.image for f in read_frames(target / f"{name}.mkv")] for name in ("a", "b", "d")]
    for one, two in zip(*outputs.values(), strict=True):
        assert np.array_equal(one, two)
    _, stdout, _ = in_process(*common, tmp_path / "cpu,cpu", "--device", "cpu,cpu")
    assert "3 done already" in stdout


def test_jobs_at_work_at_once_have_windows_of_their_own(tmp_path: Path, random_model: RISTN) -> None:
    """A large and a small clip with little memory: the second to begin must not decide on the tiles of the first."""
    sizes = {"large": (640, 360), "small": (64, 48)}
    for name, (width, height) in sizes.items():
        make_clip(tmp_path / f"{name}.mkv", frames=3, width=width, height=height)
    upscaler = Upscaler(random_model, Backend(torch.device("cpu"), "fp32"), AutoTiling(memory_bytes=900 * MIB))
    found: dict[int, Tiling] = {}

    def make_parts(_: Manifest, info: VideoInfo, planner: Upscaler, *__: object) -> Iterator[Progress]:
        yield Progress(frames=0)
        found[info.width] = planner.tiling
        raise Interrupted

    work = Work(
        engines=Engines(lambda name: nullcontext(devices), "auto", None),
        options=UpscaleOptions(preset="ultrafast"),
        overwrite=False,
        restart=False,
        disk_check=False,
        progress="none",
        quiet=True,
        verbose=False,
    )
    devices = Devices(upscaler, make_parts, workers=2)
    jobs = [work.begin(tmp_path / f"{name}.mkv", tmp_path / f"{name}-out.mkv", devices) for name in sizes]
    for job in jobs:
        next(job)
    for job in jobs:
        with pytest.raises(Interrupted):
            next(job)
    expected = {}
    for width, height in sizes.values():
        upscaler.fit(width, height, encoder_bytes=encoder_bytes(width, height))
        expected[width] = upscaler.tiling
    assert found == expected
    assert found[64] != found[640]


def encoder_bytes(width: int, height: int) -> int:
    return video.encoder_bytes("libx264", preset="ultrafast", width=4 * width, height=4 * height, is_deep=False)
