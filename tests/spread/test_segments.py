"""A job in segments on several devices: the parts and frames of one device, whatever order or failure there was."""

import errno
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_clip
from film import make_edited_film
from jobs import make_job, run_job, segments_of, short
from PIL import Image
from typer.testing import CliRunner

from ristn_cli.cli import app
from ristn_cli.cli.workers import complete_ray, describe_workers
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.short_memory import OutOfMemory
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.events import Warnings
from ristn_cli.job.job import SHORTEST_PART, job_folder
from ristn_cli.job.manifest import JobError, Manifest, Part
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.job.progress import Progress, WorkerProgress
from ristn_cli.job.settling import settle_parts
from ristn_cli.model import RISTN
from ristn_cli.spread import pool
from ristn_cli.spread.local_worker import LocalWorker
from ristn_cli.spread.pool import Pool
from ristn_cli.spread.scheduling import spread_over
from ristn_cli.spread.segments import Pulse, Segment, SegmentError, WorkerLost, compute_segment, plan_segments
from ristn_cli.spread.tasks import SegmentJob
from ristn_cli.video import probe, read_frames
from ristn_cli.weights import file_sha256

CPU = Backend(torch.device("cpu"), "fp32")
LOSSLESS = short(codec="ffv1")
TILING = Tiling(window=6, context=2)


@pytest.fixture
def make_upscaler(random_model: RISTN) -> Callable[[], Upscaler]:
    return lambda: Upscaler(random_model, CPU, TILING)


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """31 images of 32x32: three shots of 9, 11 and 11, each moving, the last one with every picture shown twice."""
    folder = tmp_path / "shots"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), np.uint8)
    for index in range(31):
        shot = 0 if index < 9 else 1 if index < 20 else 2
        step = index // 2 if shot == 2 else index
        Image.fromarray(noise[shot, step : step + 32, step // 2 : step // 2 + 32]).save(folder / f"{index:03}.png")
    return folder


def images(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(path)])


def run(
    source: Path, target: Path, upscaler: Upscaler, options: UpscaleOptions = LOSSLESS, **keywords: object
) -> list[Progress]:
    return list(run_job(source, target, upscaler, options, **keywords))  # type: ignore[arg-type]


def recorded_parts(source: Path, target: Path, upscaler: Upscaler, options: UpscaleOptions) -> list[Part]:
    """The parts of a run on one device, which then fails, so that they stay."""
    recorded: list[Part] = []
    add = Manifest.add

    def spy(self: Manifest, part: Part) -> None:
        recorded.append(part)
        add(self, part)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Manifest, "add", spy)
        run(source, target, upscaler, options)
    return recorded


@pytest.mark.parametrize(
    "options", [LOSSLESS, replace(LOSSLESS, start=Fraction(1, 5), max_frames=17), replace(LOSSLESS, end=Fraction(1))]
)
def test_segments_are_the_parts_of_one_device(
    shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler], options: UpscaleOptions
) -> None:
    parts = recorded_parts(shots, tmp_path / "whole.mkv", make_upscaler(), options)
    assert len(parts) >= 3
    segments = list(segments_of(shots, tmp_path, make_upscaler(), options))
    assert [segment.number for segment in segments] == list(range(1, len(parts) + 1))
    assert all(segment.is_made_by(part) for segment, part in zip(segments, parts, strict=True))
    assert [segment.ends.is_last for segment in segments] == [False] * (len(parts) - 1) + [True]


def test_a_plan_continues_after_finished_parts(
    shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler]
) -> None:
    parts = recorded_parts(shots, tmp_path / "whole.mkv", make_upscaler(), LOSSLESS)
    manifest = Manifest(tmp_path, {})
    job = make_job(shots, tmp_path / "out.mkv", LOSSLESS)
    whole = list(plan_segments(job, manifest, make_upscaler(), Warnings()))
    manifest.parts = parts[:2]
    assert list(plan_segments(job, manifest, make_upscaler(), Warnings())) == whole[2:]


def test_any_segment_alone_gives_its_frames(shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler]) -> None:
    run(shots, tmp_path / "whole.mkv", make_upscaler())
    expected = images(tmp_path / "whole.mkv")
    job = make_job(shots, tmp_path / "planned.mkv", LOSSLESS)
    segments = list(segments_of(shots, tmp_path, make_upscaler(), LOSSLESS))
    first = 0
    for segment in segments:
        pulse = Pulse()
        path = tmp_path / f"{segment.number}.mkv"
        part = compute_segment(job, segment, make_upscaler(), path, pulse)
        assert segment.is_made_by(part)
        assert pulse.frames == segment.frames
        assert pulse.beats > segment.frames
        assert np.array_equal(images(path), expected[first : first + segment.frames])
        first += segment.frames
    assert first == len(expected)


