"""Check ristn on a GPU with one command: `python tools/gpu_check.py --output DIR`.

Each check runs in its own process with a time limit, so that a crash or a hang does not stop the others. The folder
then contains results.json, table.txt, bench.json and a log of each check. ristn need not be installed.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
COLUMNS = ("check", "verdict", "figure", "expected")
LAST_LINES = 20
SHORTEST = 5.0
"""Seconds that must remain for a check to start."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check.

    Attributes:
        name: name of the check and its log.
        seconds: time limit.
        is_alone: whether it measures time, so that no other check may run at the same time.
    """

    name: str
    seconds: float
    is_alone: bool = False


CHECKS = (
    Check(name="machine", seconds=60),
    Check(name="precision", seconds=90),
    Check(name="graphs", seconds=120),
    Check(name="memory", seconds=120),
    Check(name="transfer", seconds=90),
    Check(name="tiles", seconds=90),
    Check(name="example", seconds=90),
    Check(name="profile", seconds=60, is_alone=True),
    Check(name="processes", seconds=80, is_alone=True),
    Check(name="bench", seconds=200, is_alone=True),
)
"""In order of execution. Checks that run alone are last, and the one that uses all remaining time is the very last."""

CommandOf = Callable[[Check, Path, float], Sequence[str]]
"""Returns the command of a check, which writes rows as JSON lines to a file and is stopped after some seconds."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Result of a check.

    Attributes:
        name: name of the check.
        verdict: `pass`, `FAIL`, `skipped` or `measured`: the worst of its rows.
        seconds: duration.
        rows: results with `part`, `verdict`, `figure`, `expected` and `values`.
        log: its output.
    """

    name: str
    verdict: str
    seconds: float
    rows: list[dict[str, Any]]
    log: str


class Run:
    """All checks of one call, within a time limit.

    Args:
        folder: folder of the results; it is created.
        command_of: returns the command of a check.
        seconds: time limit for all checks together.
        tell: receives one line after each check.
    """

    def __init__(
        self, folder: Path, command_of: CommandOf, seconds: float, tell: Callable[[str], None] = lambda line: None
    ) -> None:
        self.folder, self.command_of, self.tell = folder, command_of, tell
        self.began = time.monotonic()
        self.ends = self.began + seconds
        self.results: dict[str, Result] = {}
        self.processes: set[subprocess.Popen[bytes]] = set()
        (folder / "logs").mkdir(parents=True, exist_ok=True)

    def run(self, checks: Sequence[Check], jobs: int) -> list[Result]:
        """Run checks, `jobs` at a time, then those that must run alone; return results in the order of `checks`."""
        order = [check.name for check in checks]
        with tempfile.TemporaryDirectory(prefix="ristn-check-") as name, ThreadPoolExecutor(jobs) as pool:
            self.rows_folder = Path(name)
            environment = make_environment(self.rows_folder)
            try:
                begun = [pool.submit(self.run_one, check, environment) for check in checks if not check.is_alone]
                for done in as_completed(begun):
                    self.keep(done.result(), order)
                for check in checks:
                    if check.is_alone:
                        self.keep(self.run_one(check, environment), order)
            finally:  # the child has its own process group, which Ctrl-C does not reach
                pool.shutdown(wait=False, cancel_futures=True)
                for process in list(self.processes):
                    kill(process)
        return list(self.results.values())

    def keep(self, result: Result, order: Sequence[str]) -> None:
        """Add a result to the files, so that they are complete whenever this process ends."""
        results = [*self.results.values(), result]
        self.results = {each.name: each for each in sorted(results, key=lambda each: order.index(each.name))}
        told = {
            "seconds": round(time.monotonic() - self.began, 1),
            "checks": [vars(each) for each in self.results.values()],
        }
        (self.folder / "results.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        (self.folder / "table.txt").write_text(make_table(self.results.values()), encoding="utf-8")
        self.tell(f"{result.verdict:9}{result.name}, {result.seconds:.0f} s")

    def run_one(self, check: Check, environment: dict[str, str]) -> Result:
        """Run a check and convert any failure to a row."""
        began = time.monotonic()
        limit = min(check.seconds, self.ends - began)
        if limit < SHORTEST and limit < check.seconds:
            return Result(name=check.name, verdict="skipped", seconds=0, log="", rows=[skipped("no time left")])
        told, log = self.rows_folder / f"{check.name}.jsonl", self.folder / "logs" / f"{check.name}.log"
        with log.open("wb") as output:
            code = self.run_limited(self.command_of(check, told, limit), output, limit, environment)
        rows = read_rows(told)
        text = log.read_text(encoding="utf-8", errors="replace")
        if code is None:
            rows.append(failed(f"stopped after {limit:.0f} s", "an end before that"))
        elif code != 0 and not any(row["verdict"] == "FAIL" for row in rows):
            said = text.strip().splitlines()[-1:] or ["no message"]
            rows.append(failed(f"exit code {code}: {said[0]}", "exit code 0"))
        elif not rows:
            rows.append(failed("no result", "at least one"))
        verdict = next(v for v in ("FAIL", "pass", "measured", "skipped") if any(row["verdict"] == v for row in rows))
        return Result(name=check.name, verdict=verdict, seconds=time.monotonic() - began, rows=rows, log=text)

    def run_limited(
        self, command: Sequence[str], output: IO[bytes], seconds: float, environment: dict[str, str]
    ) -> int | None:
        """Return the exit code of a command; None if it was stopped after `seconds`."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=ROOT,
            start_new_session=os.name == "posix",  # so that its children can be killed with it
        )
        self.processes.add(process)
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                kill(process)
            self.processes.discard(process)


