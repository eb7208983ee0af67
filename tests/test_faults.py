"""What goes wrong in the middle of a job: one clear line, and the same command ends in a correct file.

RISTN_KILLS=20 kills the job of `test_kills_at_random_moments` as many times; it is 4 by default.
"""

import json
import os
import random
import resource
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import make_clip, packet_times, run_ffmpeg, stop_after
from commands import COMMAND, SHORT_PARTS
from jobs import run_job, short

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.job import job_folder
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.video import VideoError, read_frames
from ristn_cli.video.writing import sequence

KILLS = int(os.environ.get("RISTN_KILLS", "4"))
LOSSLESS = short(codec="ffv1")
LOSSLESS_MP4 = short(preset="ultrafast", crf=0)
CPU = Backend(torch.device("cpu"), "fp32")


@pytest.fixture
def upscaler(tiny_model: RISTN) -> Upscaler:
    return Upscaler(tiny_model, CPU, Tiling(window=6, context=2))


def run(source: Path, target: Path, upscaler: Upscaler, options: UpscaleOptions, **keywords: object) -> int:
    """How many frames the job wrote."""
    done = list(run_job(source, target, upscaler, options, **keywords))  # type: ignore[arg-type]
    return done[-1].frames


def images(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(path)])


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A disk of its own at `folder`, and what mounts it anew with other options; skips where that is not permitted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, check=False)
    except OSError as error:
        pytest.skip(f"no mount program: {error}")
    if done.returncode != 0:
        pytest.skip("mounting a small disk needs to be root")

    def remount(options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)

    try:
        yield remount
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def make_noise(path: Path, frames: int) -> Path:
    """Pictures that no encoder makes small."""
    noise = "nullsrc=s=32x32:r=25,geq=random(1)*255:128:128"
    run_ffmpeg("-f", "lavfi", "-i", noise, "-frames:v", str(frames), "-c:v", "ffv1", path)
    return path


@pytest.mark.parametrize("share", [0.2, 0.8, 1.4])
def test_a_full_disk(upscaler: Upscaler, tmp_path: Path, share: float) -> None:
    """Full in the first part, in a later one, and in the mux, which needs room for the output beside the parts."""
    source = make_noise(tmp_path / "in.mkv", 16)
    run(source, tmp_path / "whole.mkv", upscaler, LOSSLESS)
    size = round(share * (tmp_path / "whole.mkv").stat().st_size)
    with small_disk(tmp_path / "disk", str(size)) as remount:
        target = tmp_path / "disk" / "out.mkv"
        with pytest.raises(VideoError, match=r"No space left on device") as caught:
            run(source, target, upscaler, LOSSLESS, disk_check=False)
        assert len(str(caught.value).splitlines()) == 1
        assert not target.exists()
        remount("size=20m")
        assert run(source, target, upscaler, LOSSLESS) == 16
        assert np.array_equal(images(target), images(tmp_path / "whole.mkv"))
        assert not job_folder(target).exists()


