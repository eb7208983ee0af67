"""Stages in threads: what they give and how they end is as if they ran one after another, whatever fails when."""

import json
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_clip, stop_after
from jobs import run_job, short

from ristn_cli.engine import memory
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.transfer import Arrival
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.job import pipeline, stages
from ristn_cli.job.job import job_folder
from ristn_cli.job.manifest import Manifest
from ristn_cli.job.parts import Interrupted
from ristn_cli.job.pipeline import Cancelled, Pipeline
from ristn_cli.model import RISTN
from ristn_cli.video import Frame, FrameWriter, read_frames

LIMIT_SECONDS = 60
LOSSLESS = short(codec="ffv1")
NAMES = {"read", "upscale", "download", "encode"}


class Injected(Exception):
    """A failure that a test put there."""


def within_limit(work: Callable[[], Any]) -> Any:
    """The result of `work` or its exception; fails when it hangs or leaves a stage behind."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append((work(), None))
        except BaseException as error:
            result.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(LIMIT_SECONDS)
    assert result, "it hangs"
    assert not NAMES & {thread.name for thread in threading.enumerate()}, "a stage is still at work"
    value, error = result[0]
    if error is not None:
        raise error
    return value


def stage(items: Iterable[int], fails_at: int | None, closed: list[str], name: str) -> Iterator[int]:
    """Passes items on, or raises at one."""
    try:
        for item in items:
            if item == fails_at:
                raise Injected(name)
            yield item
    finally:
        closed.append(name)


def run_stages(failures: dict[str, int], count: int = 9) -> tuple[list[int], str | None, list[str]]:
    """What came out of three stages, who failed first, and which were closed."""
    out: list[int] = []
    closed: list[str] = []
    with Pipeline() as running:
        items: Iterable[int] = range(count)
        for name in ("read", "upscale", "encode"):
            items = running.ahead(stage(items, failures.get(name), closed, name), 1, name=name)
        try:
            for item in items:
                if item == failures.get("caller"):
                    raise Injected("caller")
                out.append(item)
        except Injected as error:
            return out, str(error), closed
    return out, None, closed


def test_items_come_out_in_order() -> None:
    assert within_limit(lambda: run_stages({})) == (list(range(9)), None, ["read", "upscale", "encode"])


@pytest.mark.parametrize("names", [*combinations(("read", "upscale", "encode", "caller"), 2)])
@pytest.mark.parametrize("at", [*product((0, 1, 8), (0, 1, 8))])
def test_any_two_failures_end_as_without_threads(names: tuple[str, str], at: tuple[int, int]) -> None:
    """The failure of the earlier item wins, of one item that of the earlier stage; all before it came out."""
    failures = dict(zip(names, at, strict=True))
    out, failed, closed = within_limit(lambda: run_stages(failures))
    first = min(names, key=lambda name: (failures[name], ("read", "upscale", "encode", "caller").index(name)))
    assert failed == first
    assert out == list(range(failures[first]))
    assert sorted(closed) == ["encode", "read", "upscale"]


@pytest.mark.parametrize("depth", [1, 3])
def test_a_stage_is_no_further_ahead_than_it_may(depth: int) -> None:
    made: list[int] = []
    with Pipeline() as running:
        items = running.ahead((made.append(index) or index for index in range(50)), depth, name="read")  # type: ignore[func-returns-value]
        for taken, _ in enumerate(items, start=1):
            time.sleep(0.001)
            assert len(made) <= taken + depth
    assert len(made) == 50


def test_stages_work_at_the_same_time() -> None:
    """The second waits, at work on an item, until the first is at the next one: in turns it would wait for ever."""
    begun = [threading.Event() for _ in range(5)]

    def make() -> Iterator[int]:
        for index, event in enumerate(begun):
            event.set()
            yield index

    def run() -> list[bool]:
        with Pipeline() as running:
            return [begun[min(item + 1, 4)].wait(LIMIT_SECONDS / 2) for item in running.ahead(make(), 1, name="read")]

    assert within_limit(run) == [True] * 5


def test_long_work_ends_when_it_checks() -> None:
    begun, ended = threading.Event(), threading.Event()

    def run() -> None:
        with Pipeline() as running:

            def work() -> Iterator[int]:
                begun.set()
                try:
                    while True:
                        running.check()
                        time.sleep(0.001)
                except Cancelled:
                    ended.set()
                    raise
                yield 0

            running.ahead(work(), 1, name="upscale")
            assert begun.wait(LIMIT_SECONDS)
            raise Injected("the caller has had enough")

    with pytest.raises(Injected):
        within_limit(run)
    assert ended.is_set()


def test_what_is_stuck_outside_of_python_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "GRACE_SECONDS", 0.05)
    release, stuck = threading.Event(), threading.Event()

    def work() -> Iterator[int]:
        stuck.set()
        release.wait(LIMIT_SECONDS)
        yield 0

    with Pipeline() as running:
        running.ahead(work(), 1, name="stuck")
        assert stuck.wait(LIMIT_SECONDS)
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "stuck"] == [True]
    release.set()


@pytest.fixture
def upscaler(random_model: RISTN) -> Upscaler:
    return Upscaler(random_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=6, context=2))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "in.mp4", frames=19, width=32, height=32)


def run(source: Path, target: Path, upscaler: Upscaler, **keywords: Any) -> list[int]:
    """Frames written, as progress told them."""
    work = run_job(source, target, upscaler, LOSSLESS, **keywords)
    counts: list[int] = within_limit(lambda: [now.frames for now in work])
    return counts


def images(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(path)])


def test_frames_parts_and_manifest_are_those_of_one_stage_after_another(
    upscaler: Upscaler, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests, files = [], []
    for name in ("threads", "sequence"):
        target = tmp_path / f"{name}.mkv"
        if name == "sequence":
            monkeypatch.setattr(Pipeline, "ahead", lambda self, items, depth, name: iter(items))
        with pytest.raises(Interrupted):
            run(source, target, upscaler, should_stop=stop_after(target, 3))
        manifests.append(json.loads((job_folder(target) / "manifest.json").read_text()))
        files.append([path.read_bytes() for path in sorted(job_folder(target).glob("part-*"))])
        run(source, target, upscaler)
    assert len(manifests[0]["parts"]) == 3
    assert manifests[0] == manifests[1]
    assert files[0] == files[1]
    assert np.array_equal(images(tmp_path / "threads.mkv"), images(tmp_path / "sequence.mkv"))


def test_progress_comes_with_every_frame(upscaler: Upscaler, source: Path, tmp_path: Path) -> None:
    assert run(source, tmp_path / "out.mkv", upscaler) == list(range(20))


@pytest.mark.parametrize("output_frames", [3, 100])
def test_no_more_images_are_alive_than_the_memory_model_counts(
    upscaler: Upscaler, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output_frames: int
) -> None:
    """With an encoder that is slower than all else, so that everything piles up before it."""
    monkeypatch.setattr(memory, "FIRST_BYTES", output_frames * 128 * 128 * 3)
    alive, peak = 0, 0
    launch, write = Upscaler._launch_window, FrameWriter.write

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def count(self: Upscaler, window: Window[np.ndarray]) -> Arrival:
        nonlocal alive, peak
        arrival = launch(self, window)
        for image in arrival.images:
            weakref.finalize(image, gone)
        alive += len(arrival.images)
        peak = max(peak, alive)
        return arrival

    def write_slowly(self: FrameWriter, frame: Frame) -> None:
        time.sleep(0.05)
        write(self, frame)

    monkeypatch.setattr(Upscaler, "_launch_window", count)
    monkeypatch.setattr(FrameWriter, "write", write_slowly)
    run(source, tmp_path / "out.mkv", upscaler)
    together = min(output_frames, 6)
    assert together < peak <= 2 * together + memory.IMAGES_AHEAD
    assert alive == 0


def fail_at(monkeypatch: pytest.MonkeyPatch, place: str, count: int) -> None:
    """Make the `count`-th call of a stage's own work raise."""
    owner, name = {
        "read": (stages, "Border"),
        "upscale": (Upscaler, "_launch_window"),
        "download": (Upscaler, "collect"),
        "encode": (FrameWriter, "write"),
        "check": (stages, "file_sha256"),
        "record": (Manifest, "add"),
    }[place]
    original, calls = getattr(owner, name), iter(range(1, 1000))

    def fail(*arguments: Any, **keywords: Any) -> Any:
        if next(calls) == count:
            raise Injected(place)
        return original(*arguments, **keywords)

    monkeypatch.setattr(owner, name, fail)


