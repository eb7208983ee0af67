r"""Standard input as a video: a stream of bytes that can be read only once, behind a path that can be opened twice.

    stdin --> thread --> first named pipe: `probe` reads the head, which is kept
                     \-> second named pipe: the head once more, then all the rest

Raw frames, of which only the caller knows the size and format, are wrapped in NUT on the way.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import IO

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.types import VideoError

CHUNK_BYTES = 1 << 16
NAME = "standard input"


@dataclass(frozen=True)
class RawFormat:
    """What raw frames are: size in pixels, frames a second, and FFmpeg's name of the pixel format, such as rgb24."""

    width: int
    height: int
    rate: Fraction
    pixel_format: str = "yuv420p"


class PipeInput:
    """A stream behind two paths, `first` and `second`, each of which can be opened once; for systems with named pipes.

    Args:
        stream: what to read from.
        raw: what is in it, if it has no header that says so.

    As a context manager it ends its thread; the stream itself stays open. `remarks` tells what was wrong with it, and
    `error` why reading it failed before its end, which whoever reads the paths cannot tell from the end.
    """

    def __init__(self, stream: IO[bytes], raw: RawFormat | None = None) -> None:
        if not hasattr(os, "mkfifo"):
            raise VideoError(f"{NAME}: cannot be read on this system, which has no named pipes; name a file")
        if raw is not None:
            count_frame_bytes(raw)
        self.remarks: list[str] = []
        self.error: Exception | None = None
        self._chunks = self._watch(read_chunks(stream) if raw is None else wrap_raw(stream, raw, self.remarks))
        self._folder = tempfile.TemporaryDirectory(prefix="ristn-pipe-")
        self.first, self.second = (Path(self._folder.name) / name for name in ("head", "stdin"))
        self._is_closed = False
        # A daemon: it may wait for input for ever, and must not keep the program from ending.
        self._thread = threading.Thread(target=self._feed, name="stdin", daemon=True)

    def __enter__(self) -> PipeInput:
        for path in (self.first, self.second):
            os.mkfifo(path)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_closed = True
        for path in (self.first, self.second):
            # Whoever waits for a reader gets one, which leaves at once.
            with contextlib.suppress(OSError):
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        self._thread.join(timeout=1)
        self._folder.cleanup()

    def check(self) -> None:
        """Raise VideoError if reading the stream has failed, so that what was read is not all of it."""
        if self.error is not None:
            reason = getattr(self.error, "strerror", None) or str(self.error) or type(self.error).__name__
            raise VideoError(
                f"{NAME}: reading it failed ({reason}); check the program that writes to it, and run it again"
            ) from self.error

    def _watch(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The same chunks. A failure to read ends them, and is kept: the thread only suppresses failures to write."""
        try:
            yield from chunks
        except Exception as error:
            self.error = error

    def _feed(self) -> None:
        head: list[bytes] = []
        with contextlib.suppress(OSError), self.first.open("wb", buffering=0) as pipe:
            for chunk in self._chunks:
                head.append(chunk)
                _write_all(pipe, chunk)
        if self._is_closed:
            return
        with contextlib.suppress(OSError), self.second.open("wb", buffering=0) as pipe:
            for chunk in head:
                _write_all(pipe, chunk)
            head.clear()
            for chunk in self._chunks:
                if self._is_closed:
                    return
                _write_all(pipe, chunk)


def _write_all(pipe: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[pipe.write(view) :]


def read_chunks(stream: IO[bytes]) -> Iterator[bytes]:
    """What comes in, as it comes."""
    while chunk := os.read(stream.fileno(), CHUNK_BYTES):
        yield chunk


def wrap_raw(stream: IO[bytes], raw: RawFormat, remarks: list[str]) -> Iterator[bytes]:
    """Raw frames as a NUT file; an incomplete frame at the end is left out, with a remark. Raises VideoError."""
    size = count_frame_bytes(raw)
    sink = _Sink()
    with av.open(sink, "w", format="nut") as container:
        output = container.add_stream("rawvideo", rate=raw.rate)
        assert isinstance(output, VideoStream)
        output.width, output.height, output.pix_fmt = raw.width, raw.height, raw.pixel_format
        output.time_base = 1 / raw.rate
        number = 0
        while len(data := stream.read(size)) == size:
            packet = Packet(data)
            packet.stream, packet.time_base = output, 1 / raw.rate
            packet.pts = packet.dts = number
            packet.duration, packet.is_keyframe = 1, True
            container.mux(packet)
            number += 1
            yield sink.take()
        if data:
            remarks.append(f"{NAME}: ends in the middle of frame {number + 1}: {len(data)} of {size} bytes")
    yield sink.take()


def count_frame_bytes(raw: RawFormat) -> int:
    """Bytes of a frame, its rows not padded. Raises VideoError for a pixel format that FFmpeg does not know."""
    try:
        encoder = av.VideoCodecContext.create("rawvideo", "w")
        encoder.width, encoder.height, encoder.pix_fmt = raw.width, raw.height, raw.pixel_format
        encoder.time_base = Fraction(1)
        (packet,) = encoder.encode(VideoFrame(raw.width, raw.height, raw.pixel_format))
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(
            f"{NAME}: raw frames of {raw.width}x{raw.height} {raw.pixel_format} are not possible ({error}); "
            "check --raw-size and --raw-format"
        ) from error
    return packet.size


class _Sink:
    """What a muxer has written and nobody has taken yet."""

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Keep a copy of `data`."""
        self._written.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        """Everything since the last call."""
        data = b"".join(self._written)
        self._written.clear()
        return data
