"""The checks of `gpu_check.py`: compare the package on a device with known results, each in its own process.

Results are compared with the same package on the processor in float32, or on the device without the checked feature.
"""

import argparse
import importlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

# PYTHONSAFEPATH removes this folder from the path.
sys.path.insert(0, str(Path(__file__).resolve().parent))
from findings import (
    Rows,
    Settings,
    Skipped,
    as_tensor,
    as_values,
    compute,
    engine_messages,
    on_processor,
    open_model,
    scene,
)
from operator_times import profile_operators

from ristn_cli.bench.machine import convolution_rate, copy_rate, describe_machine, matrix_rate
from ristn_cli.bench.measure import Request
from ristn_cli.bench.peak_memory import device_memory_bytes
from ristn_cli.bench.results import Case
from ristn_cli.bench.suite import make_report, measure_apart
from ristn_cli.engine.compilation import CompileName, CudaRecorder, RecordedNetwork
from ristn_cli.engine.device import choose_backend, choose_device, prepare
from ristn_cli.engine.memory import MIB, Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window, slide_windows
from ristn_cli.model import RISTN

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "bbb.mp4"
EXAMPLE_FRAMES = 75
NETWORKS = ("ristn-lite", "ristn", "paper")
BENCH_CASES = (
    ("ristn-lite", 480, 270),
    ("ristn-lite", 1920, 1080),
    ("ristn-lite", 640, 480),
    ("ristn-lite", 1280, 720),
    ("ristn", 480, 270),
    ("paper", 480, 270),
    ("ristn", 1920, 1080),
    ("paper", 1280, 720),
)
"""Networks and sizes in LR pixels, most important first, because time may run out."""

BENCH_SECONDS = 4.0
LONGEST_PROFILE = 10

EQUAL, EXACT, HALF, ROUGH = float("inf"), 100.0, 70.0, 50.0
"""Required PSNR in dB for identical operations, float32, 11 significant bits (fp16, TF32) and 8 (bf16)."""

TILED = 60.0
"""Required PSNR in dB of tiles against whole frames, which have a larger context."""

ENCODED = 32.0
"""Required PSNR in dB of an encoded frame against the network's output."""


def check_machine(settings: Settings, rows: Rows) -> None:
    device = choose_device(settings.device)
    machine = describe_machine(device)
    found = f"{machine.device}, {machine.cores} cores, PyTorch {machine.torch}"
    details: dict[str, object] = dict(vars(machine))
    if settings.is_cuda:
        properties = torch.cuda.get_device_properties(device)
        found += f", CUDA {torch.version.cuda}, {properties.total_memory / 2**30:.0f} GiB"
        details |= {"properties": str(properties), "cudnn": torch.backends.cudnn.version()}
    rows.add("machine", "measured", found, **details)
    names = ("matrix_flops_per_second", "convolution_flops_per_second", "copy_bytes_per_second")
    small, seconds = (1 << 8, 0.02) if settings.is_tiny else (None, 0.3)
    for precision in ("fp32", "fp16", "bf16"):
        with rows.part(precision):
            backend = settings.backend(precision)
            values = None if small is None else small**2
            rates = [
                matrix_rate(backend, small, seconds),
                convolution_rate(backend, values, seconds),
                copy_rate(backend, values, seconds),
            ]
            figure = f"matrix product {rates[0] / 1e12:.2f} TFLOP/s, convolution {rates[1] / 1e12:.2f} TFLOP/s"
            figure += f", copy {rates[2] / 1e9:.0f} GB/s"
            rows.add(precision, "measured", figure, **dict(zip(names, rates, strict=True)))
    if settings.is_cuda and shutil.which("nvidia-smi"):
        subprocess.run(["nvidia-smi"], check=False)


