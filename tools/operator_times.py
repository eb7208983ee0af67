"""Measures the time of each operator of a call with PyTorch's profiler."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

from ristn_cli.engine.device import Backend

LONGEST_TABLE = 20


@dataclass(frozen=True, kw_only=True)
class Operator:
    """An operator of the profiler: seconds without its children, and their share of the total."""

    name: str
    calls: int
    seconds: float
    share: float


def profile_operators(call: Callable[[], object], backend: Backend) -> list[Operator]:
    """Return operators by their own time, largest first; on a GPU, kernels."""
    activities = [ProfilerActivity.CPU]
    is_cuda = backend.device.type == "cuda"
    if is_cuda:
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, acc_events=True) as profiler:
        call()
        if is_cuda:
            torch.cuda.synchronize(backend.device)
    microseconds = "self_device_time_total" if is_cuda else "self_cpu_time_total"
    # Operators and annotations that launch kernels also list the kernels' time, which would count twice.
    kind = "CUDA" if is_cuda else "CPU"
    found = (event for event in profiler.key_averages() if event.device_type.name == kind)
    events = sorted(
        (event for event in found if not event.is_user_annotation), key=lambda event: -getattr(event, microseconds)
    )
    total = sum(getattr(event, microseconds) for event in events) or 1
    return [
        Operator(
            name=event.key,
            calls=event.count,
            seconds=getattr(event, microseconds) / 1e6,
            share=getattr(event, microseconds) / total,
        )
        for event in events[:LONGEST_TABLE]
    ]
