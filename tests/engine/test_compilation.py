"""Compiled and recorded networks: the same pictures, by fewer starts; and what happens where it cannot be done."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_clip
from jobs import plan_run
from recorder import FakeRecorder
from torch import Tensor

from ristn_cli.engine import compilation as execution
from ristn_cli.engine.compilation import CudaRecorder, RecordedNetwork, choose_compilation, compile_steps
from ristn_cli.engine.device import Backend, DeviceError, prepare
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job import forecast
from ristn_cli.model import RISTN

CPU = Backend(torch.device("cpu"), "fp32")


def lr(frames: int, side: int = 8) -> Tensor:
    return torch.rand(1, frames, 3, side, side, generator=torch.Generator().manual_seed(frames))


def test_what_is_timed_was_recorded_before(
    random_model: RISTN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a plan: the last window, which is the one that counts, is a replay."""
    recorder = FakeRecorder()

    class Recorded(Upscaler):
        def __init__(self, *arguments: Any, **keywords: Any) -> None:
            super().__init__(*arguments, **keywords)
            self.is_compiled = True
            self.recorded = RecordedNetwork(self.model, recorder)

    monkeypatch.setattr(forecast, "LONG_SECONDS", 0)
    source = make_clip(tmp_path / "in.mkv", frames=6, width=32, height=32)
    plan = plan_run(source, tmp_path / "out.mkv", Recorded(random_model, CPU, Tiling(window=5)), speedup=2)
    assert plan.seconds is not None
    assert recorder.replayed == 3
    assert plan_run(source, tmp_path / "out.mkv", Recorded(random_model, CPU), speedup=None).seconds is None
    assert recorder.replayed == 3


def test_a_shape_is_recorded_when_it_comes_again(random_model: RISTN) -> None:
    recorder = FakeRecorder()
    model = prepare(random_model, CPU)
    network = RecordedNetwork(model, recorder)
    for _ in range(3):
        assert torch.equal(network(lr(4), slice(0, 3)), model(lr(4), slice(0, 3)))
    assert (recorder.recorded, recorder.replayed) == ([(1, 4, 3, 8, 8)], 2)
    network(lr(4), slice(1, 3))  # other frames kept are other operations
    assert (len(recorder.recorded), recorder.replayed) == (1, 2)


def test_the_recording_longest_unused_goes(random_model: RISTN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "RECORDED_SHAPES", 2)
    recorder = FakeRecorder()
    network = RecordedNetwork(prepare(random_model, CPU), recorder)
    for frames in (1, 1, 2, 2, 1, 3, 3, 1, 2):
        network(lr(frames))
    assert [shape[1] for shape in recorder.recorded] == [1, 2, 3, 2]
    assert len(network.recordings) == 2
    network.forget()
    assert not network.recordings
    network(lr(2))
    assert len(recorder.recorded) == 4


def test_each_card_records_on_a_stream_of_its_own_beside_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for what PyTorch has of CUDA; one recording at a time."""
    recorded: list[tuple[object, ...]] = []

    class Graph:
        def replay(self) -> None:
            recorded.append(("replayed",))

    @contextmanager
    def graph(made: Graph, *, pool: object, stream: object, capture_error_mode: str) -> Iterator[None]:
        assert execution.CAPTURING.locked()
        recorded.append((pool, stream, capture_error_mode, current[-1]))
        yield

    @contextmanager
    def device(name: object) -> Iterator[None]:
        current.append(name)
        yield
        current.pop()

    current: list[object] = [None]
    monkeypatch.setattr(torch.cuda, "Stream", lambda name: f"stream of {name}")
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: f"pool of {current[-1]}")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "device", device)
    for name in ("first", "second"):
        recorder = CudaRecorder(name)  # type: ignore[arg-type]
        replay = recorder.record(lambda values: 2 * values, lr(2))
        assert recorded.pop() == (f"pool of {name}", f"stream of {name}", "thread_local", name)
        assert torch.equal(replay(lr(2)), 2 * lr(2))
        assert recorded.pop() == ("replayed",)


def test_where_recording_fails_the_network_runs_as_it_is(random_model: RISTN, notices: list[str]) -> None:
    model = prepare(random_model, CPU)
    network = RecordedNetwork(model, FakeRecorder(error="capture failed\nand more"))
    for _ in range(4):
        assert torch.equal(network(lr(2)), model(lr(2)))
    assert notices == ["recording the network failed, continuing without it: capture failed"]


def test_short_memory_in_a_recording_shrinks_the_work(random_model: RISTN) -> None:
    """As anywhere else: smaller tiles, then halves of windows, and every frame comes."""
    images = list(np.random.default_rng(0).integers(60, 190, (30, 24, 40, 3)).astype(np.uint8))
    expected = list(Upscaler(random_model, CPU, Tiling(window=5, tile=32)).upscale(images))
    upscaler = Upscaler(random_model, CPU, Tiling(window=9, tile=40))
    recorder = FakeRecorder(most_frames=6)
    upscaler.recorded = RecordedNetwork(upscaler.model, recorder)
    result = list(upscaler.upscale(images))
    assert len(result) == 30
    assert upscaler.tiling.tile == 32
    assert recorder.replayed
    assert np.abs(np.stack(result).astype(int) - np.stack(expected)).mean() < 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # what the compiler imports
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_steps_compute_the_same(random_model: RISTN, precision: str, notices: list[str]) -> None:
    """By the backend that only traces, which needs no compiler; steps of one shape are traced once."""
    backend = Backend(CPU.device, precision)  # type: ignore[arg-type]
    plain, compiled = prepare(random_model, backend), prepare(random_model, backend)
    compile_steps(compiled, backend="aot_eager")
    with torch.inference_mode():
        for frames in (3, 5):
            torch.testing.assert_close(compiled(lr(frames)), plain(lr(frames)), rtol=0, atol=1e-6)
    assert len(notices) == 2  # with a state, and without
    assert all(line.startswith("compiled in ") for line in notices)


def test_where_compilation_fails_the_steps_run_as_they_were(
    random_model: RISTN, monkeypatch: pytest.MonkeyPatch, notices: list[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no C compiler\nand a long trace")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: fail)
    upscaler = Upscaler(random_model, CPU, compilation="on")
    images = [np.full((8, 8, 3), level, np.uint8) for level in (10, 20, 30)]
    result = list(upscaler.upscale(images))
    assert np.array_equal(result, list(Upscaler(random_model, CPU).upscale(images)))
    assert notices == ["compilation failed, continuing without it: no C compiler"]


@pytest.mark.parametrize(
    ("name", "device", "expected"),
    [
        ("auto", "cpu", False),
        ("auto", "cuda", True),
        ("auto", "mps", False),
        ("on", "cpu", True),
        ("off", "cuda", False),
    ],
)
def test_compilation_by_name(name: str, device: str, expected: bool) -> None:
    assert choose_compilation(name, torch.device(device)) is expected


def test_an_unknown_compilation_is_refused(random_model: RISTN) -> None:
    with pytest.raises(DeviceError, match="--compile 'fast' is unknown; expected auto, on or off"):
        Upscaler(random_model, CPU, compilation="fast")  # type: ignore[arg-type]
