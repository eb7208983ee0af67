"""The boxes of an MP4 or MOV, as far as they tell why FFmpeg cannot read it. Decodes nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# Where the sample descriptions of a track lie.
PATH_TO_DESCRIPTIONS = (b"mdia", b"minf", b"stbl", b"stsd")
ENCRYPTED_ENTRIES = frozenset({b"encv", b"enca", b"encs", b"enct", b"encm", b"drmi", b"drms"})
MOST_DESCRIPTION_BYTES = 2**20
KNOWN_KINDS = frozenset(
    {b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip", b"styp", b"moof", b"sidx", b"pnot", b"uuid"}
)


@dataclass(frozen=True)
class Box:
    """A box: its kind, where it begins, where its content begins, and where it says that it ends, in bytes."""

    kind: bytes
    begin: int
    content: int
    end: int


def list_boxes(file: BinaryIO, begin: int, end: int) -> Iterator[Box]:
    """Boxes from `begin` to `end`; the last may say that it ends later. Stops where there is no box."""
    while end - begin >= 8:
        file.seek(begin)
        size, kind = struct.unpack(">I4s", file.read(8))
        content = begin + 8
        if size == 1 and end - begin >= 16:
            (size,) = struct.unpack(">Q", file.read(8))
            content += 8
        elif size == 0:
            size = end - begin
        if size < content - begin:
            return
        yield Box(kind, begin, content, begin + size)
        begin += size


def find_encrypted_tracks(path: Path) -> dict[int, str]:
    """Encrypted tracks by their number, from 0, in the order of the file: the scheme's name, or the sample entry's."""
    encrypted: dict[int, str] = {}
    with path.open("rb") as file:
        size = file.seek(0, 2)
        movie = next((box for box in list_boxes(file, 0, size) if box.kind == b"moov"), None)
        if movie is None:
            return {}
        inner = list(list_boxes(file, movie.content, min(movie.end, size)))
        for number, box in enumerate(box for box in inner if box.kind == b"trak"):
            description = _read_descriptions(file, box, min(box.end, size))
            kind = description[12:16]
            if kind not in ENCRYPTED_ENTRIES and b"sinf" not in description:
                continue
            at = description.find(b"schm")
            scheme = description[at + 8 : at + 12] if at >= 0 else kind
            encrypted[number] = name_code(scheme).strip()
    return encrypted


def _read_descriptions(file: BinaryIO, track: Box, end: int) -> bytes:
    """Content of a track's `stsd` box; empty where there is none."""
    box = track
    for kind in PATH_TO_DESCRIPTIONS:
        found = next((inner for inner in list_boxes(file, box.content, end) if inner.kind == kind), None)
        if found is None:
            return b""
        box, end = found, min(found.end, end)
    file.seek(box.content)
    return file.read(min(end - box.content, MOST_DESCRIPTION_BYTES))


def explain_unreadable(path: Path) -> str | None:
    """What is wrong with an MP4 or MOV that FFmpeg cannot open, as far as its boxes tell; None for other files."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        boxes = list(list_boxes(file, 0, size))
    if not boxes or boxes[0].kind not in KNOWN_KINDS:
        return None
    encrypted = find_encrypted_tracks(path)
    if encrypted:
        return describe_encryption(encrypted.values())
    last = boxes[-1]
    name = name_code(last.kind)
    if last.end > size:
        cause = "the file is cut short" if last.kind in (b"mdat", b"moov") else "the file is damaged or cut short"
        return (
            f"is an MP4 or MOV whose '{name}' box should end at byte {last.end}, and the file ends at byte {size}: "
            f"{cause}; copy or download it again"
        )
    if last.end < size:
        return f"is an MP4 or MOV with no valid box at byte {last.end}: the file is damaged; copy or download it again"
    if not any(box.kind == b"moov" for box in boxes):
        return (
            "is an MP4 or MOV without its index ('moov'): the recording was never finished, or this is a fragment "
            "without its initialization segment; copy it again, or repair it with a tool for its camera"
        )
    return None


def name_code(code: bytes) -> str:
    r"""A code of four letters as text for a message; bytes that are no letters become such as `\xff`."""
    return code.decode("latin-1").encode("unicode_escape").decode("ascii")


def describe_encryption(schemes: Iterable[str]) -> str:
    """Why an encrypted file is refused. `schemes` are names such as `cenc`."""
    names = ", ".join(sorted(set(schemes)))
    return f"is encrypted ({names}), and ristn cannot decrypt it; use a copy without protection"
