"""What several workers share: memory, cores, and the engines of a batch whose sources need different weights."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from clips import make_clip
from commands import in_process
from jobs import plan_run

from ristn_cli.cli import workers
from ristn_cli.cli.engines import Engines
from ristn_cli.cli.info import describe_shortage
from ristn_cli.cli.workers import Computers, Devices, count_sharers, shared_cores
from ristn_cli.engine import auto_tiling, upscaler
from ristn_cli.engine.auto_tiling import USABLE_SHARE, AutoTiling
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import MIB, PROGRAM_BYTES, needed_bytes, plan_bytes, queue_bytes, window_bytes
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.plan import JobPlan
from ristn_cli.model import CONFIGS, RISTN
from ristn_cli.spread.pool import Pool
from ristn_cli.video import VideoError, read_frames
from ristn_cli.weights import ModelChoice, interpolation, save_weights

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LITE = CONFIGS["ristn-lite"]
COMMON: dict[str, object] = {
    "precision": "fp32",
    "compilation": "off",
    "quiet": True,
    "ray": None,
    "ray_workers": None,
    "ray_threads": None,
}


def test_a_limit_is_for_all_workers_by_hand() -> None:
    limit = AutoTiling(memory_bytes=4000 * MIB, workers=3)
    assert limit.room(CPU, 500 * MIB) == (4000 * MIB - PROGRAM_BYTES) // 3 - 500 * MIB
    elsewhere = replace(limit, other_bytes=1000 * MIB)
    assert elsewhere.room(CPU, 500 * MIB) == (3000 * MIB - PROGRAM_BYTES) // 3 - 500 * MIB
    assert elsewhere.room(CUDA, 500 * MIB) == 4000 * MIB // 3  # windows alone are in a GPU's own memory


def test_what_is_free_is_for_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auto_tiling, "free_bytes", lambda device: 9000 * MIB)
    assert AutoTiling(workers=3).room(CPU, 100 * MIB) == int(USABLE_SHARE * 3000 * MIB) - 100 * MIB
    # A cluster says what is free for each.
    assert AutoTiling(workers=3, free_bytes=700 * MIB).room(CPU, 0) == int(USABLE_SHARE * 700 * MIB)


@pytest.mark.parametrize("count", [2, 5])
def test_windows_of_all_workers_and_the_plan_fit_together(count: int) -> None:
    limit, encoder = 8192 * MIB, 300 * MIB
    size = {"width": 1280, "height": 720}
    tiling = AutoTiling(memory_bytes=limit, workers=count).fit(LITE, CPU, **size, value_bytes=4, encoder_bytes=encoder)
    each = window_bytes(LITE, tiling, **size, value_bytes=4) + queue_bytes(tiling, **size) + encoder
    assert PROGRAM_BYTES + count * each + plan_bytes(tiling, **size) <= limit + count
    assert plan_bytes(tiling, **size) == 2 * tiling.window * 1280 * 720 * 3
    alone = needed_bytes(LITE, tiling, **size, value_bytes=4)
    assert needed_bytes(LITE, tiling, **size, value_bytes=4, workers=2) == alone + plan_bytes(tiling, **size) // 2


def test_a_device_that_is_named_twice_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_sharers(["cpu", "cpu", "cpu"]) == 3
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert count_sharers(["cuda:0", "cuda:1"]) == 1
    assert count_sharers(["cuda", "cuda:0", "cuda:1"]) == 2


@pytest.fixture
def two_models(tiny_model: RISTN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Two released networks, of which `clean` is bicubic and `compressed` makes all frames darker."""
    files = {}
    for name in ("clean", "compressed"):
        if name == "compressed":
            with torch.no_grad():
                list(tiny_model.parameters())[-1].fill_(-0.25)
        files[name] = tmp_path / f"{name}.safetensors"
        save_weights(tiny_model, files[name], metrics={})
    monkeypatch.setattr(interpolation, "find_weights", files.__getitem__)
    return files


def test_devices_of_one_machine_share_its_limit_and_its_cores(two_models: dict[str, Path]) -> None:
    torch.set_num_threads(2)
    with Computers(**COMMON, device="cpu,cpu", tiling=AutoTiling(memory_bytes=2048 * MIB)) as computers:  # type: ignore[arg-type]
        with computers.open(ModelChoice("clean")) as devices:
            assert devices.upscaler.auto_tiling is not None
            assert devices.upscaler.auto_tiling.room(CPU, 0) == (2048 * MIB - PROGRAM_BYTES) // 2
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    with Computers(**COMMON, device="cpu", tiling=AutoTiling(memory_bytes=2048 * MIB)) as computers:  # type: ignore[arg-type]
        with computers.open(ModelChoice("clean")) as devices:
            assert devices.upscaler.auto_tiling is not None
            assert devices.upscaler.auto_tiling.room(CPU, 0) == 2048 * MIB - PROGRAM_BYTES
        assert torch.get_num_threads() == 2


def test_no_worker_is_left_without_a_core() -> None:
    torch.set_num_threads(2)
    with shared_cores(5):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2