def check_precision(settings: Settings, rows: Rows) -> None:
    """Compare each precision with float32 on the processor."""
    frames, width, height = settings.size((10, 128, 96), (4, 40, 28))
    lr = as_tensor(scene(frames, width, height))
    for name in NETWORKS:
        model = open_model(name)
        known = on_processor(model, lr)
        for title, precision, with_tf32, least in (
            ("fp32", "fp32", True, HALF),  # by default cuDNN computes float32 convolutions in TF32
            ("fp32 without TF32", "fp32", False, EXACT),
            ("fp16", "fp16", True, HALF),
            ("bf16", "bf16", True, ROUGH),
        ):
            with rows.part(f"{name}, {title}"):
                backend = settings.backend(precision)
                if precision == "fp32" and not settings.is_cuda:
                    raise Skipped("needs a GPU: results are compared with the processor")
                torch.backends.cudnn.allow_tf32 = with_tf32
                rows.compare(f"{name}, {title}", compute(prepare(model, backend), lr, backend), known, least)


def check_graphs(settings: Settings, rows: Rows) -> None:
    """Compare recorded and compiled execution with plain execution."""
    if not settings.is_cuda:
        raise Skipped("needs CUDA: graphs are not recorded on a processor")
    for name, precision in (("ristn-lite", "fp16"), ("ristn", "fp16"), ("ristn-lite", "fp32")):
        with rows.part(f"{name} {precision}"):
            record_network(settings, rows, name, precision)


def record_network(settings: Settings, rows: Rows, name: str, precision: str) -> None:
    """Run a recorded, or compiled and recorded, network on two inputs in turn; the first two calls are not replayed."""
    frames, width, height = settings.size((12, 128, 96), (5, 40, 28))
    images = scene(frames, width, height)
    inputs = [as_tensor(images), as_tensor(images[::-1])]
    keep = slice(2, frames - 2)
    backend = settings.backend(precision)
    model = open_model(name)
    network = prepare(model, backend)

    def run(called: Callable[[Tensor, slice], Tensor], lr: Tensor) -> np.ndarray:
        return compute(lambda values: called(values, keep), lr, backend)

    known = [run(network, lr) for lr in inputs]
    compiled = Upscaler(model, backend, compilation="on").recorded
    assert compiled is not None
    plain = RecordedNetwork(network, CudaRecorder(backend.device))
    for title, recorded, limit in (("recorded", plain, EQUAL), ("compiled and recorded", compiled, HALF)):
        part = f"{name} {precision}, {title}"
        with engine_messages() as said:
            made = np.concatenate([run(recorded, lr) for _ in range(3) for lr in inputs])
        rows.compare(part, made, np.concatenate(known * 3), limit)
        count = len(recorded.recordings)
        figure = f"{count}, {'; '.join(said) or 'no messages'}"
        rows.judge(f"{part}: recordings", count == 1 and recorded.recorder is not None, figure, "1")


def check_transfer(settings: Settings, rows: Rows) -> None:
    """Check transfers through pinned memory, with several windows launched before the first is fetched, and 16-bit
    images.
    """
    frames, width, height = settings.size((60, 240, 136), (14, 32, 24))
    upscaler = Upscaler(open_model("ristn-lite"), settings.backend(), Tiling(window=8, tile=80 if width > 80 else 24))
    windows = list(slide_windows(scene(frames, width, height), 8, 2))
    with rows.part("windows launched together"):
        for _ in range(3):  # plain, recorded, replayed
            alone = [image for window in windows for image in upscaler.upscale_window(window)]
        begun = [arrival for window in windows for arrival in upscaler.launch_window(window)]
        together = [image for arrival in begun for image in upscaler.collect(arrival)]
        rows.judge("frames", len(together) == len(alone) == frames, str(len(together)), str(frames))
        rows.compare("windows launched together", as_values(together), as_values(alone), HALF)
    with rows.part("16 bits against 8"):
        deep = Window(tuple(image.astype(np.uint16) * 257 for image in windows[1].frames), windows[1].keep)
        made = upscaler.upscale_window(deep)
        rows.compare("16 bits against 8", as_values(made), as_values(upscaler.upscale_window(windows[1])), ROUGH)


