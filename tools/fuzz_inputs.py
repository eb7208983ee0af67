"""Makes small videos and images of many formats, and damaged copies of them, for tools/fuzz.py."""

from __future__ import annotations

import random
import re
import struct
import subprocess
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

SEQUENCE_IMAGES = 3
HEAD_BYTES = 512
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXT = "1\n00:00:00,000 --> 00:00:00,300\none\n\n2\n00:00:00,300 --> 00:00:00,400\ntwo\n"
CHAPTERS = ";FFMETADATA1\ntitle=clip\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=first\n"


@dataclass(frozen=True)
class Chunk:
    """A unit of a file's structure, from `begin` to `end`, and the position of its length field.

    `length_at` is None for a chunk without a length. `is_ebml` marks a length in EBML's variable-size encoding.
    """

    begin: int
    end: int
    length_at: int | None = None
    length_size: int = 4
    is_ebml: bool = False


Chunks = Callable[[bytes], Iterator[Chunk]]


@dataclass(frozen=True)
class Format:
    """How the ffmpeg program makes an input of a format, and how to list the chunks of its files.

    `options` are ffmpeg's output options; the file name ends in `suffix`. An image sequence is a folder of images.
    """

    suffix: str
    options: str
    chunks: Chunks
    is_sequence: bool = False


BOXES_WITH_BOXES = frozenset(b"moov trak mdia minf stbl edts udta moof traf mvex dinf".split())
EBML_MASTERS = frozenset(
    bytes.fromhex(name)
    for name in (
        *("1a45dfa3", "18538067", "114d9b74", "1549a966", "1654ae6b", "1f43b675", "1c53bb6b", "1254c367", "1043a770"),
        *("1941a469", "7373", "45b9", "61a7", "ae", "e0", "e1", "b6", "a0"),
    )
)


def list_boxes(data: bytes, begin: int = 0, end: int | None = None) -> Iterator[Chunk]:
    end = len(data) if end is None else end
    while end - begin >= 8:
        size, kind = struct.unpack_from(">I4s", data, begin)
        if not 8 <= size <= end - begin:
            return
        yield Chunk(begin, begin + size, begin)
        if kind in BOXES_WITH_BOXES:
            yield from list_boxes(data, begin + 8, begin + size)
        begin += size


def list_riff(data: bytes, begin: int = 0, end: int | None = None) -> Iterator[Chunk]:
    end = len(data) if end is None else end
    while end - begin >= 8:
        kind, size = struct.unpack_from("<4sI", data, begin)
        if size > end - begin - 8:
            return
        following = begin + 8 + size + size % 2
        yield Chunk(begin, min(following, end), begin + 4)
        if kind in (b"RIFF", b"LIST"):
            yield from list_riff(data, begin + 12, begin + 8 + size)
        begin = following


def list_png(data: bytes) -> Iterator[Chunk]:
    begin = len(PNG_SIGNATURE)
    while len(data) - begin >= 12:
        (size,) = struct.unpack_from(">I", data, begin)
        if size > len(data) - begin - 12:
            return
        yield Chunk(begin, begin + 12 + size, begin)
        begin += 12 + size


def list_ebml(data: bytes, begin: int = 0, end: int | None = None) -> Iterator[Chunk]:
    end = len(data) if end is None else end
    while begin < end and data[begin]:
        id_size = 9 - data[begin].bit_length()
        length_at = begin + id_size
        if length_at >= end or not data[length_at]:
            return
        length_size = 9 - data[length_at].bit_length()
        content = length_at + length_size
        size = int.from_bytes(data[length_at:content], "big") & ((1 << 7 * length_size) - 1)
        following = min(content + size, end)  # live recordings have an unknown size
        yield Chunk(begin, following, length_at, length_size, is_ebml=True)
        if data[begin:length_at] in EBML_MASTERS:
            yield from list_ebml(data, content, following)
        begin = following


def list_flv(data: bytes) -> Iterator[Chunk]:
    begin = 13
    while len(data) - begin >= 15:
        size = int.from_bytes(data[begin + 1 : begin + 4], "big")
        yield Chunk(begin, min(begin + 15 + size, len(data)), begin + 1, 3)
        begin += 15 + size


def list_blocks(data: bytes, size: int) -> Iterator[Chunk]:
    """List blocks of one size, such as transport stream packets."""
    yield from (Chunk(begin, min(begin + size, len(data))) for begin in range(0, len(data), size))


def split_before(data: bytes, mark: bytes) -> Iterator[Chunk]:
    """Split before each `mark`."""
    begins = [0, *(found.start() for found in re.finditer(re.escape(mark), data) if found.start()), len(data)]
    yield from (Chunk(begin, end) for begin, end in pairwise(begins) if begin < end)


BLOCKS = partial(list_blocks, size=64)
START_CODES = partial(split_before, mark=b"\0\0\1")

