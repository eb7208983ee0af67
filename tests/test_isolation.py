"""Modules and programs that lie in the working folder are never run: by no command, and in no process it starts."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from clips import make_clip

from ristn_cli import isolation
from ristn_cli.engine.compilation import keep_compiled_code
from ristn_cli.engine.device import DeviceError
from ristn_cli.isolation import absolute, isolate
from ristn_cli.own_files import empty_folder, is_own, own_folder
from ristn_cli.video import VideoError
from ristn_cli.video.muxing.program import find_ffmpeg
from ristn_cli.video.vmaf import find_vmaf

OUTSIDE = """
av imageio_ffmpeg imageio ffmpeg torch numpy PIL typer click rich safetensors huggingface_hub ray cloudpickle
psutil grpc triton sympy networkx jinja2 filelock fsspec packaging setuptools pip yaml tqdm requests certifi
matplotlib
"""
STANDARD = """
ristn_cli sitecustomize usercustomize typing json socket subprocess tempfile ctypes mmap queue threading
pickle multiprocessing concurrent asyncio logging argparse platform shutil hashlib random uuid signal
traceback runpy pkgutil collections functools contextlib dataclasses inspect enum re
"""
PROGRAMS = """
ffmpeg gcc g++ cc c++ clang clang++ uname ldconfig ray python sh as
"""

SCRIPT = "import sys\nfrom ristn_cli.__main__ import main\nsys.exit(main())\n"
"""As pip writes it for the `ristn` command."""


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A folder whose modules and programs leave a file `ran-NAME` beside it, and a clip."""
    folder = tmp_path / "received"
    folder.mkdir()
    make_clip(folder / "in.mkv", frames=4)
    return folder


def set_modules(trap: Path, names: str) -> None:
    for name in names.split():
        mark = trap.parent / f"ran-{name}"
        code = f"import sys\nopen({str(mark)!r}, 'a').write(repr(sys.orig_argv))\n"
        if name in ("ristn_cli", "torch", "multiprocessing"):
            (trap / name).mkdir()
            (trap / name / "__init__.py").write_text(code, encoding="utf-8")
        else:
            (trap / f"{name}.py").write_text(code, encoding="utf-8")


def set_programs(trap: Path) -> None:
    for name in PROGRAMS.split():
        mark = trap.parent / f"ran-{name}-program"
        for file in (trap / name, trap / f"{name}.exe", trap / f"{name}.bat"):
            file.write_text(f"#!/bin/sh\necho $$ >> {mark}\nexit 1\n", encoding="utf-8")
            file.chmod(0o755)


def run(trap: Path, command: list[object], program: str = SCRIPT, **settings: str) -> str:
    """Run a command, or another program, in the trap; what it printed, once nothing has sprung."""
    script = trap.parent / "bin" / "ristn"
    script.parent.mkdir(exist_ok=True)
    script.write_text(program, encoding="utf-8")
    begins = {"ristn": [sys.executable, str(script)], "module": [sys.executable, "-m", "ristn_cli"]}
    words = [*begins[str(command[0])], *map(str, command[1:])]
    environment = os.environ | {"PYTHONPATH": isolation.HOME, "XDG_CACHE_HOME": str(trap.parent / "cache")} | settings
    environment.pop("PYTHONSAFEPATH", None)
    done = subprocess.run(words, cwd=trap, env=environment, capture_output=True, text=True, check=False, timeout=300)
    sprung = sorted(file.name for file in trap.parent.glob("ran-*"))
    assert sprung == [], [*sprung, (trap.parent / sprung[0]).read_text(), done.stderr]
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def upscaling(weights: Path) -> list[object]:
    options = ["--device", "cpu", "--precision", "fp32", "--preset", "ultrafast", "--overwrite"]
    return ["upscale", "in.mkv", "out.mkv", "--model", weights, *options]


def test_the_command_runs_nothing_in_the_working_folder(trap: Path, tiny_weights: Path) -> None:
    set_modules(trap, f"{OUTSIDE} {STANDARD}")
    set_programs(trap)
    run(trap, ["ristn", *upscaling(tiny_weights)], PATH=f".{os.pathsep}{os.pathsep}{os.environ['PATH']}")


def test_python_m_and_an_empty_entry_of_pythonpath_run_nothing_in_the_working_folder(
    trap: Path, tiny_weights: Path
) -> None:
    """But for what Python imports before the program begins."""
    set_modules(trap, OUTSIDE)
    command = ["module", *upscaling(tiny_weights), "--device", "cpu,cpu"]
    run(trap, command, PYTHONPATH=os.pathsep.join(["", ".", "../received", isolation.HOME, ""]))


def test_a_benchmark_runs_nothing_in_the_working_folder(trap: Path, tiny_weights: Path) -> None:
    set_modules(trap, f"{OUTSIDE} {STANDARD}")
    set_programs(trap)
    quick = ["--device", "cpu", "--precision", "fp32", "--size", "32x32", "--network-only", "--seconds", "1"]
    run(trap, ["ristn", "bench", "--model", tiny_weights, *quick], PATH=f"{os.pathsep}{os.environ['PATH']}")


def test_workers_of_ray_run_nothing_in_the_working_folder(trap: Path, tiny_weights: Path) -> None:
    pytest.importorskip("ray", reason="Ray is an extra: pip install 'ristn[ray]'")
    set_modules(trap, f"{OUTSIDE} {STANDARD}")
    set_programs(trap)
    command = ["ristn", *upscaling(tiny_weights), "--ray", "--ray-workers", "1x1"]
    run(trap, command, PATH=f"{os.pathsep}{os.environ['PATH']}")


