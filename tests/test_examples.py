"""`examples/`: every script runs, is short, and stands for a row of "Use" in the README."""

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import imageio_ffmpeg
import pytest

from ristn_cli.video import probe

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
MOST_LINES = 19

FRAMES = ["--max-frames", "2"]
TINY = ["--model", "tiny.safetensors", "--precision", "fp32"]

ARGUMENTS: dict[str, list[str]] = {
    **{name: [*TINY, *FRAMES] for name in ("upscale", "range", "fit", "dvd", "ray", "folder", "pipe", "compare")},
    "hevc": [*TINY, *FRAMES, "--preset", "ultrafast"],
    "photo": TINY,
    "plan": TINY,
    "info": ["--json"],
    "doctor": ["--device", "cpu"],
    "preview": ["--model", "ristn-lite", "--at", "1", "--crop", "0,0,48,32"],
    "evaluate": FRAMES,
    "compressed": [*TINY, *FRAMES],
    "bench": ["--network-only", "--size", "32x32", "--seconds", "1", "--precision", "fp32"],
    "weights": [],
    "train": ["--workers", "0"],
}
"""What the test adds to each script, to be quick."""

MADE: dict[str, dict[str, tuple[int, int] | None]] = {
    "upscale": {"upscaled.mkv": (1280, 720)},
    "range": {"range.mp4": (1280, 720)},
    "hevc": {"hevc.mkv": (1280, 720)},
    "fit": {"fit.mp4": (1000, 562)},
    "dvd": {"dvd.mkv": (1536, 1152)},
    "ray": {"ray.mkv": (1280, 720)},
    "folder": {"upscaled/1.mp4": (1280, 720), "upscaled/extras/2.mp4": (1280, 720)},
    "photo": {"large.png": (1280, 720), "large/00003.png": (1280, 720)},
    "pipe": {"piped.mkv": (1280, 720)},
    "preview": {"bbb-preview.html": None},
    "compare": {"compared.mp4": (1280, 720), "compare.html": None},
    "evaluate": {"report/index.html": None},
    "compressed": {"worst.png": None},
    "train": {"runs/small/small.safetensors": None},
}
"""Files that a script makes, with the size of their pictures."""

SAID = {
    "folder": "2 done already",
    "info": '"frame_count": 75',
    "doctor": "Problems",
    "preview": "ristn-lite",
    "plan": "output: 1280x720",
    "bench": "ristn-lite",
    "weights": "ristn-lite-real",
    "evaluate": "lanczos",
    "compressed": "crf 28",
}
"""Words of the standard output."""


@pytest.fixture
def room(tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with `ristn` and `ffmpeg` in the PATH, and the weights `tiny.safetensors`."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, command in {
        "ristn": [sys.executable, "-m", "ristn_cli"],
        "ffmpeg": [imageio_ffmpeg.get_ffmpeg_exe()],
    }.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))
    (tmp_path / "work").mkdir()
    tiny_weights.rename(tmp_path / "work" / tiny_weights.name)
    return tmp_path / "work"


@pytest.mark.skipif(os.name == "nt", reason="the scripts are for a POSIX shell")
@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_a_script_runs(room: Path, name: str) -> None:
    if name == "ray" and find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    script = EXAMPLES / f"{name}.sh"
    command = [str(script), *ARGUMENTS[name]]
    done = subprocess.run(command, cwd=room, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    assert SAID.get(name, "") in done.stdout
    made = MADE.get(name, {})
    for path, size in made.items():
        assert (room / path).stat().st_size > 0
        if size is not None:
            info = probe(room / path)
            assert (info.width, info.height) == size
    if not made:
        assert [path.name for path in room.iterdir()] == ["tiny.safetensors"]


def test_every_script_is_short_and_described() -> None:
    names = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".sh", ".py")}
    assert {f"{name}.sh" for name in ARGUMENTS} == {name for name in names if name.endswith(".sh")}
    for name in names:
        lines = (EXAMPLES / name).read_text(encoding="utf-8").splitlines()
        assert len(lines) <= MOST_LINES, name
    listed = set(re.findall(r"^\| `([\w.]+)`", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == names


def commands_of(text: str) -> list[tuple[str, frozenset[str]]]:
    """Every call of `ristn` in a shell script: the command, and its options without values."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.partition(" #")[0], comments=True)
        if "ristn" in words:
            command, *rest = words[words.index("ristn") + 1 :]
            found.append((command, frozenset(word for word in rest if word.startswith("--"))))
    return found


def test_every_row_of_use_has_a_script() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = readme.partition("\n## Use\n")[2].partition("```sh\n")[2].partition("```")[0]
    wanted = commands_of(rows)
    assert len(wanted) == len(rows.splitlines()) > 5
    have = {command for path in EXAMPLES.glob("*.sh") for command in commands_of(path.read_text(encoding="utf-8"))}
    assert [command for command in wanted if command not in have] == []
