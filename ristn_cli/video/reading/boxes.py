"""Parse MP4 and MOV boxes to explain why FFmpeg cannot read a file. Decodes nothing."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

# Boxes that lead from a track to its sample descriptions.
PATH_TO_DESCRIPTIONS = (b"mdia", b"minf", b"stbl", b"stsd")
ENCRYPTED_ENTRIES = frozenset({b"encv", b"enca", b"encs", b"enct", b"encm", b"drmi", b"drms"})
MAX_DESCRIPTION_BYTES = 2**20
KNOWN_KINDS = frozenset(
    {b"ftyp", b"mdat", b"moov", b"wide", b"free", b"skip", b"styp", b"moof", b"sidx", b"pnot", b"uuid"}
)


@dataclass(frozen=True)
class Box:
    """A box: its type, and the byte positions of its start, its content and its stated end."""

    kind: bytes
    begin: int
    content: int
    end: int


def list_boxes(file: BinaryIO, begin: int, end: int) -> Iterator[Box]:
    """Yield the boxes from `begin` to `end`. The last one may state a later end. Stops at invalid data."""
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
    """Return encrypted tracks: track number, from 0 in file order, to scheme name or, without one, sample entry."""
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
    """Return the content of a track's `stsd` box; empty if there is none."""
    box = track
    for kind in PATH_TO_DESCRIPTIONS:
        found = next((inner for inner in list_boxes(file, box.content, end) if inner.kind == kind), None)
        if found is None:
            return b""
        box, end = found, min(found.end, end)
    file.seek(box.content)
    return file.read(min(end - box.content, MAX_DESCRIPTION_BYTES))


def explain_unreadable(path: Path) -> str | None:
    """Return why FFmpeg cannot open an MP4 or MOV, as far as its boxes show it; None for other files."""
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
            f"is an MP4 or MOV whose '{name}' box should end at byte {last.end}, but the file ends at byte {size}: "
            f"{cause}; copy or download it again"
        )
    if last.end < size:
        return f"is an MP4 or MOV with no valid box at byte {last.end}: the file is damaged; copy or download it again"
    if not any(box.kind == b"moov" for box in boxes):
        return (
            "is an MP4 or MOV without its index ('moov'): the recording was not finished, or the file is a fragment "
            "without its initialization segment; copy it again, or repair it with a tool for its camera"
        )
    return None


def name_code(code: bytes) -> str:
    r"""Return a four-letter code as text for a message. Bytes that are not printable become escapes such as `\xff`."""
    return code.decode("latin-1").encode("unicode_escape").decode("ascii")


def describe_encryption(schemes: Iterable[str]) -> str:
    """Return why an encrypted file is refused. `schemes` are names such as `cenc`."""
    names = ", ".join(sorted(set(schemes)))
    return f"is encrypted ({names}), and ristn cannot decrypt it; use an unencrypted copy"
