"""Frames into a file of one video stream, with exact timestamps and colour tags. Knows nothing of other streams.

A part is an MP4 (ProRes: MOV) whose track clock is a multiple of the source's time base and whose start is an edit list
on the same clock, so that every timestamp, of variable rate too, is held exactly; Matroska would round to milliseconds.
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

# The slowest clock movenc keeps as it is; slower ones it doubles until they are above.
SLOWEST_MP4_CLOCK = 10000
# What the file, not the encoder, may fail with.
FILE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)


class DecodeClock:
    """Decoding times for packets in decoding order, from their presentation times alone.

    With pictures reordered by at most d, the i-th packet may be decoded at the (i - d)-th presentation time: that never
    lies after its own, and never goes back. The first d are spaced evenly over one nominal frame, of `frame_ticks`,
    before the first presentation time: no more, so that the last packet's interval can make up for it.
    """

    def __init__(self, reorder_depth: int, first_pts: int, frame_ticks: int) -> None:
        self._spacing = max(1, frame_ticks // max(1, reorder_depth))
        self.first = first_pts - reorder_depth * self._spacing
        self._lead = reorder_depth
        self._count = 0
        self._waiting: list[int] = []

    def next(self, pts: int) -> int:
        """The decoding time of the next packet, which is presented at `pts`; both in ticks."""
        heapq.heappush(self._waiting, pts)
        self._count += 1
        if self._count <= self._lead:
            return self.first + (self._count - 1) * self._spacing
        return heapq.heappop(self._waiting)


class FrameWriter:
    """Encodes frames into `path`, which appears only when `close` has succeeded.

    Frames are RGB (H, W, 3), uint8 or uint16 on the full scale; the first decides for all. They are of the shape's
    `frame_size` and resampled to its size, and so is their transparency, which may be of any size. Their times are
    absolute, lie on the shape's `time_base`, and are kept. Their closed captions go into the encoded pictures, if the
    codec can carry them. As a context manager, an exception removes what was written.
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
        """Encode one frame. Raises VideoError when it does not fit the others, or when encoding or writing fails."""
        shape = self._shape
        if self._is_closed:
            raise VideoError(f"{self.path}: a frame was written after the file was closed")
        width, height = shape.given_size
        if frame.image.shape != (height, width, 3):
            raise VideoError(f"{self.path}: got a frame of shape {frame.image.shape}, expected {width}x{height} RGB")
        if self._dtype is not None and frame.image.dtype != self._dtype:
            raise VideoError(f"{self.path}: got a {frame.image.dtype} frame, expected {self._dtype} as the first")
        pts = self._ticks(frame.time)
        if self._last_pts is not None and pts <= self._last_pts:
            raise VideoError(f"{self.path}: frame times must grow: {frame.time} s follows a later or equal one")
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
        """Flush the encoder, finish the file and give it its name. Raises VideoError; then nothing is left behind."""
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
        """Stop and remove what was written; safe to call at any time."""
        was_open = not self._is_closed and self._container is not None
        self._is_closed = True
        if was_open and self._container is not None:
            with contextlib.suppress(av.error.FFmpegError, OSError):
                self._container.close()
        self._unfinished.unlink(missing_ok=True)

    def _open(self, image: Image) -> None:
        clock = self._shape.time_base.denominator
        while clock < SLOWEST_MP4_CLOCK:
            clock *= 2
        is_mp4 = self.path.suffix.lower() in (".mp4", ".mov", ".m4v")
        open_new(self._unfinished).close()  # FFmpeg would follow a link of this name
        self._container = av.open(
            file_url(self._unfinished), "w", container_options={"movie_timescale": str(clock)} if is_mp4 else {}
        )
        self._stream, self._builder = add_stream(self._container, self._shape, self._settings, image.dtype == np.uint16)
        self._dtype = image.dtype
        self._reorder_depth = CODECS[self._settings.codec].reorder_depth

    def _encode(self, picture: VideoFrame | None) -> None:
        """Encode a picture, or flush at None. One packet is held back, because the last one's duration is special."""
        assert self._container is not None and self._stream is not None
        for packet in self._stream.encode(picture):
            pts = packet.pts
            if pts is None:
                raise VideoError(f"{self.path}: {self._stream.codec_context.name} gave a packet without a time")
            captions = self._captions.pop(pts, None)
            if captions is not None:
                packet = _with_captions(packet, self._family, captions)
            packet.duration = self._durations.pop(pts, 1)
            if self._decode_clock is None:
                frame_ticks = round(1 / self._shape.rate / self._shape.time_base)
                context = self._stream.codec_context
                if context.name == "libx264" and not context.has_b_frames:
                    self._reorder_depth = 0  # by the preset or an option: no interval has to make up for any
                self._decode_clock = DecodeClock(self._reorder_depth, pts, frame_ticks)
            # Not the encoder's own: x265 gives nonsense for clips shorter than its delay.
            packet.dts = self._decode_clock.next(pts)
            if packet.dts > pts:
                raise VideoError(
                    f"{self.path}: the encoder reorders pictures deeper than it states; use fewer B-frames"
                )
            if self._held is not None:
                self._container.mux(self._held)
            self._held = packet
        if picture is None and self._held is not None:
            # MP4 sums decoding intervals, so it is the last *decoded* packet that must end where the last frame ends.
            span = self._end_pts - self._first_pts
            if self._decode_clock is not None and self._held.dts is not None:
                self._held.duration = max(1, span + self._decode_clock.first - self._held.dts)
            self._container.mux(self._held)
            self._held = None

    def _ticks(self, time: Fraction) -> int:
        ticks = time / self._shape.time_base
        if ticks.denominator != 1:
            raise VideoError(
                f"{self.path}: a frame at {time} s does not lie on the time base {self._shape.time_base}; "
                "give the writer the source's time base"
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
