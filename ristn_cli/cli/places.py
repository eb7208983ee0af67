"""Checks the files and streams that `ristn upscale` reads and writes."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from ristn_cli.cli.effects import STREAM


def check_streams(sources: list[Path], target: Path, *, dry_run: bool) -> None:
    """Refuse `-` if it cannot be a stream.

    Raises:
        typer.BadParameter: there are several inputs, or --dry-run, or the stream is closed or a terminal.
    """
    if len(sources) > 1:
        raise typer.BadParameter("- must be the only input; name files for several inputs")
    if dry_run:
        raise typer.BadParameter("--dry-run needs files; it cannot examine a pipe")
    for path, stream, name in ((sources[0], sys.stdin, "input"), (target, sys.stdout, "output")):
        if path == STREAM and stream is None:
            raise typer.BadParameter(f"standard {name} is closed; name a file")
    if sources[0] == STREAM and sys.stdin.isatty():
        raise typer.BadParameter("standard input is a terminal; redirect a video to it")
    if target == STREAM and sys.stdout.isatty():
        raise typer.BadParameter("standard output is a terminal; redirect it to a program or a file")


def check_log_file(path: Path, inputs: list[Path | None]) -> None:
    """Refuse a log file that is an input, or a link of another user.

    Raises:
        typer.BadParameter: it is an input under any name, or another user's link.
    """
    from ristn_cli.own_files import ForeignFileError, check_place
    from ristn_cli.video import InputFiles

    try:
        check_place(path)
    except ForeignFileError as error:
        raise typer.BadParameter(f"--log-file {error}") from error

    if InputFiles(0 if source == STREAM else source for source in inputs if source is not None).find(path):
        raise typer.BadParameter(f"--log-file {path} is an input; give the log another name")


def check_report(path: Path, inputs_and_output: Sequence[Path], weights: Path | None, *, overwrite: bool) -> None:
    """Refuse a report that cannot be written, or would replace another file.

    Raises:
        typer.BadParameter: it is an input or the output, it exists, or its folder does not exist.
    """
    from ristn_cli.video import InputFiles

    *sources, target = inputs_and_output
    if InputFiles([*(source for source in sources if source != STREAM), *([weights] if weights else [])]).find(path):
        raise typer.BadParameter(f"--report {path} is an input; give the report another name")
    if path.absolute() == target.absolute() or (target.exists() and path.exists() and path.samefile(target)):
        raise typer.BadParameter(f"--report {path} is the output; give the report another name")
    if not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"--report {path}: the folder {path.absolute().parent} does not exist; create it")
    if path.is_dir():
        raise typer.BadParameter(f"--report {path} is a folder; expected the name of a JSON file")
    if os.path.lexists(path) and not overwrite:
        raise typer.BadParameter(f"--report {path} already exists; use --overwrite to replace it")
