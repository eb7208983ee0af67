"""tools/fuzz.py: no damaged file does anything but be read or be refused; and the tool notices when one does."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"

STAND_INS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import os
import fuzz
import ristn_cli.video

def read(path, tries_mux):
    what = path.read_text()
    if what == "crash":
        os.abort()
    while what == "hang":
        pass
    if what == "growth":
        bytes(b"x" * 2**26)
    if what == "traceback":
        {}["nothing"]
    from ristn_cli.video import VideoError
    if what == "unclear":
        raise VideoError("it is\\n broken")
    if what == "refused":
        raise VideoError(f"{path}: is broken")

fuzz.read_file, fuzz.read_stdin = read, lambda path: None
child = fuzz.Child(Path("log"), 1, 2**25)
for what in sys.argv[2:]:
    Path("input").write_text(what)
    print(what, child.try_input(Path("input"), False).verdict)
child.close()
"""


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    command = [sys.executable, TOOLS / "fuzz.py", "--count", "150", "--seed", "1", "--keep", tmp_path, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = json.loads(done.stdout)
    verdicts = sum(map(Counter, counts.values()), Counter[str]())
    assert verdicts.keys() == {"read", "refused"}
    assert verdicts.total() == 150
    assert min(verdicts.values()) > 40  # damage that always or never matters would test nothing
    assert not list(tmp_path.iterdir())


def test_each_kind_of_failure_is_noticed(tmp_path: Path) -> None:
    kinds = ["read", "crash", "refused", "hang", "growth", "traceback", "unclear", "read"]
    command = [sys.executable, "-c", STAND_INS, TOOLS, *kinds]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.splitlines() == [f"{kind} {kind}" for kind in kinds], done.stderr


def test_a_single_case_is_reproducible_and_failures_are_minimised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(TOOLS)
    import fuzz

    bases = {"png-sequence": (bytes(range(256)), bytes(256)), "mp4": (b"\0\0\0\x10ftypisomisom" + bytes(200),)}
    for name in bases:
        cases = [fuzz.make_case(1, number, name, bases) for number in range(50)]
        assert [fuzz.make_case(1, number, name, bases) for number in reversed(range(50))] == cases[::-1]
        assert bases[name] not in cases
        assert len(set(cases)) > 30
    files = (bytes(1000) + b"fault" + bytes(1000),)
    (smaller,) = fuzz.minimise(files, lambda less: b"fault" in less[0])
    assert b"fault" in smaller
    assert len(smaller) < 20