def test_short_memory_is_told_of_all_workers(tiny_model: RISTN, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=2, width=64, height=48)
    options = UpscaleOptions(preset="ultrafast")

    def plan(**memory: int) -> JobPlan:
        tiling = AutoTiling(workers=2, window=5, tile=64, **memory)
        engine = Upscaler(tiny_model, Backend(CPU, "fp32"), tiling)
        return plan_run(source, tmp_path / "out.mkv", engine, options, speedup=None)

    ample = plan(free_bytes=1 << 40)
    assert (ample.workers, describe_shortage(ample)) == (2, None)
    needed = ample.memory_bytes + ample.encoder_bytes
    # What others are to be left is short: a warning.
    short = plan(free_bytes=needed + 1000)
    assert short.room_bytes == int(USABLE_SHARE * (needed + 1000)) - short.encoder_bytes
    told = describe_shortage(short)
    missing = 2 * (short.memory_bytes - short.room_bytes)
    assert told is not None
    assert f"{missing / 1e6:.1f} MB of memory may be missing: windows of each of 2 workers need about" in told
    assert "fewer workers" in told
    with pytest.raises(
        VideoError, match=r"more memory than the free memory allows: .* of each of 2 workers .* fewer work"
    ):
        plan(free_bytes=needed - 2000)
    with pytest.raises(VideoError, match=r"needs 2\.0 MB more memory than --memory-limit allows"):
        plan(memory_bytes=2 * (needed - 1_000_000) + PROGRAM_BYTES)
    # A limit that was given wins over what is free.
    assert plan(memory_bytes=1 << 40, free_bytes=1).memory_bytes == ample.memory_bytes


def test_engines_are_kept_for_the_sources_that_follow() -> None:
    opened: list[str] = []
    rested: list[str] = []

    def open_chosen(choice: ModelChoice) -> AbstractContextManager[Devices]:
        opened.append(choice.label)
        return nullcontext(Devices(SimpleNamespace(rest=lambda: rested.append(choice.label))))  # type: ignore[arg-type]

    first, second, third = ModelChoice("a"), ModelChoice("b"), ModelChoice("a", detail=0.5)
    with Engines(open_chosen, None, UpscaleOptions()) as engines:
        devices = [engines.open(choice) for choice in (first, second, first, third, second)]
    assert opened == ["a", "b", "a with detail 0.5"]
    assert devices[0] is devices[2]
    assert devices[1] is devices[4]
    assert rested == ["a", "b", "a", "b", "a", "a with detail 0.5"]


@pytest.mark.parametrize("device", ["cpu", "cpu,cpu"])
def test_a_batch_of_clean_and_compressed_sources_opens_each_engine_once(
    two_models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    sources = [make_clip(tmp_path / f"{name}.mkv", frames=5, width=32, height=32) for name in "abcd"]
    monkeypatch.setattr(Engines, "choose", choose_by_turns(sources))
    built: list[str] = []
    pools: list[Pool] = []
    original, enter = workers.build_upscaler, Pool.__enter__

    def build(choice: ModelChoice, *arguments: object, **keywords: object) -> Upscaler:
        built.append(choice.name)
        return original(choice, *arguments, **keywords)  # type: ignore[arg-type]

    def begin(pool: Pool) -> Pool:
        pools.append(pool)
        return enter(pool)

    monkeypatch.setattr(workers, "build_upscaler", build)
    monkeypatch.setattr(Pool, "__enter__", begin)
    options = ["--precision", "fp32", "--codec", "ffv1", "--device", device, "--window", "5", "--segment-frames", "2"]
    code, stdout, stderr = in_process("upscale", *sources, tmp_path / "out", *options, "--format", "mkv")
    assert code == 0, stderr
    assert "4 done" in stdout
    count = len(device.split(","))
    assert built == ["clean"] * count + ["compressed"] * count
    assert len(pools) == (1 if count > 1 else 0)
    check_turns([tmp_path / "out" / source.name for source in sources], sources)


def choose_by_turns(sources: list[Path]) -> Callable[..., ModelChoice]:
    """Weights for clean and for compressed sources in turn."""
    names = {source: ("clean", "compressed")[index % 2] for index, source in enumerate(sources)}
    return lambda engines, source: ModelChoice(names[source], "it is its turn")


def check_turns(targets: list[Path], sources: list[Path]) -> None:
    """The first output, the third and so on are as bright as their sources, the others are darker."""
    for index, (target, source) in enumerate(zip(targets, sources, strict=True)):
        outputs, inputs = list(read_frames(target)), list(read_frames(source))
        assert len(outputs) == len(inputs) == 5
        darker = np.mean([frame.image for frame in inputs]) - np.mean([frame.image for frame in outputs])
        assert darker > 20 if index % 2 else abs(darker) < 3


def test_a_network_that_rests_keeps_no_recordings(tiny_model: RISTN) -> None:
    engine = Upscaler(tiny_model, Backend(CPU, "fp32"))
    forgotten: list[None] = []
    engine.recorded = SimpleNamespace(forget=lambda: forgotten.append(None))  # type: ignore[assignment]
    engine.rest()
    assert forgotten == [None]
    assert upscaler.fingerprint(tiny_model) == engine.fingerprint
