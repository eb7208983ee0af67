"""The processes of a run: those started by torchrun, and the workers that make batches."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
import torch.distributed as dist

from ristn_cli.engine.device import Backend


@contextmanager
def joined_processes(backend: Backend) -> Iterator[tuple[Backend, int, int]]:
    """Join the process group if torchrun started this process. Yields this process's backend, its rank and the world
    size.
    """
    if "WORLD_SIZE" not in os.environ:
        yield backend, 0, 1
        return
    if backend.device.type == "cuda":
        backend = replace(backend, device=torch.device("cuda", int(os.environ["LOCAL_RANK"])))
        torch.cuda.set_device(backend.device)
    dist.init_process_group("nccl" if backend.device.type == "cuda" else "gloo")
    try:
        yield backend, dist.get_rank(), dist.get_world_size()
        dist.barrier()  # no process leaves while another still communicates with it
    finally:
        dist.destroy_process_group()


def agree(stop: bool, backend: Backend) -> bool:
    """Return whether any process of the run wants to stop. All processes must stop at the same step."""
    if not dist.is_initialized():
        return stop
    votes = torch.tensor(float(stop), device=backend.device)
    dist.all_reduce(votes)
    return bool(votes > 0)


def process_count() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def ignore_group_signals(_: int) -> None:
    """Keep a batch worker alive when its parent's process group gets Ctrl-C or SIGTERM. The parent ends the worker."""
    if os.name == "posix":
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def mean_of_processes(value: float, backend: Backend) -> float:
    if not dist.is_initialized():
        return value
    # MPS has no float64, and float32 is precise enough for a log.
    total = torch.tensor(value, device=backend.device, dtype=torch.float32)
    dist.all_reduce(total)
    return float(total) / process_count()
