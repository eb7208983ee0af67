"""Damage small videos and images of many formats, read each as `ristn upscale` does, and count the failures.

    python tools/fuzz.py --count 2000 --seed 1 [--keep FOLDER]
    python tools/fuzz.py --seed 1 --case 123 --keep FOLDER

A child process reads the files, so that a crash or an endless loop in FFmpeg's libraries ends only one case. A case
passes if its file is read, or refused in one line that names it. Case N of a seed does not depend on the number of
cases. Linux only: the child is forked, and its memory is read from /proc.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy, because threads do not survive a fork
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from fuzz_inputs import FORMATS, TURNS, make_input, mutate  # noqa: E402

READ, REFUSED = "read", "refused"
UNCLEAR, TRACEBACK, HANG, GROWTH, CRASH = "unclear", "traceback", "hang", "growth", "crash"
PASSES = frozenset({READ, REFUSED})
VERDICTS = (READ, REFUSED, UNCLEAR, TRACEBACK, HANG, GROWTH, CRASH)
MOST_FRAMES = 10
MOST_ATTEMPTS = 200
"""Largest number of smaller copies to try while minimising an input."""

MINIMISING_SECONDS = 60
BUSY_FACTOR = 6
"""Ratio of the limits of wall time and processor time, because other programs may be running."""

OUTPUT = "out.mkv"
TEMPORARY_NAMES = ("ristn-try-", "ristn-mux-", "ristn-pipe-")
"""Folder names to remove from messages."""

MUX_EVERY = 3
"""Every n-th case includes the trial mux, which starts the ffmpeg program several times."""

SPARE_BYTES = 3 * 2**30
"""Limit of address space beyond that of the idle child, to protect the machine."""


@dataclass(frozen=True)
class Result:
    """Result of an input. `place` is the innermost line of ristn, `text` the error or traceback."""

    verdict: str
    place: str = ""
    text: str = ""


def read_file(path: Path, tries_mux: bool) -> None:
    """Process an input as `ristn upscale` and `ristn info` do, without upscaling it.

    `tries_mux` adds the trial mux.

    Raises:
        Exception: any error of these commands.
    """
    from ristn_cli.cli.info import describe_source, write_json
    from ristn_cli.job.checks import check_job, examine
    from ristn_cli.job.forecast import source_bytes
    from ristn_cli.job.options import RunOptions, UpscaleOptions, carries_alpha, estimate_frames
    from ristn_cli.video import ReadOptions, has_variable_rate, probe, read_frames
    from ristn_cli.weights import choose_model

    options = UpscaleOptions(codec="ffv1")  # supports an alpha channel
    info = probe(path)
    choose_model(info, source_bytes(info))
    info = examine(info, options)
    with redirect_stdout(io.StringIO()):
        list(describe_source(info, has_variable_rate(info)))
        write_json(asdict(info))
    estimate_frames(info, options)
    for start, count in ((None, MOST_FRAMES), ((info.duration or Fraction(0)) / 2, 2)):
        wanted = ReadOptions(start=start, max_frames=count, carry_alpha=carries_alpha(info, options))
        for _ in read_frames(info, wanted):
            pass
    if tries_mux:
        check_job(info, path.with_name(OUTPUT), options, RunOptions(overwrite=True))


def read_stdin(path: Path) -> None:
    """Process a file through standard input.

    Raises:
        Exception: any error of `ristn upscale -`.
    """
    from ristn_cli.job.checks import check_job
    from ristn_cli.job.options import RunOptions, UpscaleOptions
    from ristn_cli.job.reading import read_source
    from ristn_cli.video import InputStream, VideoError

    options = UpscaleOptions(codec="ffv1", with_audio=False, with_subtitles=False)
    with path.open("rb") as file:
        stream = InputStream(file)
        try:
            job = check_job(stream, path.with_name(OUTPUT), options, RunOptions(overwrite=True))
            for _ in read_source(job, max_frames=MOST_FRAMES):
                pass
        except VideoError:
            stream.check()
            raise
        stream.check()


def read_input(path: Path, tries_mux: bool) -> Result:
    """Read an input by name and through standard input; return the first failure, if any."""
    result = judge(partial(read_file, tries_mux=tries_mux), path, (path.name, OUTPUT))
    if result.verdict not in PASSES or path.is_dir():
        return result
    piped = judge(read_stdin, path, ("standard input",))
    return result if piped.verdict in PASSES else piped


def judge(read: Callable[[Path], None], path: Path, names: Sequence[str]) -> Result:
    """Run `read` and return the verdict, unless the process ends or hangs. A refusal must contain one of `names`."""
    from ristn_cli.video import VideoError

    try:
        read(path)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = next((frame for frame in reversed(frames) if "ristn_cli" in frame.filename), frames[-1])
        place = f"{Path(ours.filename).name}:{ours.name}"
        text = "".join(traceback.format_exception(error))
        if isinstance(error, MemoryError):
            return Result(GROWTH, place, text)
        if not isinstance(error, VideoError):
            return Result(TRACEBACK, f"{place}:{type(error).__name__}", text)
        message = str(error)
        names_one = any(name in message for name in names)
        is_clear = names_one and message.isprintable() and not any(name in message for name in TEMPORARY_NAMES)
        return Result(REFUSED if is_clear else UNCLEAR, place, message if is_clear else text)
    return Result(READ)


def read_memory(name: str) -> int:
    """Return the bytes of a line of this process's status, such as VmRSS."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def read_processor_time(process: int) -> float:
    """Return the processor time of a process in seconds."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(connection: Connection, log: Path, most_growth: int) -> None:
    """Run as the child: read one input after another and send the results. FFmpeg's messages go to `log`."""
    with log.open("wb") as file:
        os.dup2(file.fileno(), 2)
    faulthandler.enable()  # prints the Python stack after a crash
    faulthandler.register(signal.SIGUSR1)
    warnings.simplefilter("error")
    limit = read_memory("VmSize") + SPARE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        path, tries_mux = connection.recv()
        os.ftruncate(2, 0)
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
        before = read_memory("VmRSS")
        result = read_input(path, tries_mux)
        grown = read_memory("VmHWM") - before
        if grown > most_growth and result.verdict in PASSES:
            result = Result(GROWTH, result.place, f"{grown / 2**20:.0f} MiB, {result.verdict}: {result.text}")
        connection.send(result)