def failed(figure: str, expected: str) -> dict[str, Any]:
    return {"part": "", "verdict": "FAIL", "figure": figure, "expected": expected, "values": {}}


def skipped(reason: str) -> dict[str, Any]:
    return {"part": "", "verdict": "skipped", "figure": reason, "expected": "", "values": {}}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read the rows of a check; the last line may be incomplete."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def kill(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and its children. A process that hangs in a driver may survive."""
    if os.name == "posix":
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    with suppress(subprocess.TimeoutExpired):
        process.wait(SHORTEST)


def make_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a check, in which ristn is this checkout, even if another one is installed."""
    paths = [str(ROOT)]
    try:
        version("ristn")
    except PackageNotFoundError:  # the package reads its own version
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        metadata = folder / "site" / "ristn.dist-info" / "METADATA"
        metadata.parent.mkdir(parents=True)
        metadata.write_text(f"Metadata-Version: 2.1\nName: ristn\nVersion: {project['version']}\n", encoding="utf-8")
        paths.append(str(folder / "site"))
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def make_table(results: Iterable[Result]) -> str:
    rows = [COLUMNS]
    for result in results:
        for row in result.rows:
            part = f": {row['part']}" if row["part"] and row["part"] != result.name else ""
            rows.append((f"{result.name}{part}", row["verdict"], row["figure"], row["expected"]))
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS) - 1)]
    lines = (
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in rows
    )
    return "\n".join(line.rstrip() for line in lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the checks and print the table; the exit code is 1 if one failed."""
    parser = argparse.ArgumentParser(description="Check ristn on a GPU, in less than five minutes.")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for results, table and logs")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu; default: cuda")
    parser.add_argument("--tiny", action="store_true", help="take the smallest sizes that show anything")
    parser.add_argument(
        "--only",
        action="append",
        choices=[check.name for check in CHECKS],
        help="make only this check; may be repeated",
    )
    parser.add_argument("--seconds", type=float, default=285.0, help="for all checks together; default: 285")
    parser.add_argument("--jobs", type=int, help="checks at the same time; default: 4 on a GPU, else 1")
    asked = parser.parse_args(arguments)
    folder = asked.output.resolve()
    jobs = asked.jobs or (1 if asked.device == "cpu" else 4)

    def command_of(check: Check, rows: Path, seconds: float) -> list[str]:
        command = [sys.executable, str(ROOT / "tools" / "device_checks.py"), "--check", check.name]
        command += [
            "--device",
            asked.device,
            "--folder",
            str(folder),
            "--rows",
            str(rows),
            "--seconds",
            f"{seconds:.1f}",
        ]
        return command + (["--tiny"] if asked.tiny else [])

    run = Run(folder, command_of, asked.seconds, lambda line: print(line, flush=True))
    checks = [check for check in CHECKS if not asked.only or check.name in asked.only]
    if asked.device == "cpu":  # may be slow, but does not hang
        checks = [replace(check, seconds=asked.seconds) for check in checks]
    results = run.run(checks, jobs)
    failures = [result for result in results if result.verdict == "FAIL"]
    for result in failures:
        print(f"\n{result.name}, end of its log:")
        print("\n".join(result.log.strip().splitlines()[-LAST_LINES:]))
    print(f"\n{make_table(results)}\n{len(results)} checks, {len(failures)} failed; {folder}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
