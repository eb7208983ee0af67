"""`tools/gpu_check.py`: a check that fails or hangs is reported and stops no other, and what a processor can show."""

import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recorder import FakeRecorder
from torch import Tensor

from ristn_cli.engine.compilation import RecordedNetwork
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.model import RISTN

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tools"))
gpu_check = importlib.import_module("gpu_check")
findings = importlib.import_module("findings")
device_checks = importlib.import_module("device_checks")

CPU = Backend(torch.device("cpu"), "fp32")
WRITE = (
    "import json, os, pathlib, subprocess, sys, time\n"
    "row = {'part': 'a', 'verdict': 'pass', 'figure': '1', 'expected': '1', 'values': {}}\n"
    "rows = pathlib.Path(sys.argv[1])\n"
    "rows.write_text(json.dumps(row) + '\\n')\n"
)
SCRIPTS = {
    "crash": WRITE + "print('last words', flush=True); os.abort()",
    "hang": WRITE + "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
    "print(child.pid, flush=True); time.sleep(600)",
    "cut": WRITE + "rows.open('a').write('{\"part\": '); sys.exit(1)",
    "silent": "",
    "good": WRITE,
    "alone": WRITE,
}


def checks() -> list[Any]:
    """A check of each kind, with no more time than the hanging one needs to show that it hangs."""
    return [
        gpu_check.Check(name=name, seconds=4 if name == "hang" else 200, is_alone=name == "alone") for name in SCRIPTS
    ]


def command_of(check: Any, rows: Path, seconds: float) -> Sequence[str]:
    return [sys.executable, "-c", SCRIPTS[check.name], str(rows)]


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(os.name != "posix", reason="processes of a process end with it on POSIX systems")
@pytest.mark.parametrize("jobs", [1, 3])
def test_failed_and_hanging_checks_are_reported_and_the_others_run(tmp_path: Path, jobs: int) -> None:
    told: list[str] = []
    began = time.monotonic()
    results = gpu_check.Run(tmp_path, command_of, 600, told.append).run(checks(), jobs)
    assert time.monotonic() - began < 300
    assert [(result.name, result.verdict) for result in results] == [
        ("crash", "FAIL"),
        ("hang", "FAIL"),
        ("cut", "FAIL"),
        ("silent", "FAIL"),
        ("good", "pass"),
        ("alone", "pass"),
    ]
    crash, hang, cut, silent, good, _ = results
    assert [row["figure"] for row in crash.rows] == ["1", "exit code -6: last words"]
    assert [row["figure"] for row in hang.rows] == ["1", "stopped after 4 s"]
    assert [row["figure"] for row in cut.rows] == ["1", "exit code 1: no message"]
    assert [row["figure"] for row in silent.rows] == ["no result"]
    assert [row["figure"] for row in good.rows] == ["1"]
    assert not is_running(int(hang.log.split()[0]))
    assert len(told) == len(results)
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert written["checks"] == [vars(result) for result in results]
    table = (tmp_path / "table.txt").read_text(encoding="utf-8").splitlines()
    assert table[0].split() == ["check", "verdict", "figure", "expected"]
    assert len(table) == 1 + 2 + 2 + 2 + 1 + 1 + 1
    assert {path.stem for path in (tmp_path / "logs").iterdir()} == set(SCRIPTS)


def test_where_no_time_is_left_the_rest_is_skipped(tmp_path: Path) -> None:
    results = gpu_check.Run(tmp_path, command_of, 1).run(checks(), 1)
    assert {(result.verdict, result.rows[0]["figure"]) for result in results if result.name != "hang"} == {
        ("skipped", "no time left")
    }


def test_a_checkout_that_is_not_installed_has_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(gpu_check, "version", fail)
    environment = gpu_check.make_environment(tmp_path)
    code = "import importlib.metadata, ristn_cli; print(importlib.metadata.version('ristn'), ristn_cli.__file__)"
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0.1.0", str(ROOT / "ristn_cli" / "__init__.py")]


