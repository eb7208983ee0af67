"""Settings, inputs and result rows of the checks in `device_checks.py`."""

import json
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ristn_cli.bench.networks import open_network
from ristn_cli.bench.scene import make_scene
from ristn_cli.engine.device import Backend, DeviceError, choose_backend, prepare
from ristn_cli.evaluation.metrics import psnr
from ristn_cli.model import RISTN

DETAIL = 0.1
"""Standard deviation of the detail that a network with random weights adds to its output in [0, 1]."""


@contextmanager
def engine_messages(on_message: Callable[[str], None] = lambda message: None) -> Iterator[list[str]]:
    """Collect the engine's log messages in this context and call `on_message` with each."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())
            on_message(said[-1])

    handler, logger = Keep(), logging.getLogger("ristn.engine")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class Skipped(Exception):
    """A check cannot show anything on this machine; the message is the reason."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a check.

    Attributes:
        device: see `choose_device`.
        is_tiny: use the smallest sizes that are meaningful.
        folder: folder for files.
        ends: `time.monotonic` at which the process will be stopped.
    """

    device: str
    is_tiny: bool
    folder: Path
    ends: float

    @property
    def is_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def backend(self, precision: str = "auto") -> Backend:
        """Return the device in a precision; raises Skipped if it does not support it."""
        try:
            return choose_backend(self.device, precision)
        except DeviceError as error:
            raise Skipped(str(error)) from error

    def size(self, full: tuple[int, int, int], tiny: tuple[int, int, int]) -> tuple[int, int, int]:
        return tiny if self.is_tiny else full


class Rows:
    """Results of a check, appended to a JSON lines file, so that a crash loses none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failures = 0

    def add(self, part: str, verdict: str, figure: str, expected: str = "", **values: object) -> None:
        """Add a row. `values` appear in the results, but not in the table."""
        row = {"part": part, "verdict": verdict, "figure": figure, "expected": expected, "values": values}
        self.failures += verdict == "FAIL"
        print(f"{verdict:9}{part}: {figure}{f', expected {expected}' if expected else ''}", flush=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def judge(self, part: str, is_right: bool, figure: str, expected: str, **values: object) -> None:
        self.add(part, "pass" if is_right else "FAIL", figure, expected, **values)

    def compare(self, part: str, found: np.ndarray, known: np.ndarray, least: float) -> None:
        """Compare values with known ones, both clipped to [0, 1]: the PSNR must reach `least` dB."""
        is_finite = bool(np.isfinite(found).all())
        found, known = (np.nan_to_num(values).clip(0, 1).reshape(len(values), -1) for values in (found, known))
        decibels, largest = psnr(found, known, peak=1.0), float(np.abs(found - known).max())
        figure = "equal" if largest == 0 else f"{decibels:.1f} dB, largest difference {largest:.1e}"
        figure += "" if is_finite else ", with values that are not finite"
        expected = "equal" if least == float("inf") else f"at least {least:.0f} dB"
        is_right = is_finite and decibels >= least
        self.judge(part, is_right, figure, expected, psnr_db=decibels if largest else None, largest=largest)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Convert errors in this context to a row, and continue."""
        try:
            yield
        except Skipped as reason:
            self.add(name, "skipped", str(reason))
        except Exception as error:  # any error is a result of the check
            traceback.print_exc()
            lines = str(error).strip().splitlines()
            self.add(name, "FAIL", f"{type(error).__name__}: {lines[0] if lines else ''}", "no error")


def open_model(name: str) -> RISTN:
    """Return a network by name in which every part affects the output.

    With random weights, the last convolution is initialized again and scaled. Otherwise, the output would be bicubic or
    out of range.
    """
    network = open_network(name)
    model = network.model
    if network.weights != "random":
        return model
    last = model.reconstruction.last
    assert last.bias is not None
    with torch.no_grad():
        last.weight.zero_()
        last.bias.fill_(0.0 if model.config.global_skip else 0.5)
        lr = as_tensor(scene(3, 32, 24))
        plain = model(lr)
        last.weight.copy_(torch.randn(last.weight.shape, generator=torch.Generator().manual_seed(0)))
        last.weight.mul_(DETAIL / float((model(lr) - plain).std()))
    return model


def scene(frames: int, width: int, height: int) -> tuple[np.ndarray, ...]:
    """Return images (H, W, 3) uint8 to upscale."""
    return tuple(make_scene(width, height, frames))


def as_tensor(images: Iterable[np.ndarray]) -> Tensor:
    """Convert uint8 images to a window (1, T, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(tuple(images))).permute(0, 3, 1, 2)[None].float() / 255


def as_values(images: Iterable[np.ndarray]) -> np.ndarray:
    """Convert images of one integer type to (T, H, W, 3) in [0, 1]."""
    stacked = np.stack(tuple(images))
    values: np.ndarray = stacked / np.iinfo(stacked.dtype).max
    return values


@torch.inference_mode()
def compute(network: Callable[[Tensor], Tensor], lr: Tensor, backend: Backend) -> np.ndarray:
    """Return the output (T', 3, 4H, 4W) of a network for a window (1, T, 3, H, W) on a device, as float64."""
    values: np.ndarray = network(lr.to(backend.device))[0].double().cpu().numpy()
    return values


def on_processor(model: RISTN, lr: Tensor) -> np.ndarray:
    """Return the reference output, computed in float32 on the processor."""
    backend = choose_backend("cpu", "fp32")
    return compute(prepare(model, backend), lr, backend)
