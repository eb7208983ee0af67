"""Damaged files that once ended in a traceback, a hang, a lot of memory or an unclear message; see tools/fuzz.py."""

import struct
import tracemalloc
import zlib
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from outputs import try_target
from PIL import Image

from ristn_cli.video import InputStream, VideoError, probe, read_image

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 2**31 - 1


def split_png(data: bytes) -> dict[bytes, bytes]:
    """Content of the chunks of a PNG, by their kind."""
    chunks: dict[bytes, bytes] = {}
    at = len(SIGNATURE)
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        chunks[kind] = data[at + 8 : at + 8 + size]
        at += 12 + size
    return chunks


def join_png(chunks: dict[bytes, bytes]) -> bytes:
    """A PNG of these chunks."""
    parts = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks.items()
    ]
    return SIGNATURE + b"".join(parts)


def save_image(path: Path, mode: str) -> dict[bytes, bytes]:
    """A small PNG at `path`; its chunks."""
    Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)).convert(mode).save(path)
    return split_png(path.read_bytes())


def test_an_image_that_confuses_its_reader_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    chunks = save_image(path, "P")
    del chunks[b"PLTE"]
    path.write_bytes(join_png(chunks))
    with pytest.raises(VideoError, match=r"palette\.png: cannot be read as an image \(.+\); expected PNG or JPEG$"):
        read_image(path)


def test_an_image_with_a_damaged_checksum_is_read(tmp_path: Path) -> None:
    path = tmp_path / "header.png"
    save_image(path, "RGB")
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") - 5] ^= 1  # the checksum of the header
    path.write_bytes(data)
    assert read_image(path).shape == (16, 16, 3)


def test_a_damaged_length_in_an_image_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "long.png"
    chunks = save_image(path, "RGB")
    data = bytearray(join_png(chunks))
    at = data.index(b"IDAT") - 4
    data[at : at + 4] = struct.pack(">I", LARGEST)
    path.write_bytes(data)
    tracemalloc.start()
    try:
        with suppress(VideoError):  # Pillow may make do with what is there
            read_image(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("kind", [b"a\nb\x9b", b"\x1b[2J"])
def test_the_name_of_a_damaged_box_is_shown_in_one_line(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "boxes.mp4"
    path.write_bytes(struct.pack(">I4s4sI", 16, b"ftyp", b"isom", 0) + struct.pack(">I4s", LARGEST, kind) + bytes(64))
    with pytest.raises(VideoError, match="the file is damaged or cut short") as refused:
        probe(path)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_a_damaged_image_on_standard_input_is_refused_at_once(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"cut.{kind}"
    Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3)).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with (
        path.open("rb") as file,
        pytest.raises(VideoError, match=r"standard input: FFmpeg cannot .* its only packet"),
    ):
        probe(InputStream(file))


def test_a_frame_rate_that_no_container_holds_is_refused_before_the_work(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "clip.avi", frames=2, width=32, height=32, codec="mpeg4"))
    rate = Fraction(25, 268435457)
    with pytest.raises(VideoError, match=r"out\.mkv: writing failed .*; the source's frame rate .* may be damaged"):
        try_target(
            replace(info, rate=rate, time_base=1 / rate), tmp_path / "out.mkv", width=64, height=64, codec="ffv1"
        )
