"""`ristn doctor`: what it shows, which problems it finds, and what it does when nothing works."""

import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from commands import in_process
from packaging.requirements import Requirement

from ristn_cli.bench import diagnosis, installation
from ristn_cli.bench.installation import Problem, check_installation, check_package, without_folders
from ristn_cli.cli.doctor import describe_problems
from ristn_cli.engine.device import Backend
from ristn_cli.video import CODECS, find_decoders, program_version, try_encoder
from ristn_cli.weights import RELEASES

CPU = Backend(torch.device("cpu"), "fp32")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short speed test, on a machine that is idle and large."""
    monkeypatch.setattr(diagnosis, "measure_rate", lambda upscaler, seconds: 2.0)
    monkeypatch.setattr(diagnosis, "is_busy", lambda cores: False)
    monkeypatch.setattr(diagnosis, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(diagnosis.os, "sched_getaffinity", lambda process: {0}, raising=False)
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**11))
    monkeypatch.setattr(diagnosis, "free_bytes", lambda device: 10**10)


def texts(problems: list[Problem]) -> str:
    return "\n".join(describe_problems(problems))


@pytest.mark.usefixtures("quick")
def test_a_healthy_machine() -> None:
    code, stdout, _ = in_process("doctor", "--device", "cpu", "--precision", "fp32")
    assert code == 0
    for title in ("Versions", "Device", "Codecs", "Weights", "Memory and disk", "Speed"):
        assert title in stdout.splitlines()
    for fact in (torch.__version__, "libavcodec", "h264", "bundled", "10.00 GB", "100.00 GB free", "cpu in fp32"):
        assert fact in stdout
    assert "2 frames of 480x270 a second" in stdout
    assert "about 9 hours" in stdout
    assert stdout.splitlines()[-1] == "No problems found."
    assert "\x1b" not in stdout


def test_every_requirement_is_listed_with_its_version() -> None:
    section = check_installation()
    facts = dict(section.facts)
    assert facts["torch"] == torch.__version__
    assert {"av", "numpy", "typer", "ffmpeg-python", "huggingface-hub"} <= facts.keys()
    assert not any(problem.is_fatal for problem in section.problems)


def test_packages_that_are_missing_old_or_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    found, problem = check_package(Requirement("no-such-package-qzxj>=2"))
    assert found == "not installed"
    assert problem == Problem(
        "The package no-such-package-qzxj is not installed.", 'run pip install "no-such-package-qzxj>=2"', is_fatal=True
    )
    found, problem = check_package(Requirement("numpy<1"))
    assert problem is not None
    assert "is not supported; ristn needs numpy<1." in problem.text
    assert not problem.is_fatal

    def fail(name: str) -> None:
        raise ImportError("/home/somebody/lib/libtorch.so: cannot open shared object file\nmore")

    monkeypatch.setattr(installation.importlib, "import_module", fail)
    found, problem = check_package(Requirement("torch"))
    assert problem is not None
    assert problem.text == f"torch {found} cannot be imported: libtorch.so: cannot open shared object file."
    assert problem.is_fatal


def test_a_broken_package_ends_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = check_package(Requirement("no-such-package-qzxj"))
    monkeypatch.setattr(installation, "check_package", lambda requirement: broken)
    code, stdout, _ = in_process("doctor")
    assert code == 1
    assert "Device" not in stdout.splitlines()
    assert "Cure: run pip install" in stdout.splitlines()[-1]


@pytest.mark.usefixtures("quick")
def test_problems_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(diagnosis.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(diagnosis.torch.version, "cuda", None)
    monkeypatch.setattr(diagnosis, "is_busy", lambda cores: True)
    monkeypatch.setattr(diagnosis.os, "sched_getaffinity", lambda process: {0, 1}, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    found = texts(diagnosis.check_device(CPU).problems)
    assert "PyTorch uses 1 of 2 cores. Cure: unset OMP_NUM_THREADS." in found
    assert "this PyTorch is built for the CPU alone. Cure: install a PyTorch with CUDA" in found
    assert "Other programs keep the processor busy" in found
    monkeypatch.setattr(diagnosis.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10**9))
    monkeypatch.setattr(diagnosis, "free_bytes", lambda device: 10**8)
    found = texts(diagnosis.check_room(CPU).problems)
    assert "Only 100.0 MB of memory are free" in found
    assert "Only 1.00 GB of disk are free in the current folder. Cure: make room, or write the output" in found
    assert "in the temporary folder. Cure: make room, or set TMPDIR" in found


def test_problems_of_codecs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "try_encoder", lambda codec: codec.name == "h264")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/no/such/ffmpeg")
    problems = diagnosis.check_codecs().problems
    assert "does not encode hevc, av1, prores, ffv1. Cure: run pip install --force-reinstall" in texts(problems)
    assert "No ffmpeg program can be used" in texts(problems)
    assert "/no/such" not in texts(problems)
    assert [problem.is_fatal for problem in problems] == [True, False]


def test_problems_of_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(diagnosis, "locate", lambda release: None)
    monkeypatch.setattr(diagnosis, "bundled_folder", lambda: tmp_path)
    monkeypatch.setattr(diagnosis, "is_offline", lambda: True)
    found = texts(diagnosis.check_weights().problems)
    assert "No released weights are on this machine. Cure: run ristn download-weights ristn-lite." in found
    assert "HF_HUB_OFFLINE is set" in found
    (tmp_path / "ristn-lite.safetensors").write_bytes(b"damaged")
    (problem, _) = diagnosis.check_weights().problems
    assert problem == Problem("The bundled weights ristn-lite are damaged.", "install ristn again", is_fatal=True)


def test_new_weights_are_listed_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RELEASES, "ristn-new", replace(RELEASES["ristn-lite"], name="ristn-new", sha256="0" * 64))
    facts = dict(diagnosis.check_weights().facts)
    assert facts["ristn-lite"] == "bundled"
    assert facts["ristn-new"] == "not here; ristn download-weights ristn-new fetches them"


def test_the_speed_is_measured(random_model: object, monkeypatch: pytest.MonkeyPatch) -> None:
    from ristn_cli.engine.upscaler import Upscaler

    times = iter([0.0, 1.0, 2.5, 2.5])
    monkeypatch.setattr(diagnosis.time, "perf_counter", lambda: next(times))
    upscaler = Upscaler(random_model, CPU)  # type: ignore[arg-type]
    windows: list[int] = []
    monkeypatch.setattr(upscaler, "upscale_window", lambda window: windows.append(len(window.frames)) or [])
    rate = diagnosis.measure_rate(upscaler, 2.0)
    tiling = upscaler.tiling
    assert windows == [2, tiling.window, tiling.window]
    kept = tiling.window - 2 * tiling.context
    # 1.25 s for a window of 96x96 of the pixels that are computed of 480x270
    computed = diagnosis.HEIGHT * diagnosis.WIDTH
    assert rate == pytest.approx(kept / (1.25 * computed / 96**2), rel=0.15)


def test_a_network_that_does_not_run_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(upscaler: object, seconds: float) -> float:
        raise RuntimeError("CUDA error: no kernel image in /opt/somewhere/kernel.so")

    monkeypatch.setattr(diagnosis, "measure_rate", fail)
    (problem,) = diagnosis.check_speed(CPU).problems
    assert problem.is_fatal
    assert problem.text == "The network does not run on cpu: RuntimeError: CUDA error: no kernel image in kernel.so."


def test_encoders_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [name for name in ("h264", "prores", "ffv1") if try_encoder(CODECS[name])] == ["h264", "prores", "ffv1"]
    assert not try_encoder(replace(CODECS["h264"], encoder="no_such_encoder"))
    found, missing = find_decoders()
    assert "h264" in found
    assert "h264" not in missing


def test_the_ffmpeg_program_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert program_version().endswith("(imageio-ffmpeg)")
    monkeypatch.setattr(
        subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=b"ffmpeg version 7.1-static Copyright (c)")
    )
    assert program_version() == "7.1-static (imageio-ffmpeg)"


def test_errors_lose_their_folders() -> None:
    assert without_folders("cannot open '/home/me/a.so': no\nmore") == "cannot open 'a.so': no"
    assert without_folders(r"C:\Users\me\x.dll missing.") == "x.dll missing"


def test_instruction_sets_are_those_of_the_processor() -> None:
    found = diagnosis.instruction_sets()
    assert set(found) <= set(diagnosis.FLAGS)