def test_a_source_that_reads_differently_is_refused(
    shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler]
) -> None:
    job = make_job(shots, tmp_path / "planned.mkv", LOSSLESS)
    segment = next(segments_of(shots, tmp_path, make_upscaler(), LOSSLESS))
    other = replace(segment, frames=segment.frames + 1)
    with pytest.raises(SegmentError, match=rf"planned with {other.frames} frames and has \d+ when read again"):
        compute_segment(job, other, make_upscaler(), tmp_path / "a.mkv", Pulse())


def test_two_devices_give_the_frames_of_one(shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler]) -> None:
    run(shots, tmp_path / "one.mkv", make_upscaler())
    with Pool([LocalWorker(name, make_upscaler()) for name in ("a", "b")]) as workers:
        told = run(shots, tmp_path / "two.mkv", make_upscaler(), make_parts=spread_over(workers))
    assert np.array_equal(images(tmp_path / "two.mkv"), images(tmp_path / "one.mkv"))
    assert told[0].frames == 0
    assert told[-1].frames == 31
    assert told[-1].segments is not None
    finished, planned = told[-1].segments
    assert finished == planned >= 4
    assert sum(worker.frames for worker in told[-1].workers) == 31
    assert not job_folder(tmp_path / "two.mkv").exists()


def test_two_devices_give_the_film_of_one(tmp_path: Path, make_upscaler: Callable[[], Upscaler]) -> None:
    """Parts begin within the pulldown pattern, and one holds an edit in it."""
    film = make_edited_film(tmp_path / "film.mp4")
    planned = len(list(segments_of(film, tmp_path, make_upscaler(), LOSSLESS)))
    run(film, tmp_path / "one.mkv", make_upscaler())
    with Pool([LocalWorker(name, make_upscaler()) for name in ("a", "b")]) as workers:
        run(film, tmp_path / "two.mkv", make_upscaler(), make_parts=spread_over(workers))
    one, two = (list(read_frames(tmp_path / name)) for name in ("one.mkv", "two.mkv"))
    assert planned >= 5
    assert len(one) == 65
    assert [frame.time for frame in two] == [frame.time for frame in one]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(one, two, strict=True))


def test_a_video_with_audio_and_lossy_parts_is_joined(tmp_path: Path, make_upscaler: Callable[[], Upscaler]) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=23, width=32, height=32, audio_tracks=1)
    with Pool([LocalWorker(name, make_upscaler()) for name in ("a", "b")]) as workers:
        run(source, tmp_path / "out.mp4", make_upscaler(), short(), make_parts=spread_over(workers))
    assert [frame.time for frame in read_frames(tmp_path / "out.mp4")] == [Fraction(k, 25) for k in range(23)]
    assert "audio" in {stream.kind for stream in probe(tmp_path / "out.mp4").streams}


class Scripted(LocalWorker):
    """Computes, after what a test has it do first."""

    def __init__(self, name: str, upscaler: Upscaler, before: Callable[[Segment], None]) -> None:
        super().__init__(name, upscaler)
        self.before = before
        self.taken: list[int] = []

    def compute(self, work: SegmentJob, segment: Segment, path: Path, pulse: Pulse) -> Part:
        self.taken.append(segment.number)
        self.before(segment)
        return super().compute(work, segment, path, pulse)


def test_a_failed_segment_is_retried_on_another_worker(
    shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler], notices: list[str]
) -> None:
    run(shots, tmp_path / "one.mkv", make_upscaler())
    failed: list[int] = []

    def fail_twice(segment: Segment) -> None:
        if len(failed) < 2:
            failed.append(segment.number)
            raise WorkerLost("it burnt")

    workers = [Scripted("bad", make_upscaler(), fail_twice), Scripted("good", make_upscaler(), lambda _: None)]
    with Pool(workers) as open_pool:
        run(shots, tmp_path / "two.mkv", make_upscaler(), make_parts=spread_over(open_pool))
    assert np.array_equal(images(tmp_path / "two.mkv"), images(tmp_path / "one.mkv"))
    assert set(failed) <= set(workers[1].taken)
    assert notices == ["bad is lost: it burnt"] * len(failed)


