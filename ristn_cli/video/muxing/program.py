"""Find and run the ffmpeg program, alone or with packets as input."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import av
import ffmpeg
import imageio_ffmpeg

from ristn_cli.video.formats import READ_OPTIONS, file_url
from ristn_cli.video.interruption import current_check
from ristn_cli.video.muxing.joining import PartLayout, feed_parts
from ristn_cli.video.types import VideoError

STDERR_TAIL_LINES = 4
WATCH_SECONDS = 0.1
"""Interval of checks for interruption while a program runs."""
NOT_UTF8 = "\ue000"
"""Private-use character that marks an encoded name that is not UTF-8."""
QUIET = ("-nostdin", "-hide_banner", "-loglevel", "error", "-dts_delta_threshold", str(10**9))
"""The last option keeps jumps of a transport stream's clock, as the video does.

ffmpeg treats jumps of more than this many seconds as errors, and removes them.
"""


def find_ffmpeg() -> str:
    """Return the absolute path of the ffmpeg program: `IMAGEIO_FFMPEG_EXE` if set, else that of imageio-ffmpeg.

    PATH is not searched, because Windows would search the working folder first.

    Raises:
        VideoError: there is none, or its path is not absolute.
    """
    named = os.environ.get("IMAGEIO_FFMPEG_EXE")
    if named and not Path(named).is_absolute():
        raise VideoError(f"IMAGEIO_FFMPEG_EXE is {named}; expected the absolute path of an ffmpeg program")
    with contextlib.suppress(RuntimeError):
        found = str(imageio_ffmpeg.get_ffmpeg_exe())
        if Path(found).is_absolute():
            return found
    raise VideoError(
        "imageio-ffmpeg has no ffmpeg program for this machine; install one, and set IMAGEIO_FFMPEG_EXE to its "
        "absolute path"
    )


def as_word(name: str) -> str:
    """Encode a name for ffmpeg-python, which fails for names that are not UTF-8, as on old file systems."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return NOT_UTF8 + os.fsencode(name).decode("latin-1")
    return name


def read_file(path: Path, **options: Any) -> Any:
    """Return a file as an input of ffmpeg-python, limited to the allowed formats."""
    return ffmpeg.input(as_word(file_url(path)), **READ_OPTIONS, **options)


def compile_command(stream: Any) -> list[str]:
    """Return the command of ffmpeg-python, with the original names instead of those of `as_word`."""
    words = map(str, stream.compile(cmd=find_ffmpeg()))
    return [os.fsdecode(word[1:].encode("latin-1")) if word.startswith(NOT_UTF8) else word for word in words]


def run_apart(output: Any, problem: str) -> None:
    """Run ffmpeg without a pipe. Raises VideoError with a message that starts with `problem`."""
    command = compile_command(output.global_args(*QUIET).overwrite_output())
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    with process, ended_when_interrupted(process):
        _, stderr = process.communicate()
    if process.returncode != 0:
        last_messages = " | ".join(stderr.decode("utf-8", "replace").splitlines()[-STDERR_TAIL_LINES:])
        raise VideoError(f"{problem}: {last_messages}")


def run_ffmpeg(
    command: list[str], parts: Iterable[Path], layout: PartLayout, target: Path, stdout: int = subprocess.DEVNULL
) -> None:
    """Run ffmpeg with the parts as standard input, and collect its messages. Raises VideoError if it fails.

    It runs in a new session, so Ctrl-C does not reach it. It is ended if the check of `interruptible` raises an
    exception.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None and process.stderr is not None
    messages: deque[str] = deque(maxlen=STDERR_TAIL_LINES)
    drain = threading.Thread(target=_drain, args=(process.stderr, messages), daemon=True)
    drain.start()
    pipe_error: Exception | None = None
    try:
        with ended_when_interrupted(process):
            try:
                feed_parts(parts, layout, process.stdin)
            except (av.error.FFmpegError, OSError) as error:
                pipe_error = error  # ffmpeg has ended; its messages explain more
            with contextlib.suppress(OSError):
                process.stdin.close()
            code = process.wait()
    finally:
        drain.join()
        process.stderr.close()
        with contextlib.suppress(OSError):
            process.stdin.close()
    if code != 0 and any("Broken pipe" in message for message in messages):
        raise VideoError(f"{target}: the reading program closed the pipe before the end")
    if code != 0 or pipe_error is not None:
        last_messages = " | ".join(messages) or (str(pipe_error) if pipe_error else "no message")
        raise VideoError(f"{target}: the final mux failed, ffmpeg ended with {code}: {last_messages}")


@contextlib.contextmanager
def ended_when_interrupted(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill the program if the check of `interruptible` raises an exception, and raise it at the end of this context.

    A thread calls the check, because the caller waits for the program or its pipe. An error in the context also kills
    the program.
    """
    check = current_check()
    is_over = threading.Event()
    raised: list[BaseException] = []

    def watch() -> None:
        try:
            while not is_over.wait(WATCH_SECONDS):
                check()
        except BaseException as error:
            raised.append(error)
            process.kill()

    watcher = threading.Thread(target=watch, name="watch ffmpeg", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        is_over.set()
        watcher.join()
        if process.poll() is None:
            process.kill()
            process.wait()
        if raised:
            raise raised[0]


def _drain(pipe: IO[bytes], messages: deque[str]) -> None:
    for line in pipe:
        text = line.decode("utf-8", "replace").strip()
        if text:
            messages.append(text)
