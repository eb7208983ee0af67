"""A whole file through the engine: times, streams, pixels, resume, and what a failure leaves."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clips import make_clip, packet_times, stop_after
from jobs import plan_run, run_job, short
from PIL import Image

from ristn_cli.engine.device import Backend, DeviceError
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.short_memory import OutOfMemory
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.evaluation.metrics import psnr
from ristn_cli.job import forecast, manifest
from ristn_cli.job.job import job_folder
from ristn_cli.job.manifest import JobError
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.video import VideoError, probe, read_frames
from ristn_cli.weights import REPLACED

CPU = Backend(torch.device("cpu"), "fp32")
FAST = short(preset="ultrafast")


@pytest.fixture
def upscaler(random_model: RISTN) -> Upscaler:
    return Upscaler(random_model, CPU, Tiling(window=6, context=2))


def run(
    source: Path, target: Path, upscaler: Upscaler, options: UpscaleOptions = FAST, **keywords: object
) -> list[int]:
    return [progress.frames for progress in run_job(source, target, upscaler, options, **keywords)]  # type: ignore[arg-type]


def images(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(path)])


def test_frames_keep_their_times_and_their_pictures(tiny_model: RISTN, tmp_path: Path) -> None:
    """With a network that is bicubic, every output frame is the bicubic of its own source frame."""
    source = make_clip(tmp_path / "in.mp4", frames=13, audio_tracks=2, subtitles=True, chapters=True)
    target = tmp_path / "out.mp4"
    counts = run(source, target, Upscaler(tiny_model, CPU), short(preset="ultrafast", crf=1))
    assert counts[0] == 0
    assert counts[-1] == 13
    before, after = list(read_frames(source)), list(read_frames(target))
    assert [frame.time for frame in after] == [frame.time for frame in before]
    for lr, sr in zip(before, after, strict=True):
        expected = Image.fromarray(lr.image).resize((256, 192), Image.Resampling.BICUBIC)
        assert psnr(sr.image, np.asarray(expected)) > 40
    kinds = [stream.kind for stream in probe(target).streams]
    assert kinds.count("audio") == 2
    assert kinds.count("subtitle") == 1
    assert len(probe(target).chapters) == 2
    for index in (1, 2):
        assert packet_times(target, index) == packet_times(source, index)


def test_variable_frame_rate_is_kept(upscaler: Upscaler, tmp_path: Path) -> None:
    ticks = [0, 1, 2, 7, 8, 20, 21]
    source = make_clip(tmp_path / "in.mkv", times=ticks, time_base=Fraction(1, 50), width=32, height=16)
    run(source, tmp_path / "out.mp4", upscaler)
    times = [frame.time for frame in read_frames(tmp_path / "out.mp4")]
    assert [time - times[0] for time in times] == [Fraction(tick, 50) for tick in ticks]


@pytest.mark.parametrize(("width", "height"), [(16, 16), (34, 18), (64, 16)])
@pytest.mark.parametrize("frames", [1, 2])
def test_small_sizes_and_counts(upscaler: Upscaler, tmp_path: Path, width: int, height: int, frames: int) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=frames, width=width, height=height)
    run(source, tmp_path / "out.mkv", upscaler)
    assert images(tmp_path / "out.mkv").shape == (frames, 4 * height, 4 * width, 3)


def test_ten_bits_stay_ten_bits(upscaler: Upscaler, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=2, pixel_format="yuv420p10le", codec="libx265", width=64, height=64)
    run(source, tmp_path / "out.mkv", upscaler)
    info = probe(tmp_path / "out.mkv")
    assert (info.codec, info.bit_depth) == ("hevc", 10)


@pytest.mark.parametrize("parts_before_stop", [1, 2, 3])
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    upscaler: Upscaler, tmp_path: Path, parts_before_stop: int
) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=23, width=32, height=32, audio_tracks=1)
    run(source, tmp_path / "whole.mp4", upscaler)
    target = tmp_path / "out.mp4"
    with pytest.raises(Interrupted):
        run(source, target, upscaler, should_stop=stop_after(target, parts_before_stop))
    assert not target.exists()
    assert len(list(job_folder(target).glob("part-*.mp4"))) == parts_before_stop
    counts = run(source, target, upscaler)
    assert counts[0] >= 4 * parts_before_stop
    assert counts[-1] == 23
    assert np.array_equal(images(target), images(tmp_path / "whole.mp4"))
    assert packet_times(target, 0) == packet_times(tmp_path / "whole.mp4", 0)
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_parts_do_not_show(upscaler: Upscaler, tmp_path: Path) -> None:
    """The network reads across the borders of parts: only the encoder starts anew there."""
    source = make_clip(tmp_path / "in.mp4", frames=17, width=32, height=32)
    options = short(preset="ultrafast", crf=1)
    run(source, tmp_path / "parts.mp4", upscaler, options)
    run(source, tmp_path / "one.mp4", upscaler, replace(options, segment_frames=1000))
    for one, many in zip(images(tmp_path / "one.mp4"), images(tmp_path / "parts.mp4"), strict=True):
        assert psnr(one, many) > 45


def interrupt(source: Path, target: Path, upscaler: Upscaler, options: UpscaleOptions = FAST) -> None:
    with pytest.raises(Interrupted):
        run(source, target, upscaler, options, should_stop=stop_after(target))


def test_a_damaged_part_is_made_again(upscaler: Upscaler, tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=12, width=32, height=32), tmp_path / "out.mp4"
    interrupt(source, target, upscaler)
    part = job_folder(target) / "part-00001.mp4"
    part.write_bytes(part.read_bytes()[:-10])
    assert run(source, target, upscaler)[0] == 0
    assert len(images(target)) == 12


def test_a_whole_number_is_the_same_option_whatever_its_type(upscaler: Upscaler, tmp_path: Path) -> None:
    """As a job that is begun from Python and resumed on the command line, which reads 20 as 20.0."""
    source, target = make_clip(tmp_path / "in.mp4", frames=12, width=32, height=32), tmp_path / "out.mp4"
    interrupt(source, target, upscaler, short(preset="ultrafast", crf=20))
    assert run(source, target, upscaler, short(preset="ultrafast", crf=20.0))[0] > 0


def test_an_unfinished_run_of_replaced_weights_names_them(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=12, width=32, height=32), tmp_path / "out.mp4"
    monkeypatch.setattr(upscaler, "fingerprint", next(key for key, old in REPLACED.items() if old.name == "ristn-lite"))
    interrupt(source, target, upscaler)
    monkeypatch.undo()
    with pytest.raises(
        JobError,
        match=r"unfinished run with ristn-lite v1, which newer weights replaced; "
        r"to finish it, run `ristn download-weights ristn-lite --revision v1 --dir DIR` and use --model DIR/ristn-lite",
    ):
        run(source, target, upscaler)
    assert run(source, target, upscaler, restart=True)[0] == 0


def test_another_option_or_input_is_refused_by_name_until_restart(upscaler: Upscaler, tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=12, width=32, height=32), tmp_path / "out.mp4"
    interrupt(source, target, upscaler)
    other = short(preset="ultrafast", crf=30)
    with pytest.raises(JobError, match=r"another crf \(17, now 30\); use --restart"):
        run(source, target, upscaler, other)
    make_clip(source, frames=11, width=32, height=32)
    with pytest.raises(JobError, match="another input"):
        run(source, target, upscaler)
    assert run(source, target, upscaler, other, restart=True)[0] == 0
    assert len(images(target)) == 11


def test_two_runs_on_one_output_are_kept_apart(upscaler: Upscaler, tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=12, width=32, height=32), tmp_path / "out.mp4"
    first = run_job(source, target, upscaler, FAST)
    next(first)
    with pytest.raises(JobError, match="another ristn process is working"):
        run(source, target, upscaler)
    first.close()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (short(preset="ultrafast", max_frames=7), range(0, 7)),
        (short(preset="ultrafast", start=Fraction(1, 5)), range(5, 20)),
        (short(preset="ultrafast", start=Fraction(1, 5), end=Fraction(2, 5)), range(5, 10)),
        (short(preset="ultrafast", start=Fraction(1, 5), max_frames=3), range(5, 8)),
    ],
)
def test_a_range_is_frame_exact_and_sound_is_cut_with_it(
    tiny_model: RISTN, tmp_path: Path, options: UpscaleOptions, expected: range
) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=20, audio_tracks=1)
    target = tmp_path / "out.mp4"
    run(source, target, Upscaler(tiny_model, CPU), options)
    brightness = images(target).mean(axis=(1, 2, 3))
    wanted = images(source)[list(expected)].mean(axis=(1, 2, 3))
    np.testing.assert_allclose(brightness, wanted, atol=1)
    sound = packet_times(target, 1)
    seconds = sound[-1][0] + sound[-1][1] - sound[0][0]
    assert abs(seconds - Fraction(len(expected), 25)) < Fraction(2, 25)


def test_a_range_resumes_too(upscaler: Upscaler, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=30, width=32, height=32)
    options = short(preset="ultrafast", start=Fraction(1, 5), max_frames=17)
    run(source, tmp_path / "whole.mp4", upscaler, options)
    interrupt(source, tmp_path / "out.mp4", upscaler, options)
    assert run(source, tmp_path / "out.mp4", upscaler, options)[-1] == 17
    assert np.array_equal(images(tmp_path / "out.mp4"), images(tmp_path / "whole.mp4"))


def test_an_empty_range_is_an_error(upscaler: Upscaler, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=5)
    with pytest.raises(VideoError, match="no frames"):
        run(source, tmp_path / "out.mp4", upscaler, short(preset="ultrafast", start=Fraction(10)))
    assert not list(tmp_path.glob("*out*"))


def test_a_failure_leaves_no_output(upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=5), tmp_path / "out.mp4"

    def fail(*_: object) -> Iterator[np.ndarray]:
        raise RuntimeError("injected")

    monkeypatch.setattr(upscaler, "launch_window", fail)
    with pytest.raises(RuntimeError, match="injected"):
        run(source, target, upscaler)
    assert not list(tmp_path.glob("*out*"))
    assert not job_folder(target).exists()


def test_what_can_be_refused_is_refused_before_the_first_frame(upscaler: Upscaler, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=2)
    existing = tmp_path / "existing.mp4"
    existing.write_bytes(b"precious")
    for target, words in (
        (existing, "already exists"),
        (source, "is the input itself"),
        (tmp_path / "missing" / "out.mp4", "the folder .* does not exist"),
        (tmp_path, "is a folder"),
        (tmp_path / "out.txt", "cannot write files ending in"),
    ):
        with pytest.raises(VideoError, match=words):
            next(run_job(source, target, upscaler, FAST))
    assert existing.read_bytes() == b"precious"
    run(source, existing, upscaler, overwrite=True)
    assert len(images(existing)) == 2


def test_a_plan_tells_what_an_unfinished_run_left(upscaler: Upscaler, tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=23, width=32, height=32), tmp_path / "out.mp4"
    fresh = plan_run(source, target, upscaler, FAST)
    assert (fresh.frames, fresh.resumed_frames, fresh.windows) == (23, 0, 10)
    assert not job_folder(target).exists()
    interrupt(source, target, upscaler)
    resumed = plan_run(source, target, upscaler, FAST)
    assert resumed.resumed_frames >= 4
    assert resumed.windows is not None
    assert resumed.windows < 10
    assert plan_run(source, target, upscaler, FAST, restart=True).resumed_frames == 0
    with pytest.raises(JobError, match="another crf"):
        plan_run(source, target, upscaler, short(preset="ultrafast", crf=30))
    told: list[object] = []
    run(source, target, upscaler, on_plan=told.append)
    assert told == [replace(resumed, seconds=None, free_bytes=told[0].free_bytes)]  # type: ignore[attr-defined]


@pytest.mark.parametrize("option", [{"pixel_format": "yuv444p"}, {"encoder_options": {"g": "3"}}])
def test_encoder_options_are_part_of_a_job(upscaler: Upscaler, tmp_path: Path, option: dict[str, object]) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=12, width=32, height=32), tmp_path / "out.mp4"
    interrupt(source, target, upscaler)
    with pytest.raises(JobError, match=f"another {next(iter(option))}"):
        run(source, target, upscaler, replace(FAST, **option))  # type: ignore[arg-type]


def test_too_small_a_disk_is_refused_before_the_first_frame(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=5), tmp_path / "out.mp4"
    monkeypatch.setattr(forecast.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(VideoError, match=r"needs about \d+\.\d kB of .* only 1\.0 kB are free; .*--no-disk-check"):
        next(run_job(source, target, upscaler, FAST))
    assert not job_folder(target).exists()
    run(source, target, upscaler, disk_check=False)
    assert len(images(target)) == 5


def test_a_plan_refuses_what_the_job_would(upscaler: Upscaler, tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=5), tmp_path / "out.mp4"
    for options, words in (
        (replace(FAST, start=Fraction(100)), "no frames between --start and --end"),
        (replace(FAST, codec="ffv1"), "mp4 cannot hold ffv1"),
        (replace(FAST, codec="hevc_nvenc"), "hevc_nvenc is not usable"),
    ):
        with pytest.raises(VideoError, match=words):
            plan_run(source, target, upscaler, options)


@pytest.mark.parametrize("name", ["", "shot_%03d.png"])
def test_numbered_images_are_a_video(upscaler: Upscaler, tmp_path: Path, name: str) -> None:
    folder, target = tmp_path / "images", tmp_path / "out.mp4"
    folder.mkdir()
    for index in range(12):
        Image.new("RGB", (32, 32), (10 * index, 90, 90)).save(folder / f"shot_{index:03}.png")
    assert plan_run(folder / name, target, upscaler, FAST).frames == 12
    interrupt(folder / name, target, upscaler)
    assert run(folder / name, target, upscaler)[0] >= 4
    assert len(images(target)) == 12


def test_finished_parts_outlive_a_failure_before_they_are_taken_up(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=12, width=32, height=32), tmp_path / "out.mp4"
    interrupt(source, target, upscaler)

    def fail(*_: object) -> str:
        raise OSError("the disk was unplugged")

    with monkeypatch.context() as broken:
        broken.setattr(manifest, "file_sha256", fail)
        with pytest.raises(OSError, match="unplugged"):
            run(source, target, upscaler)
    with monkeypatch.context() as broken:
        broken.setattr(forecast.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
        with pytest.raises(VideoError, match="disk space"):
            run(source, target, upscaler, restart=True)
    assert run(source, target, upscaler)[0] > 0


def test_an_output_that_appears_meanwhile_is_not_replaced(upscaler: Upscaler, tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=3, width=32, height=32), tmp_path / "out.mp4"
    job = run_job(source, target, upscaler, FAST)
    next(job)
    target.write_bytes(b"precious")
    with pytest.raises(VideoError, match="already exists"):
        list(job)
    assert target.read_bytes() == b"precious"
    assert run(source, target, upscaler, overwrite=True)[0] == 3


def test_a_failed_verification_keeps_what_was_made(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=3, width=32, height=32), tmp_path / "out.mp4"

    def fail(*_: object, **__: object) -> None:
        raise VideoError("a mismatch")

    monkeypatch.setattr("ristn_cli.job.finishing.verify", fail)
    with pytest.raises(VideoError, match="a mismatch; the unverified result is kept as") as caught:
        run(source, target, upscaler)
    assert Path(str(caught.value).split(" kept as ")[1]).is_file()
    assert not target.exists()


def test_more_frames_than_there_are_is_no_trim(upscaler: Upscaler, tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=5, audio_tracks=1), tmp_path / "out.mp4"
    run(source, target, upscaler, short(preset="ultrafast", max_frames=50))
    assert packet_times(target, 1) == packet_times(source, 1)


def test_all_intra_parts_with_early_frames_are_joined(upscaler: Upscaler, tmp_path: Path) -> None:
    """FFV1 has a keyframe a frame; a source that begins before zero must not look out of order."""
    source = make_clip(tmp_path / "in.mkv", frames=6, width=32, height=32)
    run(source, tmp_path / "out.mkv", upscaler, short(codec="ffv1"))
    assert len(images(tmp_path / "out.mkv")) == 6


def test_short_memory_and_overflow_are_typed(upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch) -> None:
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)

    def fail(*_: object) -> torch.Tensor:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")

    monkeypatch.setattr(upscaler.model, "forward", fail)
    with pytest.raises(OutOfMemory, match="cpu is out of memory even with tiles of 8 pixels"):
        list(upscaler.upscale([image]))
    monkeypatch.setattr(upscaler.model, "forward", lambda *_: torch.full((1, 1, 3, 32, 32), torch.nan))
    with pytest.raises(DeviceError, match="overflowed in fp32"):
        list(upscaler.upscale([image]))