PLACES = ("read", "upscale", "download", "encode", "check", "record")


@pytest.mark.parametrize("places", [*((place,) for place in PLACES), *combinations(PLACES, 2)])
@pytest.mark.parametrize("count", [1, 3])
def test_a_failure_anywhere_leaves_what_was_finished_and_the_same_command_goes_on(
    upscaler: Upscaler,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    places: tuple[str, ...],
    count: int,
) -> None:
    target = tmp_path / "out.mkv"
    with monkeypatch.context() as broken:
        for place in places:
            fail_at(broken, place, count)
        with pytest.raises(Injected) as caught:
            run(source, target, upscaler)
        assert str(caught.value) in places
    assert not target.exists()
    assert not list(tmp_path.glob("**/*unfinished*"))
    finished = len(list(job_folder(target).glob("part-*")))
    assert finished == 0 if count == 1 else finished <= 3
    counts = run(source, target, upscaler)
    assert counts[-1] == len(images(target)) == 19


@pytest.mark.parametrize("taken", [1, 2, 9])
def test_closing_the_job_early_ends_every_stage(upscaler: Upscaler, source: Path, tmp_path: Path, taken: int) -> None:
    target = tmp_path / "out.mkv"

    def begin_and_close() -> None:
        work = run_job(source, target, upscaler, LOSSLESS)
        for _ in range(taken):
            next(work)
        work.close()

    within_limit(begin_and_close)
    assert not target.exists()
    assert not list(tmp_path.glob("**/*unfinished*"))
    assert not any(module._forward_pre_hooks for module in upscaler.model.modules())
    assert run(source, target, upscaler)[-1] == 19


def test_a_computation_is_asked_to_stop_before_every_layer(
    upscaler: Upscaler, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the end of its window only, which may take a minute."""
    asked: list[str] = []
    check = Pipeline.check

    def count(self: Pipeline) -> None:
        asked.append(threading.current_thread().name)
        check(self)

    monkeypatch.setattr(Pipeline, "check", count)
    run(source, tmp_path / "out.mkv", upscaler)
    windows = 8
    assert asked.count("upscale") > windows * len(upscaler.model.features.layers)  # type: ignore[union-attr,arg-type]
