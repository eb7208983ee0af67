"""Standard input as a file object for FFmpeg: it is read once, but opened by `probe` and then by `read_frames`."""

from __future__ import annotations

import os
import select
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

from ristn_cli.video.interruption import check_interruption
from ristn_cli.video.types import VideoError, VideoInfo

NAME = "standard input"
# Interval of checks for interruption while there is no input.
WAKE_SECONDS = 0.5


@dataclass(frozen=True)
class RawFormat:
    """Format of raw frames: size in pixels, frames per second, and FFmpeg's pixel format name, such as rgb24."""

    width: int
    height: int
    rate: Fraction
    pixel_format: str = "yuv420p"

    def __str__(self) -> str:
        return f"{self.width}x{self.height} {self.pixel_format}"

    @property
    def options(self) -> dict[str, str]:
        size, rate = f"{self.width}x{self.height}", f"{self.rate.numerator}/{self.rate.denominator}"
        return {"video_size": size, "pixel_format": self.pixel_format, "framerate": rate}


class InputStream:
    """A binary stream for `probe` and then `read_frames`. What the first one reads is kept for the second.

    To FFmpeg, a read error looks like the end of the stream. `check` raises it.

    Args:
        stream: the stream to read. It is not closed.
        raw: its format, if it contains raw frames without a header.
    """

    name = NAME  # PyAV reads this attribute

    def __init__(self, stream: IO[bytes], raw: RawFormat | None = None) -> None:
        self.raw = raw
        self._stream = stream
        self._head: list[bytes] = []
        self._unread: list[bytes] = []
        self._openings = 0
        self._error: Exception | None = None
        self._interruption: BaseException | None = None

    def __str__(self) -> str:
        return NAME

    @property
    def descriptor(self) -> int | None:
        """The file descriptor; None for an object without one."""
        return descriptor_of(self._stream)

    def rewind(self) -> None:
        """Start at the beginning of the stream. Raises VideoError at the third call, when the data are gone."""
        self._openings += 1
        if self._openings > 2:
            raise VideoError(f"{NAME}: has been read already, and can be read only once; use a file instead")
        self._unread, self._head = self._head[::-1], []

    def read(self, size: int) -> bytes:
        """Return up to `size` available bytes; none at the end, after an error, or after an interruption."""
        if self._unread:
            chunk = self._unread.pop()
            if len(chunk) > size:
                self._unread.append(chunk[size:])
            chunk = chunk[:size]
        else:
            chunk = self._read_on(size)
        if self._openings == 1:
            self._head.append(chunk)
        return chunk

    def _read_on(self, size: int) -> bytes:
        if self._error is not None or self._interruption is not None:
            return b""
        try:
            descriptor = self.descriptor
            if descriptor is None:
                return self._stream.read(size)
            _wait(descriptor)
            return os.read(descriptor, size)
        except OSError as error:
            self._error = error
        except BaseException as error:  # FFmpeg calls this function, and would ignore it
            self._interruption = error
        return b""

    def check(self) -> None:
        """Raise VideoError if reading the stream has failed, so that frames are missing."""
        if self._error is not None:
            reason = self._error.strerror if isinstance(self._error, OSError) else None
            raise VideoError(
                f"{NAME}: reading failed ({reason or self._error}); check the program that writes to it, and run again"
            ) from self._error

    def check_interrupted(self) -> None:
        """Raise the exception that interrupted reading, if there is one."""
        if self._interruption is not None:
            raise self._interruption


def source_of(info: VideoInfo) -> Path | InputStream:
    """Return the file or stream of a video."""
    return info.stream if isinstance(info.stream, InputStream) else info.path


def descriptor_of(stream: IO[bytes]) -> int | None:
    """Return the descriptor of an open file; None for an object without one."""
    try:
        return stream.fileno()
    except (OSError, AttributeError):
        return None


def _wait(descriptor: int) -> None:
    """Wait until there is input. Raises the exception of an interruption."""
    check_interruption()
    try:
        while not select.select([descriptor], [], [], WAKE_SECONDS)[0]:
            check_interruption()
    except (OSError, ValueError):
        return  # Windows supports only sockets here; other errors recur in the read
