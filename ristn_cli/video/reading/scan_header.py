"""Read DPX (SMPTE 268M) and OpenEXR headers, for fields that FFmpeg does not provide. Reads no pixels.

Every length is checked against the file, because headers may be damaged or malicious.
"""

from __future__ import annotations

import math
import struct
from fractions import Fraction
from pathlib import Path

from ristn_cli.video.types import MAX_PLAUSIBLE_RATE, Scan, Transfer, VideoError

DPX_HEADER_BYTES = 2048
DPX_DEPTHS = (8, 10, 12, 16)
TRANSFERS: dict[int, Transfer] = {1: "log", 2: "linear", 3: "log"}
"""DPX transfer characteristics: printing density, linear, logarithmic. All others are video."""
YCBCR = 100
"""First DPX descriptor of luma and chroma, which is always video."""
UNDEFINED = 0xFFFFFFFF

EXR_MAGIC = b"\x76\x2f\x31\x01"
MAX_EXR_HEADER = 2**20
MAX_NAME = 256
DEEP, MULTIPART = 0x800, 0x1000
UINT, HALF, FLOAT = range(3)


def read_scan(path: Path) -> Scan | None:
    """Describe a DPX or EXR file; None for any other file, and for EXR of integers, which are not light.

    Raises:
        VideoError: the header is damaged, or the kind of file is not supported.
    """
    with path.open("rb") as file:
        head = file.read(DPX_HEADER_BYTES)
        if head[:4] in (b"SDPX", b"XPDS"):
            return _read_dpx(path, head)
        if head[:4] == EXR_MAGIC:
            return _read_exr(path, head + file.read(MAX_EXR_HEADER))
    return None


def _read_dpx(path: Path, head: bytes) -> Scan:
    if len(head) < 1664:
        raise VideoError(f"{path}: its DPX header ends after {len(head)} bytes, expected 1664; copy the file again")
    order = ">" if head[:4] == b"SDPX" else "<"
    descriptor, code, colorimetry, depth = head[800:804]
    if depth not in DPX_DEPTHS:
        raise VideoError(
            f"{path}: is DPX with {depth} bits per sample; expected 8, 10, 12 or 16; convert it with another program"
        )
    if depth == 10 and head[804:806] == b"\0\0":
        raise VideoError(
            f"{path}: is 10-bit DPX with packed samples, which FFmpeg cannot read; convert it to filled samples first"
        )
    transfer = TRANSFERS.get(code, "display")
    # FFmpeg marks every DPX file that it writes as linear.
    if descriptor >= YCBCR or (transfer == "linear" and head[160:164] == b"Lavc"):
        transfer = "display"
    has_film_header, has_tv_header = (len(head) >= end for end in (1920, DPX_HEADER_BYTES))
    data_offset = struct.unpack(f"{order}I", head[4:8])[0]
    rates: list[float] = []
    if has_film_header and data_offset >= 1920:
        rates += struct.unpack(f"{order}f", head[1724:1728])
    timecode = None
    if has_tv_header and data_offset >= DPX_HEADER_BYTES:
        rates += struct.unpack(f"{order}f", head[1940:1944])
        word = struct.unpack(f"{order}I", head[1920:1924])[0]
        # All zeros mean that the fields are unset.
        timecode = unpack_timecode(word) if word or any(map(_is_rate, rates)) else None
    rate = next((as_rate(number) for number in rates if _is_rate(number)), None)
    return Scan("dpx", transfer, depth, rate, timecode, dpx_codes=(code, colorimetry))


