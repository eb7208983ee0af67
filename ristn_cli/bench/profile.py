"""The operators that a window's time goes to, by PyTorch's profiler."""

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from ristn_cli.bench.report import Operator
from ristn_cli.inference.device import Backend

LONGEST_TABLE = 20


def profile_operators(call: Callable[[], object], backend: Backend) -> list[Operator]:
    """Operators by time in themselves, on the device where there is one, the largest first."""
    activities = [ProfilerActivity.CPU]
    if backend.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, acc_events=True) as profiler:
        call()
        if backend.device.type == "cuda":
            torch.cuda.synchronize(backend.device)
    microseconds = "self_device_time_total" if backend.device.type == "cuda" else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, microseconds))
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
