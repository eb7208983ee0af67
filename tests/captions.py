"""Closed captions for tests: clips whose pictures carry them, and what FFmpeg finds in a file."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import av
import imageio_ffmpeg
from clips import make_clip

# CEA-608, channel CC1, with odd parity: a caption is loaded out of sight, shown, and erased.
LOAD, ROW, SHOW, ERASE = b"\x94\x20", b"\x94\xe0", b"\x94\x2f", b"\x94\x2c"
CEA_708 = b"\xff\x02\x21\xfe\x43\x41"
"""A packet of CEA-708, which no decoder here reads."""


def in_field_one(pair: bytes) -> bytes:
    """A triplet of two bytes of CEA-608."""
    return b"\xfc" + pair


def with_parity(text: str) -> bytes:
    """ASCII with odd parity."""
    return bytes(value | (0x80 if value.bit_count() % 2 == 0 else 0) for value in text.encode())


def pop_on(text: str, shown: int, erased: int) -> dict[int, bytes]:
    """Triplets by frame of a caption of an even length that is shown from frame `shown` to before `erased`."""
    coded = with_parity(text)
    pairs = [LOAD, ROW, *(coded[at : at + 2] for at in range(0, len(coded), 2)), SHOW]
    begin = shown - len(pairs) + 1
    assert begin >= 0
    frames = {begin + number: in_field_one(pair) for number, pair in enumerate(pairs)}
    return {number: triplet + CEA_708 for number, triplet in {**frames, erased: in_field_one(ERASE)}.items()}


def registered(triplets: bytes) -> bytes:
    """The user data of ATSC A/53 behind the country and provider of T.35."""
    return b"GA94\x03" + bytes([0xC0 | len(triplets) // 3, 0xFF]) + triplets + b"\xff"


def sei(payload: bytes, header: bytes) -> bytes:
    """A NAL unit with user data registered by T.35, of fewer than 255 bytes."""
    body = b"\x04" + bytes([len(payload)]) + payload + b"\x80"
    return b"\x00\x00\x00\x01" + header + re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", body)


def insert_units(source: Path, target: Path, units: Mapping[int, bytes], before: bytes) -> Path:
    """A stream with `units`, by frame in display order, each in front of the first match of `before` in its packet."""
    with av.open(str(source)) as given, av.open(str(target), "w") as made:
        stream = given.streams.video[0]
        packets = [packet for packet in given.demux(stream) if packet.size]
        numbers = {pts: number for number, pts in enumerate(sorted(packet.pts for packet in packets))}
        copied = made.add_stream_from_template(stream)
        for packet in packets:
            data, unit = bytes(packet), units.get(numbers[packet.pts], b"")
            at = re.search(before, data, re.DOTALL).start()
            whole = av.Packet(data[:at] + unit + data[at:])
            whole.pts, whole.dts, whole.duration = packet.pts, packet.dts, packet.duration
            whole.time_base, whole.stream, whole.is_keyframe = packet.time_base, copied, packet.is_keyframe
            made.mux(whole)
    return target


def make_captioned(target: Path, captions: Mapping[int, bytes], **settings: object) -> Path:
    """A clip of `clips.make_clip` in a transport stream, as MPEG-2 or H.264 with B-frames, with captions by frame."""
    codec = settings.pop("codec", "mpeg2video")
    options = {"bf": "2", "g": "12", "b": "4M"} if codec == "mpeg2video" else {}
    plain = make_clip(target.with_suffix(".plain.ts"), codec=codec, options=options, **settings)
    if codec == "mpeg2video":
        units = {number: b"\x00\x00\x01\xb2" + registered(data) for number, data in captions.items()}
        return insert_units(plain, target, units, rb"\x00\x00\x01\x01")
    units = {number: sei(b"\xb5\x00\x31" + registered(data), b"\x06") for number, data in captions.items()}
    return insert_units(plain, target, units, rb"\x00?\x00\x00\x01[\x21\x41\x61\x01\x25\x45\x65]")


def make_hdr10_plus(target: Path) -> Path:
    """Three frames of HEVC with HDR10+ metadata (SMPTE ST 2094-40) of the least that is allowed."""
    bits = "01" + f"{1000:027b}" + "0" + 4 * f"{5000:017b}" + "0000" + f"{0:010b}" + "000"
    payload = b"\xb5\x00\x3c\x00\x01\x04\x01" + int(bits.ljust(120, "0"), 2).to_bytes(15, "big")
    plain = make_clip(target.with_suffix(".plain.ts"), frames=3, codec="libx265")
    units = {number: sei(payload, b"\x4e\x01") for number in range(3)}
    return insert_units(plain, target, units, rb"\x00\x00\x01[\x02\x00\x26\x28\x2a]")


def captions_of(path: Path) -> dict[int, bytes]:
    """Captions in a file's pictures as FFmpeg decodes them, by frame in display order."""
    with av.open(str(path)) as container:
        return {
            number: bytes(entry)
            for number, frame in enumerate(container.decode(video=0))
            for entry in frame.side_data
            if entry.type.name == "A53_CC"
        }


def text_of(path: Path) -> str:
    """The subtitles of a file, by the ffmpeg program, as SubRip."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-map", "0:s", "-f", "srt", "-"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