COMPILING = """
import sys
from pathlib import Path
from ristn_cli.isolation import leave_working_folder
leave_working_folder()
import torch
from ristn_cli.engine.compilation import keep_compiled_code
keep_compiled_code()
print(torch.compile(lambda x: x.sin() + x.cos())(torch.zeros(64))[0].item())
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler")
def test_compilation_runs_nothing_in_the_working_folder(trap: Path) -> None:
    set_modules(trap, f"{OUTSIDE} {STANDARD}")
    set_programs(trap)
    for header in ("omp.h", "cmath", "vector"):
        (trap / header).write_text("#error taken from the working folder\n", encoding="utf-8")
    shared = trap.parent / "shared"
    shared.mkdir()
    lists = {"CPATH": os.pathsep, "PATH": f".{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(shared)}
    # One compiler is enough, but in a process of PyTorch's own.
    quick = {"TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS": "0", "TORCHINDUCTOR_COMPILE_THREADS": "2"}
    quick["TORCHINDUCTOR_CPP_SIMDLEN"] = "0"
    said = run(trap, ["ristn"], program=COMPILING, **lists, **quick, TORCHINDUCTOR_CACHE_DIR="")
    assert said.startswith("1.0\n")
    compiled = trap.parent / "cache" / "ristn" / "compiled"
    assert list(compiled.rglob("*.so"))
    assert stat.S_IMODE(compiled.stat().st_mode) == 0o700
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in shared.glob("torchinductor*")] == [0o700]


DRAWING = """
import sys
from pathlib import Path
from ristn_cli.isolation import leave_working_folder
leave_working_folder()
from ristn_cli.training.journal import draw_curve
from ristn_cli.training.material import font_files
font_files()
import matplotlib
draw_curve([{"seconds": 1, "loss": 1.0}], Path("curve.png"), "a title")
print(matplotlib.rcParams["text.usetex"])
"""


def test_drawing_takes_no_settings_from_the_working_folder(trap: Path) -> None:
    """They can have LaTeX run on what they say."""
    pytest.importorskip("matplotlib", reason="Matplotlib is an extra: pip install 'ristn[train]'")
    (trap / "matplotlibrc").write_text("text.usetex: True\nforged\x1b[2J: 1\n", encoding="utf-8")
    assert run(trap, ["ristn"], program=DRAWING) == "False\n"
    assert (trap / "curve.png").exists()


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps the folders of users apart")
@pytest.mark.parametrize("plant", ["open", "link", "foreign"])
def test_a_planted_folder_for_compiled_code_is_refused(
    plant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = tmp_path / "planted"
    planted.mkdir()
    if plant == "open":
        planted.chmod(0o777)
    elif plant == "foreign":
        if os.geteuid() != 0:
            pytest.skip("only root can give a folder to another user")
        os.chown(planted, 12345, 12345)
    if plant == "link":
        target, planted = planted, tmp_path / "link"
        planted.symlink_to(target)
    monkeypatch.setattr("torch._inductor.runtime.runtime_utils.default_cache_dir", lambda: str(planted))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    assert not is_own(planted)
    with pytest.raises(
        DeviceError, match=r"other users can change compiled code in .*; delete this folder, or set TMPDIR"
    ):
        keep_compiled_code()


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps the folders of users apart")
def test_a_cache_that_others_can_write_to_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "platform", "linux")
    own_folder.cache_clear()
    used = own_folder("compiled")
    assert used == tmp_path / "cache" / "ristn" / "compiled"
    assert stat.S_IMODE(used.stat().st_mode) == 0o700
    assert empty_folder() == used.parent / "empty"
    (used.parent / "empty" / "av.py").touch()
    assert not any(empty_folder().iterdir())
    for spoil in (lambda: used.chmod(0o770), lambda: (used.chmod(0o700), (tmp_path / "cache").chmod(0o777))):
        spoil()
        own_folder.cache_clear()
        other = own_folder("compiled")
        assert other != used
        assert is_own(other)
    own_folder.cache_clear()


def test_search_paths_keep_only_absolute_folders(tmp_path: Path) -> None:
    folder, other = str(tmp_path), str(tmp_path / "other")
    assert absolute(os.pathsep.join(["", folder, ".", "a/b", other, ""])) == [folder, other]
    given = {
        "PATH": "",
        "LD_LIBRARY_PATH": f"{os.pathsep}{folder}",
        "CPATH": os.pathsep,
        "LANG": "C",
        "PYTHONPATH": ".",
    }
    isolated = isolate(given)
    assert isolated["PATH"] == os.defpath
    assert isolated["LD_LIBRARY_PATH"] == folder
    assert "CPATH" not in isolated
    assert (isolated["LANG"], isolated["PYTHONSAFEPATH"]) == ("C", "1")
    assert absolute(isolated.get("PYTHONPATH", "")) == ([] if isolation.is_installed() else [isolation.HOME])


def test_ffmpeg_is_the_packaged_one_or_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "ffmpeg"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    packaged = Path(find_ffmpeg())
    assert packaged.is_absolute()
    assert packaged != program
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(program))
    assert find_ffmpeg() == str(program)
    find_vmaf.cache_clear()
    with pytest.raises(VideoError, match=r"has no libvmaf; set IMAGEIO_FFMPEG_EXE"):
        find_vmaf()
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "ffmpeg")
    with pytest.raises(VideoError, match="IMAGEIO_FFMPEG_EXE is ffmpeg; expected the absolute path"):
        find_ffmpeg()
    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE")
    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", lambda: "ffmpeg")
    with pytest.raises(VideoError, match="has no ffmpeg program for this machine"):
        find_ffmpeg()