def test_every_check_that_a_processor_can_show_passes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The whole command with the smallest sizes."""
    assert (
        gpu_check.main(["--output", str(tmp_path), "--device", "cpu", "--tiny", "--jobs", "2", "--seconds", "1200"])
        == 0
    )
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    verdicts = {check["name"]: check["verdict"] for check in written["checks"]}
    assert verdicts == {
        "machine": "measured",
        "precision": "pass",
        "graphs": "skipped",
        "memory": "skipped",
        "transfer": "pass",
        "tiles": "pass",
        "example": "pass",
        "profile": "pass",
        "processes": "pass",
        "bench": "measured",
    }
    assert (tmp_path / "table.txt").read_text(encoding="utf-8") in capsys.readouterr().out
    report = json.loads((tmp_path / "bench.json").read_text(encoding="utf-8"))
    assert report["schema"] == "ristn-bench/2"
    assert [case["width"] for case in report["cases"]] == [48]


@pytest.mark.skipif(torch.cuda.is_available(), reason="the device is there")
def test_a_device_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    assert gpu_check.main(["--output", str(tmp_path), "--only", "graphs"]) == 1
    (check,) = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["checks"]
    assert [row["figure"] for row in check["rows"]] == [
        "DeviceError: device 'cuda' is not available; PyTorch finds 0 CUDA devices"
    ]


def test_the_example_is_skipped_without_pyav(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(findings.Skipped, match=r"cannot import: av$"):
        device_checks.check_example(settings(tmp_path), findings.Rows(tmp_path / "rows"))


def test_every_check_is_documented() -> None:
    text = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8").partition("\n## Checking a GPU\n")[2]
    names = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert names == [check.name for check in gpu_check.CHECKS] == list(device_checks.CHECKS)


def settings(folder: Path) -> Any:
    return findings.Settings(device="cpu", is_tiny=True, folder=folder, ends=time.monotonic() + 60)


def read(rows: Any) -> dict[str, str]:
    """Verdicts by part."""
    return {row["part"]: row["verdict"] for row in gpu_check.read_rows(rows.path)}


def test_networks_with_random_weights_add_detail() -> None:
    model = findings.open_model("ristn")
    lr = findings.as_tensor(findings.scene(3, 24, 16))
    made = findings.on_processor(model, lr)
    assert made.shape == (3, 3, 64, 96)
    bicubic = findings.on_processor(findings.open_network("ristn").model, lr)
    assert 0.05 < (made - bicubic).std() < 0.2


@pytest.mark.parametrize(
    ("found", "verdict", "figure"),
    [
        (0.5, "pass", "equal"),
        (0.501, "pass", "60.0 dB, largest difference 1.0e-03"),
        (0.51, "FAIL", "40.0 dB, largest difference 1.0e-02"),
        (np.nan, "FAIL", "6.0 dB, largest difference 5.0e-01, with values that are not finite"),
    ],
)
def test_results_are_compared(tmp_path: Path, found: float, verdict: str, figure: str) -> None:
    rows = findings.Rows(tmp_path / "rows")
    known = np.full((2, 3, 4, 3), 0.5)
    rows.compare("part", np.full_like(known, found), known, 50)
    (row,) = gpu_check.read_rows(rows.path)
    assert (row["verdict"], row["figure"], row["expected"]) == (verdict, figure, "at least 50 dB")
    assert rows.failures == (verdict == "FAIL")


@pytest.fixture
def as_cuda(monkeypatch: pytest.MonkeyPatch, random_model: RISTN) -> None:
    """Stand-ins that let the checks of a GPU run on a processor, with a tiny network."""

    class Recording(Upscaler):
        def __init__(self, model: RISTN, backend: Backend, tiling: Tiling | None = None, **options: Any) -> None:
            is_recorded = options.pop("compilation") == "on"
            super().__init__(model, backend, tiling, compilation="off", **options)
            if is_recorded:
                self.recorded = RecordedNetwork(self.model, FakeRecorder())

    monkeypatch.setattr(findings.Settings, "is_cuda", True)
    monkeypatch.setattr(findings.Settings, "size", lambda self, full, tiny: (5, 64, 48))
    monkeypatch.setattr(findings.Settings, "backend", lambda self, precision="auto": CPU)
    monkeypatch.setattr(device_checks, "open_model", lambda name: random_model)
    monkeypatch.setattr(device_checks, "Upscaler", Recording)
    monkeypatch.setattr(device_checks, "CudaRecorder", lambda device: FakeRecorder())


@pytest.mark.usefixtures("as_cuda")
def test_recorded_networks_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = findings.Rows(tmp_path / "rows")
    device_checks.check_graphs(settings(tmp_path), rows)
    assert len(read(rows)) == 12
    assert set(read(rows).values()) == {"pass"}

    class Wrong(FakeRecorder):
        def record(self, function: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[Tensor], Tensor]:
            known = super().record(function, given)
            return lambda values: known(given)  # what was recorded with, whatever comes

    monkeypatch.setattr(device_checks, "CudaRecorder", lambda device: Wrong())
    rows = findings.Rows(tmp_path / "wrong")
    device_checks.check_graphs(settings(tmp_path), rows)
    wrong = [part for part, verdict in read(rows).items() if verdict == "FAIL"]
    assert wrong == ["ristn-lite fp16, recorded", "ristn fp16, recorded", "ristn-lite fp32, recorded"]


@pytest.mark.usefixtures("as_cuda")
@pytest.mark.parametrize("is_released", [True, False])
def test_short_memory_is_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_released: bool) -> None:
    """On stand-ins: limited to half of what whole frames take, tiles shrink; what stays after a failure is told."""
    fraction = [1.0]
    attempt = Upscaler._launch_window

    def limited(self: Upscaler, window: Any) -> Any:
        if fraction[0] < 1 and self.tiling.tile > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return attempt(self, window)

    monkeypatch.setattr(Upscaler, "_launch_window", limited)
    for name, value in {
        "current_device": lambda: 0,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda device: None,
        "memory_allocated": lambda device: 100 << 20 if is_released or fraction[0] == 1 else 400 << 20,
        "max_memory_allocated": lambda device: 700 << 20,
        "memory_reserved": lambda device: 100 << 20,
        "mem_get_info": lambda device: (900 << 20, 1000 << 20),
        "set_per_process_memory_fraction": lambda share, device: fraction.append(fraction.clear() or share),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    rows = findings.Rows(tmp_path / "rows")
    device_checks.check_memory(settings(tmp_path), rows)
    verdicts = read(rows)
    assert len(verdicts) == 2 * 2 * 3
    failed = {part.rpartition(", ")[2] for part, verdict in verdicts.items() if verdict == "FAIL"}
    assert failed == (set() if is_released else {"memory after a failure"})
    assert fraction == [1.0]
    told = gpu_check.read_rows(rows.path)
    assert told[0]["figure"].startswith("36 after 2 failures with 400 MiB")