def check_tiles(settings: Settings, rows: Rows) -> None:
    """Compare tiles with whole frames."""
    frames, width, height = settings.size((10, 480, 270), (5, 64, 48))
    window = Window(scene(frames, width, height), slice(2, frames - 2))
    for name in NETWORKS[:1] if settings.is_tiny else NETWORKS:
        with rows.part(name):
            whole = Tiling(window=frames, tile=max(width, height))
            upscaler = Upscaler(open_model(name), settings.backend("fp32"), whole, compilation="off")
            known = as_values(upscaler.upscale_window(window))
            for tile in (48,) if settings.is_tiny else (288, 160):
                upscaler.tiling = Tiling(window=frames, tile=tile)
                rows.compare(f"{name}, tiles of {tile}", as_values(upscaler.upscale_window(window)), known, TILED)


def check_memory(settings: Settings, rows: Rows) -> None:
    """Run out of memory: the tile must shrink, the failed tile's memory must be released, and the frames must be
    correct.
    """
    if not settings.is_cuda:
        raise Skipped("needs CUDA: PyTorch limits the memory of a process on a GPU only")
    frames, width, height = settings.size((12, 480, 270), (8, 320, 180))
    window = Window(scene(frames, width, height), slice(2, frames - 2))
    for name in ("ristn-lite", "paper"):
        model = open_model(name)
        for title, compilation in (("plain", "off"), ("recorded", "on")):
            with rows.part(f"{name}, {title}"):
                run_short(settings, rows, f"{name}, {title}", model, window, compilation)  # type: ignore[arg-type]


def run_short(
    settings: Settings, rows: Rows, part: str, model: RISTN, window: Window[np.ndarray], compilation: CompileName
) -> None:
    """Upscale a window with half of the memory that it needs."""
    backend = settings.backend("fp16")
    device = torch.cuda.current_device() if backend.device.index is None else backend.device.index
    whole = Tiling(window=len(window.frames), tile=max(window.frames[0].shape))
    held: list[int] = []

    def note_memory(message: str) -> None:
        if message.startswith("out of memory"):
            held.append(torch.cuda.memory_allocated(device))

    upscaler = Upscaler(model, backend, whole, compilation=compilation)
    upscaler.upscale_window(
        Window(tuple(image[:32, :32] for image in window.frames), window.keep)
    )  # allocates what remains allocated
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    known = as_values(upscaler.upscale_window(window))
    peak = torch.cuda.max_memory_allocated(device) - before
    torch.cuda.empty_cache()
    limit = torch.cuda.memory_reserved(device) + peak // 2
    torch.cuda.set_per_process_memory_fraction(limit / torch.cuda.mem_get_info(device)[1], device)
    try:
        with engine_messages(note_memory) as said:
            made = [upscaler.upscale_window(window) for _ in range(3)][-1]  # the second window of a shape is recorded
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, device)
    tile, allowed = upscaler.tiling.tile, before + peak // 10
    rows.judge(
        f"{part}, tile",
        bool(held) and tile < whole.tile,
        f"{tile} after {len(held)} failures with {limit / MIB:.0f} MiB; {'; '.join(said) or 'no messages'}",
        f"less than {whole.tile}, which takes {peak / MIB:.0f} MiB",
    )
    rows.judge(
        f"{part}, memory after a failure",
        bool(held) and max(held) <= allowed,
        f"{max(held, default=0) / MIB:.0f} MiB",
        f"at most {allowed / MIB:.0f} MiB",
        held_bytes=held,
        before_bytes=before,
        peak_bytes=peak,
    )
    rows.compare(f"{part}, frames", as_values(made), known, TILED)


