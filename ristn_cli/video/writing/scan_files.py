"""Encode DPX and EXR files from codes and floats. Does not interpret the values.

FFmpeg's encoders cannot write timecodes, DPX transfer characteristics, EXR chromaticities and EXR frame rates.
"""

from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from importlib.metadata import version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristn_cli.video.reading.scan_curve import BLACK_CODE, MAX_LOG_CODE, WHITE_CODE
from ristn_cli.video.reading.scan_header import DPX_HEADER_BYTES, EXR_MAGIC, FLOAT, HALF, UNDEFINED, pack_timecode
from ristn_cli.video.types import Scan

RGB_DESCRIPTOR = 50
ZIP_LINES = 16
ZIP_COMPRESSION = 3
ZIP_LEVEL = 4


@dataclass(frozen=True)
class ScanHeader:
    """Header fields of a file except its size: kind of values, frames per second, pixel aspect ratio and timecode."""

    scan: Scan
    rate: Fraction | None
    aspect: Fraction = Fraction(1)
    timecode: str | None = None


def encode_dpx(codes: NDArray[Any], header: ScanHeader) -> bytes:
    """Encode RGB codes (H, W, 3), with the header's bit depth, as big-endian DPX 2.0 (SMPTE 268M)."""
    scan, (height, width) = header.scan, codes.shape[:2]
    if scan.bit_depth == 10:
        words = codes.astype(np.uint32)
        data = (words[..., 0] << 22 | words[..., 1] << 12 | words[..., 2] << 2).astype(">u4").tobytes()
    else:
        samples = codes.astype(np.uint8) if scan.bit_depth == 8 else (codes << (16 - scan.bit_depth)).astype(">u2")
        rows = samples.reshape(height, -1).view(np.uint8)
        data = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))).tobytes()
    scale = (2**scan.bit_depth - 1) / MAX_LOG_CODE
    low, high = (BLACK_CODE * scale, WHITE_CODE * scale) if scan.transfer == "log" else (0, 2**scan.bit_depth - 1)
    head = bytearray(b"\xff" * DPX_HEADER_BYTES)
    struct.pack_into(">4sI8sI", head, 0, b"SDPX", DPX_HEADER_BYTES, b"V2.0", DPX_HEADER_BYTES + len(data))
    struct.pack_into(">IIII", head, 20, 1, 1664, 384, 0)
    struct.pack_into(">100s24s100s200s200s", head, 36, b"", b"", f"ristn {version('ristn')}".encode(), b"", b"")
    struct.pack_into(">HHII", head, 768, 0, 1, width, height)
    kind = (RGB_DESCRIPTOR, *scan.dpx_codes, scan.bit_depth)
    struct.pack_into(">IIIII4B", head, 780, 0, round(low), UNDEFINED, round(high), UNDEFINED, *kind)
    struct.pack_into(">HHIII32s", head, 804, 0 if scan.bit_depth in (8, 16) else 1, 0, DPX_HEADER_BYTES, 0, 0, b"")
    struct.pack_into(">100s24s32s32s", head, 1432, b"", b"", b"", b"")
    struct.pack_into(">II", head, 1628, header.aspect.numerator, header.aspect.denominator)
    struct.pack_into(">2s2s2s6s4s32s", head, 1664, *[b""] * 6)
    if header.rate is not None:
        struct.pack_into(">f", head, 1724, header.rate)
        struct.pack_into(">f", head, 1940, header.rate)
    struct.pack_into(">32s100s", head, 1732, b"", b"")
    if header.timecode is not None:
        struct.pack_into(">II", head, 1920, pack_timecode(header.timecode), 0)
    return bytes(head) + data


def encode_exr(light: NDArray[Any], alpha: NDArray[Any] | None, header: ScanHeader) -> bytes:
    """Encode light (H, W, 3) and alpha (H, W) as OpenEXR: half or float as in the header, lossless ZIP compression."""
    dtype = np.dtype("<f2") if header.scan.bit_depth == 16 else np.dtype("<f4")
    planes = {"B": light[..., 2], "G": light[..., 1], "R": light[..., 0]}
    if alpha is not None:
        planes = {"A": alpha, **planes}
    lines = np.stack([plane.astype(dtype) for plane in planes.values()], axis=1)  # (H, channels, W)
    blocks = [lines[top : top + ZIP_LINES].tobytes() for top in range(0, len(lines), ZIP_LINES)]
    with ThreadPoolExecutor() as pool:  # zlib releases the interpreter lock
        packed = list(pool.map(_compress, blocks))
    head = _exr_head(lines.shape[2], lines.shape[0], list(planes), header)
    offset = len(head) + 8 * len(packed)
    table = []
    for block in packed:
        table.append(struct.pack("<Q", offset))
        offset += 8 + len(block)
    chunks = [struct.pack("<iI", ZIP_LINES * index, len(block)) + block for index, block in enumerate(packed)]
    return b"".join([head, *table, *chunks])


def _compress(block: bytes) -> bytes:
    """Compress with OpenEXR's ZIP: even bytes before odd ones, as differences. Returns the smaller of both forms."""
    values = np.frombuffer(block, np.uint8)
    sorted_bytes = np.concatenate([values[0::2], values[1::2]])
    differences = sorted_bytes.copy()
    differences[1:] = sorted_bytes[1:] - sorted_bytes[:-1] + np.uint8(128)
    packed = zlib.compress(differences.tobytes(), ZIP_LEVEL)
    return packed if len(packed) < len(block) else block


def _exr_head(width: int, height: int, channels: list[str], header: ScanHeader) -> bytes:
    scan = header.scan
    kind = HALF if scan.bit_depth == 16 else FLOAT
    listed = b"".join(name.encode() + b"\0" + struct.pack("<IIII", kind, 0, 1, 1) for name in channels) + b"\0"
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes: list[tuple[str, str, bytes]] = [
        ("channels", "chlist", listed),
        ("compression", "compression", bytes([ZIP_COMPRESSION])),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", header.aspect)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
        ("software", "string", f"ristn {version('ristn')}".encode()),
    ]
    if header.rate is not None:
        value = struct.pack("<iI", header.rate.numerator, header.rate.denominator)
        attributes.append(("framesPerSecond", "rational", value))
    if scan.chromaticities is not None:
        attributes.append(("chromaticities", "chromaticities", struct.pack("<8f", *scan.chromaticities)))
    if header.timecode is not None:
        attributes.append(("timeCode", "timecode", struct.pack("<II", pack_timecode(header.timecode), 0)))
    head = EXR_MAGIC + struct.pack("<I", 2)
    for name, type_, value in sorted(attributes):
        head += name.encode() + b"\0" + type_.encode() + b"\0" + struct.pack("<I", len(value)) + value
    return head + b"\0"
