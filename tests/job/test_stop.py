"""A first request to stop ends the work at the next safe point, wherever it is, and a second one does so at once."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from clips import make_clip, stop_after
from jobs import run_job, short
from PIL import Image

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job import checks as preflight
from ristn_cli.job import finishing, manifest, reading
from ristn_cli.job import run as run_module
from ristn_cli.job.job import job_folder
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.spread import scheduling as spread
from ristn_cli.spread.local_worker import LocalWorker
from ristn_cli.spread.pool import Pool
from ristn_cli.spread.scheduling import spread_over
from ristn_cli.video import check_interruption, interruptible, probe, read_frames
from ristn_cli.video.muxing.program import ended_when_interrupted

CPU = Backend(torch.device("cpu"), "fp32")
LOSSLESS = UpscaleOptions(codec="ffv1")


@pytest.fixture
def upscaler(random_model: RISTN) -> Upscaler:
    return Upscaler(random_model, CPU, Tiling(window=6, context=2))


def run(
    source: Path,
    target: Path,
    upscaler: Upscaler,
    should_stop: Callable[[], bool],
    options: UpscaleOptions = LOSSLESS,
    **keywords: object,
) -> None:
    for _ in run_job(source, target, upscaler, options, should_stop=should_stop, **keywords):  # type: ignore[arg-type]
        pass


def forbid(monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> None:
    """Fail the test where the work goes on to `name`."""

    def reached(*_: object, **__: object) -> None:
        raise AssertionError(f"{name} is reached after the stop")

    monkeypatch.setattr(where, name, reached)


def encode(path: Path, images: Sequence[np.ndarray]) -> Path:
    """A lossless video of images (H, W, 3) in RGB, or (H, W, 4) in BGRA."""
    given, coded = ("rgb24", "bgr0") if images[0].shape[2] == 3 else ("bgra", "bgra")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, _ = images[0].shape  # type: ignore[attr-defined]
        stream.pix_fmt = coded  # type: ignore[attr-defined]
        for image in images:
            container.mux(stream.encode(VideoFrame.from_ndarray(image, given)))  # type: ignore[attr-defined]
        container.mux(stream.encode(None))  # type: ignore[attr-defined]
    return path


class StopFlag:
    """`should_stop` that says so from the moment that `set` is called."""

    def __init__(self) -> None:
        self.is_set = threading.Event()

    def __call__(self) -> bool:
        return self.is_set.is_set()

    def set(self, *_: object, **__: object) -> None:
        self.is_set.set()


def stop_in(monkeypatch: pytest.MonkeyPatch, where: object, name: str) -> StopFlag:
    """Ask for the stop when the work comes to `name`, which then goes on."""
    flag, original = StopFlag(), getattr(where, name)

    def reached(*arguments: object, **keywords: object) -> object:
        flag.set()
        return original(*arguments, **keywords)

    monkeypatch.setattr(where, name, reached)
    return flag


def test_a_scan_for_transparency_is_interrupted(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # All of it has to be read to know that its alpha channel is not used.
    source = encode(tmp_path / "in.mkv", [np.full((32, 32, 4), 255, np.uint8)] * 20)
    forbid(monkeypatch, preflight, "find_fields")
    flag = stop_in(monkeypatch, preflight, "find_transparency")
    with pytest.raises(Interrupted):
        run(source, tmp_path / "out.mkv", upscaler, flag)
    assert not job_folder(tmp_path / "out.mkv").exists()


def test_a_scan_of_images_for_transparency_is_interrupted(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(3):
        Image.new("RGBA", (32, 32), (index, 0, 0, 255)).save(folder / f"{index}.png")
    forbid(monkeypatch, preflight, "find_fields")
    flag = stop_in(monkeypatch, preflight, "find_transparency")
    with pytest.raises(Interrupted):
        run(folder, tmp_path / "out.mkv", upscaler, flag)


def test_a_scan_for_fields_is_interrupted(upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=20, width=32, height=32)
    forbid(monkeypatch, preflight, "check_mux")
    flag = stop_in(monkeypatch, preflight, "find_fields")
    with pytest.raises(Interrupted):
        run(source, tmp_path / "out.mkv", upscaler, flag)


def test_a_stop_during_the_checks_computes_nothing(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=20, width=32, height=32)
    forbid(monkeypatch, upscaler, "launch_window")
    flag = StopFlag()
    with pytest.raises(Interrupted):
        run(source, tmp_path / "out.mkv", upscaler, flag, on_plan=flag.set)
    assert not job_folder(tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("stage", ["read_source", "windows"])
def test_a_stop_before_the_first_frame_is_finished_does_not_finish_a_part(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """While the source is read up to --start, or while the first window is computed."""
    source = make_clip(tmp_path / "in.mkv", frames=20, width=32, height=32)
    flag = StopFlag()
    if stage == "windows":
        launch = upscaler.launch_window

        def launch_and_stop(*arguments: object) -> object:
            flag.set()
            return launch(*arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(upscaler, "launch_window", launch_and_stop)
    else:
        flag = stop_in(monkeypatch, reading, "read_source")
        forbid(monkeypatch, upscaler, "launch_window")
    with pytest.raises(Interrupted):
        run(source, tmp_path / "out.mkv", upscaler, flag)
    assert not job_folder(tmp_path / "out.mkv").exists()


@pytest.mark.parametrize("stage", ["join_and_mux", "verify", "_check_target"])
def test_a_stop_at_the_end_keeps_the_parts(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    source, target = make_clip(tmp_path / "in.mkv", frames=6, width=32, height=32), tmp_path / "out.mkv"
    with monkeypatch.context() as patch:
        if stage == "join_and_mux":
            forbid(patch, finishing, "verify")
        forbid(patch, finishing, "publish")
        if stage == "_check_target":
            flag = StopFlag()
            original = finishing.verify

            def verify_and_stop(*arguments: object, **keywords: object) -> None:
                original(*arguments, **keywords)  # type: ignore[arg-type]
                flag.set()

            patch.setattr(finishing, "verify", verify_and_stop)
        else:
            flag = stop_in(patch, finishing, stage)
        with pytest.raises(Interrupted):
            run(source, target, upscaler, flag)
    assert (job_folder(target) / "manifest.json").exists()
    assert not target.exists()
    with monkeypatch.context() as patch:
        forbid(patch, upscaler, "launch_window")
        run(source, target, upscaler, lambda: False)
    assert len(list(read_frames(target))) == 6


def test_a_stop_while_finished_parts_are_checked_computes_nothing(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = make_clip(tmp_path / "in.mkv", frames=20, width=32, height=32), tmp_path / "out.mkv"
    with pytest.raises(Interrupted):
        run(source, target, upscaler, stop_after(target, 3), short(codec="ffv1"))
    flag = stop_in(monkeypatch, manifest, "file_sha256")
    forbid(monkeypatch, run_module, "describe_job")
    with pytest.raises(Interrupted):
        run(source, target, upscaler, flag, short(codec="ffv1"))
    assert len(list(job_folder(target).glob("part-*"))) == 3


def test_a_stop_while_images_are_taken_out_of_the_parts_publishes_none(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = make_clip(tmp_path / "in.mkv", frames=3, width=32, height=32), tmp_path / "out" / "%d.png"
    forbid(monkeypatch, finishing, "publish_images")
    with pytest.raises(Interrupted):
        run(source, target, upscaler, stop_in(monkeypatch, finishing, "join_images"), UpscaleOptions())
    assert list(target.parent.iterdir()) == [job_folder(target)]


def test_long_work_on_files_asks_whether_to_go_on(upscaler: Upscaler, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=5, width=32, height=32)
    asked: list[None] = []
    with interruptible(lambda: asked.append(None)):
        assert len(list(read_frames(probe(source)))) == 5
    assert len(asked) >= 5
    del asked[:]
    list(read_frames(probe(source)))
    assert asked == []


def test_a_program_that_is_stuck_is_ended() -> None:
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    def check() -> None:
        if time.monotonic() - began > 0.3:
            raise Interrupted

    with process, interruptible(check), pytest.raises(Interrupted), ended_when_interrupted(process):
        process.wait()
    assert time.monotonic() - began < 30


@pytest.fixture
def _endless_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the source for the plan gives packets for ever, and no segment."""

    def plan_for_ever(*_: object) -> Iterator[None]:
        while True:
            time.sleep(0.01)
            check_interruption()
            yield from ()

    monkeypatch.setattr(spread, "plan_segments", plan_for_ever)


