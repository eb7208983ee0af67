"""Peak memory of this process and of its device."""

import re
import sys
from pathlib import Path

import torch

from ristn_cli.engine.device import Backend


def peak_memory_bytes() -> int | None:
    """Return the peak resident memory of this process; None if the system does not report it."""
    if sys.platform == "linux":
        # getrusage would include the memory of the parent process at the time of the fork.
        found = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
        return None if found is None else 1024 * int(found[1])
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return None


def device_memory_bytes(backend: Backend) -> int | None:
    """Return PyTorch's peak allocation on a CUDA device; None on other devices."""
    return torch.cuda.max_memory_allocated(backend.device) if backend.device.type == "cuda" else None


Peaks = tuple[int | None, int | None]
"""Peak memory of the process and of PyTorch on the device."""


def read_peaks(backend: Backend) -> Peaks:
    return peak_memory_bytes(), device_memory_bytes(backend)
