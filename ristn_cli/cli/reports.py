"""Files that tell of a run: the log, and the report of the jobs that it finished."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ristn_cli.cli.effects import STREAM

if TYPE_CHECKING:
    from ristn_cli.job.events import Completed


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


class ReportFile:
    """The report of a command: written when its first job is finished, and again with each further one.

    Args:
        path: of the file.
        overwrite: whether it may replace another one.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._path, self._overwrite = path, overwrite
        self._jobs: list[dict[str, Any]] = []

    def add(self, done: Completed, network: Mapping[str, Any], warnings: Sequence[str]) -> None:
        """Add a finished job, and write the file.

        Raises:
            OSError: it cannot be written, or the input or output cannot be read any more.
        """
        from ristn_cli.job.report import FORMAT, describe_completed, describe_versions
        from ristn_cli.own_files import write_text

        finished = datetime.now(UTC).isoformat(timespec="seconds")
        self._jobs.append(
            {**describe_completed(done), "network": dict(network), "warnings": list(warnings), "finished": finished}
        )
        values = {"format": FORMAT, "command": sys.argv, "versions": describe_versions(), "jobs": self._jobs}
        write_text(self._path, json.dumps(values, indent=1) + "\n", overwrite=self._overwrite or len(self._jobs) > 1)
