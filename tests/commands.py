"""The program as tests run it: in this process, and in one of its own."""

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType

from typer.testing import CliRunner

from ristn_cli.cli import app

COMMAND = [sys.executable, "-m", "ristn_cli"]
QUICK = ["--preset", "ultrafast", "--precision", "fp32"]

SHORT_PARTS = ["--segment-frames", "6"]
"""Parts of a window or two, so that a small clip has several."""


def ristn(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=120)


def in_process(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of the program run in this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    for number, handler in before.items():
        signal.signal(number, handler)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def load_tool(name: str) -> ModuleType:
    """A program of `tools/` as a module; it is no package, and not installed."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    return module
