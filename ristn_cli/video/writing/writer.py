"""Write frames to a file with one video stream, exact timestamps and colour tags. Does not know other streams.

A part is an MP4 (ProRes: MOV). Its time base is a multiple of the source's, and an edit list with the same time base
contains its start, so timestamps are exact, also at variable frame rates. Matroska would round them to milliseconds.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import av
import numpy as np
from av.container import OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.own_files import open_new
from ristn_cli.video.codecs import CODECS
from ristn_cli.video.convert import FrameBuilder
from ristn_cli.video.formats import file_url
from ristn_cli.video.resample import ALPHA_FLAGS, Resampler
from ristn_cli.video.types import Frame, Image, VideoError
from ristn_cli.video.writing.embedding import EMBEDDING_CODECS, embed_captions
from ristn_cli.video.writing.encoder import (
    add_stream,
    check_options_known,
    explain_encoder,
    tag_picture,
)
from ristn_cli.video.writing.settings import EncoderSettings, OutputShape, output_color

# FFmpeg's MP4 muxer doubles lower time bases until they reach this value.
MIN_MP4_CLOCK = 10000
FILE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


class DecodeClock:
    """Computes decoding times for packets in decoding order, from presentation times only.

    If frames are reordered by at most d, the decoding time of packet i is the presentation time i - d in sorted order.
    It is never after the packet's own presentation time, and never decreases. The first d times are evenly spaced
    within one nominal frame duration, of `frame_ticks`, before the first presentation time. The interval of the last
    packet compensates for this.
    """

    def __init__(self, reorder_depth: int, first_pts: int, frame_ticks: int) -> None:
        self._spacing = max(1, frame_ticks // max(1, reorder_depth))
        self.first = first_pts - reorder_depth * self._spacing
        self._lead = reorder_depth
        self._count = 0
        self._waiting: list[int] = []

    def next(self, pts: int) -> int:
        """Return the decoding time of the next packet with presentation time `pts`, both in ticks."""
        heapq.heappush(self._waiting, pts)
        self._count += 1
        if self._count <= self._lead:
            return self.first + (self._count - 1) * self._spacing
        return heapq.heappop(self._waiting)


class FrameWriter:
    """Encodes frames to `path`, which appears only after `close` has succeeded.

    Frames are RGB (H, W, 3), all uint8 or all uint16 in [0, 65535]. They have the shape's `frame_size`, and are
    resampled to its size; alpha may have any size. Times are absolute multiples of the shape's `time_base`, and are
    kept. Closed captions are put into the encoded frames if the codec supports them. As a context manager, it removes
    the file on exceptions.
    """

    def __init__(self, path: str | Path, shape: OutputShape, settings: EncoderSettings) -> None:
        self.path = Path(path)
        self.frames_written = 0
        self._shape = shape
        self._settings = replace(settings, color=output_color(settings.color))
        self._resampler = Resampler(shape.width, shape.height)
        self._alpha_resampler = Resampler(shape.width, shape.height, ALPHA_FLAGS)
        self._unfinished = self.path.with_name(f"{self.path.stem}.unfinished{self.path.suffix}")
        self._container: OutputContainer | None = None
        self._stream: VideoStream | None = None
        self._builder: FrameBuilder | None = None
        self._dtype: np.dtype[np.generic] | None = None
        self._durations: dict[int, int] = {}
        self._captions: dict[int, bytes] = {}
        self._family = CODECS[settings.codec].family
        self._first_pts = self._end_pts = 0
        self._decode_clock: DecodeClock | None = None
        self._reorder_depth = 0
        self._held: Packet[VideoStream] | None = None
        self._last_pts: int | None = None
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, frame: Frame) -> None:
        """Encode one frame. Raises VideoError if it does not match previous frames, or if encoding or writing fails."""
        shape = self._shape
        if self._is_closed:
            raise VideoError(f"{self.path}: a frame was written after the file was closed")
        width, height = shape.given_size
        if frame.image.shape != (height, width, 3):
            raise VideoError(f"{self.path}: got a frame of shape {frame.image.shape}, expected {width}x{height} RGB")
        if self._dtype is not None and frame.image.dtype != self._dtype:
            raise VideoError(f"{self.path}: got a {frame.image.dtype} frame, expected {self._dtype} as before")
        pts = self._ticks(frame.time)
        if self._last_pts is not None and pts <= self._last_pts:
            raise VideoError(f"{self.path}: frame times must increase: {frame.time} s follows a later or equal time")
        duration = frame.duration if frame.duration is not None else 1 / shape.rate
        try:
            if self._container is None:
                self._open(frame.image)
            assert self._builder is not None and self._stream is not None
            alpha = None if frame.alpha is None else self._alpha_resampler.apply(frame.alpha)
            picture = self._builder.to_frame(self._resampler.apply(frame.image), alpha)
            picture.pts, picture.time_base = pts, shape.time_base
            tag_picture(picture, self._settings.color)
            self._durations[pts] = max(1, round(duration / shape.time_base))
            if frame.captions is not None and self._family in EMBEDDING_CODECS:
                self._captions[pts] = frame.captions
            self._first_pts = pts if self._last_pts is None else self._first_pts
            self._end_pts = pts + self._durations[pts]
            self._encode(picture)
            if self.frames_written == 0:
                check_options_known(self._stream, self._settings)
        except (av.error.FFmpegError, OSError) as error:
            raise VideoError(self._explain(error)) from error
        self._last_pts = pts
        self.frames_written += 1

    def close(self) -> None:
        """Flush the encoder, finish and rename the file. Raises VideoError on failure, and then leaves no file."""
        if self._is_closed:
            return
        if self._container is None:
            self._is_closed = True
            raise VideoError(f"{self.path}: no frames were written; expected at least one")
        try:
            self._encode(None)
            self._container.close()
            self._unfinished.replace(self.path)
        except (av.error.FFmpegError, OSError) as error:
            message = self._explain(error)
            self.discard()
            raise VideoError(message) from error
        self._is_closed = True

    def discard(self) -> None:
        """Stop, and remove the unfinished file. Safe to call at any time."""
        was_open = not self._is_closed and self._container is not None
        self._is_closed = True
        if was_open and self._container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._container.close()
        self._unfinished.unlink(missing_ok=True)

    def _open(self, image: Image) -> None:
        clock = self._shape.time_base.denominator
        while clock < MIN_MP4_CLOCK:
            clock *= 2
        is_mp4 = self.path.suffix.lower() in (".mp4", ".mov", ".m4v")
        open_new(self._unfinished).close()  # FFmpeg would follow an existing link
        self._container = av.open(
            file_url(self._unfinished), "w", container_options={"movie_timescale": str(clock)} if is_mp4 else {}
        )
        self._stream, self._builder = add_stream(self._container, self._shape, self._settings, image.dtype == np.uint16)
        self._dtype = image.dtype
        self._reorder_depth = CODECS[self._settings.codec].reorder_depth

    def _encode(self, picture: VideoFrame | None) -> None:
        """Encode a frame, or flush for None. Delays one packet, because the duration of the last one must be set."""
        assert self._container is not None and self._stream is not None
        for packet in self._stream.encode(picture):
            pts = packet.pts
            if pts is None:
                raise VideoError(f"{self.path}: {self._stream.codec_context.name} wrote a packet without a time")
            captions = self._captions.pop(pts, None)
            if captions is not None:
                packet = _with_captions(packet, self._family, captions)
            packet.duration = self._durations.pop(pts, 1)
            if self._decode_clock is None:
                frame_ticks = round(1 / self._shape.rate / self._shape.time_base)
                context = self._stream.codec_context
                if context.name == "libx264" and not context.has_b_frames:
                    self._reorder_depth = 0  # a preset or option disabled B-frames
                self._decode_clock = DecodeClock(self._reorder_depth, pts, frame_ticks)
            # The encoder's decoding times are not used: those of x265 are wrong for clips shorter than its delay.
            packet.dts = self._decode_clock.next(pts)
            if packet.dts > pts:
                raise VideoError(f"{self.path}: the encoder reorders more frames than expected; use fewer B-frames")
            if self._held is not None:
                self._container.mux(self._held)
            self._held = packet
        if picture is None and self._held is not None:
            # MP4 sums decoding intervals, so the packet that is last in decoding order must end with the last frame.
            span = self._end_pts - self._first_pts
            if self._decode_clock is not None and self._held.dts is not None:
                self._held.duration = max(1, span + self._decode_clock.first - self._held.dts)
            self._container.mux(self._held)
            self._held = None

    def _ticks(self, time: Fraction) -> int:
        ticks = time / self._shape.time_base
        if ticks.denominator != 1:
            raise VideoError(
                f"{self.path}: the frame time {time} s is not a multiple of the time base {self._shape.time_base}; "
                "use the source's time base for the writer"
            )
        return ticks.numerator

    def _explain(self, error: Exception) -> str:
        reason = getattr(error, "strerror", None) or str(error)
        if self._container is None:
            return f"{self.path}: cannot be written ({reason}); check the folder's permissions and the free disk space"
        is_of_file = getattr(error, "errno", None) in FILE_ERRORS
        if self.frames_written == 0 and not is_of_file:
            return explain_encoder(self._shape, self._settings, error)
        hint = (
            "check the free disk space"
            if is_of_file
            else f"the source's frame rate ({self._shape.rate}) or times may be damaged; convert it first"
        )
        return f"{self.path}: writing failed after {self.frames_written} frames ({reason}); {hint}"


def _with_captions(packet: Packet[VideoStream], family: str, captions: bytes) -> Packet[VideoStream]:
    """The packet of a frame with captions in it."""
    whole = cast("Packet[VideoStream]", Packet(embed_captions(bytes(packet), family, captions)))
    whole.pts, whole.time_base, whole.stream = packet.pts, packet.time_base, packet.stream
    whole.is_keyframe = packet.is_keyframe
    return whole
