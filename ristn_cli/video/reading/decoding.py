"""Decoding a video from any frame on, by hardware or software. Knows nothing of deinterlacing and conversion."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import cast

import av
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.limits import decoder_options
from ristn_cli.video.reading.hardware import (
    Decoder,
    HardwareDamage,
    HardwareError,
    as_software,
    open_nvdec,
    prepare_nvdec,
    why_not_nvdec,
)
from ristn_cli.video.reading.source import open_input, seek_before
from ristn_cli.video.reading.streams import as_fraction, read_packets
from ristn_cli.video.reading.timestamps import is_at, is_behind, keep_timestamps
from ristn_cli.video.types import Clock, VideoError, VideoInfo

log = logging.getLogger("ristn.video")

# FFmpeg's own decoders pass over the second picture that WebM keeps its transparency in.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass(frozen=True)
class Reading:
    """What to read of a video: what a reading from `begin` on gives from `first` on, in seconds on the source's clock.

    `clock` is that of the frame shown at `first`, None where that reading's first frame is to be read.
    """

    info: VideoInfo
    begin: Fraction
    first: Fraction
    clock: Clock | None = None


@dataclass
class Damage:
    """Counts what could not be decoded; raises at the first when strict."""

    path: Path
    strict: bool
    report: Callable[[str], None] | None
    count: int = field(default=0)

    def add(self, what: str) -> None:
        self.count += 1
        message = f"{self.path}: {what}"
        if self.strict:
            raise VideoError(f"{message}; read without --strict to conceal it and go on")
        if self.report is not None:
            self.report(message)


class _HeadDamage:
    """Damage of frames that may be read again from further back: counted once it is settled that they are not."""

    def __init__(self, damage: Damage | HardwareDamage) -> None:
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


def decoded_by(decoder: Decoder, reading: Reading, damage: Damage, with_alpha: bool) -> Iterator[VideoFrame]:
    """Frames by hardware as long as it gives what software would, then by software from the next frame on."""
    info = reading.info
    last: tuple[int, Fraction] | None = None  # whoever takes a frame may set its time
    if decoder != "software":
        try:
            reason = why_not_nvdec(info, with_alpha=with_alpha, strict=damage.strict)
            if reason is not None:
                raise HardwareError(reason)
            for frame in as_software(decoded_from(reading, HardwareDamage(), False, open_nvdec()), info):
                assert frame.pts is not None  # `as_software` gives no others
                last = frame.pts, time_of(frame)
                yield frame
            if last is not None:
                return
            raise HardwareError("it gave no picture")
        except (HardwareError, av.error.FFmpegError) as error:
            if last is None and decoder == "nvdec":
                raise VideoError(f"{info.path}: NVDEC cannot decode it ({error}); use --decoder auto") from error
            where = "" if last is None else f" after {float(last[1]):.3f} s"
            log.warning("%s: decoded in software%s, not by NVDEC: %s", info.path, where, error)
    if last is None:
        yield from decoded_from(reading, damage, with_alpha)
        return
    pts, time = last
    first = max(reading.first, time)
    frames = decoded_from(Reading(info, first, first), damage, with_alpha)
    if not any(frame.pts == pts for frame in frames):
        raise VideoError(
            f"{info.path}: the picture at {float(time):.3f} s, the last by NVDEC, was not found again in "
            "software; the same command with --decoder software goes on"
        )
    yield from frames


def time_of(frame: VideoFrame) -> Fraction:
    base = as_fraction(frame.time_base)
    assert frame.pts is not None and base is not None
    return frame.pts * base


def decoded_from(
    reading: Reading, damage: Damage | HardwareDamage, with_alpha: bool, hwaccel: HWAccel | None = None
) -> Generator[VideoFrame, None, None]:
    """Decoded frames from a keyframe before `begin`, two frames before at least: tried further back until it is so.

    Two, because bwdif looks at the neighbours of a frame, and the frame shown at `begin` may have begun before it. With
    a clock: from the frame before the clock's on, by seeking where timestamps tell it from others.
    """
    info, clock = reading.info, reading.clock
    back = 2 / info.rate
    begin = reading.begin
    if clock is not None and clock.pts is not None:
        begin = min(clock.pts, clock.pts if clock.dts is None else clock.dts) * info.time_base
    while clock is None or clock.can_be_sought:
        target = begin - back
        with open_input(info.path, hwaccel) as container:
            keep_timestamps(container)
            stream = container.streams[info.video_index]
            assert isinstance(stream, VideoStream)
            stream.thread_type = "AUTO"
            if hwaccel is not None:
                prepare_nvdec(stream)
            sought = (
                target > info.start_time
                and not info.has_decoding_times_only  # which frame is shown when takes counting from the first
                and seek_before(container, stream, target)
            )
            if clock is not None and not sought:
                break
            head_damage = _HeadDamage(damage)
            frames = _decoded(info, container, stream, sought, reading.first, head_damage, with_alpha)
            head = list(islice(frames, 3)) if clock is None else _find(clock, frames)
            is_found = bool(head) if clock is not None else len(head) == 3 and _lies_before(head[-1], begin)
            if is_found or not sought:
                head_damage.settle()
                yield from head
                yield from frames
                return
        back = max(back * 4, Fraction(2))
    assert clock is not None
    frames = decoded_from(replace(reading, clock=None), damage, with_alpha, hwaccel)
    yield from islice(frames, clock.frames - 1, None)


def _find(clock: Clock, frames: Iterator[VideoFrame]) -> list[VideoFrame]:
    """The frame before the clock's, and the clock's, which must be the third at least; nothing where it is missing."""
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
    info: VideoInfo,
    container: InputContainer,
    stream: VideoStream,
    sought: bool,
    first: Fraction,
    damage: _HeadDamage,
    with_alpha: bool,
) -> Iterator[VideoFrame]:
    """Frames as the decoder gives them; what fails at or after `first` is counted as damage and skipped."""
    decoder: VideoCodecContext | None = None
    if with_alpha and stream.metadata.get("alpha_mode") == "1" and stream.codec_context.name in ALPHA_DECODERS:
        decoder = cast(VideoCodecContext, CodecContext.create(ALPHA_DECODERS[stream.codec_context.name], "r"))
        decoder.options = decoder_options()
    awaits_keyframe = sought
    is_cut = False
    last: tuple[int | None, int | None] | None = None

    def report(error: av.error.FFmpegError) -> None:
        damage.add(f"has unreadable data ({error.strerror})")

    for packet in read_packets(container, stream, report):
        if awaits_keyframe and packet.size and not packet.is_keyframe:
            continue
        awaits_keyframe = False
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
            if time is None or time >= first:
                where = "" if time is None else f" at {float(time):.3f} s"
                damage.add(f"a video packet{where} cannot be decoded ({error.strerror})")
            continue
        for frame in frames:
            last = frame.pts, frame.dts  # whoever takes a frame may set its time
            yield frame
    if is_cut and decoder is None and stream.codec_context.thread_count != 1:
        if info.path.is_file():
            yield from _decoded_tail(info, last, first, damage)
        else:  # a pipe is read once
            damage.add("ends within a packet: that frame is lost, and so may be a few just before it")


def _decoded_tail(
    info: VideoInfo, last: tuple[int | None, int | None] | None, first: Fraction, damage: _HeadDamage
) -> Iterator[VideoFrame]:
    """The frames behind the `last` that threads gave, by its timestamps: of a video whose last packet is cut short.

    Where that packet cannot be decoded, PyAV drops the frames that the threads have not given yet.
    """
    for seeks in (True, False):
        with open_input(info.path) as container:
            keep_timestamps(container)
            stream = container.streams[info.video_index]
            assert isinstance(stream, VideoStream)
            stream.codec_context.thread_count = 1
            time = Fraction(0) if last is None or last[0] is None else last[0] * info.time_base
            sought = seeks and time > info.start_time and seek_before(container, stream, time - 2 / info.rate)
            frames = _decoded(info, container, stream, sought, max(first, time), damage, False)
            if last is None or any((frame.pts, frame.dts) == last for frame in frames):
                yield from frames
                return
