"""What the machine itself does: its name, its matrix and convolution rates, and its copy bandwidth."""

import platform
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ristn_cli.bench.report import Machine
from ristn_cli.inference.defaults import device_name, processor_name
from ristn_cli.inference.device import Backend
from ristn_cli.video import usable_cores

MATRIX = 2048
CONVOLUTION_CHANNELS = (32, 64, 128)
CONVOLUTION_VALUES = 1 << 20
"""Of a convolution's input: large enough to run long, small enough for the caches of one core's share."""

COPY_BYTES = 1 << 27
MEASURED_SECONDS = 0.3
"""How long each rate is measured, at least."""


def describe_machine(chosen: torch.device) -> Machine:
    """Processor, cores, versions, and the device that was chosen."""
    return Machine(
        processor=processor_name(),
        cores=usable_cores(),
        threads=torch.get_num_threads(),
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=str(torch.__version__),
        device=device_name(chosen),
    )


def synchronize(backend: Backend) -> None:
    """Wait until the device has done what it was given."""
    if backend.device.type == "cuda":
        torch.cuda.synchronize(backend.device)
    elif backend.device.type == "mps":
        torch.mps.synchronize()


def measure_seconds(backend: Backend, call: Callable[[], object], seconds: float = MEASURED_SECONDS) -> float:
    """Shortest of the seconds that `call` takes, after one call that is not counted, over `seconds` or more."""
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
def matrix_rate(backend: Backend, size: int = MATRIX, seconds: float = MEASURED_SECONDS) -> float:
    """FLOP a second of a product of two matrices of `size`, in the type that the network is computed in."""
    left, right = (torch.randn(size, size, device=backend.device).to(backend.arithmetic) for _ in range(2))
    return 2 * size**3 / measure_seconds(backend, lambda: left @ right, seconds)


@torch.inference_mode()
def convolution_rate(backend: Backend, values: int = CONVOLUTION_VALUES, seconds: float = MEASURED_SECONDS) -> float:
    """FLOP a second of the fastest 3x3 convolution, channels last, of as many channels in as out."""
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
def copy_rate(backend: Backend, size: int = COPY_BYTES, seconds: float = MEASURED_SECONDS) -> float:
    """Bytes a second of a copy within the device's memory: read and written ones."""
    source = torch.zeros(size, dtype=torch.uint8, device=backend.device)
    target = torch.ones_like(source)
    return 2 * size / measure_seconds(backend, lambda: target.copy_(source), seconds)