@pytest.mark.usefixtures("_endless_source")
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_stop_does_not_wait_for_the_plan(upscaler: Upscaler, tmp_path: Path, is_closed: bool) -> None:
    source, target = make_clip(tmp_path / "in.mkv", frames=6, width=32, height=32), tmp_path / "out.mkv"
    flag = StopFlag()
    done = threading.Event()

    def work() -> None:
        with Pool([LocalWorker("a", upscaler)]) as pool:
            steps = run_job(source, target, upscaler, LOSSLESS, should_stop=flag, make_parts=spread_over(pool))
            next(steps)
            if is_closed:
                steps.close()
            else:
                flag.set()
                with contextlib.suppress(Interrupted):
                    list(steps)
        done.set()

    threading.Thread(target=work, daemon=True).start()
    assert done.wait(20)
    assert not [thread for thread in threading.enumerate() if thread.name == "plan"]


def test_the_second_signal_does_not_wait_for_who_reads_the_output(tiny_weights: Path, tmp_path: Path) -> None:
    """Nobody reads the Matroska stream on standard output, so ffmpeg waits for room in the pipe."""
    noise = np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3), np.uint8)
    source = encode(tmp_path / "in.mkv", list(noise))
    words = [
        source,
        "-",
        "--format",
        "mkv",
        "--model",
        tiny_weights,
        "--precision",
        "fp32",
        "--codec",
        "ffv1",
    ]
    command = [sys.executable, "-m", "ristn_cli", "upscale", *map(str, words), "--segment-frames", "4", "--window", "5"]
    command += ["--progress", "json"]
    reader, writer = os.pipe()
    process = subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    try:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        assert any('"part": 3' in line for line in lines)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
    finally:
        process.kill()
        process.wait()
        process.stderr.close()  # type: ignore[union-attr]
        os.close(reader)