CORE = {
    "mp4": Format(".mp4", "-c:v libx264 -g 5 -bf 2 -c:a aac -c:s mov_text", list_boxes),
    "mkv": Format(".mkv", "-c:v libx264 -g 5 -bf 2 -c:a libvorbis -c:s srt", list_ebml),
    "ts": Format(".ts", "-c:v mpeg2video -g 5 -c:a mp2 -sn", partial(list_blocks, size=188)),
    "avi": Format(".avi", "-c:v mpeg4 -g 5 -c:a libmp3lame -sn", list_riff),
    "gif": Format(".gif", "-c:v gif -an -sn", partial(split_before, mark=b"\x21\xf9\x04")),
    "png-sequence": Format(".png", "-pix_fmt rgb24 -an -sn", list_png, is_sequence=True),
    "y4m": Format(".y4m", "-pix_fmt yuv420p -an -sn", partial(split_before, mark=b"FRAME")),
}
"""Formats that are tried twice as often."""

OTHERS = {
    "mp4-fragmented": Format(".mp4", "-c:v libx264 -g 5 -c:a aac -sn -movflags frag_keyframe+empty_moov", list_boxes),
    "mp4-hevc": Format(".mp4", "-c:v libx265 -x265-params log-level=none:pools=1 -an -sn -tag:v hvc1", list_boxes),
    "mov-prores": Format(".mov", "-c:v prores -pix_fmt yuv422p10le -c:a pcm_s16le -sn", list_boxes),
    "mkv-ffv1": Format(".mkv", "-c:v ffv1 -pix_fmt yuva420p -c:a flac -sn", list_ebml),
    "webm-vp9": Format(".webm", "-c:v libvpx-vp9 -deadline realtime -cpu-used 8 -c:a libopus -sn", list_ebml),
    "webm-vp8": Format(".webm", "-c:v libvpx -deadline realtime -pix_fmt yuva420p -an -sn -auto-alt-ref 0", list_ebml),
    "mkv-av1": Format(".mkv", "-c:v libaom-av1 -cpu-used 8 -usage realtime -an -sn", list_ebml),
    "ts-h264": Format(".ts", "-c:v libx264 -g 5 -bf 2 -c:a ac3 -sn", partial(list_blocks, size=188)),
    "avi-h264": Format(".avi", "-c:v libx264 -g 5 -bf 2 -c:a pcm_s16le -sn", list_riff),
    "flv": Format(".flv", "-c:v flv -g 5 -ar 22050 -c:a libmp3lame -sn", list_flv),
    "mpeg-ps": Format(".mpg", "-c:v mpeg2video -g 5 -flags +ildct+ilme -c:a mp2 -sn", START_CODES),
    "h264": Format(".h264", "-c:v libx264 -g 5 -bf 2 -an -sn", START_CODES),
    "wmv": Format(".wmv", "-c:v wmv2 -g 5 -c:a wmav2 -sn", BLOCKS),
    "ogv": Format(".ogv", "-c:v libtheora -c:a libvorbis -sn", partial(split_before, mark=b"OggS")),
    "mxf": Format(
        ".mxf", "-c:v mpeg2video -g 5 -ar 48000 -c:a pcm_s16le -sn", partial(split_before, mark=b"\x06\x0e\x2b\x34")
    ),
    "mjpeg": Format(".mov", "-c:v mjpeg -an -sn", list_boxes),
    "apng": Format(".apng", "-c:v apng -pix_fmt rgba -an -sn", list_png),
    "png-16": Format(".png", "-pix_fmt rgba64be -frames:v 1 -an -sn", list_png),
    "png-palette": Format(".png", "-pix_fmt pal8 -an -sn", list_png, is_sequence=True),
    "jpeg": Format(".jpg", "-pix_fmt yuvj420p -an -sn", BLOCKS, is_sequence=True),
    "webp": Format(".webp", "-frames:v 1 -an -sn", list_riff),
    "tiff": Format(".tif", "-pix_fmt rgb48le -an -sn", BLOCKS, is_sequence=True),
    "bmp": Format(".bmp", "-frames:v 1 -an -sn", BLOCKS),
    "exr": Format(".exr", "-pix_fmt gbrpf32le -frames:v 1 -an -sn", BLOCKS),
    "dpx": Format(".dpx", "-pix_fmt gbrp10be -frames:v 1 -an -sn", BLOCKS),
}
FORMATS = CORE | OTHERS
TURNS = (*CORE, *OTHERS, *CORE)
"""Formats in the order of the cases."""


