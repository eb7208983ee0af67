"""Peak memory of this process and of its device."""

import re
import sys
from pathlib import Path

import torch

from ristn_cli.engine.device import Backend


def peak_memory_bytes() -> int | None:
    """Resident peak of this process; None where the system does not tell."""
    if sys.platform == "linux":
        # Not getrusage's: that begins with the memory of the process that started this one.
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
        return None if found is None else 1024 * int(found[1])
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def device_memory_bytes(backend: Backend) -> int | None:
    """Peak of what PyTorch allocated on a CUDA device; None elsewhere."""
    return torch.cuda.max_memory_allocated(backend.device) if backend.device.type == "cuda" else None


Peaks = tuple[int | None, int | None]
"""Memory that the process held at most up to then, and of it what PyTorch did on the device."""


def read_peaks(backend: Backend) -> Peaks:
    """The peaks up to now."""
    return peak_memory_bytes(), device_memory_bytes(backend)
