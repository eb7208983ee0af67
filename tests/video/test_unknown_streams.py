"""Streams that FFmpeg lists and cannot decode, and values of PyAV's that are missing, falsy or not UTF-8."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import pytest
from clips import make_clip, make_picture, rewrite_entries, run_ffmpeg
from commands import in_process
from outputs import try_target

from ristn_cli.video import VideoError, VideoInfo, encode_jpeg, find_fields, probe
from ristn_cli.video.reading import probing
from ristn_cli.video.reading.streams import as_fraction, codec_names

SETTINGS = ("--device", "cpu", "--preset", "ultrafast", "--size", "2x")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Video, audio, subtitles and a time code, which is a data stream."""
    plain = make_clip(tmp_path / "plain.mp4", frames=6, audio_tracks=2, subtitles=True)
    path = tmp_path / "in.mov"
    run_ffmpeg("-i", plain, "-map", "0", "-c", "copy", "-timecode", "01:00:00:00", path)
    return path


def kinds_of(info: VideoInfo) -> list[tuple[str, str, bool]]:
    return [(stream.kind, stream.codec, stream.has_decoder) for stream in info.streams]


def test_streams_of_unknown_codecs_are_listed(clip: Path) -> None:
    rewrite_entries(clip, {b"mp4a": b"xaud", b"tx3g": b"xsub", b"tmcd": b"xdat"})
    video, *audio, subtitle, data = kinds_of(probe(clip))
    assert video == ("video", "h264", True)
    assert audio == [("audio", "xaud", False)] * 2
    assert subtitle == ("subtitle", "xsub", False)
    assert data[0] == "data"
    code, out, _ = in_process("info", clip)
    assert code == 0
    assert "audio xaud, no decoder, eng" in out


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_streams_of_unknown_codecs_are_left_out_with_a_line(
    clip: Path, tiny_weights: Path, tmp_path: Path, suffix: str
) -> None:
    rewrite_entries(clip, {b"mp4a": b"xaud", b"tx3g": b"xsub"})
    target = tmp_path / f"out{suffix}"
    code, _, err = in_process("upscale", clip, target, "--model", tiny_weights, *SETTINGS)
    assert code == 0, err
    assert "dropped: stream 1: audio xaud, no decoder" in err
    assert "stream 3: subtitle xsub, no decoder" in err
    assert [stream.kind for stream in probe(target).streams if stream.kind != "data"] == ["video"]


def test_a_stream_without_decoder_is_copied_where_the_container_takes_it(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=6, audio_tracks=1)
    rewrite_entries(clip, {b"mp4a": b"mhm1"})
    info = probe(clip)
    assert kinds_of(info)[1] == ("audio", "mpegh_3d_audio", False)
    assert [str(entry) for entry in try_target(info, "out.mp4", width=128, height=96)] == ["upscale", "copy"]
    plan = try_target(info, "out.mkv", width=128, height=96)[1]
    assert plan.action == "drop"
    assert plan.is_loss


def test_a_copied_stream_without_decoder_passes_the_checks(tiny_weights: Path, tmp_path: Path) -> None:
    clip, target = make_clip(tmp_path / "in.mp4", frames=6, audio_tracks=1), tmp_path / "out.mp4"
    rewrite_entries(clip, {b"mp4a": b"mhm1"})
    code, _, err = in_process("upscale", clip, target, "--model", tiny_weights, *SETTINGS)
    assert code == 0, err
    assert "dropped" not in err
    assert kinds_of(probe(target))[1] == ("audio", "mpegh_3d_audio", False)


def test_a_video_of_an_unknown_codec_is_refused_in_a_line(clip: Path, tiny_weights: Path, tmp_path: Path) -> None:
    rewrite_entries(clip, {b"avc1": b"dav1"})
    with pytest.raises(VideoError, match=r"in\.mov: FFmpeg has no decoder for its video \(stream 0, codec 'dav1'\)"):
        probe(clip)
    code, _, err = in_process("upscale", clip, tmp_path / "out.mkv", "--model", tiny_weights, *SETTINGS)
    assert code == 1
    assert err.count("error:") == 1


def test_another_video_of_an_unknown_codec_does_not_stand_in_the_way(tiny_weights: Path, tmp_path: Path) -> None:
    large = make_clip(tmp_path / "large.mp4", frames=6, width=128, height=96)
    small = make_clip(tmp_path / "small.mp4", frames=6, codec="mpeg4")
    clip = tmp_path / "in.mp4"
    run_ffmpeg("-i", large, "-i", small, "-map", "0", "-map", "1", "-c", "copy", clip)
    rewrite_entries(clip, {b"avc1": b"dav1"})
    info = probe(clip)
    assert info.video_index == 1
    target = tmp_path / "out.mkv"  # which takes anything that came from a MOV
    code, _, err = in_process("upscale", clip, target, "--model", tiny_weights, *SETTINGS)
    assert code == 0, err
    assert [stream.kind for stream in probe(target).streams] == ["video", "video"]
    assert try_target(info, "out.mp4", width=128, height=96)[0].is_loss
    with pytest.raises(VideoError, match=r"choose another stream with --video-stream: it has 2: 0 \(dav1"):
        probe(clip, video_stream=0)


