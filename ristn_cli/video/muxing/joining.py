"""Join the packets of encoded parts to one stream, with exact times and unchanged content."""

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

# Our encoders reorder at most 16 frames. This many packets of each part are checked.
MAX_REORDERED = 17
# Start of the pipe's clock, in seconds times the time base's numerator: later than any reordering reaches back.
PIPE_DELAY = 100
PIPE_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class PartLayout:
    """What all parts have in common, the depth of reordering, and the time of the first frame.

    `first_pts`, and `frame_ticks`, a nominal frame duration, are in ticks of `time_base`. `adds_intervals` is true if
    the target sums decoding intervals to find the end of a track (MP4, MOV), false if it uses the last frame.
    """

    codec: str
    time_base: Fraction
    reorder_depth: int
    first_pts: int
    frame_ticks: int
    adds_intervals: bool = True

    @property
    def pipe_format(self) -> str:
        return "mov" if self.codec == "prores" else "mp4"


def read_layout(parts: Sequence[Path], rate: Fraction) -> PartLayout:
    """Read the start of every part. Raises VideoError if one has no frames, or a different format than the first."""
    depth = 0
    layout: PartLayout | None = None
    expected: tuple[object, ...] = ()
    for path in parts:
        with open_input(path) as container:
            stream = main_video_stream(container, path)
            context = stream.codec_context
            head = list(islice((packet for packet in container.demux(stream) if packet.size), MAX_REORDERED))
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
                raise VideoError(f"{path}: differs in format from {parts[0]}; encode all parts with the same settings")
            depth = max(depth, sum(packet.dts is not None and packet.dts < head[0].pts for packet in head))
    assert layout is not None
    return replace(layout, reorder_depth=depth)


def joined_packets(parts: Iterable[Path], layout: PartLayout) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of all parts with their presentation times, and new decoding times for the whole stream."""
    clock: DecodeClock | None = None
    previous: Packet[VideoStream] | None = None
    held: deque[Packet[VideoStream]] = deque()
    end_pts = 0

    def release() -> Packet[VideoStream]:
        """Return the first of `held`, with its decoding time."""
        packet = held.popleft()
        assert clock is not None and packet.pts is not None
        packet.dts = clock.next(packet.pts)
        if not layout.adds_intervals:
            # Muxers convert decoding intervals to durations. If a frame is shown for long, the long interval must
            # belong to the packet before it. Otherwise the track would seem to be longer by that interval.
            soonest = min((later.pts or 0) - number for number, later in enumerate((packet, *held)))
            packet.dts = max(packet.dts, soonest - layout.reorder_depth * layout.frame_ticks)
        return packet

    for path in parts:
        with open_input(path) as container:
            stream = main_video_stream(container, path)
            # The end of the last frame is that of the track, which FrameWriter sets exactly.
            part_end = (stream.start_time or 0) + (stream.duration or 0)
            for packet in container.demux(stream):
                if not packet.size or packet.pts is None:
                    continue
                if clock is None:
                    end_pts = packet.pts
                    clock = DecodeClock(layout.reorder_depth, packet.pts, layout.frame_ticks)
                elif packet.is_keyframe and packet.pts < end_pts:
                    raise VideoError(f"{path}: starts before the previous part ends; the parts are out of order")
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
        # As in FrameWriter, the packet that is last in decoding order must end with the last frame.
        begins = layout.first_pts - clock.first + previous.dts if layout.adds_intervals else previous.pts or 0
        previous.duration = max(1, end_pts - begins)
        yield previous


def feed_parts(parts: Iterable[Path], layout: PartLayout, pipe: IO[bytes]) -> None:
    """Write the joined packets to ffmpeg as fragmented MP4 (ProRes: MOV), starting at a whole number of seconds.

    A part is opened after the previous one was read, so that `parts` may still be in progress. Fragments cannot start
    before zero, where B-frames decode. Whole seconds are exact in every time base.
    """
    options = {"movflags": "frag_every_frame+empty_moov+default_base_moof+frag_discont", "use_editlist": "0"}
    delay = PIPE_DELAY * layout.time_base.denominator - layout.first_pts
    coming = iter(parts)
    beginning = next(coming)
    with av.open(
        pipe, "w", format=layout.pipe_format, container_options=options, buffer_size=PIPE_BUFFER_BYTES
    ) as output:
        # Close it before the next part is requested: then a part may be removed, which Windows refuses for open files.
        with open_input(beginning) as first:
            stream = output.add_stream_from_template(main_video_stream(first, beginning), opaque=True)
        stream.time_base = layout.time_base
        for packet in joined_packets(chain([beginning], coming), layout):
            assert packet.pts is not None and packet.dts is not None
            packet.pts += delay
            packet.dts += delay
            packet.stream = stream
            output.mux(packet)
