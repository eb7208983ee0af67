"""The machine: its name, matrix rate, convolution rate and copy bandwidth."""

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F

from ristn_cli.bench.results import Machine
from ristn_cli.engine.device import Backend

CONVOLUTION_CHANNELS = (32, 64, 128)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes large enough to show the speed of a device.

    Attributes:
        matrix: rows and columns of both matrices.
        convolution_values: number of values in the input of a convolution.
        copy_bytes: number of bytes to copy.
    """

    matrix: int
    convolution_values: int
    copy_bytes: int


PROCESSOR_SIZES = Sizes(matrix=2048, convolution_values=1 << 20, copy_bytes=1 << 27)
"""A convolution fits into the cache per core."""

GPU_SIZES = Sizes(matrix=8192, convolution_values=1 << 26, copy_bytes=1 << 29)
"""Each call takes far longer than its launch, and a copy does not fit into the cache."""

MEASURED_SECONDS = 0.3
"""Shortest time for measuring each rate."""


def describe_machine(chosen: torch.device) -> Machine:
    return Machine(
        processor=processor_name(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=str(torch.__version__),
        device=device_name(chosen),
    )


def processor_name() -> str:
    """Return the name in /proc/cpuinfo on Linux, else Python's."""
    with suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        return next(line for line in lines if line.startswith("model name")).partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """Return the hardware of a device. Its name distinguishes machines that share a home folder."""
    if device.type == "cuda":
        return f"cuda: {torch.cuda.get_device_name(device)}"
    return f"{device.type}: {processor_name()}"


def sizes_for(backend: Backend) -> Sizes:
    return PROCESSOR_SIZES if backend.device.type == "cpu" else GPU_SIZES


def synchronize(backend: Backend) -> None:
    """Wait until the device has finished all submitted work."""
    if backend.device.type == "cuda":
        torch.cuda.synchronize(backend.device)
    elif backend.device.type == "mps":
        torch.mps.synchronize()


def measure_seconds(backend: Backend, call: Callable[[], object], seconds: float = MEASURED_SECONDS) -> float:
    """Call `call` once to warm up, then for `seconds` or more; return the shortest time of a call."""
    call()
    synchronize(backend)
    took: list[float] = []
    while sum(took) < seconds:
        began = time.perf_counter()
        call()
        synchronize(backend)
        took.append(time.perf_counter() - began)
    return min(took)


@torch.inference_mode()
def matrix_rate(backend: Backend, size: int | None = None, seconds: float = MEASURED_SECONDS) -> float:
    """Return the FLOP/s of a product of two `size` x `size` matrices, in the data type of the network."""
    size = size or sizes_for(backend).matrix
    left, right = (torch.randn(size, size, device=backend.device).to(backend.arithmetic) for _ in range(2))
    return 2 * size**3 / measure_seconds(backend, lambda: left @ right, seconds)


@torch.inference_mode()
def convolution_rate(backend: Backend, values: int | None = None, seconds: float = MEASURED_SECONDS) -> float:
    """Return the FLOP/s of the fastest 3x3 convolution in channels last, with as many output as input channels."""
    values = values or sizes_for(backend).convolution_values
    best = 0.0
    for channels in CONVOLUTION_CHANNELS:
        side = max(8, round((values / channels / 4) ** 0.5))
        x = torch.randn(4, channels, side, side, device=backend.device).to(backend.arithmetic)
        x = x.contiguous(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3, device=backend.device).to(backend.arithmetic)
        weight = weight.contiguous(memory_format=torch.channels_last)
        flops = 2 * x.numel() * channels * 9
        took = measure_seconds(backend, lambda x=x, weight=weight: F.conv2d(x, weight, padding=1), seconds)  # type: ignore[misc]
        best = max(best, flops / took)
    return best


@torch.inference_mode()
def copy_rate(backend: Backend, size: int | None = None, seconds: float = MEASURED_SECONDS) -> float:
    """Return the bytes per second of a copy within the device's memory; each byte counts as read and as written."""
    size = size or sizes_for(backend).copy_bytes
    source = torch.zeros(size, dtype=torch.uint8, device=backend.device)
    target = torch.ones_like(source)
    return 2 * size / measure_seconds(backend, lambda: target.copy_(source), seconds)
