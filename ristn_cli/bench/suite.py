"""Benchmarks several networks, sizes and precisions one after another, each in its own process."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from ristn_cli.bench.machine import describe_machine
from ristn_cli.bench.measure import Request
from ristn_cli.bench.results import BenchError, Case, Report
from ristn_cli.engine.device import choose_device
from ristn_cli.isolation import isolate
from ristn_cli.typed import build, read_json

LAST_LINES = 3


def measure_apart(request: Request) -> Case:
    """Measure a case in a new process.

    Raises:
        BenchError: the measurement failed, or its process was killed.
    """
    with tempfile.TemporaryDirectory(prefix="ristn-bench-") as name:
        request_file, result_file = Path(name, "request.json"), Path(name, "result.json")
        request_file.write_text(json.dumps(asdict(request)), encoding="utf-8")
        command = [sys.executable, "-P", "-m", "ristn_cli.bench.child", str(request_file), str(result_file)]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, env=isolate(os.environ)
        )
        if not result_file.is_file():
            said = " | ".join(done.stderr.strip().splitlines()[-LAST_LINES:])
            killed = "; probably out of memory: use smaller frames, --tile or --window" if done.returncode < 0 else ""
            raise BenchError(
                f"measuring {request.network} ended with exit code {done.returncode}{killed}: {said or 'no message'}"
            )
        result = read_json(result_file)
    if "error" in result:
        raise BenchError(f"{request.network}: {result['error']}")
    case: Case = build(Case, result)
    return case


def make_report(cases: Sequence[Case], device: str) -> Report:
    return Report(
        version=version("ristn"),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=describe_machine(choose_device(device)),
        cases=list(cases),
    )


def run_cases(requests: Sequence[Request], report: Callable[[str], None]) -> list[Case]:
    """Measure each case. `report` receives a message before each one."""
    cases = []
    for request in requests:
        size = request.source or f"{request.width}x{request.height}"
        report(f"measuring {request.network}, {size}, {request.precision}")
        cases.append(measure_apart(request))
    return cases
