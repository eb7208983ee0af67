"""`ristn train` when it is told to stop: it saves and leaves with the signal's exit code, and goes on later."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clips import make_clip

RECIPE = """
name = "small"
[model]
preset = "ristn-lite"
lstm_layers = 1
refine_bottlenecks = 1
branch_one = [1]
branch_two = [1]
[data]
photos = ""
clip_share = 1.0
text_share = 0.0
[[stages]]
name = "only"
iterations = 100000
frames = 2
patch = 8
batch = 1
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_the_whole_group_saves_and_stops(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """A terminal's Ctrl-C and a service manager's stop reach the processes that make batches, too."""
    (tmp_path / "clips").mkdir()
    make_clip(tmp_path / "clips" / "a.mp4", frames=4, width=64, height=64)
    (tmp_path / "small.toml").write_text(RECIPE)
    command = [sys.executable, "-m", "ristn_cli", "train", "small.toml", "--data", ".", "--output", "run"]
    log = tmp_path / "run" / "log.jsonl"
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 90
    while not log.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    os.killpg(process.pid, number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert "run the same command to resume" in stderr
    assert "Traceback" not in stderr
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    assert all(json.loads(line)["iteration"] % 10 == 0 for line in log.read_text().splitlines())
