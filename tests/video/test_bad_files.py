"""Files that are no videos, or broken ones."""

from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import (
    make_clip,
    make_sound,
    run_ffmpeg,
)

from ristn_cli.video import (
    ReadOptions,
    VideoError,
    probe,
    read_frames,
)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "good.mp4", frames=20, audio_tracks=1)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"nope\.mp4: no such file"):
        probe(tmp_path / "nope.mp4")


def test_empty(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(VideoError, match=r"a\.mp4: the file is empty \(0 bytes\)"):
        probe(tmp_path / "a.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "a.txt", "a"])
def test_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("Dear diary,\n" * 200, encoding="utf-8")
    with pytest.raises(VideoError, match=f"{name}: is (not a video|a text file)"):
        probe(tmp_path / name)


def test_no_video_stream(tmp_path: Path) -> None:
    sound = make_sound(tmp_path / "a.wav", 440, 0.1)
    with pytest.raises(VideoError, match=r"a\.wav: has no video stream \(found: audio\)"):
        probe(sound)


def test_no_frames(tmp_path: Path) -> None:
    clip = tmp_path / "a.mkv"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.start_encoding()
    with pytest.raises(VideoError, match=r"a\.mkv: no frames in the video stream"):
        probe(clip)


def test_truncated_without_index(tmp_path: Path, clip: Path) -> None:
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(clip.read_bytes()[:2000])
    with pytest.raises(VideoError, match=r"cut\.mp4: is an MP4 or MOV whose 'mdat' box .*cut short"):
        probe(cut)


def test_truncated_with_index_gives_what_is_there(tmp_path: Path, clip: Path) -> None:
    fast, cut = tmp_path / "fast.mp4", tmp_path / "cut.mp4"
    run_ffmpeg("-i", clip, "-c", "copy", "-movflags", "+faststart", fast)
    data = fast.read_bytes()
    cut.write_bytes(data[: len(data) * 7 // 10])
    reports: list[str] = []
    frames = list(read_frames(cut, on_damage=reports.append))
    assert 3 < len(frames) < 20
    assert reports
    assert all(report.startswith(str(cut)) for report in reports)
    with pytest.raises(VideoError, match=r"cut\.mp4: "):
        list(read_frames(cut, ReadOptions(strict=True)))


def test_truncated_matroska_gives_what_is_there(tmp_path: Path) -> None:
    clip, cut = make_clip(tmp_path / "a.mkv", frames=20), tmp_path / "cut.mkv"
    data = clip.read_bytes()
    cut.write_bytes(data[: len(data) // 2])
    reports: list[str] = []
    frames = list(read_frames(cut, on_damage=reports.append))
    assert 3 < len(frames) < 20
    assert "cut short" in reports[-1]


def test_corrupt_packet_is_concealed_and_counted(tmp_path: Path, clip: Path) -> None:
    data = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        middle = packets[8]
        begin = middle.pos + min(30, middle.size // 3)
        data[begin : middle.pos + middle.size] = bytes(255 - byte for byte in data[begin : middle.pos + middle.size])
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(data)
    reports: list[str] = []
    frames = list(read_frames(bad, on_damage=reports.append))
    assert reports
    assert len(frames) >= 18
    with pytest.raises(VideoError, match=r"bad\.mp4: .*--strict"):
        list(read_frames(bad, ReadOptions(strict=True)))


def test_damage_that_is_read_twice_is_counted_once(tmp_path: Path) -> None:
    """The head of a range is read again from further back when too few frames of it decode."""
    clip = make_clip(tmp_path / "a.mp4", frames=20, codec="mjpeg", pixel_format="yuvj420p")
    data = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        bad = [packet for packet in container.demux(video=0) if packet.size][9]
        data[bad.pos : bad.pos + bad.size] = bytes(bad.size)
    clip.write_bytes(data)
    reports: list[str] = []
    frames = list(read_frames(clip, ReadOptions(start=Fraction(9, 25)), on_damage=reports.append))
    assert len(frames) == 10
    assert len(reports) == 1
