"""What strangers put into names and tags must reach neither a terminal nor a log as anything but visible text."""

import json
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from commands import in_process

from ristn_cli.comparison.matching import open_comparison
from ristn_cli.comparison.page import PageOptions, save_page
from ristn_cli.html_pages import POLICY, make_page
from ristn_cli.printable import OneLineFormatter, printable
from ristn_cli.video import write_image

CLEAR = "\x1b[2J"
NAME = f"a{CLEAR}[red]:bug:\nwarning: forged \u202e.mp4"
SHOWN = "a\\x1b[2J[red]:bug:\\nwarning: forged \\u202e.mp4"
TITLE = "t\x1b]0;owned\x07\x9b31m\u2066"
SHOWN_TITLE = "t\\x1b]0;owned\\x07\\x9b31m\\u2066"


def write_clip(path: Path) -> None:
    """Four frames of 32x32 with a title that a terminal would obey."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata["title"] = TITLE
        stream = container.add_stream("libx264", rate=25)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        stream.metadata["handler_name"] = TITLE
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 60 * number, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "ristn_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, errors="surrogateescape", check=False)


def assert_harmless(text: str) -> None:
    """No control character but line ends, and none of the forged lines."""
    assert not [letter for letter in text if letter != "\n" and printable(letter) != letter], text
    assert not [line for line in text.splitlines() if line.startswith("warning: forged")], text


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    path = tmp_path / NAME
    write_clip(path)
    return path


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, caf\u00e9 \u4e2d\u6587 \U0001f600", "plain text, caf\u00e9 \u4e2d\u6587 \U0001f600"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\r\nb\tc\x00", "a\\r\\nb\\tc\\x00"),
        ("\x9b2J\x7f", "\\x9b2J\\x7f"),
        ("\u202a\u202e\u2066\u2069\u200f\u2028", "\\u202a\\u202e\\u2066\\u2069\\u200f\\u2028"),
        (os.fsdecode(b"caf\xe9"), "caf\\xe9"),
        ("\ud800\U000e0041", "\\ud800\\U000e0041"),
        ("\U0001f469\u200d\U0001f680", "\U0001f469\u200d\U0001f680"),
    ],
)
def test_shows_controls_as_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown
    shown.encode("utf-8")


def test_info_shows_a_hostile_file(hostile: Path) -> None:
    done = run("info", hostile)
    assert done.returncode == 0, done.stderr
    assert_harmless(done.stdout + done.stderr)
    assert SHOWN in done.stdout
    exact = json.loads(run("info", "--json", hostile).stdout)
    assert Path(exact["path"]).name == NAME
    assert exact["metadata"]["title"] == TITLE


def test_upscale_and_its_log_are_harmless(hostile: Path, tiny_weights: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    target = hostile.with_name(f"out {NAME}")
    done = run("upscale", hostile, target, "--model", tiny_weights, "--verbose", "--log-file", log, "--progress", "bar")
    assert done.returncode == 0, done.stderr
    assert target.exists()
    assert SHOWN in done.stdout
    for text in (done.stdout, log.read_text(encoding="utf-8")):
        assert_harmless(text)
    # The bar moves the cursor by its own sequences; none is of the name.
    assert CLEAR not in done.stderr
    assert "[red]:bug:" in done.stderr


def test_errors_are_harmless(tmp_path: Path, tiny_weights: Path) -> None:
    missing, log = tmp_path / NAME, tmp_path / "log.txt"
    for arguments in (
        ("upscale", missing, tmp_path / "out.mp4", "--model", tiny_weights, "--log-file", log),
        ("info", f"--{NAME}"),  # an error of the command line
        ("compare", missing, missing, "--png", NAME),
        ("info", missing, "--debug"),  # a traceback
    ):
        done = run(*arguments)
        assert done.returncode != 0
        assert_harmless(done.stdout + done.stderr)
        assert "\\x1b[2J[red]:bug:" in done.stderr, done.stderr
    assert_harmless(log.read_text(encoding="utf-8"))


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo terminals")
def test_markup_in_a_name_is_text_on_a_terminal(tmp_path: Path) -> None:
    main, other = pty.openpty()
    command = [sys.executable, "-P", "-m", "ristn_cli", "info", str(tmp_path / "[red]x[/] [link=http:a]")]
    with subprocess.Popen(command, stderr=other, stdout=other, stdin=subprocess.DEVNULL) as process:
        os.close(other)
        output = b"".join(read_all(main))
        process.wait()
    os.close(main)
    assert b"[red]x[/] [link=http:a]" in output


def read_all(descriptor: int) -> Iterator[bytes]:
    """What a process writes to its pseudo terminal; its end is an error on Linux."""
    while True:
        try:
            data = os.read(descriptor, 4096)
        except OSError:
            return
        if not data:
            return
        yield data


def test_a_log_has_one_line_for_each_record() -> None:
    formatter = OneLineFormatter("%(levelname)s %(message)s")
    try:
        raise ValueError(f"x\nERROR forged {CLEAR}")
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "f", 1, "bad %s", ("a\nb",), sys.exc_info())
    lines = formatter.format(record).split("\n")
    assert lines[0] == "ERROR bad a\\nb"
    assert all(line.startswith("    ") for line in lines[1:])
    assert "\x1b" not in "".join(lines)


# Errors of the system


def test_errors_of_the_system_name_the_file_in_one_line(tmp_path: Path, tiny_weights: Path) -> None:
    source = tmp_path / "in.mp4"
    write_clip(source)
    loop, other, folder = tmp_path / "loop", tmp_path / "other", tmp_path / "folder.png"
    loop.symlink_to(other)
    other.symlink_to(loop)
    folder.mkdir()
    long = tmp_path / f"{'x' * 300}.mp4"
    weights = ("--model", tiny_weights)
    for arguments, named, reason in (
        (("info", long), long, "too long; give it a shorter name"),
        (("info", loop), loop, "is a broken link"),
        (("info", source / "in.mp4"), source, "no such file or directory"),
        (("upscale", source, long, *weights), long, "too long; give it a shorter name"),
        (("upscale", source, source / "out.mp4", *weights), source, "does not exist"),
        (("upscale", source, tmp_path / "out.mp4", "--model", loop), loop, "no such weights file"),
        (("upscale", source, tmp_path / "out.mp4", *weights, "--log-file", folder), folder, "name a file"),
        (("upscale", source, tmp_path / "out.mp4", *weights, "--log-file", loop), loop, "links form a loop"),
        (("info", "/dev/null"), "/dev/null", "is not a video"),
    ):
        code, stdout, stderr = in_process(*arguments)
        assert (code, stdout) == (1, ""), stderr
        (line,) = stderr.splitlines()
        assert line.startswith(f"error: {named}"), line
        assert reason in line
        assert "Errno" not in line


# Pages


def test_pages_hold_names_as_text_and_run_nothing_of_them(tmp_path: Path) -> None:
    names = ["</script><script>alert(1)</script>.png", "<img src=x onerror=alert(2)>.png"]
    names = [name.replace("/", "\u2215") for name in names]
    if sys.platform == "linux":
        names.append(os.fsdecode(b"caf\xe9.png"))
    for name in names:
        write_image(tmp_path / name, np.zeros((8, 8, 3), np.uint8))
    labels = ["</script><script>alert(3)</script>", "<b>"]
    page = tmp_path / "page.html"
    save_page(open_comparison([tmp_path / name for name in names], labels=labels), page, PageOptions())
    text = page.read_text(encoding="utf-8")
    assert text.count(f'content="{POLICY}"') == 1
    assert "default-src 'none'" in POLICY
    assert text.lower().count("<script") == 2  # the data, and the page's own
    assert text.lower().count("</script") == 2
    assert "<b>" not in text
    assert "<script>alert" not in make_page("</title><script>alert(4)</script>", "")


def test_scripts_of_pages_never_take_text_for_markup() -> None:
    package = Path(make_page.__globals__["__file__"]).parent
    folders = (package / "comparison", package / "evaluation")
    sources = [path for folder in folders for path in folder.iterdir() if path.suffix in (".js", ".html", ".py")]
    assert any(path.suffix == ".js" for path in sources)
    for path in sources:
        text = path.read_text(encoding="utf-8")
        for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
            assert word not in text, f"{path.name}: {word}"
