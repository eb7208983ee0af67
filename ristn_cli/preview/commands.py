"""Makes the command for a choice, quoted for a shell, and the name of its output."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ristn_cli.job.checks import check_job
from ristn_cli.job.job import Job
from ristn_cli.job.options import RunOptions, UpscaleOptions
from ristn_cli.printable import printable
from ristn_cli.video import CONTAINERS, WRITABLE_IMAGES, VideoError, VideoInfo

IMAGE_NUMBER = "%05d"


@dataclass(frozen=True)
class Form:
    """The end of an output's name, and its codec."""

    ending: str
    codec: str = "auto"

    @property
    def options(self) -> tuple[str, ...]:
        """Options of `ristn upscale`."""
        return () if self.codec == "auto" else ("--codec", self.codec)


def settle_form(info: VideoInfo, options: UpscaleOptions) -> tuple[Form, Job]:
    """Return the first form that can hold all of a source, preferably its own, and the job that makes it.

    Raises:
        VideoError: no form can, or the source cannot be read.
    """
    refusal: VideoError | None = None
    for form in _forms(info):
        chosen = replace(options, codec=form.codec)
        try:
            return form, check_job(info, name_output(info.path, "preview", form), chosen, RunOptions(makes_folder=True))
        except VideoError as error:
            refusal = refusal or error
    assert refusal is not None
    raise refusal


def _forms(info: VideoInfo) -> Iterator[Form]:
    own = info.path.suffix.lower()
    if info.is_image_sequence:
        yield Form(f"/{IMAGE_NUMBER}.png")
        return
    if info.is_still:
        yield Form(own if own in WRITABLE_IMAGES else ".png")
        yield Form(".png")
        return
    if own in CONTAINERS and own != ".webm":
        yield Form(own)
    yield Form(".mkv")
    yield Form(".mov", "prores")  # this form and the next one have an alpha channel
    yield Form(".mkv", "ffv1")


def name_output(source: Path, choice: str, form: Form) -> Path:
    """Return an unused name in the working folder for the output of a choice."""
    stem = source.resolve().name if source.is_dir() else source.stem
    stem = stem.replace("%", "_")  # otherwise it would be a pattern
    number = 1
    while True:
        base = f"{stem}-{choice}" if number == 1 else f"{stem}-{choice}-{number}"
        if not os.path.lexists(base + form.ending) and not os.path.lexists(base):
            return Path(base + form.ending)
        number += 1


def write_command(source: Path, output: Path, options: Sequence[str]) -> str:
    """Return `ristn upscale` with its arguments, quoted for a POSIX shell, or for Windows on Windows."""
    return " ".join(["ristn", "upscale", quote_path(source), quote_path(output), *map(quote, options)])


def quote_path(path: Path) -> str:
    """Quote a path, shortened so that it need not contain the user's name. It is never parsed as an option."""
    text = str(path)
    here, home = os.path.abspath(os.curdir), os.path.expanduser("~")  # noqa: PTH100, PTH111 - links stay
    if path.is_absolute() and here != os.sep and text.startswith(here + os.sep):
        text = text[len(here) + 1 :]
    elif path.is_absolute() and os.name == "posix" and home != os.sep and text.startswith(home + os.sep):
        return f"~/{quote(text[len(home) + 1 :])}"
    return quote(f"./{text}" if text.startswith("-") else text)


def quote(word: str) -> str:
    """Quote a word. Control characters and undecodable bytes have the form for bash, zsh and ksh."""
    if os.name == "nt":
        return subprocess.list2cmdline([word])
    if printable(word) == word:
        return shlex.quote(word)
    letters = (
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b"'\\" else f"\\x{byte:02x}" for byte in os.fsencode(word)
    )
    return f"$'{''.join(letters)}'"
