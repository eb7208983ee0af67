"""Devices and precisions by name, and what preparing a network for them keeps."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from ristn_cli.bench import machine
from ristn_cli.engine import device
from ristn_cli.engine.allocator import is_glibc
from ristn_cli.engine.device import (
    Backend,
    DeviceError,
    PrecisionName,
    choose_backend,
    choose_device,
    choose_precision,
    free_bytes,
    prepare,
)
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.model import RISTN, RISTNConfig

CPU = torch.device("cpu")


def test_the_processor_is_always_there() -> None:
    assert choose_device("cpu") == CPU
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    assert choose_backend("cpu", "fp32") == Backend(CPU, "fp32")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gpu", "unknown device 'gpu'"),
        ("meta", "'meta' is not supported"),
        ("cuda:99", "device 'cuda:99' is not available"),
    ],
)
def test_devices_that_cannot_be_had_are_refused(name: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        choose_device(name)


@pytest.mark.parametrize(("has_instructions", "expected"), [(True, "bf16"), (False, "fp32")])
def test_the_processor_is_asked_for_its_precision(
    monkeypatch: pytest.MonkeyPatch, has_instructions: bool, expected: str
) -> None:
    monkeypatch.setattr(device, "has_bfloat16_instructions", lambda: has_instructions)
    assert choose_precision("auto", CPU) == expected
    assert Backend(CPU, "bf16").is_emulated != has_instructions
    assert not Backend(CPU, "fp32").is_emulated


@pytest.mark.parametrize(
    ("served", "expected"), [({torch.float32, torch.bfloat16}, torch.bfloat16), ({torch.float32}, torch.float32)]
)
def test_what_is_not_served_is_computed_in_float32(
    monkeypatch: pytest.MonkeyPatch, served: set[torch.dtype], expected: torch.dtype
) -> None:
    """The machine's own rates are measured in the same type, or shares of them would mean nothing."""
    monkeypatch.setattr("ristn_cli.model.fused.ONEDNN_TYPES", served)
    types = []
    monkeypatch.setattr(machine, "measure_seconds", lambda backend, call, seconds: types.append(call().dtype) or 1.0)
    assert Backend(CPU, "bf16").arithmetic == expected
    assert Backend(CPU, "fp32").arithmetic == torch.float32
    assert Backend(torch.device("cuda"), "bf16").arithmetic == torch.bfloat16
    machine.matrix_rate(Backend(CPU, "bf16"), 8)
    machine.convolution_rate(Backend(CPU, "bf16"), 8)
    assert set(types) == {expected}


def test_precisions_by_name() -> None:
    assert isinstance(device.has_bfloat16_instructions(), bool)
    assert choose_precision("auto", torch.device("cuda")) == "fp16"
    assert choose_precision("fp16", torch.device("cuda")) == "fp16"
    assert choose_precision("bf16", CPU) == "bf16"
    assert Backend(CPU, "bf16").dtype == torch.bfloat16
    with pytest.raises(DeviceError, match="emulated and very slow"):
        choose_precision("fp16", CPU)
    with pytest.raises(DeviceError, match="unknown precision 'fp8'"):
        choose_precision("fp8", CPU)


@pytest.mark.parametrize(("capability", "expected"), [((6, 1), "fp32"), ((7, 5), "fp16"), ((9, 0), "fp16")])
def test_gpus_slow_in_half_precision_are_not_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert choose_precision("auto", torch.device("cuda")) == expected


def test_preparing_copies_the_network_into_the_precision(tiny_model: RISTN) -> None:
    before = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    ready = prepare(tiny_model, Backend(CPU, "bf16"))
    assert {parameter.dtype for parameter in ready.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in ready.parameters())
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(value, before[name]), name


@torch.no_grad()
def test_lower_precision_is_close(random_model: RISTN) -> None:
    lr = torch.rand(1, 2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    expected = random_model(lr)
    torch.testing.assert_close(prepare(random_model, Backend(CPU, "fp32"))(lr), expected, rtol=0, atol=1e-5)
    sr = prepare(random_model, Backend(CPU, "bf16"))(lr)
    assert sr.dtype == torch.float32
    torch.testing.assert_close(sr, expected, rtol=0, atol=0.02 * float(expected.abs().max()))


TEAM = """
import os, threading, torch
from ristn_cli.engine.allocator import stop_openmp_threads
torch.set_num_threads(3)
torch.rand(1 << 20).exp()
before = len(os.listdir("/proc/self/task"))
stop_openmp_threads()
print(before - len(os.listdir("/proc/self/task")), float(torch.ones(1 << 20).sum()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="OpenMP's threads cannot be counted here")
def test_a_team_ends_and_comes_again() -> None:
    done = subprocess.run([sys.executable, "-c", TEAM], capture_output=True, text=True, check=True)
    assert done.stdout == "2 1048576.0\n"


GONE = """
import resource, torch
from ristn_cli.engine.allocator import keep_memory
from ristn_cli.engine.transfer import PlainTransfer
def held():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
keep_memory()
transfer, size = PlainTransfer(torch.device("cpu")), 128 << 20
before, image = held(), transfer.empty((size,), torch.uint8).fill_(1)
during = held()
del image
print(during - before > size // 2, held() - before < size // 2)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="nothing tells what a process holds")
def test_large_images_are_not_kept() -> None:
    done = subprocess.run([sys.executable, "-c", GONE], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


FREED = """
import torch
from ristn_cli.engine.allocator import keep_memory, kept_bytes
keep_memory()
size = 1 << 30
before, tensor = kept_bytes(), torch.ones(size, dtype=torch.uint8)
during = kept_bytes()
del tensor
print(during - before < size // 2, kept_bytes() - during > size // 2)
"""


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
def test_memory_that_is_kept_counts_as_free() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\n"


def test_free_memory_includes_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ristn_cli.engine.device.kept_bytes", lambda: 1 << 50)
    free = free_bytes(CPU)
    assert free is None or 1 << 50 < free < 1 << 51


@pytest.mark.parametrize("fields", [{"pattern": "rc"}, {"fusion": "none"}, {"block": "rb"}, {"lstm_layers": 0}])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@torch.inference_mode()
def test_ablations_are_upscaled_by_the_trained_form(
    tiny_model: RISTN, fields: dict[str, Any], precision: PrecisionName
) -> None:
    torch.manual_seed(0)
    model = RISTN(RISTNConfig.from_dict(tiny_model.config.to_dict() | fields)).eval()
    torch.nn.init.normal_(model.reconstruction.last.weight, std=0.05)
    images = [np.full((9, 11, 3), level, np.uint8) for level in (60, 90, 120)]
    upscaler = Upscaler(model, Backend(CPU, precision), Tiling(window=3, context=1))
    assert isinstance(upscaler.model, RISTN)
    lr = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    expected = model(lr[None])[0].clamp(0, 1).mul(255).permute(0, 2, 3, 1).numpy()
    assert np.abs(np.stack(list(upscaler.upscale(images))) - expected).max() <= (1 if precision == "fp32" else 8)