def check_bench(settings: Settings, rows: Rows) -> None:
    """Report the figures of `ristn bench --network-only`, and save its report as bench.json."""
    cases: list[Case] = []
    longest = 0.0
    for name, width, height in (("ristn-lite", 48, 32),) if settings.is_tiny else BENCH_CASES:
        with rows.part(f"{name} {width}x{height}"):
            began = time.monotonic()
            if began + longest > settings.ends:
                raise Skipped("no time left")
            request = Request(
                network=name,
                width=width,
                height=height,
                device=settings.device,
                window=6 if settings.is_tiny else None,
                seconds=0.1 if settings.is_tiny else BENCH_SECONDS,
                network_only=True,
            )
            case = measure_apart(request)
            longest = max(longest, time.monotonic() - began)
            cases.append(case)
            memory = case.device_memory_bytes or case.peak_memory_bytes or 0
            figure = f"{1000 * case.network.median:.2f} ms per frame, {case.executed_share:.0%} of the matrix rate"
            figure += f", {memory / MIB:.0f} MiB"
            rows.add(
                f"{name} {width}x{height} {case.precision}",
                "measured",
                figure,
                seconds_per_frame=case.network.median,
                executed_share=case.executed_share,
                matrix_flops_per_second=case.limits.matrix_flops_per_second,
                memory_bytes=memory,
            )
            report = make_report(cases, settings.device)
            (settings.folder / "bench.json").write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")


def check_profile(settings: Settings, rows: Rows) -> None:
    frames, width, height = settings.size((20, 480, 270), (5, 40, 28))
    window = Window(scene(frames, width, height), slice(2, frames - 2))
    backend = settings.backend()
    for name in ("ristn-lite",) if settings.is_tiny else ("ristn-lite", "ristn"):
        part = f"{name} {width}x{height} {backend.precision}"
        with rows.part(part):
            upscaler = Upscaler(open_model(name), backend, Tiling(window=frames))
            upscaler.upscale_window(window)
            upscaler.record(window)
            found = profile_operators(partial(upscaler.upscale_window, window), backend)
            longest = [operator for operator in found[:LONGEST_PROFILE] if operator.seconds > 0]
            for operator in longest:
                print(f"{operator.share:6.1%} {1000 * operator.seconds:9.3f} ms {operator.calls:6} x {operator.name}")
            figure = f"{longest[0].share:.0%} {longest[0].name[:50]}" if longest else "nothing was recorded"
            kernels = [vars(operator) for operator in longest]
            rows.judge(part, bool(longest), figure, "a list of kernels", kernels=kernels)


def check_example(settings: Settings, rows: Rows) -> None:
    """Upscale the example clip with the command line and compare its first frame with the processor's."""
    missing = [name for name in ("av", "ffmpeg", "imageio", "imageio_ffmpeg", "rich", "typer") if not can_import(name)]
    if missing:
        raise Skipped(f"cannot import: {', '.join(missing)}")
    from ristn_cli.video import ReadOptions, probe, read_frames

    frames = 3 if settings.is_tiny else EXAMPLE_FRAMES
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "bbb.mkv")
        command = [sys.executable, "-m", "ristn_cli", "upscale", str(EXAMPLE), str(target), "--model", "ristn-lite"]
        command += ["--device", settings.device, "--max-frames", str(frames), "--preset", "ultrafast", "--verbose"]
        began = time.monotonic()
        done = subprocess.run(command, check=False)
        seconds = time.monotonic() - began
        rows.judge("exit code", done.returncode == 0, str(done.returncode), "0")
        if done.returncode:
            return
        info = probe(target)
        made = [frame.image for frame in read_frames(info)]
        rows.judge("frames", len(made) == frames, str(len(made)), str(frames))
        rows.judge("size", (info.width, info.height) == (1280, 720), f"{info.width}x{info.height}", "1280x720")
        rows.add("time", "measured", f"{seconds:.1f} s, start included", seconds=seconds)
    originals = [frame.image for frame in read_frames(probe(EXAMPLE), ReadOptions(max_frames=3))]
    processor = Upscaler(open_model("ristn-lite"), choose_backend("cpu", "fp32"), Tiling(window=5))
    known = next(processor.upscale(originals))
    rows.compare("first frame against the processor", as_values(made[:1]), as_values([known]), ENCODED)