def make_input(name: str, folder: Path, ffmpeg: str) -> tuple[bytes, ...]:
    """Make an undamaged input of a format: several files for an image sequence, else one.

    Raises:
        subprocess.CalledProcessError: the ffmpeg program failed.
    """
    form = FORMATS[name]
    texts = {"words.srt": TEXT, "tags.txt": CHAPTERS}
    for file, text in texts.items():
        (folder / file).write_text(text, encoding="utf-8")
    inputs = ["-f", "lavfi", "-i", "testsrc2=size=48x32:rate=25:duration=0.48"]
    inputs += ["-f", "lavfi", "-i", "sine=duration=0.48:sample_rate=44100"]
    inputs += ["-i", "words.srt", "-f", "ffmetadata", "-i", "tags.txt", "-map", "0:v", "-map", "1:a", "-map", "2:s"]
    target = f"{name}-%d{form.suffix}" if form.is_sequence else f"{name}{form.suffix}"
    options = form.options.split() + (["-frames:v", str(SEQUENCE_IMAGES)] if form.is_sequence else [])
    # One thread and no random identifiers give the same bytes each time.
    options += ["-map_metadata", "3", "-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact"]
    command = [ffmpeg, "-nostdin", "-hide_banner", "-loglevel", "error", "-y", *inputs, *options, target]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    names = [target % (number + 1) for number in range(SEQUENCE_IMAGES)] if form.is_sequence else [target]
    return tuple((folder / file).read_bytes() for file in names)


def mutate(data: bytes, chunks: Chunks, random_: random.Random) -> bytes:
    """Return a copy with one to three kinds of damage. It always differs and is never empty."""
    changed = data
    while changed == data or not changed:
        changed = data
        for _ in range(random_.choice((1, 1, 2, 3))):
            # After damage, there may be no recognizable chunk.
            pieces = list(chunks(changed)) or list(BLOCKS(changed))
            changed = random_.choice(DAMAGES)(changed, pieces, random_) or changed
        if changed.startswith(PNG_SIGNATURE) and random_.random() < 0.5:
            changed = repair_checksums(changed)
    return changed


def flip_bits(data: bytes, _: Sequence[Chunk], random_: random.Random) -> bytes:
    """Invert one to sixteen bits, half the time near the start."""
    end = len(data) if random_.random() < 0.5 else min(HEAD_BYTES, len(data))
    changed = bytearray(data)
    for _number in range(random_.choice((1, 2, 4, 16))):
        changed[random_.randrange(end)] ^= 1 << random_.randrange(8)
    return bytes(changed)


def truncate(data: bytes, _: Sequence[Chunk], random_: random.Random) -> bytes:
    return data[: random_.randrange(1, len(data))] if len(data) > 1 else data


def swap_chunks(data: bytes, chunks: Sequence[Chunk], random_: random.Random) -> bytes:
    one, two = sorted((random_.choice(chunks), random_.choice(chunks)), key=lambda chunk: chunk.begin)
    if one.end > two.begin:  # one is inside the other
        return data
    swapped = data[two.begin : two.end] + data[one.end : two.begin] + data[one.begin : one.end]
    return data[: one.begin] + swapped + data[two.end :]


def repeat_chunk(data: bytes, chunks: Sequence[Chunk], random_: random.Random) -> bytes:
    chunk = random_.choice(chunks)
    copies = random_.choice((1, 1, 20))
    return data[: chunk.end] + data[chunk.begin : chunk.end] * copies + data[chunk.end :]


def remove_chunk(data: bytes, chunks: Sequence[Chunk], random_: random.Random) -> bytes:
    chunk = random_.choice(chunks)
    return data[: chunk.begin] + data[chunk.end :]


def change_length(data: bytes, chunks: Sequence[Chunk], random_: random.Random) -> bytes:
    """Set the length of a chunk, or four bytes near the start that may be one, to 0 or the largest value."""
    bit = random_.choice((0, 1))
    with_length = [chunk for chunk in chunks if chunk.length_at is not None]
    if with_length and random_.random() < 0.7:
        chunk = random_.choice(with_length)
        at, size = chunk.length_at or 0, chunk.length_size
        value: int = bit * (2 ** (8 * size) - 1)
        if chunk.is_ebml:
            # All ones means an unknown length, so the largest value ends in a zero.
            value = (1 << 7 * size) | bit * (2 ** (7 * size) - 2)
    else:
        at, size = random_.randrange(min(HEAD_BYTES, len(data))), 4
        value = bit * (2**32 - 1)
    return data[:at] + value.to_bytes(size, "big") + data[at + size :]


DAMAGES = (flip_bits, flip_bits, truncate, swap_chunks, repeat_chunk, remove_chunk, change_length, change_length)


def repair_checksums(data: bytes) -> bytes:
    """Correct the checksums of a PNG's chunks, because readers stop at a wrong one."""
    changed = bytearray(data)
    for chunk in list_png(data):
        at = chunk.end - 4
        changed[at : chunk.end] = zlib.crc32(changed[chunk.begin + 4 : at]).to_bytes(4, "big")
    return bytes(changed)
