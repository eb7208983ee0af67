"""Decode a video, from the start or from any frame. Does not deinterlace or convert frames."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

import av
from av.codec.context import CodecContext
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.limits import decoder_options
from ristn_cli.video.reading.source import RAW_FORMAT, open_input, seek_before
from ristn_cli.video.reading.standard_input import source_of
from ristn_cli.video.reading.streams import as_fraction, read_packets
from ristn_cli.video.reading.timestamps import is_at, is_behind, keep_timestamps
from ristn_cli.video.types import Clock, VideoError, VideoInfo

# FFmpeg's own decoders ignore the alpha channel of WebM, which is a second image in each packet.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True)
class Reading:
    """The part of a video to read, with times in seconds on the source's clock.

    Attributes:
        begin: time at which reading with the given start option begins.
        first: time of the first frame to return, `begin` or later.
        clock: clock of the frame at `first`; None if reading starts at `begin`.
        with_alpha: use a decoder that returns the alpha channel.
    """

    info: VideoInfo
    begin: Fraction
    first: Fraction
    clock: Clock | None = None
    with_alpha: bool = False


@dataclass
class Damage:
    """Counts and reports decoding errors. If strict, the first one raises VideoError."""

    path: Path
    strict: bool
    report: Callable[[str], None] | None
    count: int = field(default=0)

    def add(self, what: str) -> None:
        self.count += 1
        message = f"{self.path}: {what}"
        if self.strict:
            raise VideoError(f"{message}; run without --strict to conceal errors")
        if self.report is not None:
            self.report(message)


class _HeadDamage:
    """Delays the report of errors in frames that may be decoded again, after a seek further back."""

    def __init__(self, damage: Damage) -> None:
        self._damage = damage
        self._waiting: list[str] | None = []

    def add(self, what: str) -> None:
        if self._waiting is None:
            self._damage.add(what)
        else:
            self._waiting.append(what)

    def settle(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        for what in waiting:
            self._damage.add(what)


def time_of(frame: VideoFrame) -> Fraction:
    base = as_fraction(frame.time_base)
    assert frame.pts is not None and base is not None
    return frame.pts * base


def decoded_from(reading: Reading, damage: Damage) -> Generator[VideoFrame, None, None]:
    """Yield decoded frames from a key frame at least two frames before `begin`, after seeking further back if needed.

    bwdif needs the neighbours of a frame, and the frame shown at `begin` may start before it. With a clock, yield
    frames from the one before the clock's frame. It is found by a seek if timestamps identify it, else by counting from
    the start.
    """
    info, clock = reading.info, reading.clock
    back = 2 / info.rate
    begin = reading.begin
    if clock is not None and clock.pts is not None:
        begin = min(clock.pts, clock.pts if clock.dts is None else clock.dts) * info.time_base
    while clock is None or clock.can_be_sought:
        target = begin - back
        with open_input(source_of(info)) as container:
            keep_timestamps(container)
            stream = container.streams[info.video_index]
            assert isinstance(stream, VideoStream)
            stream.thread_type = "AUTO"
            sought = (
                target > info.start_time
                and not info.has_decoding_times_only  # their times follow from counting all frames
                and seek_before(container, stream, target)
            )
            if clock is not None and not sought:
                break
            head_damage = _HeadDamage(damage)
            frames = _decoded(reading, container, stream, sought, head_damage)
            head = list(islice(frames, 3)) if clock is None else _find(clock, frames)
            is_found = bool(head) if clock is not None else len(head) == 3 and _lies_before(head[-1], begin)
            if is_found or not sought:
                head_damage.settle()
                yield from head
                yield from frames
                return
        back = max(back * 4, Fraction(2))
    assert clock is not None
    frames = decoded_from(replace(reading, clock=None), damage)
    yield from islice(frames, clock.frames - 1, None)


def _find(clock: Clock, frames: Iterator[VideoFrame]) -> list[VideoFrame]:
    """Return the frame before the clock's frame, and that frame; nothing if it is not the third frame or later."""
    before = next(frames, None)
    for number, frame in enumerate(frames, start=2):
        if before is not None and number > 2 and is_at(clock, before, frame):
            return [before, frame]
        if is_behind(clock, frame):
            break
        before = frame
    return []