def test_a_file_too_large_for_its_limit(upscaler: Upscaler, tmp_path: Path) -> None:
    """What stands for a full disk where nothing can be mounted."""
    source, target = make_noise(tmp_path / "in.mkv", 12), tmp_path / "out.mkv"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, before[1]))
    try:
        with pytest.raises(VideoError, match=r"File too large"):
            run(source, target, upscaler, LOSSLESS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert run(source, target, upscaler, LOSSLESS) == 12


def test_permission_lost(upscaler: Upscaler, tmp_path: Path) -> None:
    """Between two runs; root may write everywhere but on a disk that is read-only."""
    source = make_clip(tmp_path / "in.mp4", frames=12, width=32, height=32)
    with small_disk(tmp_path / "disk", "20m") as remount:
        target = tmp_path / "disk" / "out.mkv"
        with pytest.raises(Interrupted):
            run(source, target, upscaler, LOSSLESS, should_stop=stop_after(target))
        remount("ro")
        with pytest.raises(VideoError, match=r"out\.mkv: cannot write to this folder: Read-only file system"):
            run(source, target, upscaler, LOSSLESS)
        remount("rw")
        progress = list(run_job(source, target, upscaler, LOSSLESS))
        assert progress[0].resumed_frames >= 4
        assert len(images(target)) == 12


def corrupt_packet(path: Path, number: int) -> None:
    """Overwrite the inside of a video packet with noise."""
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][number]
        position, size = packet.pos, packet.size
    data = bytearray(path.read_bytes())
    noise = random.Random(5).randbytes(size // 2)
    data[position + size // 4 : position + size // 4 + len(noise)] = noise
    path.write_bytes(bytes(data))


def test_corrupt_packets_are_concealed_and_reported(upscaler: Upscaler, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=20, width=160, height=120, audio_tracks=1)
    before = images(source)
    corrupt_packet(source, 10)
    told: list[str] = []
    frames = run(source, tmp_path / "out.mp4", upscaler, short(preset="ultrafast"), on_damage=told.append)
    assert told
    assert all(message.startswith(str(source)) and "\n" not in message for message in told)
    assert 15 <= frames <= 20
    after = images(tmp_path / "out.mp4")
    assert len(after) == frames
    assert abs(after[:5].mean() - before[:5].mean()) < 2
    assert packet_times(tmp_path / "out.mp4", 1) == packet_times(source, 1)
    with pytest.raises(VideoError, match=r"in\.mp4: .*--strict"):
        run(source, tmp_path / "strict.mp4", upscaler, short(preset="ultrafast", strict=True))
    assert not (tmp_path / "strict.mp4").exists()


def test_an_input_cut_in_the_middle(upscaler: Upscaler, tmp_path: Path) -> None:
    """A Matroska file, which needs no index; an MP4 without its index is refused (test_cli)."""
    source = make_clip(tmp_path / "in.mkv", frames=20, width=160, height=120)
    whole = images(source)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 6 // 10])
    told: list[str] = []
    frames = run(source, tmp_path / "out.mkv", upscaler, short(preset="ultrafast"), on_damage=told.append)
    assert 5 <= frames < 20
    assert any("cut short" in message for message in told)
    after = images(tmp_path / "out.mkv")
    assert abs(after[:5].mean() - whole[:5].mean()) < 2
    with pytest.raises(VideoError, match="--strict"):
        run(source, tmp_path / "strict.mkv", upscaler, short(preset="ultrafast", strict=True))


def test_kills_at_random_moments(tiny_weights: Path, tmp_path: Path) -> None:
    """SIGKILL between the first frame and the end, the mux and the verification included; then a run to the end."""
    source = make_clip(tmp_path / "in.mp4", frames=60, width=96, height=64, audio_tracks=1)
    options = ["--model", tiny_weights, "--preset", "ultrafast", "--precision", "fp32", "--window", "6"]

    def begin(target: Path) -> subprocess.Popen[str]:
        """The job, at work: its plan is made and its first line of progress told."""
        command = [*COMMAND, "upscale", source, target, *options, *SHORT_PARTS, "--progress", "json"]
        process = subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("{"), line
        resumed.append(json.loads(line)["frames"])
        return process

    def finish(process: subprocess.Popen[str]) -> None:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr

    resumed: list[int] = []
    whole, target = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    process = begin(whole)
    began = time.monotonic()
    finish(process)
    seconds = time.monotonic() - began
    moments = random.Random(3)
    for _ in range(KILLS):
        process = begin(target)
        time.sleep(moments.uniform(0, seconds / 2))
        process.kill()
        process.communicate()
        if target.exists():  # it was faster: a job that is done is no job to kill
            assert np.array_equal(images(target), images(whole))
            target.unlink()
    finish(begin(target))
    assert max(resumed) > 0
    assert np.array_equal(images(target), images(whole))
    for index in (0, 1):
        assert packet_times(target, index) == packet_times(whole, index)
    assert not list(tmp_path.glob(".out*"))


def test_the_mux_is_killed(upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one program that is started: what was encoded is kept, and only the mux is done again."""
    source, target = (
        make_clip(tmp_path / "in.mp4", frames=12, width=32, height=32, audio_tracks=1),
        tmp_path / "out.mp4",
    )
    begin = subprocess.Popen

    def begin_and_kill(*arguments: object, **keywords: object) -> subprocess.Popen[bytes]:
        process = begin(*arguments, **keywords)  # type: ignore[call-overload]
        process.kill()
        return process  # type: ignore[no-any-return]

    job = run_job(source, target, upscaler, LOSSLESS_MP4)
    next(job)
    with monkeypatch.context() as broken:
        broken.setattr("ristn_cli.video.muxing.program.subprocess.Popen", begin_and_kill)
        with pytest.raises(VideoError, match="the final mux failed, ffmpeg ended with -9") as caught:
            list(job)
    assert len(str(caught.value).splitlines()) == 1
    assert not target.exists()
    progress = list(run_job(source, target, upscaler, LOSSLESS_MP4))
    assert (progress[0].resumed_frames, progress[-1].frames) == (12, 12)
    assert packet_times(target, 1) == packet_times(source, 1)
    assert not job_folder(target).exists()


@pytest.mark.parametrize("share", [0.3, 1.3])
def test_a_full_disk_of_images(upscaler: Upscaler, tmp_path: Path, share: float) -> None:
    """Full in a part, and while the images are taken out of the parts."""
    source = make_noise(tmp_path / "in.mkv", 10)
    run(source, tmp_path / "whole" / "%03d.png", upscaler, LOSSLESS)
    size = round(share * sum(path.stat().st_size for path in (tmp_path / "whole").iterdir()))
    with small_disk(tmp_path / "disk", str(size)) as remount:
        target = tmp_path / "disk" / "out" / "%03d.png"
        with pytest.raises(VideoError, match="No space left on device") as caught:
            run(source, target, upscaler, LOSSLESS, disk_check=False)
        assert len(str(caught.value).splitlines()) == 1
        assert not target.parent.exists() or not list(target.parent.glob("*.png"))
        remount("size=40m")
        assert run(source, target, upscaler, LOSSLESS) == 10
        assert np.array_equal(images(target.parent), images(tmp_path / "whole"))
        assert not job_folder(target).exists()


def test_a_stop_between_the_names_of_images(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some images have their names, some not: the same command gives the rest theirs, and computes nothing again."""
    source, target = make_clip(tmp_path / "in.mp4", frames=8, width=32, height=32), tmp_path / "out" / "%03d.png"
    give_name = sequence.give_name

    def stop(made: Path, place: Path, *, overwrite: bool) -> None:
        if place.name == "005.png":
            raise KeyboardInterrupt
        give_name(made, place, overwrite=overwrite)

    with monkeypatch.context() as broken:
        broken.setattr(sequence, "give_name", stop)
        with pytest.raises(KeyboardInterrupt):
            run(source, target, upscaler, LOSSLESS)
    assert len(list(target.parent.glob("*.png"))) == 4
    progress = list(run_job(source, target, upscaler, LOSSLESS))
    assert (progress[0].resumed_frames, progress[-1].frames) == (8, 8)
    assert sorted(path.name for path in target.parent.iterdir()) == [f"{k:03}.png" for k in range(1, 9)]
