"""The bar of `ristn upscale`: every figure, in no more columns than the terminal has, and nothing in a pipe."""

import io
import os
import re
import subprocess
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console

from ristn_cli.cli import job_bar
from ristn_cli.cli.job_bar import JobBar, describe_memory, format_speed, pack, shown_bar
from ristn_cli.engine.memory_in_use import main_memory_in_use
from ristn_cli.job.progress import Progress, WorkerProgress

DONE = Progress(frames=123, total=64800, part=7, elapsed_seconds=3725, frames_per_second=1.25)
FIGURES = ("123/64800 frames", "1.25 fps", "1:02:05 elapsed", "14:22:22 left", "part 7", "memory 1.23 GB", "lite")


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen:
    """What a terminal shows of text with the few control sequences that move the cursor up and erase a line."""

    def __init__(self, text: str) -> None:
        self.rows = [""]
        row = 0
        for piece in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|\r?\n|\r|[^\x1b\r\n]+", text):
            if piece.endswith("\n"):
                row += 1
                self.rows += [""] * (row + 1 - len(self.rows))
            elif piece == "\x1b[1A":
                row -= 1
            elif piece == "\x1b[2K":
                self.rows[row] = ""
            elif not piece.startswith("\x1b") and piece != "\r":
                self.rows[row] += piece


def drawn(bar: JobBar, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(bar)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [24, 40, 60, 80, 200])
@pytest.mark.parametrize("name", ["clip.mp4", "a long name, as recorders give them.mkv", "映像" * 20, "[b].mkv"])
def test_every_figure_is_shown_and_no_line_is_too_wide(name: str, width: int) -> None:
    bar = JobBar(name, "lite", lambda: "memory 1.23 GB", FakeClock())
    bar.update(DONE)
    lines = drawn(bar, width)
    assert max(map(cell_len, lines)) <= width
    assert [figure for figure in FIGURES if not any(figure in line for line in lines)] == []
    assert lines[0].startswith(name[:3])
    assert len(lines) == 2 or width < 80


def test_figures_fill_lines_in_their_order() -> None:
    assert pack(["1.25 fps", "0:10 left", "part 1"], 20) == ["1.25 fps, 0:10 left", "part 1"]
    assert pack(["1.25 fps", "0:10 left", "part 1"], 5) == ["1.25 fps", "0:10 left", "part 1"]
    assert pack([], 20) == []


def test_time_goes_on_between_two_frames() -> None:
    clock = FakeClock()
    bar = JobBar("in.mp4", "lite", clock=clock)
    clock.now = 3
    assert "getting ready, 0:03 elapsed" in drawn(bar, 80)[1]
    bar.update(Progress(frames=0, total=10))
    assert "no frame yet, 0:00 elapsed, -:-- left, part 1" in drawn(bar, 80)[1]
    bar.update(Progress(frames=2, total=10, elapsed_seconds=20, frames_per_second=0.0625))
    clock.now = 33
    assert "16 s per frame, 0:50 elapsed, 1:38 left, part 1" in drawn(bar, 80)[1]
    clock.now = 1033
    assert "17:30 elapsed, 0:00 left" in drawn(bar, 80)[1]


def test_an_unknown_total_and_one_that_was_too_low() -> None:
    bar = JobBar("in.mp4", "lite")
    bar.update(Progress(frames=7, total=None, frames_per_second=2))
    assert "7/? frames" in drawn(bar, 80)[0]
    bar.update(Progress(frames=7, total=5, frames_per_second=2))
    assert "7/7 frames" in drawn(bar, 80)[0]


def test_several_workers_stand_for_the_part() -> None:
    workers = tuple(
        WorkerProgress(name=name, is_ready=True, segment=1, frames=4, frames_per_second=1.0) for name in ("a", "b")
    )
    bar = JobBar("in.mp4", "lite")
    bar.update(Progress(frames=8, total=80, segments=(3, 9), workers=workers))
    text = ", ".join(drawn(bar, 60)[1:])
    assert "segments 3/9, 2 of 2 workers at 1.00 fps" in text
    assert "part" not in text


def test_speeds() -> None:
    assert [format_speed(value) for value in (0.01, 0.0999, 0.1, 12.345)] == [
        "100 s per frame",
        "10 s per frame",
        "0.10 fps",
        "12.35 fps",
    ]


def test_memory_is_read_once_a_second() -> None:
    clock, reads = FakeClock(), []
    bar = JobBar("in.mp4", "lite", lambda: reads.append(clock.now) or "memory", clock)  # type: ignore[func-returns-value]
    for now in (0.0, 0.25, 0.5, 1.0, 1.75, 2.0):
        clock.now = now
        drawn(bar, 80)
    assert reads == [0.0, 1.0, 2.0]


def test_lines_above_the_bar_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=60, force_terminal=True, soft_wrap=True, legacy_windows=False)
    monkeypatch.setattr(job_bar, "errors", console)
    bar = JobBar("in.mp4", "lite", lambda: "memory 1.23 GB", FakeClock())
    with shown_bar(bar, is_shown=True):
        for frames in range(3):
            bar.update(Progress(frames=frames, total=3, frames_per_second=123.4, elapsed_seconds=4000.0 * frames))
            console.print(f"warning: {frames} is not right, and this line is wider than the terminal has columns")
    rows = [row.rstrip() for row in Screen(console.file.getvalue()).rows]  # type: ignore[attr-defined]
    assert [row.split()[1] for row in rows if row.startswith("warning")] == ["0", "1", "2"]
    assert [row for row in rows if "in.mp4" in row] == [rows[3]]
    assert rows[3].endswith("2/3 frames")
    assert rows[4].startswith("123.40 fps, 2:13:20 elapsed")
    assert max(map(cell_len, rows[3:])) <= 60


def test_nothing_is_drawn_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), width=60)
    monkeypatch.setattr(job_bar, "errors", console)
    with shown_bar(JobBar("in.mp4", "lite"), is_shown=False):
        pass
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]
    bar = JobBar("in.mp4", "lite")
    with shown_bar(bar, is_shown=True):  # into a file: its last state, without control sequences
        bar.update(DONE)
    assert "\x1b" not in console.file.getvalue()  # type: ignore[attr-defined]
    assert console.file.getvalue().count("123/64800 frames") == 1  # type: ignore[attr-defined]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the memory of other processes")
def test_memory_of_processes_that_were_started_counts() -> None:
    alone = main_memory_in_use()
    assert alone is not None
    assert alone > 30e6
    program = "import sys; held = bytearray(200_000_000); print('ready', flush=True); sys.stdin.read()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], env=os.environ, **pipes) as child:  # type: ignore[call-overload]
        assert child.stdout.readline() == b"ready\n"
        both = main_memory_in_use()
        child.stdin.close()
    assert both is not None
    assert 190e6 < both - alone < 400e6
    assert re.fullmatch(r"memory \d+\.\d+ [MG]B", describe_memory())
