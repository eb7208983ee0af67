"""Closed captions inside encoded pictures: as SEI messages of H.264 and HEVC, as metadata of AV1. Knows no files."""

from __future__ import annotations

from collections.abc import Callable, Iterator

EMBEDDING_CODECS = frozenset({"h264", "hevc", "av1"})
"""Codec families whose pictures can carry captions."""

TRIPLET_BYTES = 3
MOST_TRIPLETS = 31
"""A message counts its triplets in five bits."""

VALID = 0x04
"""The bit of a triplet's first byte that tells it from padding."""

START_CODE = b"\x00\x00\x01"


def embed_captions(packet: bytes, family: str, captions: bytes) -> bytes:
    """An encoded picture with captions in it.

    Args:
        packet: one picture as the encoder gives it: Annex B for H.264 and HEVC, a temporal unit for AV1.
        family: of EMBEDDING_CODECS.
        captions: `cc_data` of CTA-708: triplets of a byte of flags and two bytes of data.

    Returns:
        The packet with all triplets, in their order. More than 31 lose their padding first, and what is still too much
        goes into further messages.
    """
    insert = {"h264": _insert_h264, "hevc": _insert_hevc, "av1": _insert_av1}[family]
    return insert(packet, list(_messages(captions)))


def _messages(captions: bytes) -> Iterator[bytes]:
    """User data registered by ITU-T T.35, as ATSC A/53 part 4 defines them for captions."""
    triplets = [captions[at : at + TRIPLET_BYTES] for at in range(0, len(captions), TRIPLET_BYTES)]
    if len(triplets) > MOST_TRIPLETS:
        triplets = [triplet for triplet in triplets if triplet[0] & VALID]
    for at in range(0, len(triplets), MOST_TRIPLETS):
        part = triplets[at : at + MOST_TRIPLETS]
        # Country (United States), provider (ATSC), identifier, type (captions), flags and count, reserved.
        yield b"\xb5\x00\x31GA94\x03" + bytes([0xC0 | len(part), 0xFF]) + b"".join(part) + b"\xff"


def _insert_h264(packet: bytes, messages: list[bytes]) -> bytes:
    at = _find_nal_unit(packet, lambda header: 1 <= header & 31 <= 5)
    return packet[:at] + b"".join(_sei(b"\x06", message) for message in messages) + packet[at:]


def _insert_hevc(packet: bytes, messages: list[bytes]) -> bytes:
    at = _find_nal_unit(packet, lambda header: header >> 1 & 63 < 32)
    layer = packet[packet.index(START_CODE, at) + len(START_CODE) + 1] & 7  # the temporal sub-layer of the picture
    return packet[:at] + b"".join(_sei(bytes([39 << 1, layer]), message) for message in messages) + packet[at:]


def _find_nal_unit(packet: bytes, is_picture: Callable[[int], bool]) -> int:
    """Where the first NAL unit of the picture itself begins, with its start code."""
    at = packet.index(START_CODE)
    while not is_picture(packet[at + len(START_CODE)]):
        at = packet.index(START_CODE, at + len(START_CODE))
    return at - 1 if at and packet[at - 1] == 0 else at


def _sei(header: bytes, message: bytes) -> bytes:
    """A NAL unit with one SEI message of type 4, behind a start code."""
    size = b"\xff" * (len(message) // 255) + bytes([len(message) % 255])
    unit = bytearray(b"\x00" + START_CODE + header)
    zeros = 0
    for value in b"\x04" + size + message + b"\x80":
        if zeros == 2 and value <= 3:
            unit.append(3)  # or it would look like a start code
            zeros = 0
        unit.append(value)
        zeros = 0 if value else zeros + 1
    return bytes(unit)


def _insert_av1(packet: bytes, messages: list[bytes]) -> bytes:
    """Before the last frame of the temporal unit, which is the one that is shown."""
    frames = [at for at, kind in _units(packet) if kind in (3, 6)]  # a frame's header alone, or a whole frame
    # A metadata unit with its size, of type 4 (ITU-T T.35), ended by a set bit.
    units = (b"\x2a" + _leb128(len(message) + 2) + b"\x04" + message + b"\x80" for message in messages)
    return packet[: frames[-1]] + b"".join(units) + packet[frames[-1] :]


def _units(packet: bytes) -> Iterator[tuple[int, int]]:
    """Where each open bitstream unit begins, and its type."""
    at = 0
    while at < len(packet):
        header = packet[at]
        yield at, header >> 3 & 15
        at += 2 if header & 4 else 1  # with an extension
        if not header & 2:
            return  # without a size, it extends to the end
        size = shift = 0
        while True:
            value = packet[at]
            at += 1
            size |= (value & 127) << shift
            shift += 7
            if not value & 128:
                break
        at += size


def _leb128(number: int) -> bytes:
    coded = bytearray()
    while number > 127:
        coded.append(number & 127 | 128)
        number >>= 7
    return bytes([*coded, number])
