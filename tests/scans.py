"""DPX and EXR files with known values, packed by hand, in every kind that scanners and programs write."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

LOG, LINEAR, BT709 = 3, 2, 6


def make_codes(bits: int, width: int = 48, height: int = 32) -> np.ndarray:
    """RGB codes (H, W, 3) of `bits` that hold the darkest, the brightest, and as many between as there is room for."""
    count = width * height * 3
    codes = np.linspace(0, 2**bits - 1, count).round().astype(np.uint16)
    return np.random.default_rng(bits).permutation(codes).reshape(height, width, 3)


def write_dpx(
    path: Path,
    codes: np.ndarray,
    bits: int,
    *,
    transfer: int = LOG,
    order: str = ">",
    packing: int = 1,
    rate: float = 24.0,
    timecode: int = 0xFFFFFFFF,
    descriptor: int = 50,
) -> Path:
    """RGB codes (H, W, 3), or grey or RGBA by the descriptor, as DPX.

    `packing` 1 fills words at their lower end, 2 at their upper end, and 0 leaves no gap.
    """
    height, width = codes.shape[:2]
    head = bytearray(b"\0" * 2048)
    head[0:4] = b"SDPX" if order == ">" else b"XPDS"
    struct.pack_into(f"{order}I8sI", head, 4, 2048, b"V2.0", 0)
    struct.pack_into(f"{order}III", head, 20, 1, 1664, 384)
    struct.pack_into(f"{order}I", head, 660, 0xFFFFFFFF)
    struct.pack_into(f"{order}HHII", head, 768, 0, 1, width, height)
    struct.pack_into(f"{order}IIfIf4B", head, 780, 0, 0, 0.0, 2**bits - 1, 2.0, descriptor, transfer, 1, bits)
    struct.pack_into(f"{order}HHIII", head, 804, packing, 0, 2048, 0, 0)
    struct.pack_into(f"{order}f", head, 1724, rate)
    struct.pack_into(f"{order}I", head, 1920, timecode)
    struct.pack_into(f"{order}f", head, 1940, rate)
    data = bytes(head) + pack(codes, bits, order, packing)
    path.write_bytes(data[:16] + struct.pack(f"{order}I", len(data)) + data[20:])
    return path


def pack(codes: np.ndarray, bits: int, order: str, packing: int) -> bytes:
    """Rows of samples in 32-bit words."""
    rows = codes.reshape(len(codes), -1).astype(np.uint32)
    if bits == 8:
        return _padded(rows.astype(np.uint8).tobytes(), len(rows))
    if bits == 16 or (bits == 12 and packing):
        shift = 4 if bits == 12 and packing == 1 else 0
        return _padded((rows << shift).astype(f"{order}u2").tobytes(), len(rows))
    if packing == 0:
        return b"".join(_pack_row(row, bits, order) for row in rows)
    gap = 2 if packing == 1 else 0
    padded = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 3)))
    order_of_words = (0, 1, 2) if codes.shape[2] > 1 else (2, 1, 0)  # a single component begins at the lowest bits
    first, second, third = (padded[:, k::3] for k in order_of_words)
    return (first << 20 + gap | second << 10 + gap | third << gap).astype(f"{order}u4").tobytes()


def _pack_row(row: np.ndarray, bits: int, order: str) -> bytes:
    """Samples from the lowest bit of each word up, as the standard has it."""
    number = 0
    for index, code in enumerate(row.tolist()):
        number |= code << bits * index
    words = -(-len(row) * bits // 32)
    return np.frombuffer(number.to_bytes(4 * words, "little"), "<u4").astype(f"{order}u4").tobytes()


def _padded(data: bytes, rows: int) -> bytes:
    size = len(data) // rows
    return b"".join(data[size * k : size * (k + 1)] + b"\0" * (-size % 4) for k in range(rows))


def write_exr(
    path: Path, channels: Mapping[str, np.ndarray], attributes: Mapping[str, tuple[str, bytes]] | None = None
) -> Path:
    """Channels (H, W), float16 or float32, by name, as uncompressed EXR with further attributes (type, value)."""
    height, width = next(iter(channels.values())).shape
    names = sorted(channels)
    kinds = {np.dtype(np.float16): 1, np.dtype(np.float32): 2, np.dtype(np.uint32): 0}
    listed = b"".join(
        name.encode() + b"\0" + struct.pack("<IIII", kinds[channels[name].dtype], 0, 1, 1) for name in names
    )
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    entries = {
        "channels": ("chlist", listed + b"\0"),
        "compression": ("compression", b"\0"),
        "dataWindow": ("box2i", window),
        "displayWindow": ("box2i", window),
        "lineOrder": ("lineOrder", b"\0"),
        "pixelAspectRatio": ("float", struct.pack("<f", 1)),
        "screenWindowCenter": ("v2f", struct.pack("<2f", 0, 0)),
        "screenWindowWidth": ("float", struct.pack("<f", 1)),
        **(attributes or {}),
    }
    head = b"\x76\x2f\x31\x01" + struct.pack("<I", 2)
    for name, (kind, value) in entries.items():
        head += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<I", len(value)) + value
    head += b"\0"
    lines = [
        struct.pack("<iI", y, sum(channels[name][y].nbytes for name in names))
        + b"".join(channels[name][y].tobytes() for name in names)
        for y in range(height)
    ]
    offset = len(head) + 8 * height
    table = b""
    for line in lines:
        table += struct.pack("<Q", offset)
        offset += len(line)
    path.write_bytes(head + table + b"".join(lines))
    return path
