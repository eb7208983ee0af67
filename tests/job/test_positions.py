"""Frame numbers and timecodes: what they count, and that a range begins and ends with exactly the frames they name."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import make_clip, make_picture, run_ffmpeg
from commands import in_process

from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.positions import FrameNumber, Position, Timecode, day_frames, parse_position
from ristn_cli.job.ranges import find_timecode, settle_range, timecode_at
from ristn_cli.video import ReadOptions, VideoError, probe, read_frames, write_image

NTSC, TWICE = Fraction(30000, 1001), Fraction(60000, 1001)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("240f", FrameNumber(240)),
        ("01:00:10:12", Timecode(1, 0, 10, 12)),
        ("01:00:10;12", Timecode(1, 0, 10, 12, is_drop=True)),
        ("1;00;10;2", Timecode(1, 0, 10, 2, is_drop=True)),
        ("0:00:01:100", Timecode(0, 0, 1, 100)),
        ("90", None),
        ("1:30", None),
        ("0:01:30.5", None),
        ("f", None),
        ("-1f", None),
        ("1:2:3:4:5", None),
    ],
)
def test_positions_are_told_from_times(text: str, position: Position | None) -> None:
    assert parse_position(text) == position


@pytest.mark.parametrize(
    ("text", "rate", "count"),
    [
        ("00:00:00:00", 25, 0),
        ("01:00:10:12", 25, 90262),
        ("01:00:00:00", Fraction(24000, 1001), 86400),
        ("00:00:59;29", NTSC, 1799),
        ("00:01:00;02", NTSC, 1800),
        ("00:10:00;00", NTSC, 17982),
        ("01:00:00;00", NTSC, 107892),
        ("01:00:00;00", TWICE, 215784),
        ("00:01:00;04", TWICE, 3600),
        ("01:00:00:00", NTSC, 108000),
    ],
)
def test_labels_count_frames(text: str, rate: Fraction, count: int) -> None:
    timecode = parse_position(text)
    assert isinstance(timecode, Timecode)
    assert timecode.count(Fraction(rate)) == count
    assert Timecode.of_count(count, Fraction(rate), is_drop=timecode.is_drop) == timecode


@pytest.mark.parametrize("rate", [NTSC, TWICE])
def test_drop_frame_labels_are_all_different(rate: Fraction) -> None:
    """Over ten minutes and more, and over midnight."""
    for count in [*range(20 * 60 * 60), day_frames(rate, is_drop=True) - 1]:
        assert Timecode.of_count(count, rate, is_drop=True).count(rate) == count
    assert Timecode.of_count(day_frames(rate, is_drop=True), rate, is_drop=True) == Timecode(0, 0, 0, 0, is_drop=True)
    # An hour of labels is an hour by the clock, within two frames.
    assert abs(Timecode(1, 0, 0, 0, is_drop=True).count(rate) / rate - 3600) < 2 / rate


@pytest.mark.parametrize(
    ("text", "rate", "words"),
    [
        ("00:01:00;00", NTSC, "begins with frame 02"),
        ("00:01:00;03", TWICE, "begins with frame 04"),
        ("00:00:01;00", 25, "29.97 and 59.94"),
        ("00:00:01:25", 25, "frames below 25"),
        ("00:60:00:00", 25, "below 60"),
    ],
)
def test_labels_that_there_are_none_of(text: str, rate: Fraction, words: str) -> None:
    timecode = parse_position(text)
    assert isinstance(timecode, Timecode)
    with pytest.raises(ValueError, match=words):
        timecode.count(Fraction(rate))


def frames_of(path: Path, **positions: Any) -> list[Fraction]:
    """Times of the frames between positions, which are texts."""
    info = probe(path)
    wanted = {name: parse_position(text) for name, text in positions.items()}
    options = settle_range(info, UpscaleOptions(**wanted))  # type: ignore[arg-type]
    assert (options.start_position, options.end_position) == (None, None)
    return [frame.time for frame in read_frames(info, ReadOptions(start=options.start, end=options.end))]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("rate", [Fraction(25), NTSC])
def test_ranges_are_exact_to_the_frame(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    """In containers that round times, too."""
    clip = make_clip(tmp_path / "a.mp4", frames=48, rate=rate, time_base=1 / rate / 1000, width=32, height=32)
    path = tmp_path / f"b{suffix}"
    run_ffmpeg("-i", clip, "-c", "copy", path)
    whole = [frame.time for frame in read_frames(path)]
    for first, last in ((0, 1), (1, 2), (7, 30), (11, 12), (20, 48)):
        assert frames_of(path, start_position=f"{first}f", end_position=f"{last}f") == whole[first:last]
        begin, end = (f"00:00:{number // round(rate):02}:{number % round(rate):02}" for number in (first, last))
        assert frames_of(path, start_position=begin, end_position=end) == whole[first:last]
    assert frames_of(path, start_position="40f", end_position="500f") == whole[40:]


def test_frame_numbers_count_frames_of_uneven_times(tmp_path: Path) -> None:
    ticks = [0, 40, 50, 200, 210, 400, 440, 800]
    clip = make_clip(tmp_path / "a.mkv", times=ticks, time_base=Fraction(1, 1000))
    whole = [frame.time for frame in read_frames(clip)]
    assert frames_of(clip, start_position="3f", end_position="6f") == whole[3:6]


@pytest.mark.parametrize(("stated", "rate"), [("01:00:00:00", "25"), ("09:59:58;20", "30000/1001")])
def test_timecodes_count_from_the_source_s_own(tmp_path: Path, stated: str, rate: str) -> None:
    plain = make_clip(tmp_path / "a.mp4", frames=40, rate=Fraction(rate), time_base=1 / Fraction(rate) / 1000)
    clip = tmp_path / "b.mov"
    run_ffmpeg("-i", plain, "-c", "copy", "-timecode", stated, clip)
    info = probe(clip)
    first = find_timecode(info)
    assert str(first) == stated
    assert first is not None
    label = timecode_at(info, 10 / info.rate)
    assert label.count(info.rate) - first.count(info.rate) == 10
    whole = [frame.time for frame in read_frames(clip)]
    assert frames_of(clip, start_position=str(label)) == whole[10:]
    # Colons will do where the source counts with drop frame.
    assert frames_of(clip, start_position=str(replace(label, is_drop=False))) == whole[10:]
    with pytest.raises(VideoError, match="before the first frame, which is at"):
        frames_of(clip, start_position="00:30:00:00")


def test_positions_that_cannot_be(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=10)
    for positions, words in (
        ({"start_position": "10f"}, "--start 10f is after the last frame"),
        ({"start_position": "5f", "end_position": "5f"}, "--end must be after --start"),
        ({"start_position": "00:00:00;05"}, "29.97 and 59.94"),
        ({"end_position": "00:00:00:29"}, "--end 00:00:00:29: .*frames below"),
    ):
        with pytest.raises(VideoError, match=words):
            frames_of(clip, **positions)


def test_frame_numbers_of_images(tmp_path: Path) -> None:
    for number in range(8):
        write_image(tmp_path / f"{number}.png", make_picture(number, 32, 32))
    frames = frames_of(tmp_path / "%d.png", start_position="3f", end_position="00:00:00:06")
    assert frames == [Fraction(number, 25) for number in (3, 4, 5)]


def test_the_program_takes_them(tmp_path: Path, tiny_weights: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=12, width=32, height=32)
    plain = ("--weights", tiny_weights, "--device", "cpu", "--preset", "ultrafast", "--scale", "2")
    code, _, stderr = in_process("upscale", clip, tmp_path / "b.mkv", *plain, "--start", "4f", "--end", "0:00:00:09")
    assert code == 0, stderr
    code, _, stderr = in_process("upscale", clip, tmp_path / "all.mkv", *plain)
    assert code == 0, stderr
    part, whole = (list(read_frames(tmp_path / name)) for name in ("b.mkv", "all.mkv"))
    assert len(part) == 5
    assert all(np.abs(a.image.astype(int) - b.image).mean() < 4 for a, b in zip(part, whole[4:9], strict=True))
    code, _, stderr = in_process("upscale", clip, tmp_path / "c.mkv", *plain, "--start", "4g")
    assert code == 2
    assert "240f" in " ".join(stderr.split())
