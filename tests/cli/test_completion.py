"""Shell completion: what the shell is given for words that are begun, and how it is installed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import COMMAND

from ristn_cli.bench.networks import NAMED
from ristn_cli.cli.completion import NETWORKS
from ristn_cli.video import CODECS
from ristn_cli.weights import RELEASES


def complete(line: str) -> list[str]:
    """What bash is given at the end of a line, by the program in this process."""
    from typer.testing import CliRunner

    from ristn_cli.cli import app

    words = line.split()
    count = len(words) if line.endswith(" ") else len(words) - 1
    env = {"_RISTN_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(count)}
    return CliRunner().invoke(app, [], env=env, prog_name="ristn").output.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ristn upscale --model ", ["auto", *RELEASES]),
        ("ristn upscale a.mp4 b.mp4 --model ristn-lite-", ["ristn-lite-real", "ristn-lite-sharp"]),
        ("ristn preview a.mp4 --model ", list(RELEASES)),
        ("ristn download-weights ", list(RELEASES)),
        ("ristn evaluate clips --model b", ["bicubic"]),
        ("ristn bench --model ", [*NETWORKS, *RELEASES]),
        ("ristn train lite-", ["lite-real", "lite-sharp"]),
        ("ristn train lite --start-from ", list(RELEASES)),
        ("ristn upscale --codec p", ["prores"]),
        ("ristn upscale --preset very", ["veryfast", "veryslow"]),
        ("ristn upscale --codec prores --preset ", []),
        ("ristn bench --preset ultra", ["ultrafast"]),
        ("ristn upscale --device c", ["cpu", "cuda"]),
        ("ristn preview --precision b", ["bf16"]),
        ("ristn upscale --deinterlace f", ["frame", "field"]),
        ("ristn doc", ["doctor"]),
        ("ristn upscale in", []),  # files: the shell completes them itself
    ],
)
def test_names_complete(line: str, expected: list[str]) -> None:
    assert sorted(complete(line)) == sorted(expected)


def test_only_encoders_that_are_there_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ristn_cli.video.codecs.codecs_available", {"libx264"})
    assert complete("ristn upscale --codec ") == ["auto", "h264"]
    assert "hevc" in CODECS


def test_the_networks_of_bench_are_all_named() -> None:
    assert {*NETWORKS, *RELEASES} == {*NAMED, *RELEASES}


def test_the_shell_does_not_wait_for_torch() -> None:
    script = (
        "import sys\n"
        "from ristn_cli.cli import completion\n"
        "assert list(completion.complete_models(''))\n"
        "assert list(completion.complete_codecs(''))\n"
        "assert list(completion.complete_recipes(''))\n"
        "assert list(completion.complete_networks(''))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_bash_completes_after_the_installation(tmp_path: Path) -> None:
    (tmp_path / "ristn").write_text(f'#!/bin/sh\nexec {sys.executable} -m ristn_cli "$@"\n', encoding="utf-8")
    (tmp_path / "ristn").chmod(0o755)
    env = {**os.environ, "HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    shown = subprocess.run(
        [*COMMAND, "--show-completion", "bash"], env=env, capture_output=True, text=True, check=False, timeout=60
    )
    script = (
        "source /dev/stdin <<'END'\n"
        f"{shown.stdout}\nEND\n"
        'COMP_WORDS=(ristn upscale --model ""); COMP_CWORD=3\n'
        '_ristn_completion ristn; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", script], env=env, capture_output=True, text=True, check=False, timeout=60)
    assert sorted(done.stdout.split()) == sorted(["auto", *RELEASES]), done.stderr
