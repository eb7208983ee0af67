"""Closed captions (CEA-608 and CEA-708) in a source's pictures: whether there are any, and their text."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle

from ristn_cli.video.formats import file_url
from ristn_cli.video.reading.decoding import Damage, Reading, decoded_from
from ristn_cli.video.reading.sidedata import read_captions
from ristn_cli.video.reading.source import open_input
from ristn_cli.video.reading.streams import read_packets
from ristn_cli.video.reading.timestamps import Estimator
from ristn_cli.video.types import VideoInfo

# Captions in packets, as FFmpeg's decoders know them: ATSC A/53, and in MPEG-2 those of DVD, SCTE 20 and Dish Network.
A53 = rb"GA94\x03[\x40-\x7f\xc0-\xff]"
REGISTERED = re.compile(rb"\xb5\x00\x31" + A53, re.DOTALL)
MPEG = re.compile(rb"\x00\x00\x01\xb2(?:" + A53 + rb"|CC\x01\xf8|\x03[\x01\x81]|\x05\x02)", re.DOTALL)
PATTERNS = {"h264": REGISTERED, "hevc": REGISTERED, "av1": REGISTERED, "mpeg2video": MPEG, "mpeg1video": MPEG}
# Where captions are looked for: so many runs of packets, spread over the video.
SAMPLES = 4
SAMPLE_PACKETS = 120
# Captions are read from as much before a range: what is shown at its beginning was sent before.
LEAD_SECONDS = Fraction(10)
# FFmpeg's "Raw Captions With Time": the header of a file, written by a program of number 0.
RCWT_HEADER = bytes.fromhex("cccced 00 0050 0001 000000")
# Twice "erase displayed memory" in the first field: it ends what is still shown.
ERASE = bytes.fromhex("fc942c fc942c")


@dataclass(frozen=True)
class Caption:
    """Text shown from `start` to `end`, in seconds on the source's clock. Italics are in `<i>`."""

    start: Fraction
    end: Fraction
    text: str


def find_captions(info: VideoInfo, *, everywhere: bool = False) -> VideoInfo:
    """The same with `has_captions`, by what is in some packets from several places, or in any packet (`everywhere`)."""
    pattern = PATTERNS.get(info.codec)
    if info.has_captions or pattern is None or info.stream is not None or info.is_still or info.is_image_sequence:
        return info
    with open_input(info.path) as container:
        stream = container.streams[info.video_index]
        samples = SAMPLES if info.duration and not everywhere else 1
        for index in range(samples):
            if index:
                time = info.start_time + info.duration * Fraction(index, samples) if info.duration else Fraction(0)
                try:
                    container.seek(int(time * av.time_base), backward=True)
                except av.error.FFmpegError:
                    break
            packets = islice(read_packets(container, stream), None if everywhere else SAMPLE_PACKETS)
            if any(pattern.search(bytes(packet)) for packet in packets if packet.size):
                return replace(info, has_captions=True)
    return info


def read_caption_text(info: VideoInfo, first: Fraction, last: Fraction | None, scratch: Path) -> Iterator[Caption]:
    """Captions shown from `first` to before `last`, seconds on the source's clock, cut there; decoded by FFmpeg.

    These are the CEA-608 captions of the field that has any first, usually CC1. `scratch` is a file for the raw ones.
    """
    begin = max(info.start_time, first - LEAD_SECONDS)
    _write_raw(info, begin, last, scratch)
    with av.open(file_url(scratch), "r", "rcwt") as container:
        stream = container.streams[0]
        assert isinstance(stream, SubtitleStream)
        for packet in container.demux(stream):
            decoded = stream.codec_context.decode2(packet)
            if decoded is None:
                continue
            shown = begin + Fraction(decoded.pts or 0, av.time_base)
            start = shown + Fraction(decoded.start_display_time, 1000)
            end = shown + Fraction(decoded.end_display_time, 1000)
            start, end = max(start, first), end if last is None else min(end, last)
            texts = [_plain(rectangle.dialogue) for rectangle in decoded.rects if isinstance(rectangle, AssSubtitle)]
            text = "\n".join(filter(None, texts))
            if text and start < end:
                yield Caption(start, end, text)


def _write_raw(info: VideoInfo, begin: Fraction, last: Fraction | None, path: Path) -> None:
    """The triplets of each frame with its time, in milliseconds from `begin` on."""
    estimator = Estimator(info)
    end = begin
    with path.open("wb") as file:
        file.write(RCWT_HEADER)
        for frame in decoded_from(Reading(info, begin, begin), Damage(info.path, False, None)):
            captions, time = read_captions(frame), estimator.stamp(frame).time
            if last is not None and time >= last:
                break
            if time >= begin:
                end = time + 1 / info.rate
                if captions:
                    file.write(_raw_block(time - begin, captions))
        file.write(_raw_block((end if last is None else max(end, last)) - begin, ERASE))


def _raw_block(time: Fraction, triplets: bytes) -> bytes:
    return struct.pack("<qH", round(1000 * time), len(triplets) // 3) + triplets


def _plain(dialogue: bytes) -> str:
    """ASS, whose line breaks PyAV has replaced, as SubRip: of its markup only italics are left."""
    text = dialogue.decode("utf-8", "replace")
    text = text.replace(r"{\i1}", "<i>").replace(r"{\i0}", "</i>").replace(r"\h", " ")
    lines = (line.strip() for line in re.sub(r"\{[^}]*\}", "", text).splitlines())
    return "\n".join(filter(None, lines))


def format_subrip(captions: list[Caption], zero: Fraction) -> str:
    """Captions as a SubRip file, whose clock is 0 at `zero`."""
    blocks = []
    for number, caption in enumerate(captions, start=1):
        span = " --> ".join(_stamp(time - zero) for time in (caption.start, caption.end))
        blocks.append(f"{number}\n{span}\n{caption.text}\n")
    return "\n".join(blocks)


def _stamp(time: Fraction) -> str:
    seconds, milliseconds = divmod(round(1000 * time), 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02},{milliseconds:03}"