def _read_exr(path: Path, data: bytes) -> Scan | None:
    flags = int.from_bytes(data[4:8], "little")
    if flags & (DEEP | MULTIPART):
        kind = "deep samples" if flags & DEEP else "several parts"
        raise VideoError(f"{path}: is EXR with {kind}, which FFmpeg cannot read; convert it to a plain EXR first")
    attributes = _exr_attributes(path, data)
    types = _exr_types(path, attributes.get("channels", b""))
    wanted = {kind for name, kind in types.items() if name in ("R", "G", "B", "Y", "A")} or set(types.values())
    if UINT in wanted:
        return None
    rate = timecode = chromaticities = None
    if len(value := attributes.get("framesPerSecond", b"")) == 8:
        numerator, denominator = struct.unpack("<iI", value)
        if denominator and _is_rate(numerator / denominator):
            rate = Fraction(numerator, denominator)
    if len(value := attributes.get("timeCode", b"")) == 8:
        timecode = unpack_timecode(int.from_bytes(value[:4], "little"))
    if len(value := attributes.get("chromaticities", b"")) == 32:
        numbers = struct.unpack("<8f", value)
        chromaticities = numbers if all(map(math.isfinite, numbers)) else None
    return Scan("exr", "linear", 32 if FLOAT in wanted else 16, rate, timecode, chromaticities=chromaticities)


def _exr_attributes(path: Path, data: bytes) -> dict[str, bytes]:
    attributes: dict[str, bytes] = {}
    at = 8
    while data[at : at + 1] != b"\0":
        name, at = _exr_name(path, data, at)
        _, at = _exr_name(path, data, at)
        size = int.from_bytes(data[at : at + 4], "little", signed=True)
        at += 4
        if not 0 <= size <= len(data) - at:
            raise _damaged_exr(path)
        attributes[name] = data[at : at + size]
        at += size
    return attributes


def _exr_types(path: Path, data: bytes) -> dict[str, int]:
    types: dict[str, int] = {}
    at = 0
    while data[at : at + 1] not in (b"\0", b""):
        name, at = _exr_name(path, data, at)
        if at + 16 > len(data):
            raise _damaged_exr(path)
        types[name] = int.from_bytes(data[at : at + 4], "little")
        at += 16
    if not types:
        raise _damaged_exr(path)
    return types


def _exr_name(path: Path, data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at, at + MAX_NAME)
    if end <= at:
        raise _damaged_exr(path)
    return data[at:end].decode("utf-8", "replace"), end + 1


def _damaged_exr(path: Path) -> VideoError:
    return VideoError(f"{path}: its EXR header is damaged or longer than {MAX_EXR_HEADER} bytes; copy the file again")


def _is_rate(number: float) -> bool:
    return math.isfinite(number) and 1 <= number <= MAX_PLAUSIBLE_RATE


def as_rate(number: float) -> Fraction:
    """Return the exact frame rate of a rounded number: 23.976 is 24000/1001."""
    whole = round(number)
    for rate in (Fraction(whole), Fraction(1000 * round(number * 1.001), 1001)):
        if abs(float(rate) - number) < 0.002:
            return rate
    return Fraction(number).limit_denominator(1001)


def unpack_timecode(word: int) -> str | None:
    """Return an SMPTE timecode as `HH:MM:SS:FF`, with `;` before the frames for drop-frame; None if it is invalid."""
    if word == UNDEFINED:
        return None
    hours, minutes, seconds, frames = word >> 24 & 0x3F, word >> 16 & 0x7F, word >> 8 & 0x7F, word & 0x3F
    numbers = [10 * (part >> 4) + (part & 15) for part in (hours, minutes, seconds, frames)]
    if any(part & 15 > 9 for part in (hours, minutes, seconds, frames)) or numbers[0] > 23 or max(numbers[1:3]) > 59:
        return None
    *whole, last = (f"{number:02}" for number in numbers)
    return f"{':'.join(whole)}{';' if word & 0x40 else ':'}{last}"


def pack_timecode(timecode: str) -> int:
    """Return a timecode as the 32-bit word of DPX and EXR, the inverse of `unpack_timecode`."""
    numbers = [int(part) for part in timecode.replace(";", ":").split(":")]
    word = 0
    for number in numbers:
        word = word << 8 | number // 10 << 4 | number % 10
    return word | (0x40 if ";" in timecode else 0)
