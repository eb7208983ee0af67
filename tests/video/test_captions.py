"""Closed captions in pictures: found, read in their order and once, written bit for bit; and their text."""

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from captions import CEA_708, captions_of, insert_units, make_captioned, make_hdr10_plus, pop_on, registered
from clips import make_picture, run_ffmpeg
from outputs import open_writer

from ristn_cli.video import Frame, ReadOptions, find_captions, probe, read_frames
from ristn_cli.video.reading.captions import read_caption_text

EVERY_FRAME = {number: bytes([0xFC, 0x80 + number, 0x80]) + CEA_708 for number in range(12)}
PADDING = b"\xfa\x00\x00"


def write(path: Path, captions: Mapping[int, bytes], codec: str) -> Path:
    with open_writer(path, codec=codec, width=64, height=64, rate=Fraction(25), time_base=Fraction(1, 25)) as writer:
        for number in range(12):
            image = make_picture(number, 64, 64)
            writer.write(Frame(image, Fraction(number, 25), captions=captions.get(number)))
    return path


def pictures(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(path)])


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_captions_are_written_bit_for_bit_and_pictures_stay_as_they_are(codec: str, tmp_path: Path) -> None:
    # Some frames have none, one has zeros that could be taken for a start code, one as much as a message holds.
    captions = EVERY_FRAME | {3: PADDING * 20, 4: (b"\xfc\x80\x80" + CEA_708) * 10 + PADDING}
    del captions[5], captions[11]
    with_them = write(tmp_path / "with.mp4", captions, codec)
    without = write(tmp_path / "without.mp4", {}, codec)
    assert captions_of(with_them) == captions
    assert captions_of(without) == {}
    for number, image in enumerate(pictures(with_them)):
        assert np.abs(image.astype(int) - make_picture(number, 64, 64)).mean() < 3


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_of_more_than_a_message_holds_only_padding_is_lost(codec: str, tmp_path: Path) -> None:
    both = PADDING * 14 + CEA_708 * 20 + PADDING * 4
    assert captions_of(write(tmp_path / "out.mp4", {2: both}, codec)) == {2: CEA_708 * 20}


def test_a_codec_without_captions_is_written_all_the_same(tmp_path: Path) -> None:
    path = write(tmp_path / "out.mov", EVERY_FRAME, "prores")
    assert captions_of(path) == {}
    assert len(pictures(path)) == 12


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_frames_have_the_captions_of_their_own_time(codec: str, tmp_path: Path) -> None:
    source = make_captioned(tmp_path / "in.ts", EVERY_FRAME, frames=12, codec=codec)
    assert captions_of(source) == EVERY_FRAME
    assert {number: frame.captions for number, frame in enumerate(read_frames(source))} == EVERY_FRAME
    range_ = ReadOptions(start=Fraction(3, 25), end=Fraction(7, 25))
    assert [frame.captions for frame in read_frames(source, range_)] == [EVERY_FRAME[number] for number in range(3, 7)]
    assert {frame.captions for frame in read_frames(source, ReadOptions(drop_captions=True))} == {None}


def test_the_second_field_does_not_repeat_captions(tmp_path: Path) -> None:
    source = make_captioned(tmp_path / "in.ts", EVERY_FRAME, frames=12)
    found = [frame.captions for frame in read_frames(source, ReadOptions(deinterlace="field"))]
    assert found[::2] == list(EVERY_FRAME.values())
    assert set(found[1::2]) == {None}


def test_film_frames_keep_the_captions_of_those_that_are_dropped(tmp_path: Path) -> None:
    run_ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=96x64:r=24000/1001:d=1", "-vf", "telecine=first_field=top:pattern=32"),
        *("-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-b:v", "8M", tmp_path / "plain.ts"),
    )
    captions = {number: bytes([0xFC, 0x80, 0x81 + number]) for number in range(30)}
    units = {number: b"\x00\x00\x01\xb2" + registered(data) for number, data in captions.items()}
    source = insert_units(tmp_path / "plain.ts", tmp_path / "in.ts", units, rb"\x00\x00\x01\x01")
    options = ReadOptions(deinterlace="ivtc")
    frames = list(read_frames(source, options))
    assert len(frames) == 24
    assert b"".join(frame.captions or b"" for frame in frames) == b"".join(captions.values())
    for frame in frames[3:9]:  # from anywhere on, as a resumed run
        again = next(read_frames(source, options, since=frame.time, clock=frame.clock))
        assert (again.time, again.captions) == (frame.time, frame.captions)


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_captions_are_found_where_they_begin_late(codec: str, tmp_path: Path) -> None:
    source = make_captioned(tmp_path / "in.ts", {9: EVERY_FRAME[9]}, frames=12, codec=codec)
    info = probe(source)
    assert not info.has_captions
    assert find_captions(info).has_captions
    assert find_captions(info, everywhere=True).has_captions
    plain = probe(make_captioned(tmp_path / "plain.ts", {}, frames=12, codec=codec))
    assert not find_captions(plain, everywhere=True).has_captions


def test_the_text_is_that_of_the_range(tmp_path: Path) -> None:
    captions = pop_on("GOOD DAY", 8, 15) | pop_on("TO YOU", 25, 40)
    info = probe(make_captioned(tmp_path / "in.ts", captions, frames=36))

    def read(first: int, last: int | None) -> list[tuple[str, int, int]]:
        times = [info.start_time + Fraction(first, 25), None if last is None else info.start_time + Fraction(last, 25)]
        found = read_caption_text(info, *times, tmp_path / "raw")  # type: ignore[arg-type]
        frames = [(each.text, each.start - info.start_time, each.end - info.start_time) for each in found]
        return [(text, round(25 * start), round(25 * end)) for text, start, end in frames]

    # What is never erased ends with the video.
    assert read(0, None) == [("GOOD DAY", 8, 15), ("TO YOU", 25, 36)]
    assert read(10, 30) == [("GOOD DAY", 10, 15), ("TO YOU", 25, 30)]
    assert read(16, 20) == []


def test_dynamic_hdr_metadata_is_named(tmp_path: Path) -> None:
    source = make_hdr10_plus(tmp_path / "in.ts")
    assert probe(source).dynamic_hdr == ("HDR10+",)
    assert probe(tmp_path / "in.plain.ts").dynamic_hdr == ()
