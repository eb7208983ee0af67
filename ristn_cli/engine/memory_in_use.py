"""Measures the memory in use: of this process with its child processes, and of its GPUs."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from pathlib import Path

import torch

PROCESSES = Path("/proc")


def main_memory_in_use() -> int | None:
    """Return the resident bytes of this process and all its descendants on Linux; None on other systems.

    Shared pages count once per process.
    """
    if sys.platform != "linux":
        return None
    total, waiting = 0, [os.getpid()]
    while waiting:
        folder = PROCESSES / str(waiting.pop())
        with contextlib.suppress(OSError):  # the process may have ended
            found = re.search(r"VmRSS:\s+(\d+)", (folder / "status").read_text(encoding="ascii", errors="replace"))
            total += 1024 * int(found[1]) if found else 0
            for children in folder.glob("task/*/children"):
                waiting += [int(number) for number in children.read_text(encoding="ascii").split()]
    return total or None


def gpu_memory_in_use() -> int | None:
    """Return the bytes that PyTorch has reserved on all CUDA devices; None if CUDA is not used."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return None
    return sum(torch.cuda.memory_reserved(index) for index in range(torch.cuda.device_count()))