class Child:
    """A process that reads inputs; it is replaced after a crash or hang.

    Args:
        log: file for its messages.
        seconds: processor time after which an input counts as a hang.
        most_growth: bytes of memory that an input may use.
    """

    def __init__(self, log: Path, seconds: float, most_growth: int) -> None:
        self._log, self._seconds, self._most_growth = log, seconds, most_growth
        self._context = multiprocessing.get_context("fork")
        self._process: multiprocessing.process.BaseProcess | None = None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None

    def try_input(self, path: Path, tries_mux: bool) -> Result:
        if self._process is None:
            self._connection, theirs = self._context.Pipe()
            arguments = (theirs, self._log, self._most_growth)
            self._process = self._context.Process(target=serve, args=arguments, daemon=True)
            self._process.start()
            theirs.close()
        self._connection.send((path, tries_mux))
        try:
            if self._wait(self._process.pid or 0):
                result: Result = self._connection.recv()
                if result.verdict == GROWTH:  # some of its memory may still be allocated
                    self.close()
                return result
        except (EOFError, ConnectionResetError):
            self._process.join()
            text = self._read_log()
            code = self._process.exitcode or 0
            name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            self.close()
            return Result(CRASH, find_place(text), f"{name}\n{text}")
        os.kill(self._process.pid or 0, signal.SIGUSR1)
        time.sleep(0.5)
        text = self._read_log()
        self.close()
        return Result(HANG, find_place(text), text)

    def _wait(self, process: int) -> bool:
        """Return whether an answer arrives within the time limits."""
        until = time.monotonic() + BUSY_FACTOR * self._seconds
        limit = read_processor_time(process) + self._seconds
        while time.monotonic() < until and read_processor_time(process) < limit:
            if self._connection.poll(0.5):
                return True
        return False

    def _read_log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")[-4000:]


def find_place(log: str) -> str:
    """Return the innermost line of ristn in faulthandler's output, of the failed thread or else the main thread."""
    threads = re.split(r"(?=^(?:Current thread|Thread) 0x)", log, flags=re.MULTILINE)[1:]
    thread = next((text for text in threads if text.startswith("Current thread")), threads[-1] if threads else "")
    found = re.search(r'File "[^"]*ristn_cli/(?:[^"]*/)?([^"/]+)", line \d+ in (\S+)', thread)
    return "" if found is None else f"{found[1]}:{found[2]}"


def make_case(seed: int, number: int, name: str, bases: dict[str, tuple[bytes, ...]]) -> tuple[bytes, ...]:
    """Return the files of a case: an undamaged input with one damaged file."""
    random_ = random.Random(f"{seed}:{number}")
    files = list(bases[name])
    index = random_.randrange(len(files))
    files[index] = mutate(files[index], FORMATS[name].chunks, random_)
    return tuple(files)


def write_case(folder: Path, name: str, files: Sequence[bytes]) -> Path:
    suffix = FORMATS[name].suffix
    if not FORMATS[name].is_sequence:
        path = folder / f"input{suffix}"
        path.write_bytes(files[0])
        return path
    path = folder / "images"
    path.mkdir(exist_ok=True)
    for number, data in enumerate(files, start=1):
        (path / f"{number}{suffix}").write_bytes(data)
    return path


