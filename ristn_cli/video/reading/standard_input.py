"""Shim until the real one is merged."""

from dataclasses import dataclass
from typing import IO

from ristn_cli.video.reading.pipes import RawFormat


@dataclass
class InputStream:
    file: IO[bytes]
    raw: RawFormat | None = None

    def check(self) -> None: ...
