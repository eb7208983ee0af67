"""The file of `--report`, which describes the finished jobs of a command."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ristn_cli.job.events import Completed


class ReportFile:
    """The report of a command. It is written after the first job, and again after each further one.

    Args:
        path: path of the file.
        overwrite: whether it may replace an existing file.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._path, self._overwrite = path, overwrite
        self._jobs: list[dict[str, Any]] = []

    def add(self, done: Completed, network: Mapping[str, Any], warnings: Sequence[str]) -> None:
        """Add a finished job and write the file.

        Raises:
            OSError: it cannot be written, or the input or output cannot be read.
        """
        from ristn_cli.job.job_report import FORMAT, describe_completed, describe_versions
        from ristn_cli.own_files import write_text

        finished = datetime.now(UTC).isoformat(timespec="seconds")
        self._jobs.append(
            {**describe_completed(done), "network": dict(network), "warnings": list(warnings), "finished": finished}
        )
        values = {"format": FORMAT, "command": sys.argv, "versions": describe_versions(), "jobs": self._jobs}
        write_text(self._path, json.dumps(values, indent=1) + "\n", overwrite=self._overwrite or len(self._jobs) > 1)