def minimise(files: tuple[bytes, ...], is_same: Callable[[tuple[bytes, ...]], bool]) -> tuple[bytes, ...]:
    """Remove blocks of each file, large ones first, as long as `is_same` holds; return the smaller input."""
    attempts, until = MOST_ATTEMPTS, time.monotonic() + MINIMISING_SECONDS
    for index in range(len(files)):
        size = len(files[index]) // 2
        while size >= 4:
            begin = 0
            while begin < len(files[index]):
                if attempts == 0 or time.monotonic() > until:
                    return files
                attempts -= 1
                shorter = files[index][:begin] + files[index][begin + size :]
                fewer = (*files[:index], shorter, *files[index + 1 :])
                if shorter and is_same(fewer):
                    files = fewer
                else:
                    begin += size
            size //= 2
    return files


def keep_case(folder: Path, label: str, name: str, files: Sequence[bytes], result: Result) -> None:
    place = folder / f"{result.verdict}-{label}"
    place.mkdir(parents=True, exist_ok=True)
    write_case(place, name, files)
    (place / "report.txt").write_text(
        f"{name}: {result.verdict} at {result.place}\n\n{result.text}\n", encoding="utf-8"
    )


def format_table(counts: dict[str, Counter[str]]) -> str:
    heading = ("format", "cases", *VERDICTS)
    rows = [
        (name, str(found.total()), *(str(found[verdict]) for verdict in VERDICTS)) for name, found in counts.items()
    ]
    total = sum(counts.values(), Counter[str]())
    rows.append(("all", str(total.total()), *(str(total[verdict]) for verdict in VERDICTS)))
    width = max(len(row[0]) for row in (heading, *rows))
    return "\n".join(row[0].ljust(width) + "".join(cell.rjust(11) for cell in row[1:]) for row in (heading, *rows))


def run_cases(options: argparse.Namespace, scratch: Path) -> tuple[dict[str, Counter[str]], int]:
    """Try the requested cases; return the verdicts by format, and the number of failures."""
    import imageio_ffmpeg

    import ristn_cli.cli.info
    import ristn_cli.job.checks  # noqa: F401  # loads once, before the fork

    numbers = range(options.count) if options.case is None else [options.case]
    names = {number: TURNS[number % len(TURNS)] for number in numbers}
    wanted = {name for name in names.values() if options.format is None or name in options.format}
    bases = {name: make_input(name, scratch, imageio_ffmpeg.get_ffmpeg_exe()) for name in FORMATS if name in wanted}
    counts = {name: Counter[str]() for name in bases}
    child = Child(scratch / "log", options.seconds, options.memory * 2**20)
    seen: set[tuple[str, str]] = set()
    failures = 0

    def try_files(name: str, files: tuple[bytes, ...], number: int) -> Result:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            return child.try_input(write_case(Path(folder), name, files), number % MUX_EVERY == 0)

    def fails_alike(files: tuple[bytes, ...], name: str, number: int, kind: tuple[str, str]) -> bool:
        return kind_of(try_files(name, files, number)) == kind

    try:
        for number, name in names.items():
            if name not in bases:
                continue
            files = make_case(options.seed, number, name, bases)
            result = try_files(name, files, number)
            counts[name][result.verdict] += 1
            if options.verbose or result.verdict not in PASSES:
                last = (result.text.strip().splitlines() or [""])[0 if result.verdict == CRASH else -1]
                print(f"case {number} ({name}): {result.verdict} {result.place} {last}", flush=True)
            if result.verdict in PASSES:
                continue
            failures += 1
            kind = kind_of(result)
            if options.keep is not None and kind not in seen:
                seen.add(kind)
                files = minimise(files, partial(fails_alike, name=name, number=number, kind=kind))
                keep_case(options.keep, f"{options.seed}-{number}", name, files, result)
    finally:
        child.close()
    return counts, failures


def kind_of(result: Result) -> tuple[str, str]:
    """Return a key that failures of the same kind share."""
    return result.verdict, result.place


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=150, help="number of cases (default: 150)")
    parser.add_argument("--seed", type=int, default=1, help="seed that decides all damage (default: 1)")
    parser.add_argument("--case", type=int, help="try this case alone")
    parser.add_argument("--format", action="append", choices=FORMATS, help="try only this format; repeatable")
    parser.add_argument("--seconds", type=float, default=10, help="most processor time for a case (default: 10)")
    parser.add_argument("--memory", type=int, default=1024, help="most MiB of memory for a case (default: 1024)")
    parser.add_argument("--keep", type=Path, help="folder for inputs that fail: one of each kind, made smaller")
    parser.add_argument("--verbose", action="store_true", help="print a line for each case")
    parser.add_argument("--json", action="store_true", help="print the counts as JSON instead of a table")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ristn-fuzz-") as name:
        counts, failures = run_cases(options, Path(name))
    print(json.dumps(counts) if options.json else format_table(counts))
    if not options.json:
        print(f"{time.monotonic() - began:.0f} seconds")
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
