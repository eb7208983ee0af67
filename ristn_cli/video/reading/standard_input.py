"""Standard input as a file for FFmpeg: a stream of bytes that is read only once, and yet opened twice."""

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
# After so long without input, the reader asks whether it is to go on.
WAKE_SECONDS = 0.5


@dataclass(frozen=True)
class RawFormat:
    """What raw frames are: size in pixels, frames a second, and FFmpeg's name of the pixel format, such as rgb24."""

    width: int
    height: int
    rate: Fraction
    pixel_format: str = "yuv420p"

    def __str__(self) -> str:
        """`640x360 yuv420p`."""
        return f"{self.width}x{self.height} {self.pixel_format}"

    @property
    def options(self) -> dict[str, str]:
        """Options of FFmpeg's reader of raw frames."""
        size, rate = f"{self.width}x{self.height}", f"{self.rate.numerator}/{self.rate.denominator}"
        return {"video_size": size, "pixel_format": self.pixel_format, "framerate": rate}


class InputStream:
    """A binary stream that `probe` and then `read_frames` read: what the first one reads is kept for the second.

    A failure to read looks like the end of the stream to FFmpeg, and is raised by `check`.

    Args:
        stream: what to read from. It stays open.
        raw: what is in it, if it has no header that says so.
    """

    name = NAME  # for FFmpeg's messages

    def __init__(self, stream: IO[bytes], raw: RawFormat | None = None) -> None:
        self.raw = raw
        self._stream = stream
        self._head: list[bytes] = []
        self._unread: list[bytes] = []
        self._openings = 0
        self._error: Exception | None = None
        self._interruption: BaseException | None = None

    def __str__(self) -> str:
        """Its name in messages."""
        return NAME

    @property
    def descriptor(self) -> int | None:
        """The descriptor of the file; None of a stand-in that is no file of the system."""
        return descriptor_of(self._stream)

    def rewind(self) -> None:
        """Begin at the start of the stream. Raises VideoError when it was done twice: the head is forgotten then."""
        self._openings += 1
        if self._openings > 2:
            raise VideoError(f"{NAME}: has been read already, and can be read only once; name a file")
        self._unread, self._head = self._head[::-1], []

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, of those that are there; none at the end, after a failure and after an interruption."""
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
        except BaseException as error:  # FFmpeg calls this function, and would drop it
            self._interruption = error
        return b""

    def check(self) -> None:
        """Raise VideoError if reading the stream has failed, so that what was read is not all of it."""
        if self._error is not None:
            reason = self._error.strerror if isinstance(self._error, OSError) else None
            raise VideoError(
                f"{NAME}: reading it failed ({reason or self._error}); check the program that writes to it, and run it "
                "again"
            ) from self._error

    def check_interrupted(self) -> None:
        """Raise what has interrupted reading, if anything has."""
        if self._interruption is not None:
            raise self._interruption


def source_of(info: VideoInfo) -> Path | InputStream:
    """What a video is read from."""
    return info.stream if isinstance(info.stream, InputStream) else info.path


def descriptor_of(stream: IO[bytes]) -> int | None:
    """The descriptor of an open file; None of a stand-in that is no file of the system."""
    try:
        return stream.fileno()
    except (OSError, AttributeError):
        return None


def _wait(descriptor: int) -> None:
    """Return when there is something to read. Raises what ends the work of this thread, if it is to end."""
    check_interruption()
    try:
        while not select.select([descriptor], [], [], WAKE_SECONDS)[0]:
            check_interruption()
    except (OSError, ValueError):
        return  # Windows waits for nothing but sockets; reading itself tells what else is wrong
