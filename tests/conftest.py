"""Fixtures that several test files share: a tiny network, its weights file, and a browser."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from browser import Browser, find_chromium, running_browser

from ristn_cli.model import RISTN, RISTNConfig
from ristn_cli.weights import save_weights

TINY = RISTNConfig(
    branch_one=(1,),
    branch_two=(1,),
    bottleneck_divisor=2,
    norm="none",
    lstm_layers=2,
    growth=4,
    refine_bottlenecks=1,
    upsampling_channels=(8, 8),
    deconvolution_kernel=2,
    global_skip=True,
)


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors this small gain nothing from a second thread, and on a busy machine wait for it: 12 s become 50."""
    torch.set_num_threads(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # for the processes that a test starts


@pytest.fixture
def tiny_model() -> RISTN:
    """A network that begins, by its global skip, as exactly bicubic."""
    torch.manual_seed(0)
    return RISTN(TINY).eval()


@pytest.fixture
def random_model(tiny_model: RISTN) -> RISTN:
    """The same with weights that make every part matter."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in tiny_model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.5 / parameter[0].numel() ** 0.5))
    return tiny_model


@pytest.fixture
def tiny_weights(tiny_model: RISTN, tmp_path: Path) -> Path:
    """Weights file of the network that is exactly bicubic."""
    path = tmp_path / "tiny.safetensors"
    save_weights(tiny_model, path, metrics={})
    return path


@pytest.fixture
def notices() -> Iterator[list[str]]:
    """What jobs and the engine log."""
    said: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            said.append(record.getMessage())

    handler = Keep()
    loggers = [logging.getLogger(f"ristn.{name}") for name in ("job", "engine")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    yield said
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """A headless browser; for tests that are skipped without one."""
    found = find_chromium()
    assert found is not None
    with running_browser(found) as browser:
        yield browser