def _lies_before(frame: VideoFrame, target: Fraction) -> bool:
    base = as_fraction(frame.time_base)
    return frame.pts is not None and base is not None and frame.pts * base <= target


def _decoded(
    reading: Reading, container: InputContainer, stream: VideoStream, sought: bool, damage: _HeadDamage
) -> Iterator[VideoFrame]:
    """Yield frames from the decoder. Errors at or after `reading.first` are counted as damage and skipped."""
    decoder: VideoCodecContext | None = None
    if reading.with_alpha and stream.metadata.get("alpha_mode") == "1" and stream.codec_context.name in ALPHA_DECODERS:
        decoder = cast(VideoCodecContext, CodecContext.create(ALPHA_DECODERS[stream.codec_context.name], "r"))
        decoder.options = decoder_options()
    awaits_keyframe = sought
    is_cut = False
    last: tuple[int | None, int | None] | None = None

    def report(error: av.error.FFmpegError) -> None:
        damage.add(f"has unreadable data ({error.strerror})")

    whole = 0  # bytes of a complete raw frame
    for packet in read_packets(container, stream, report):
        if awaits_keyframe and packet.size and not packet.is_keyframe:
            continue
        awaits_keyframe = False
        if reading.info.container == RAW_FORMAT and packet.is_corrupt and packet.pts is not None:
            damage.add(f"ends in the middle of frame {packet.pts + 1}: {packet.size} of {whole} bytes")
            continue
        whole = packet.size
        is_cut = packet.is_corrupt if packet.size else is_cut
        base = as_fraction(packet.time_base)
        try:
            frames = packet.decode() if decoder is None else decoder.decode(packet if packet.size else None)
        except av.error.FFmpegError as error:
            if not packet.size and decoder is None and stream.codec_context.thread_count != 1:
                is_cut = True
                continue
            stamp = packet.dts if packet.pts is None else packet.pts
            time = None if stamp is None or base is None else stamp * base
            if time is None or time >= reading.first:
                where = "" if time is None else f" at {float(time):.3f} s"
                damage.add(f"a video packet{where} cannot be decoded ({error.strerror})")
            continue
        for frame in frames:
            last = frame.pts, frame.dts  # the consumer may change the frame's pts
            yield frame
    if is_cut and decoder is None and stream.codec_context.thread_count != 1:
        if reading.info.stream is None:
            yield from _decoded_tail(reading, last, damage)
        else:  # a stream cannot be read again
            damage.add("ends within a packet: that frame is lost, and so may be a few just before it")


def _decoded_tail(
    reading: Reading, last: tuple[int | None, int | None] | None, damage: _HeadDamage
) -> Iterator[VideoFrame]:
    """Yield the frames after `last` (pts and dts) of a video whose last packet is cut short.

    If that packet cannot be decoded, PyAV drops the frames that decoder threads have not returned yet. So this decoder
    is single-threaded.
    """
    info = reading.info
    for seeks in (True, False):
        with open_input(source_of(info)) as container:
            keep_timestamps(container)
            stream = container.streams[info.video_index]
            assert isinstance(stream, VideoStream)
            stream.codec_context.thread_count = 1
            time = Fraction(0) if last is None or last[0] is None else last[0] * info.time_base
            sought = seeks and time > info.start_time and seek_before(container, stream, time - 2 / info.rate)
            behind = replace(reading, first=max(reading.first, time), with_alpha=False)
            frames = _decoded(behind, container, stream, sought, damage)
            if last is None or any((frame.pts, frame.dts) == last for frame in frames):
                yield from frames
                return