def test_a_segment_that_always_fails_ends_the_job_and_keeps_the_others(
    shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler]
) -> None:
    def fail_third(segment: Segment) -> None:
        if segment.number == 3:
            raise OutOfMemory("no room")

    class Narrow(Scripted):
        def compute(self, *arguments: object, **keywords: object) -> Part:
            try:
                return super().compute(*arguments, **keywords)  # type: ignore[arg-type]
            except OutOfMemory as error:
                raise WorkerLost(str(error)) from error

    workers = [Narrow(name, make_upscaler(), fail_third) for name in ("a", "b")]
    target = tmp_path / "out.mkv"
    with (
        Pool(workers, attempts=3) as open_pool,
        pytest.raises(
            JobError, match=r"segment 3 failed 3 times \(on .*, last: no room; .* run the same command again to resume"
        ),
    ):
        run(shots, target, make_upscaler(), make_parts=spread_over(open_pool))
    kept = json.loads((job_folder(target) / "manifest.json").read_text())
    finished = {part["file"] for part in kept["parts"]} | {part["file"] for part in kept.get("ahead", {}).values()}
    assert finished
    assert "part-00003.mkv" not in finished


def test_parts_finished_ahead_are_taken_up(shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler]) -> None:
    """The first segment is never finished by the first run, all others are; the second run computes it alone."""
    run(shots, tmp_path / "one.mkv", make_upscaler())
    target = tmp_path / "out.mkv"
    others = threading.Event()

    def hold_first(segment: Segment) -> None:
        if segment.number == 1:
            assert others.wait(60)
            raise WorkerLost("killed")

    def watch(progress: Iterator[Progress]) -> None:
        for now in progress:
            if now.segments is not None and now.segments[1] > 3 and now.segments[0] == now.segments[1] - 1:
                others.set()

    with (
        Pool([Scripted(name, make_upscaler(), hold_first) for name in ("a", "b")], attempts=1) as open_pool,
        pytest.raises(JobError, match="segment 1 failed"),
    ):
        watch(run_job(shots, target, make_upscaler(), LOSSLESS, make_parts=spread_over(open_pool)))
    state = json.loads((job_folder(target) / "manifest.json").read_text())
    assert state["parts"] == []
    ahead = sorted(map(int, state["ahead"]))
    assert ahead == list(range(2, len(ahead) + 2))
    damaged = job_folder(target) / state["ahead"]["3"]["file"]
    damaged.write_bytes(damaged.read_bytes()[:-1])
    again = Scripted("again", make_upscaler(), lambda _: None)
    with Pool([again]) as open_pool:
        told = run(shots, target, make_upscaler(), make_parts=spread_over(open_pool))
    assert sorted(again.taken) == [1, 3]
    assert told[-1].frames == 31
    assert np.array_equal(images(target), images(tmp_path / "one.mkv"))


def test_one_device_resumes_a_job_of_several(
    shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler]
) -> None:
    run(shots, tmp_path / "one.mkv", make_upscaler())
    target = tmp_path / "out.mkv"
    is_stopped, is_withdrawn = threading.Event(), threading.Event()
    worker = Scripted("a", make_upscaler(), lambda _: None)

    def hold_the_rest(_: Segment) -> None:
        if len(worker.taken) > 1:
            assert is_withdrawn.wait(60)

    worker.before = hold_the_rest

    def stop_after_one(jobs: Iterator[Progress]) -> None:
        for now in jobs:
            if now.segments is not None and now.segments[0]:
                is_stopped.set()

    class Watched(Pool):
        def withdraw(self, key: str) -> None:
            super().withdraw(key)
            is_withdrawn.set()

    with Watched([worker]) as open_pool, pytest.raises(Interrupted):
        stop_after_one(
            run_job(
                shots,
                target,
                make_upscaler(),
                LOSSLESS,
                make_parts=spread_over(open_pool),
                should_stop=is_stopped.is_set,
            )
        )
    assert len(worker.taken) == 2
    assert not target.exists()
    run(shots, target, make_upscaler())
    assert np.array_equal(images(target), images(tmp_path / "one.mkv"))


def test_a_part_that_changes_on_its_way_is_made_again(
    shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler], notices: list[str]
) -> None:
    run(shots, tmp_path / "one.mkv", make_upscaler())
    spoiled: list[int] = []

    class Careless(LocalWorker):
        def compute(self, work: SegmentJob, segment: Segment, path: Path, pulse: Pulse) -> Part:
            part = super().compute(work, segment, path, pulse)
            if not spoiled:
                spoiled.append(segment.number)
                path.write_bytes(path.read_bytes()[:-1])
            return part

    with Pool([Careless("a", make_upscaler())]) as open_pool:
        run(shots, tmp_path / "two.mkv", make_upscaler(), make_parts=spread_over(open_pool))
    assert len(notices) == 1
    assert "differs from what was written" in notices[0]
    assert np.array_equal(images(tmp_path / "two.mkv"), images(tmp_path / "one.mkv"))


