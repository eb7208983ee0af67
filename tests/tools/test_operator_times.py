"""tools/operator_times.py: operators by their time, on a GPU kernels alone."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from operator_times import profile_operators

from ristn_cli.engine.device import Backend


def test_operators_are_listed_by_time() -> None:
    left = torch.ones(64, 64)
    found = profile_operators(lambda: left @ left, Backend(torch.device("cpu"), "fp32"))
    assert found == sorted(found, key=lambda operator: -operator.seconds)
    assert "aten::mm" in {operator.name for operator in found}
    assert sum(operator.share for operator in found) == pytest.approx(1)


def test_the_profile_of_a_gpu_lists_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for PyTorch's events: an operator and an annotation carry the time of the kernel they start."""

    def event(key: str, kind: str, microseconds: float, is_user_annotation: bool = False) -> SimpleNamespace:
        return SimpleNamespace(
            key=key,
            count=2,
            device_type=SimpleNamespace(name=kind),
            self_device_time_total=microseconds,
            self_cpu_time_total=5.0,
            is_user_annotation=is_user_annotation,
        )

    events = [
        event("aten::conv2d", "CPU", 30.0),
        event("small_kernel", "CUDA", 10.0),
        event("compiled region", "CUDA", 40.0, is_user_annotation=True),
        event("large_kernel", "CUDA", 30.0),
    ]
    profiler = SimpleNamespace(key_averages=lambda: events)
    monkeypatch.setattr("operator_times.profile", lambda **_: nullcontext(profiler))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    found = profile_operators(lambda: None, Backend(torch.device("cuda"), "fp16"))
    assert [(row.name, row.seconds, row.share) for row in found] == [
        ("large_kernel", pytest.approx(30e-6), 0.75),
        ("small_kernel", pytest.approx(10e-6), 0.25),
    ]
