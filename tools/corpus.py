"""Upscale every file of a folder, each in a child process with a time limit, and print a table of failures.

    python tools/corpus.py FOLDER [--suffix .webm --codec av1] [--max-frames 50] [--strict-times]

A tiny network with random weights needs only seconds per file. This tests reading, writing and muxing, not image
quality. Frame times of each result are compared with those that the ffmpeg program reads from the source. A file passes
if it is upscaled, or refused in one line that names it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

DONE, REFUSED, WRONG_TIMES = "done", "refused", "wrong times"
FAILURES = frozenset({"traceback", "hang", "crash", "late failure", "left-overs", "unclear refusal", "input changed"})
TOLERANCE = Fraction(2, 1000)
"""Allowed difference of frame times in seconds. Matroska rounds to milliseconds, and so may the source."""

NO_TIME = -(2**63)


@dataclass(frozen=True)
class Outcome:
    """Result of a file: a row of the table."""

    path: Path
    verdict: str
    exit_code: int | None = None
    frames: str = ""
    difference: Fraction | None = None
    message: str = ""


@dataclass(frozen=True)
class Run:
    """Result of a child process: its exit code, None after a timeout, and its output."""

    exit_code: int | None
    stdout: str
    stderr: str


def run_watched(command: Sequence[str], seconds: float, folder: Path, environment: dict[str, str]) -> Run:
    """Run a command in `folder`; after `seconds`, kill it and its children."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            stdout, stderr = process.communicate(timeout=seconds)
            return Run(process.returncode, stdout, stderr)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            return Run(None, stdout, stderr)


def read_times(
    path: Path, max_frames: int | None, seconds: float, folder: Path, stream: str = "V:0"
) -> list[Fraction] | None:
    """Return seconds of every frame that the ffmpeg program decodes from a stream; None if it cannot.

    Without `-copyts`, ffmpeg removes the start time; without `-enc_time_base`, it rounds to the frame rate.
    """
    import imageio_ffmpeg

    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-copyts", "-noautorotate", "-i", str(path)]
    command += ["-map", f"0:{stream}", "-an", "-sn", "-dn", "-fps_mode", "passthrough", "-enc_time_base", "demux"]
    command += [] if max_frames is None else ["-frames:v", str(max_frames)]
    done = run_watched([*command, "-f", "framecrc", "-"], seconds, folder, dict(os.environ))
    time_base: Fraction | None = None
    ticks: list[int] = []
    for line in done.stdout.splitlines():
        if line.startswith("#tb 0:"):
            time_base = Fraction(line.partition(":")[2].strip())
        elif line and not line.startswith("#"):
            ticks.append(int(line.split(",")[2]))
    if done.exit_code is None or time_base is None or not ticks or NO_TIME in ticks:
        return None
    return [tick * time_base for tick in ticks]


def has_preset(codec: str) -> bool:
    """Return whether the encoder of a codec has speed presets; `upscale` refuses the option for others."""
    from ristn_cli.video import CODECS

    return codec not in CODECS or CODECS[codec].has_presets


def upscaled_stream(path: Path) -> str:
    from ristn_cli.video import probe

    return str(probe(path).video_index)


def compare_times(source: Sequence[Fraction], result: Sequence[Fraction]) -> Fraction:
    """Return the largest difference in seconds between times of frames with the same number, relative to the first
    frame.
    """
    pairs = zip(source, result, strict=False)
    return max(abs((before - source[0]) - (after - result[0])) for before, after in pairs)


def count_frames(stderr: str) -> int:
    """Return the number of finished frames in the JSON progress of a command."""
    counts = [0]
    for line in stderr.splitlines():
        if line.startswith("{"):
            try:
                counts.append(int(json.loads(line)["frames"]))
            except (ValueError, KeyError, TypeError):
                continue
    return max(counts)


def is_clear(lines: Sequence[str], path: Path) -> bool:
    """Return whether a refusal is a single line, after any warnings, that names the file."""
    others = [line for line in lines if not line.startswith("warning: ")]
    return len(others) == 1 and others[0].startswith("error: ") and path.name in others[0]


def list_left(folder: Path, expected: Iterable[str]) -> list[str]:
    """List files and folders that should not exist; an empty folder for temporary files may."""
    temporary = folder / "tmp"
    found = [path.name for path in folder.iterdir() if path.name not in {"tmp", *expected}]
    return sorted(found + [f"tmp/{path.name}" for path in temporary.iterdir()])


def judge(run: Run, path: Path, folder: Path, target: Path) -> tuple[str, str]:
    """Return the verdict on a run without its frame times, and an explanation."""
    lines = [line for line in run.stderr.splitlines() if line and not line.startswith("{")]
    last = lines[-1] if lines else ""
    if run.exit_code is None:
        return "hang", last
    if "Traceback (most recent call last)" in run.stderr + run.stdout:
        return "traceback", last
    if run.exit_code not in (0, 1, 2) or (run.exit_code == 0) != target.exists():
        return "crash", last or "no output file"
    if run.exit_code != 0 and count_frames(run.stderr):
        return "late failure", last
    if left := list_left(folder, {target.name} if run.exit_code == 0 else ()):
        return "left-overs", ", ".join(left)
    if run.exit_code == 0:
        return DONE, f"{len(lines)} warnings, the last: {last}" if len(lines) > 1 else last
    return REFUSED if is_clear(lines, path) else "unclear refusal", last