def can_import(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ImportError:
        return False
    return True


def check_processes(settings: Settings, rows: Rows) -> None:
    """Compare two processes that use the device at the same time with a single one."""
    ((known, alone, _),) = run_processes(settings, 1)
    pair = run_processes(settings, 2)
    for number, (images, _, _) in enumerate(pair, start=1):
        rows.compare(f"process {number}", as_values(images), as_values(known), HALF)
    seconds = max(taken for _, taken, _ in pair)
    memory = [held for _, _, held in pair]
    figure = f"{seconds:.2f} s, of one alone {alone:.2f} s"
    figure += f"; {max(memory) / MIB:.0f} MiB each" if any(memory) else ""
    rows.add("time of both", "measured", figure, seconds=seconds, seconds_alone=alone, memory_bytes=memory)


def run_processes(settings: Settings, count: int) -> list[tuple[np.ndarray, float, int]]:
    """Start `count` processes together; return the last images, seconds and device memory in bytes of each."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--device", settings.device, "--folder", folder]
        command += ["--tiny"] if settings.is_tiny else []
        members = [
            subprocess.Popen([*command, "--member", str(number), "--count", str(count)]) for number in range(count)
        ]
        codes = [member.wait() for member in members]
        if any(codes):
            raise RuntimeError(f"the exit codes of {count} processes are {codes}, expected 0")
        found = []
        for number in range(count):
            told = json.loads(Path(folder, f"{number}.json").read_text(encoding="utf-8"))
            found.append((np.load(Path(folder, f"{number}.npy")), told["seconds"], told["memory_bytes"]))
        return found


def run_member(settings: Settings, number: int, count: int) -> None:
    """Run as one process of `run_processes`: compute once, wait until all are ready, and compute again."""
    frames, width, height = settings.size((20, 480, 270), (6, 32, 24))
    window = Window(scene(frames, width, height), slice(2, frames - 2))
    backend = settings.backend()
    upscaler = Upscaler(open_model("ristn-lite"), backend, Tiling(window=frames))
    upscaler.upscale_window(window)
    upscaler.record(window)
    (settings.folder / f"{number}.ready").touch()
    while len(list(settings.folder.glob("*.ready"))) < count and time.monotonic() < settings.ends:
        time.sleep(0.01)
    began = time.monotonic()
    for _ in range(2 if settings.is_tiny else 10):
        images = upscaler.upscale_window(window)
    told = {"seconds": time.monotonic() - began, "memory_bytes": device_memory_bytes(backend) or 0}
    np.save(settings.folder / f"{number}.npy", np.stack(images))
    (settings.folder / f"{number}.json").write_text(json.dumps(told), encoding="utf-8")


CHECKS: dict[str, Callable[[Settings, Rows], None]] = {
    "machine": check_machine,
    "precision": check_precision,
    "graphs": check_graphs,
    "memory": check_memory,
    "transfer": check_transfer,
    "tiles": check_tiles,
    "example": check_example,
    "profile": check_profile,
    "processes": check_processes,
    "bench": check_bench,
}


def main() -> int:
    parser = argparse.ArgumentParser(description="Run one check of gpu_check.py.")
    parser.add_argument("--check", choices=CHECKS)
    parser.add_argument("--device", required=True)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--rows", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--member", type=int)
    parser.add_argument("--count", type=int, default=1)
    asked = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    ends = time.monotonic() + asked.seconds
    settings = Settings(device=asked.device, is_tiny=asked.tiny, folder=asked.folder, ends=ends)
    if asked.member is not None:
        run_member(settings, asked.member, asked.count)
        return 0
    rows = Rows(asked.rows)
    with rows.part(asked.check):
        choose_device(settings.device)  # a missing device is a failure, not a skipped check
        CHECKS[asked.check](settings, rows)
    return 1 if rows.failures else 0


if __name__ == "__main__":
    sys.exit(main())
