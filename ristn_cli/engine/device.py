"""Chooses device and precision, and reports free memory."""

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from ristn_cli.engine.allocator import keep_memory, kept_bytes
from ristn_cli.engine.cgroups import free_in_groups
from ristn_cli.model import RISTN
from ristn_cli.model.folded import FoldedRISTN, inference_form
from ristn_cli.model.fused import compute_dtype

PrecisionName = Literal["fp32", "fp16", "bf16"]

DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


SLOW_HALF = {(5, 0), (5, 2), (6, 1)}
"""CUDA capabilities on which half precision is far slower than float32. None is faster in bfloat16."""


class DeviceError(Exception):
    """A device or precision that is not available."""


def has_bfloat16_instructions() -> bool:
    """Return whether the CPU multiplies bfloat16 in hardware (AVX-512 BF16, AMX, Arm). Otherwise bfloat16 saves no
    time.
    """
    asks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(ask() for ask in (getattr(torch.cpu, name, None) for name in asks) if ask is not None)


@dataclass(frozen=True)
class Backend:
    """The device and precision of a network."""

    device: torch.device
    precision: PrecisionName

    @property
    def dtype(self) -> torch.dtype:
        """The data type of the precision."""
        return DTYPES[self.precision]

    @property
    def arithmetic(self) -> torch.dtype:
        """The data type of convolutions: float32 if bfloat16 is only used for storage."""
        return compute_dtype(self.device, self.dtype)

    @property
    def is_emulated(self) -> bool:
        """Whether the device has no instructions for this precision, which then saves memory but no time."""
        return self.device.type == "cpu" and self.precision == "bf16" and not has_bfloat16_instructions()


def choose_device(name: str = "auto") -> torch.device:
    """Return the device for `name`: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.

    Raises:
        DeviceError: it is not available.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")  # mps is untested, so it must be chosen
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise DeviceError(f"unknown device {name!r}; expected auto, cpu, cuda, cuda:N or mps") from error
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise DeviceError(f"device {name!r} is not available; PyTorch finds {torch.cuda.device_count()} CUDA devices")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise DeviceError("device 'mps' is not available; it needs macOS on Apple silicon")
    if device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError(f"device {name!r} is not supported; expected auto, cpu, cuda, cuda:N or mps")
    return device


def choose_precision(name: str, device: torch.device) -> PrecisionName:
    """Return the precision for `name`. `auto` is the fastest precision of `device`.

    Raises:
        DeviceError: the device does not support it.
    """
    if name == "auto":
        if device.type == "cpu":
            return "bf16" if has_bfloat16_instructions() else "fp32"
        is_slow = (
            device.type == "cuda"
            and torch.cuda.is_available()
            and torch.cuda.get_device_capability(device) in SLOW_HALF
        )
        return "fp32" if is_slow else "fp16"
    match name:
        case "fp16" if device.type == "cpu":
            raise DeviceError("precision fp16 is emulated and very slow on a CPU; use auto")
        case "fp32" | "fp16" | "bf16":
            return name
    raise DeviceError(f"unknown precision {name!r}; expected auto, fp32, fp16 or bf16")


def choose_backend(device: str = "auto", precision: str = "auto") -> Backend:
    """Return device and precision by their names on the command line.

    Raises:
        DeviceError: one of them is not available.
    """
    chosen = choose_device(device)
    return Backend(chosen, choose_precision(precision, chosen))


def prepare(model: RISTN, backend: Backend) -> FoldedRISTN | RISTN:
    """Return the network for inference: in its `inference_form`, on its device, in its precision, channels last.

    Cells and the global skip connection are float32 in every precision.
    """
    ready = inference_form(model).to(backend.device, backend.dtype)
    ready.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch omits it
    if backend.device.type == "cpu":
        keep_memory()
    return ready


def release_memory(backend: Backend) -> None:
    """Release the memory that the device's allocator caches."""
    if backend.device.type == "cuda":
        torch.cuda.empty_cache()
    elif backend.device.type == "mps":
        torch.mps.empty_cache()


def free_bytes(device: torch.device) -> int | None:
    """Return the free memory of the device, within the limits of this process; None if unknown."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free.append(1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1]))
    in_groups = free_in_groups()
    if in_groups is not None:
        free.append(in_groups)
    return min(free) + kept_bytes() if free else None
