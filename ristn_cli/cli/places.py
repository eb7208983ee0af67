"""Where `ristn upscale` reads, writes, logs and reports: refusals of places that cannot be used."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from ristn_cli.cli.effects import STREAM


def check_streams(sources: list[Path], target: Path, *, dry_run: bool) -> None:
    """Refuse `-` where no stream can be.

    Raises:
        typer.BadParameter: among several inputs, with --dry-run, or where it is closed or a terminal.
    """
    if len(sources) > 1:
        raise typer.BadParameter("- is one input and one output: it cannot be among several")
    if dry_run:
        raise typer.BadParameter("--dry-run goes with files: what comes through a pipe is not known before")
    for path, stream, name in ((sources[0], sys.stdin, "input"), (target, sys.stdout, "output")):
        if path == STREAM and stream is None:
            raise typer.BadParameter(f"standard {name} is closed; name a file")
    if sources[0] == STREAM and sys.stdin.isatty():
        raise typer.BadParameter("standard input is a terminal; let a program write a video to it")
    if target == STREAM and sys.stdout.isatty():
        raise typer.BadParameter("standard output is a terminal; let a program or a file read from it")


def check_log_file(path: Path, inputs: list[Path | None]) -> None:
    """Refuse to append a log to an input, or to what another user chose by a link.

    Raises:
        typer.BadParameter: the log file is one of the inputs, by whatever name, or another user's link.
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
    """Refuse a report that cannot be written, or that would replace another file.

    Raises:
        typer.BadParameter: it is an input or the output, exists already, or its folder does not.
    """
    from ristn_cli.video import InputFiles

    *sources, target = inputs_and_output
    if InputFiles([*(source for source in sources if source != STREAM), *([weights] if weights else [])]).find(path):
        raise typer.BadParameter(f"--report {path} is an input; give the report another name")
    if path.absolute() == target.absolute() or (target.exists() and path.exists() and path.samefile(target)):
        raise typer.BadParameter(f"--report {path} is the output; give the report another name")
    if not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"--report {path}: no such folder: {path.absolute().parent}")
    if path.is_dir():
        raise typer.BadParameter(f"--report {path} is a folder; expected the name of a JSON file")
    if os.path.lexists(path) and not overwrite:
        raise typer.BadParameter(f"--report {path} already exists; use --overwrite to replace it")
