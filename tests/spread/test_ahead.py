"""A batch over several workers begins the next job while one is at work, and tells of them in order."""

import threading
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_clip
from commands import in_process

from ristn_cli import video
from ristn_cli.cli.ahead import Background
from ristn_cli.cli.engines import Engines
from ristn_cli.cli.terminal import StopRequest
from ristn_cli.cli.work import Work
from ristn_cli.cli.workers import Devices
from ristn_cli.engine.auto_tiling import AutoTiling
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import MIB, Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.events import Event, Warned
from ristn_cli.job.job import Job
from ristn_cli.job.manifest import Manifest
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.job.progress import Progress
from ristn_cli.model import RISTN
from ristn_cli.video import VideoError, read_frames


def test_a_background_job_runs_and_is_reported_later() -> None:
    is_at_work = threading.Event()

    def job() -> Generator[Event, None, None]:
        yield Warned("damage")
        yield Progress(frames=10)
        is_at_work.set()
        raise VideoError("broken")

    background = Background(job(), threading.Event())
    assert is_at_work.wait(30)  # nobody has asked for anything yet
    told = iter(background)
    assert [next(told), next(told)] == [Warned("damage"), Progress(frames=10)]
    with pytest.raises(VideoError, match="broken"):
        next(told)
    background.close()


def test_a_job_in_the_background_ends_when_it_is_closed() -> None:
    """Also while it looks through its source, and yields nothing."""
    stop = threading.Event()
    ended: list[bool] = []

    def job() -> Generator[Event, None, None]:
        ended.append(stop.wait(30))
        raise Interrupted
        yield

    Background(job(), stop).close()
    assert ended == [True]


def test_a_batch_over_two_devices_is_that_of_one(tmp_path: Path, tiny_weights: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    for name in ("a", "b", "d"):
        make_clip(tmp_path / f"{name}.mkv", frames=8, width=48, height=32).rename(source / f"{name}.mkv")
    (source / "c.mkv").write_bytes(b"not a video")
    common = ["upscale", source, "--model", tiny_weights, "--precision", "fp32", "--window", "5"]
    common += ["--codec", "ffv1", "--segment-frames", "2"]
    outputs = {}
    for devices in ("cpu", "cpu,cpu"):
        target = tmp_path / devices
        code, stdout, stderr = in_process(*common, target, "--device", devices)
        assert code == 1
        assert "4 inputs: 3 done, 1 failed" in stdout, stderr
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

    def make_parts(job: Job, _: Manifest, planner: Upscaler, __: threading.Event) -> Iterator[Event]:
        yield Progress(frames=0)
        found[job.source.width] = planner.tiling
        raise Interrupted

    options = UpscaleOptions(preset="ultrafast")
    work = Work(
        engines=Engines(lambda name: nullcontext(devices), None, options),
        options=options,
        overwrite=False,
        restart=False,
        disk_check=False,
        progress="none",
        quiet=True,
        verbose=False,
    )
    devices = Devices(upscaler, make_parts, workers=2)
    jobs = [
        work.begin(tmp_path / f"{name}.mkv", tmp_path / f"{name}-out.mkv", devices, StopRequest()) for name in sizes
    ]
    for job in jobs:
        next(job)  # the plan
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