def test_a_part_that_cannot_be_read_back_is_made_again(
    shots: Path,
    tmp_path: Path,
    make_upscaler: Callable[[], Upscaler],
    monkeypatch: pytest.MonkeyPatch,
    notices: list[str],
) -> None:
    """As where a disk that several machines share does not answer for a moment."""
    run(shots, tmp_path / "one.mkv", make_upscaler())
    hashed: list[Path] = []

    def fail_once(path: Path) -> str:
        hashed.append(path)
        if len(hashed) == 1:
            raise OSError(errno.ESTALE, "Stale file handle", str(path))
        return file_sha256(path)

    monkeypatch.setattr(pool, "file_sha256", fail_once)
    with Pool([LocalWorker("a", make_upscaler())]) as open_pool:
        run(shots, tmp_path / "two.mkv", make_upscaler(), make_parts=spread_over(open_pool))
    assert len(notices) == 1
    assert "a is lost: " in notices[0]
    assert "Stale file handle" in notices[0]
    assert np.array_equal(images(tmp_path / "two.mkv"), images(tmp_path / "one.mkv"))


@pytest.mark.parametrize("attempts", [1, 4])
def test_a_segment_that_is_lost_after_a_stop_is_left_for_the_next_run(
    shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler], attempts: int
) -> None:
    """Its worker dies while the job is withdrawn: no other worker begins it, and the job does not fail."""
    is_stopped, is_withdrawn = threading.Event(), threading.Event()
    workers: list[Scripted] = []

    class Watched(Pool):
        def withdraw(self, key: str) -> None:
            super().withdraw(key)
            is_withdrawn.set()

    def die_after_the_stop(_: Segment) -> None:
        is_stopped.set()
        assert is_withdrawn.wait(60)
        raise WorkerLost("it burnt")

    workers = [Scripted(name, make_upscaler(), die_after_the_stop) for name in ("a", "b")]
    with Watched(workers, attempts=attempts) as open_pool, pytest.raises(Interrupted):
        run(
            shots,
            tmp_path / "out.mkv",
            make_upscaler(),
            make_parts=spread_over(open_pool),
            should_stop=is_stopped.is_set,
        )
    taken = [number for worker in workers for number in worker.taken]
    assert len(taken) == len(set(taken)) <= 2


def test_workers_that_never_start_end_the_job(
    shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Dead(LocalWorker):
        def start(self) -> None:
            raise WorkerLost("no power")

    monkeypatch.setattr(pool, "STARTS", 1)
    with (
        Pool([Dead("a", make_upscaler())]) as open_pool,
        pytest.raises(JobError, match="no worker could be started: no power"),
    ):
        run(shots, tmp_path / "out.mkv", make_upscaler(), make_parts=spread_over(open_pool))


def test_waiting_for_workers_is_said_once(
    shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler], monkeypatch: pytest.MonkeyPatch
) -> None:
    missed, back = threading.Event(), threading.Event()
    notices: list[str] = []

    def notice(message: str) -> None:
        notices.append(message)
        (back if missed.is_set() else missed).set()

    monkeypatch.setattr(pool.log, "warning", notice)

    class Late(LocalWorker):
        def start(self) -> None:
            assert missed.wait(60)

        def compute(self, *arguments: Any) -> Part:
            assert back.wait(60)
            return super().compute(*arguments)

    monkeypatch.setattr(pool, "WAITING_SECONDS", 0.0)
    with Pool([Late("a", make_upscaler())]) as open_pool:
        run(shots, tmp_path / "out.mkv", make_upscaler(), make_parts=spread_over(open_pool))
    assert notices == [
        "no worker is available; waiting (Ctrl-C stops; the same command resumes)",
        "a worker is available again; resuming",
    ]


def test_the_largest_segment_goes_first(make_upscaler: Callable[[], Upscaler], shots: Path, tmp_path: Path) -> None:
    """All segments are planned before the only worker may begin."""
    segments = list(segments_of(shots, tmp_path, make_upscaler(), LOSSLESS))
    planned = threading.Event()

    class Patient(Scripted):
        def start(self) -> None:
            assert planned.wait(60)

    worker = Patient("a", make_upscaler(), lambda _: None)
    with Pool([worker]) as open_pool:
        for now in run_job(shots, tmp_path / "out.mkv", make_upscaler(), LOSSLESS, make_parts=spread_over(open_pool)):
            if now.segments is not None and now.segments[1] == len(segments):
                planned.set()
    sizes = {segment.number: segment.frames for segment in segments}
    assert len(set(sizes.values())) > 1
    assert worker.taken == sorted(sizes, key=lambda number: (-sizes[number], number))


