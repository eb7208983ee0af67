"""The processes of a run: those that torchrun started, and those that make batches."""

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
    """Join the other processes that torchrun started, if it did: this one's backend, its rank, and their number."""
    if "WORLD_SIZE" not in os.environ:
        yield backend, 0, 1
        return
    if backend.device.type == "cuda":
        backend = replace(backend, device=torch.device("cuda", int(os.environ["LOCAL_RANK"])))
        torch.cuda.set_device(backend.device)
    dist.init_process_group("nccl" if backend.device.type == "cuda" else "gloo")
    try:
        yield backend, dist.get_rank(), dist.get_world_size()
        dist.barrier()  # none leaves while another still talks to it
    finally:
        dist.destroy_process_group()


def agree(stop: bool, backend: Backend) -> bool:
    """Whether any process of the run wants to stop: they must do so at the same step."""
    if not dist.is_initialized():
        return stop
    votes = torch.tensor(float(stop), device=backend.device)
    dist.all_reduce(votes)
    return bool(votes > 0)


def process_count() -> int:
    """Processes that carry out the run together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def leave_signals_to_parent(_: int) -> None:
    """A batch-making process does not die of a Ctrl-C or SIGTERM to its parent's group: only its parent ends it."""
    if os.name == "posix":
        os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def mean_of_processes(value: float, backend: Backend) -> float:
    """Mean of a value over all processes of the run, the same in each."""
    if not dist.is_initialized():
        return value
    # MPS and some CUDA operations have no float64; it only serves a log.
    total = torch.tensor(value, device=backend.device, dtype=torch.float32)
    dist.all_reduce(total)
    return float(total) / process_count()
