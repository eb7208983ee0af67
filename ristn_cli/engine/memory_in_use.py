"""Memory in use at this moment: of this process with all that it started, and of its GPUs."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path

import torch

PROCESSES = Path("/proc")


def main_memory_in_use() -> int | None:
    """Resident bytes of this process and of all processes below it, on Linux; None elsewhere.

    Pages that two of them share count twice.
    """
    if sys.platform != "linux":
        return None
    total, waiting = 0, [os.getpid()]
    while waiting:
        folder = PROCESSES / str(waiting.pop())
        with contextlib.suppress(OSError):  # it may end meanwhile
            found = re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text(encoding="ascii", errors="replace"))
            total += 1024 * int(found[1]) if found else 0
            for children in folder.glob("task/*/children"):
                waiting += [int(number) for number in children.read_text(encoding="ascii").split()]
    return total or None


def gpu_memory_in_use() -> int | None:
    """Bytes that PyTorch took on all CUDA devices; None without one at work."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    return sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))
