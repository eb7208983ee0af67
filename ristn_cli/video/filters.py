"""Chains of FFmpeg's filters, and the lock for whoever reads what they log. Knows no files."""

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

# FFmpeg has one log level for all threads. Two that raise it at once would leave it raised, and then a decoder's own
# threads, which need Python's lock to log, stand still where that waits for them.
LOG_LOCK = threading.Lock()
# Meanwhile other threads' messages of FFmpeg go to Python's log, which prints what no handler takes.
logging.getLogger("libav").addHandler(logging.NullHandler())
LARGEST_STRIP = 2**22


class Chain:
    """A straight line of libavfilter filters behind a source of one fixed picture format."""

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
        """Give one picture to the first filter; None ends the stream."""
        self._source.push(frame)

    def pull(self) -> VideoFrame | None:
        """The next finished picture, or None when the filters want more input or are at their end."""
        try:
            return cast(VideoFrame, self._sink.pull())
        except (av.error.BlockingIOError, av.error.EOFError):
            return None

    def apply(self, frame: VideoFrame) -> VideoFrame:
        """Push one picture through filters that give one for one."""
        self.push(frame)
        result = self.pull()
        if result is None:
            raise VideoError("the colour conversion gave no picture; this is a defect of ristn, please report it")
        return result


def strips(frame: VideoFrame) -> Iterator[VideoFrame]:
    """The frame from top to bottom in pieces of at most LARGEST_STRIP pixels, so that converting it takes no memory."""
    rows = max(2, LARGEST_STRIP // frame.width // 2 * 2)
    if rows >= frame.height:
        yield frame
        return
    for top in range(0, frame.height, rows):
        height = min(rows, frame.height - top)
        yield Chain(frame, [("crop", f"iw:{height}:0:{top}:exact=1")]).apply(frame)