def test_several_jobs_share_the_workers(shots: Path, tmp_path: Path, make_upscaler: Callable[[], Upscaler]) -> None:
    run(shots, tmp_path / "one.mkv", make_upscaler())
    targets = [tmp_path / f"out{number}.mkv" for number in range(2)]
    with Pool([LocalWorker(name, make_upscaler()) for name in ("a", "b")]) as workers:
        runs = [
            threading.Thread(
                target=run, args=(shots, target, make_upscaler()), kwargs={"make_parts": spread_over(workers)}
            )
            for target in targets
        ]
        for thread in runs:
            thread.start()
        for thread in runs:
            thread.join()
    for target in targets:
        assert np.array_equal(images(target), images(tmp_path / "one.mkv"))


def test_ray_may_stand_without_an_address() -> None:
    assert complete_ray(["a.mp4", "b.mp4", "--ray"]) == ["a.mp4", "b.mp4", "--ray=local"]
    assert complete_ray(["--ray", "a.mp4", "b.mp4"]) == ["--ray=local", "a.mp4", "b.mp4"]
    assert complete_ray(["--ray", "--crf", "20"]) == ["--ray=local", "--crf", "20"]
    for address in ("auto", "local", "10.0.0.1:6379", "head.lan:6379", "ray://head:10001", "[::1]:6379"):
        assert complete_ray(["--ray", address]) == ["--ray", address]
    assert complete_ray(["--ray=auto", "--", "--ray"]) == ["--ray=auto", "--", "--ray"]


def test_the_segments_of_workers_are_shown() -> None:
    def worker(speed: float, is_ready: bool = True) -> WorkerProgress:
        return WorkerProgress(name="a", is_ready=is_ready, segment=1, frames=2, frames_per_second=speed)

    assert describe_workers(Progress(frames=1)) == ""
    two = (worker(0.5), worker(2.0), worker(0, is_ready=False))
    assert describe_workers(Progress(frames=1, segments=(3, 9), workers=two)) == (
        ", segments 3/9, 2 of 3 workers at 0.50 to 2.00 fps"
    )
    assert describe_workers(Progress(frames=1, segments=(3, 9), workers=two[2:])) == ", segments 3/9, no worker"


def test_several_devices_share_a_job(tiny_weights: Path, tmp_path: Path) -> None:
    """Two times the processor stand in for two cards."""
    source = make_clip(tmp_path / "in.mkv", frames=24, width=32, height=32)
    common = [str(source), "--model", str(tiny_weights), "--codec", "ffv1", "--precision", "fp32", "--window", "6"]
    common += ["--progress", "json", "--segment-frames", "4"]
    one = CliRunner().invoke(app, ["upscale", *common, str(tmp_path / "one.mkv"), "--device", "cpu"])
    assert one.exit_code == 0, one.output
    two = CliRunner().invoke(app, ["upscale", *common, str(tmp_path / "two.mkv"), "--device", "cpu,cpu"])
    assert two.exit_code == 0, two.output
    last = json.loads([line for line in two.stderr.splitlines() if line.startswith("{")][-1])
    assert last["segments"]["finished"] == last["segments"]["planned"] > 3
    assert sum(worker["frames"] for worker in last["workers"]) == 24
    assert np.array_equal(images(tmp_path / "two.mkv"), images(tmp_path / "one.mkv"))


def test_workers_without_a_cluster_are_wrong_usage(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["upscale", "a.mp4", "b.mp4", "--ray-workers", "2"])
    assert done.exit_code == 2
    assert "use --ray" in done.output


def test_segments_are_short_enough_for_the_workers(tmp_path: Path) -> None:
    source, target = make_clip(tmp_path / "in.mkv", frames=480, width=32, height=32), tmp_path / "out.mkv"
    job = make_job(source, target)

    def settle(workers: int, *, restart: bool = False) -> int | None:
        return settle_parts(job, workers, restart=restart).options.segment_frames

    assert settle_parts(job, 1, restart=False) is job
    assert settle(2) == 30
    assert settle(100) == SHORTEST_PART
    asked = replace(job, options=replace(job.options, segment_frames=9))
    assert settle_parts(asked, 2, restart=False) is asked
    job_folder(target).mkdir()
    manifest = job_folder(target) / "manifest.json"
    manifest.write_text(json.dumps({"identity": {"segment_frames": "77"}, "parts": []}))
    assert settle(1) == 77
    assert settle(2, restart=True) == 30
    manifest.write_text(json.dumps({"identity": {"segment_frames": "None"}, "parts": []}))
    assert settle(2) is None