def try_file(path: Path, scratch: Path, command: Sequence[str], options: argparse.Namespace) -> Outcome:
    folder = Path(tempfile.mkdtemp(dir=scratch))
    (folder / "tmp").mkdir()
    target = folder / f"out{options.suffix}"
    environment = dict(os.environ) | {"TMPDIR": str(folder / "tmp")}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment.setdefault("OMP_NUM_THREADS", "1")
    before = path.stat()
    words = [*command, "upscale", str(path), str(target), "--model", str(scratch / "tiny.safetensors")]
    words += ["--codec", options.codec, "--precision", "fp32", "--progress", "json"]
    words += ["--preset", "ultrafast"] if has_preset(options.codec) else []
    words += [] if options.max_frames is None else ["--max-frames", str(options.max_frames)]
    run = run_watched(words, options.seconds, folder, environment)
    verdict, message = judge(run, path, folder, target)
    message = message.replace(f"{path.parent}{os.sep}", "").replace(f"{folder}{os.sep}", "")
    after = path.stat() if path.exists() else None
    if after is None or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        verdict, message = "input changed", "the input was replaced, changed or removed"
    frames, difference = str(count_frames(run.stderr) or ""), None
    if verdict == DONE:
        source = read_times(path, options.max_frames, options.seconds, folder, upscaled_stream(path))
        result = read_times(target, None, options.seconds, folder)
        if result is None:
            verdict, message = "crash", "ffmpeg cannot read the output"
        elif source is None:
            frames, message = str(len(result)), message or "ffmpeg reads no frame times from the source"
        else:
            difference = compare_times(source, result)
            frames = str(len(result)) if len(source) == len(result) else f"{len(result)} of {len(source)}"
            if difference > TOLERANCE or len(source) != len(result):
                verdict, message = WRONG_TIMES, describe_first(source, result)
    target.unlink(missing_ok=True)  # otherwise hundreds of outputs would fill the disk
    return Outcome(path, verdict, run.exit_code, frames, difference, message)


def describe_first(source: Sequence[Fraction], result: Sequence[Fraction]) -> str:
    for number, (before, after) in enumerate(zip_longest(source, result), start=1):
        if before is None or after is None:
            return f"frame {number} is {'missing' if after is None else 'one too many'}"
        if abs((before - source[0]) - (after - result[0])) > TOLERANCE:
            return f"frame {number} is at {float(after - result[0]):.3f} s, expected {float(before - source[0]):.3f} s"
    return ""


def save_tiny_weights(path: Path) -> None:
    """Save random weights of the smallest network with all parts."""
    import torch

    from ristn_cli.model import RISTN, RISTNConfig
    from ristn_cli.weights import save_weights

    torch.manual_seed(0)
    config = RISTNConfig(
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
    save_weights(RISTN(config).eval(), path, metrics={})


def format_row(outcome: Outcome, width: int) -> str:
    """Return a row of the table, whose first column has `width` characters."""
    difference = "" if outcome.difference is None else f"{float(1000 * outcome.difference):.1f} ms"
    exit_code = "-" if outcome.exit_code is None else str(outcome.exit_code)
    cells = (outcome.path.name.ljust(width), exit_code.rjust(4), outcome.frames.rjust(12), difference.rjust(12))
    row = "  ".join([*cells, outcome.verdict.ljust(15), outcome.message]).rstrip()
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in row)


def write_line(text: str) -> None:
    """Print a line immediately, because a large folder takes hours."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of the files to upscale")
    parser.add_argument("--suffix", default=".mkv", help="container of the outputs (default: .mkv)")
    parser.add_argument("--codec", default="auto", help="codec of the outputs, such as av1 for .webm (default: auto)")
    parser.add_argument("--max-frames", type=int, help="stop after this many frames of each file (default: none)")
    parser.add_argument("--seconds", type=float, default=300, help="time limit for each file (default: 300)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="files at a time (default: one per core)")
    parser.add_argument("--strict-times", action="store_true", help="fail if a frame has another time than in ffmpeg")
    parser.add_argument("--command", help="command to test (default: ristn of this checkout)")
    options = parser.parse_args(arguments)
    files = sorted(path.resolve() for path in options.folder.iterdir() if path.is_file())
    if not files:
        parser.error(f"{options.folder} contains no files")
    command = shlex.split(options.command) if options.command else [sys.executable, "-P", "-m", "ristn_cli"]
    with tempfile.TemporaryDirectory(prefix="ristn-corpus-") as name, ThreadPoolExecutor(options.jobs) as pool:
        scratch = Path(name)
        save_tiny_weights(scratch / "tiny.safetensors")
        width = max(len(path.name) for path in files)
        heading = ("file".ljust(width), "exit", "frames".rjust(12), "largest diff", "verdict".ljust(15), "message")
        write_line("  ".join(heading))
        outcomes = []
        for outcome in pool.map(partial(try_file, scratch=scratch, command=command, options=options), files):
            outcomes.append(outcome)
            write_line(format_row(outcome, width))
    counts = Counter(outcome.verdict for outcome in outcomes)
    write_line(f"{len(outcomes)} files: {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}")
    failures = FAILURES | ({WRONG_TIMES} if options.strict_times else set())
    return int(any(outcome.verdict in failures for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
