"""Encoded parts as one stream of packets, each at its own time, without touching what is in them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import IO

import av
from av.packet import Packet
from av.video.stream import VideoStream

from ristn_cli.video.reading.source import open_input
from ristn_cli.video.reading.streams import as_fraction, main_video_stream
from ristn_cli.video.types import VideoError
from ristn_cli.video.writing.writer import DecodeClock

# The deepest reordering any of our encoders uses is 16 pictures; looked at once per part.
MOST_REORDERED = 17
# Where the pipe's clock begins, in seconds times the time base's numerator: later than any reordering reaches back.
PIPE_DELAY = 100
PIPE_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class PartLayout:
    """What the parts have in common, how deep their pictures are reordered, and the time of the first.

    `first_pts` and `frame_ticks`, a frame at the nominal rate, are in ticks of `time_base`. `adds_intervals` is true of
    a target that sums decoding intervals to know where a track ends (MP4, MOV), false where the last frame tells.
    """

    codec: str
    time_base: Fraction
    reorder_depth: int
    first_pts: int
    frame_ticks: int
    adds_intervals: bool = True

    @property
    def pipe_format(self) -> str:
        """MP4 for all that it holds, MOV for ProRes."""
        return "mov" if self.codec == "prores" else "mp4"


def read_layout(parts: Sequence[Path], rate: Fraction) -> PartLayout:
    """Look at every part; VideoError for one that has no frames or was encoded otherwise than the first."""
    depth = 0
    layout: PartLayout | None = None
    expected: tuple[object, ...] = ()
    for path in parts:
        with open_input(path) as container:
            stream = main_video_stream(container, path)
            context = stream.codec_context
            head = list(islice((packet for packet in container.demux(stream) if packet.size), MOST_REORDERED))
            time_base = as_fraction(stream.time_base)
            if not head or head[0].pts is None or time_base is None:
                raise VideoError(f"{path}: has no frames; delete this part and run again")
            size = (context.width, context.height)
            found = (context.codec.canonical_name, size, context.pix_fmt, time_base, context.extradata)
            if layout is None:
                frame_ticks = max(1, round(1 / rate / time_base))
                expected = found
                layout = PartLayout(context.codec.canonical_name, time_base, 0, head[0].pts, frame_ticks)
            elif found != expected:
                raise VideoError(
                    f"{path}: was encoded otherwise than {parts[0]}; encode all parts with the same settings"
                )
            depth = max(depth, sum(packet.dts is not None and packet.dts < head[0].pts for packet in head))
    assert layout is not None
    return replace(layout, reorder_depth=depth)


def joined_packets(parts: Iterable[Path], layout: PartLayout) -> Iterator[Packet[VideoStream]]:
    """Packets of all parts with their own presentation times, and decoding times made anew for the whole."""
    clock: DecodeClock | None = None
    previous: Packet[VideoStream] | None = None
    held: deque[Packet[VideoStream]] = deque()
    end_pts = 0

    def release() -> Packet[VideoStream]:
        """The first of `held`, with its decoding time."""
        packet = held.popleft()
        assert clock is not None and packet.pts is not None
        packet.dts = clock.next(packet.pts)
        if not layout.adds_intervals:
            # Intervals become durations on the way. The one that spans a hold is given to the last packet before it,
            # for behind it the track would seem to go on for as long again.
            soonest = min((later.pts or 0) - number for number, later in enumerate((packet, *held)))
            packet.dts = max(packet.dts, soonest - layout.reorder_depth * layout.frame_ticks)
        return packet

    for path in parts:
        with open_input(path) as container:
            stream = main_video_stream(container, path)
            # The end of the last frame: the track's own, which FrameWriter makes exact.
            part_end = (stream.start_time or 0) + (stream.duration or 0)
            for packet in container.demux(stream):
                if not packet.size or packet.pts is None:
                    continue
                if clock is None:
                    end_pts = packet.pts
                    clock = DecodeClock(layout.reorder_depth, packet.pts, layout.frame_ticks)
                elif packet.is_keyframe and packet.pts < end_pts:
                    raise VideoError(f"{path}: begins before the part in front of it ends; the parts are out of order")
                held.append(packet)
                if len(held) > layout.reorder_depth:
                    if previous is not None:
                        yield previous
                    previous = release()
            end_pts = part_end
    while held:
        if previous is not None:
            yield previous
        previous = release()
    if previous is not None and previous.dts is not None and clock is not None:
        # As FrameWriter does: the last decoded packet must end where the last frame ends.
        begins = layout.first_pts - clock.first + previous.dts if layout.adds_intervals else previous.pts or 0
        previous.duration = max(1, end_pts - begins)
        yield previous


def feed_parts(parts: Iterable[Path], layout: PartLayout, pipe: IO[bytes]) -> None:
    """Write the joined packets to ffmpeg as fragmented MP4 (ProRes: MOV), the first at a whole number of seconds.

    A part is opened when all of the one before it was read, so that `parts` may still be in the making.

    A fragment cannot begin before zero, where B-frames decode; and a whole number of seconds is exact on every clock.
    """
    options = {"movflags": "frag_every_frame+empty_moov+default_base_moof+frag_discont", "use_editlist": "0"}
    delay = PIPE_DELAY * layout.time_base.denominator - layout.first_pts
    coming = iter(parts)
    beginning = next(coming)
    with av.open(
        pipe, "w", format=layout.pipe_format, container_options=options, buffer_size=PIPE_BUFFER_BYTES
    ) as output:
        # Closed again at once: a part may be removed when the next is asked for, which Windows refuses for open files.
        with open_input(beginning) as first:
            stream = output.add_stream_from_template(main_video_stream(first, beginning), opaque=True)
        stream.time_base = layout.time_base
        for packet in joined_packets(chain([beginning], coming), layout):
            assert packet.pts is not None and packet.dts is not None
            packet.pts += delay
            packet.dts += delay
            packet.stream = stream
            output.mux(packet)
