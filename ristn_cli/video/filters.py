"""Chains of FFmpeg filters, and a lock for code that reads FFmpeg's log. Does not know files."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
import av.filter
import av.logging
from av.video.frame import VideoFrame

from ristn_cli.video.types import VideoError

# FFmpeg has one log level for all threads. If two threads raised it at once, it would stay raised. While it is raised,
# decoder threads that log wait for Python's interpreter lock, and a thread that waits for them with that lock would
# deadlock. So decoders are flushed, which waits without the lock, before they are freed.
LOG_LOCK = threading.Lock()
# While one thread captures the log, FFmpeg messages of other threads reach Python's logging, which prints messages
# without a handler.
logging.getLogger("libav").addHandler(logging.NullHandler())
MAX_STRIP_PIXELS = 2**22


class Chain:
    """A linear chain of libavfilter filters for frames of one size and pixel format."""

    def __init__(
        self, frame: VideoFrame, filters: list[tuple[str, str]], time_base: Fraction = Fraction(1, 1000)
    ) -> None:
        graph = av.filter.Graph()
        source = graph.add(
            "buffer",
            f"video_size={frame.width}x{frame.height}:pix_fmt={frame.format.name}:"
            f"time_base={time_base.numerator}/{time_base.denominator}:pixel_aspect=1/1:"
            f"colorspace={int(frame.colorspace)}:range={int(frame.color_range)}",
        )
        last = source
        for name, arguments in filters:
            following = graph.add(name, arguments)
            last.link_to(following)
            last = following
        sink = graph.add("buffersink")
        last.link_to(sink)
        graph.configure()
        self._graph, self._source, self._sink = graph, source, sink

    def push(self, frame: VideoFrame | None) -> None:
        """Pass a frame to the first filter; None ends the stream."""
        self._source.push(frame)

    def pull(self) -> VideoFrame | None:
        """Return the next output frame, or None if the filters need more input or have ended."""
        try:
            return cast(VideoFrame, self._sink.pull())
        except (av.error.BlockingIOError, av.error.EOFError):
            return None

    def apply(self, frame: VideoFrame) -> VideoFrame:
        """Return the output for one frame. Only for filters that output one frame for each input frame."""
        self.push(frame)
        result = self.pull()
        if result is None:
            raise VideoError("the colour conversion returned no frame; this is a bug in ristn, please report it")
        return result


def strips(frame: VideoFrame) -> Iterator[VideoFrame]:
    """Yield horizontal strips of at most MAX_STRIP_PIXELS pixels, to convert a large frame with little memory."""
    rows = max(2, MAX_STRIP_PIXELS // frame.width // 2 * 2)
    if rows >= frame.height:
        yield frame
        return
    for top in range(0, frame.height, rows):
        height = min(rows, frame.height - top)
        yield Chain(frame, [("crop", f"iw:{height}:0:{top}:exact=1")]).apply(frame)