def test_another_video_of_a_codec_in_no_table(tmp_path: Path) -> None:
    """The container is asked: what it takes is copied, else Matroska goes without it and the others refuse it."""
    plain = make_clip(tmp_path / "plain.mp4", frames=6)
    clip = tmp_path / "in.mkv"
    options = ["-map", "0", "-map", "0", "-c:0", "copy", "-disposition:1", "0"]
    run_ffmpeg("-i", plain, *options, "-c:1", "mpeg4", clip)
    assert [str(entry) for entry in try_target(probe(clip), "out.mp4", width=128, height=96)] == ["upscale", "copy"]
    run_ffmpeg("-i", plain, *options, "-c:1", "huffyuv", "-pix_fmt:1", "yuv422p", clip)
    info = probe(clip)
    assert [str(entry) for entry in try_target(info, "out.mkv", width=128, height=96)] == ["upscale", "copy"]
    with pytest.raises(VideoError, match=r"mp4 cannot hold the video stream 1 \(huffyuv\) of in\.mkv; use .* \.mkv"):
        try_target(info, "out.mp4", width=128, height=96)
    assert try_target(info, "out.mp4", width=128, height=96, drop_unsupported=True)[1].is_loss


@pytest.mark.parametrize("suffix", [".mkv", ".mov"])
def test_tags_that_are_not_utf8(tmp_path: Path, suffix: str) -> None:
    plain, clip = make_clip(tmp_path / "plain.mp4", frames=2, title="a title"), tmp_path / f"in{suffix}"
    run_ffmpeg("-i", plain, "-c", "copy", "-metadata:s:v:0", "handler_name=b title", clip)
    data = clip.read_bytes()
    clip.write_bytes(data.replace(b"a title", b"a t\xeetle").replace(b"b title", b"b t\xeetle"))
    info = probe(clip)
    assert info.metadata["title"] == "a t\N{REPLACEMENT CHARACTER}tle"
    assert in_process("info", clip)[0] == 0


def test_tags_of_a_frame_that_are_not_utf8(tmp_path: Path) -> None:
    """A camera's JPEG frames with a description in EXIF, which FFmpeg gives with each frame."""
    text = b"a t\xeetle\0"
    entry = struct.pack("<HHHII", 1, 0x010E, 2, len(text), 26)  # one entry: description, text, its length and place
    exif = b"Exif\0\0II*\0\x08\0\0\0" + entry + bytes(4) + text
    jpeg = encode_jpeg(make_picture(0, 64, 48))
    jpeg = jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg)
    clip = tmp_path / "in.avi"
    run_ffmpeg("-i", tmp_path / "%d.jpg", "-c", "copy", clip)
    with av.open(str(clip)) as container, pytest.raises(UnicodeDecodeError):
        _ = next(container.decode(video=0)).metadata
    assert not find_fields(probe(clip)).is_interlaced


class Falsy:
    """Stands in for PyAV 19's rationals, of which an unset one is 0/1 or 1/0, and falsy."""

    def __init__(self, numerator: int, denominator: int) -> None:
        self.numerator, self.denominator = numerator, denominator

    def __bool__(self) -> bool:
        return bool(self.numerator and self.denominator)


@pytest.mark.parametrize("unset", [None, Falsy(0, 1), Falsy(1, 0), Falsy(0, 0)])
def test_unset_rationals_in_either_form(unset: Any) -> None:
    assert as_fraction(unset) is None
    assert as_fraction(Falsy(1, 25)) == Fraction(1, 25)
    assert type(as_fraction(Falsy(1, 25))) is Fraction
    stream: Any = SimpleNamespace(guessed_rate=unset, average_rate=unset)
    assert probing._nominal_rate(stream) == 25
    stream = SimpleNamespace(guessed_rate=unset, average_rate=Falsy(24000, 1001))
    assert probing._nominal_rate(stream) == Fraction(24000, 1001)


def test_a_pyav_without_metadata_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for PyAV 19, whose `open` has no such argument."""
    real = av.open

    def open_without(file: str, mode: str, kind: str | None = None, options: Any = None) -> Any:
        return real(file, mode, kind, options=options)

    clip = make_clip(tmp_path / "in.mp4", frames=2)
    monkeypatch.setattr(av, "open", open_without)
    assert probe(clip).codec == "h264"


def test_codec_tags_are_never_read(clip: Path) -> None:
    """PyAV 18 raises UnicodeDecodeError for the tags of AC-3, DTS and PGS in transport streams."""
    package = Path(probing.__file__).parent.parent
    assert not [path for path in package.rglob("*.py") if ".codec_tag" in path.read_text(encoding="utf-8")]
    with av.open(str(clip)) as container:
        assert codec_names(container)[:2] == ["h264", "aac"]
