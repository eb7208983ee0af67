"""What becomes of every other stream, in every container."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import (
    CHAPTERS,
    make_clip,
    make_picture,
    make_sound,
    packet_times,
    run_ffmpeg,
)
from identity import upscale, write_parts
from outputs import join_parts, try_target

from ristn_cli.video import (
    StreamInfo,
    VideoError,
    check_mux,
    probe,
    read_frames,
    write_image,
)

NINETY_KHZ = Fraction(1, 90000)
# Uneven gaps, two frames one tick of 1/30000 s apart, a late start; no multiple of any frame rate.
VARIABLE_TIMES = [45000 + tick for tick in (0, 3003, 6006, 12012, 12500, 20000, 33333, 33336, 40000, 50000, 51000)]


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize("source", [".mkv", ".mp4"])
def test_everything_is_carried(tmp_path: Path, source: str, suffix: str) -> None:
    clip = make_clip(
        tmp_path / f"in{source}",
        frames=25,
        audio_tracks=2,
        subtitles=True,
        chapters=True,
        title="Title = a; b # c",
    )
    info = probe(clip)
    output = upscale(clip, tmp_path / f"out{suffix}", count=3)
    kinds = [stream.kind for stream in output.streams if stream.kind != "data"]
    assert kinds == ["video", "audio", "audio", "subtitle"]
    languages = [stream.language for stream in output.streams[1:4]]
    # QuickTime's own language table knows German by its other code.
    assert languages == ["eng", "ger" if suffix == ".mov" else "deu", "fra"]
    assert output.metadata["title"] == "Title = a; b # c"
    assert [(c.start, c.end, c.metadata["title"]) for c in output.chapters] == list(CHAPTERS)
    assert [stream.title for stream in output.streams[1:3]] == ["track 0", "track 1"]
    if suffix != ".mov":
        assert output.streams[2].dispositions == ("comment",)
        assert "forced" in output.streams[3].dispositions
    assert output.streams[3].codec == ("subrip" if suffix == ".mkv" else "mov_text")
    for index in (1, 2):
        before, after = packet_times(clip, index), packet_times(output.path, index)
        assert len(after) == len(before)
        assert all(abs(a[0] - b[0]) < Fraction(2, 1000) for a, b in zip(after, before, strict=True))
    texts = [time for time, length in packet_times(output.path, 3) if length]
    assert {Fraction(1, 10), Fraction(6, 10)} <= set(texts)
    assert abs(output.rate - info.rate) < Fraction(1, 100)
    times, expected = packet_times(output.path, 0), packet_times(clip, info.video_index)
    assert sorted(time for time, _ in times) == sorted(time for time, _ in expected)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_late_audio_stays_late(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=25, audio_tracks=1, audio_delay=Fraction(2, 5))
    output = upscale(clip, tmp_path / f"out{suffix}")
    before = [packet_times(clip, index)[0][0] for index in (0, 1)]
    after = [packet_times(output.path, index)[0][0] for index in (0, 1)]
    assert before[1] - before[0] > Fraction(3, 10)
    assert abs((after[1] - after[0]) - (before[1] - before[0])) < Fraction(2, 1000)


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_late_variable_rate_video_keeps_every_time(tmp_path: Path, codec: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", times=VARIABLE_TIMES, time_base=NINETY_KHZ, audio_tracks=1)
    output = upscale(clip, tmp_path / "out.mp4", codec=codec, count=3)
    found = sorted(time for time, _ in packet_times(output.path, 0))
    assert abs(list(read_frames(output))[-1].duration - Fraction(1, 25)) < Fraction(1, 1000)
    assert found == [tick * NINETY_KHZ for tick in VARIABLE_TIMES]
    assert packet_times(output.path, 1)[0] == packet_times(clip, 1)[0]
    decode_times = []
    with av.open(str(output.path)) as container:
        decode_times = [packet.dts for packet in container.demux(video=0) if packet.size]
    assert decode_times == sorted(set(decode_times))


def test_transport_stream_moves_to_zero(tmp_path: Path) -> None:
    clip = tmp_path / "in.ts"
    run_ffmpeg("-i", make_clip(tmp_path / "a.mp4", frames=20, audio_tracks=1), "-c", "copy", clip)
    info = probe(clip)
    assert info.start_time > 1
    output = upscale(clip, tmp_path / "out.mp4")
    frames = list(read_frames(output))
    assert output.start_time < Fraction(1, 10)
    assert len(frames) == 20
    gap = info.start_time - packet_times(clip, 1)[0][0]
    assert abs(output.start_time - packet_times(output.path, 1)[0][0] - gap) < Fraction(2, 1000)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_trim_cuts_all_streams(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=25, audio_tracks=1, subtitles=True, chapters=True)
    output = upscale(clip, tmp_path / f"out{suffix}", start=Fraction(2, 5), end=Fraction(4, 5))
    frames = list(read_frames(output))
    assert len(frames) == 10
    assert abs(frames[0].time) < Fraction(1, 1000)
    assert np.abs(frames[0].image[::4, ::4].astype(int) - make_picture(10, 64, 48)).mean() < 2.5
    audio = packet_times(output.path, 1)
    assert -Fraction(1, 1000) < audio[0][0] < Fraction(25, 1000)
    assert abs(audio[-1][0] + audio[-1][1] - Fraction(4, 10)) < Fraction(45, 1000)
    assert [(c.start, c.end) for c in output.chapters] == [(0, Fraction(1, 10)), (Fraction(1, 10), Fraction(2, 5))]
    texts = [time for time, length in packet_times(output.path, 2) if time > 0]
    assert texts[0] == Fraction(1, 5)


def test_attachments_and_covers(tmp_path: Path) -> None:
    plain = make_clip(tmp_path / "a.mkv", frames=3, audio_tracks=1)
    cover, font = tmp_path / "cover.png", tmp_path / "letters.ttf"
    write_image(cover, make_picture(3, 32, 32))
    font.write_bytes(b"not really a font" * 9)
    clip = tmp_path / "in.mkv"
    attach = ["-attach", cover, "-metadata:s:2", "mimetype=image/png"]
    attach += ["-attach", font, "-metadata:s:3", "mimetype=font/ttf"]
    run_ffmpeg("-i", plain, "-map", "0", "-c", "copy", *attach, clip)
    output = upscale(clip, tmp_path / "out.mkv")
    with av.open(str(output.path)) as container:
        (attachment,) = [stream for stream in container.streams if stream.type == "attachment"]
        assert (attachment.name, attachment.data) == ("letters.ttf", font.read_bytes())
    (shown,) = [stream for stream in output.streams if stream.is_cover]
    with av.open(str(output.path)) as container:
        (packet,) = [packet for packet in container.demux(container.streams[shown.index]) if packet.size]
        assert bytes(packet) == cover.read_bytes()
    as_mp4 = upscale(clip, tmp_path / "out.mp4")
    assert [stream.codec for stream in as_mp4.streams if stream.is_cover] == ["png"]
    plan = {entry.stream.kind: str(entry) for entry in check_mux(probe(clip), "out.mp4")}
    assert plan["attachment"].startswith("dropped (a font")


def test_pcm_becomes_aac_in_mp4_and_stays_in_matroska(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=10, audio_tracks=1, audio_codec="pcm_s16le")
    assert [str(entry) for entry in check_mux(probe(clip), "out.mp4")] == ["upscale", "convert to aac"]
    assert upscale(clip, tmp_path / "out.mp4").streams[1].codec == "aac"
    assert upscale(clip, tmp_path / "out.mkv").streams[1].codec == "pcm_s16le"


def test_ass_becomes_plain_text_in_mp4(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=25, subtitles=True, subtitle_codec="ass")
    assert upscale(clip, tmp_path / "out.mkv").streams[1].codec == "ass"
    assert upscale(clip, tmp_path / "out.mp4").streams[1].codec == "mov_text"


def test_streams_can_be_left_out(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=10, audio_tracks=1, subtitles=True, title="kept")
    output = upscale(clip, tmp_path / "out.mp4", drop=("audio", "subtitles"))
    assert [stream.kind for stream in output.streams] == ["video"]
    assert output.metadata["title"] == "kept"


@pytest.mark.parametrize(
    ("audio_codec", "target", "message"),
    [
        ("aac", "out.avi", r"cannot write files ending in '.avi'; use .mp4, .m4v, .mov, .mkv, .webm"),
        ("aac", "out.webm", "webm cannot hold h264 video.*--codec av1"),
    ],
)
def test_refuses_before_any_frame(tmp_path: Path, audio_codec: str, target: str, message: str) -> None:
    clip = tmp_path / "in.mkv"
    sound = make_sound(tmp_path / "a.wav", 440, 0.2)
    plain = make_clip(tmp_path / "a.mkv", frames=5)
    run_ffmpeg("-i", plain, "-i", sound, "-c:v", "copy", "-c:a", audio_codec, clip)
    info = probe(clip)
    with pytest.raises(VideoError, match=message):
        check_mux(info, tmp_path / target)


def test_what_cannot_be_held_nor_converted_is_refused_or_dropped(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "in.mkv", frames=1))
    info = replace(info, streams=(*info.streams, StreamInfo(1, "subtitle", "hdmv_pgs_subtitle")))
    refused = r"mp4 cannot hold the subtitle stream 1 \(hdmv_pgs_subtitle\) of in.mkv; use.*\.mkv, or --drop subtitles"
    with pytest.raises(VideoError, match=refused):
        check_mux(info, "out.mp4")
    plan = check_mux(info, "out.mp4", drop_unsupported=True)
    assert str(plan[1]) == "dropped (mp4 cannot hold hdmv_pgs_subtitle)"


def test_one_frame(tmp_path: Path) -> None:
    output = upscale(make_clip(tmp_path / "in.mp4", frames=1, audio_tracks=1), tmp_path / "out.mp4")
    assert len(list(read_frames(output))) == 1


@pytest.mark.parametrize("output", ["av1.webm", "av1.mp4", "ffv1.mkv", "prores.mov", "hevc.mov"])
def test_other_codecs(tmp_path: Path, output: str) -> None:
    codec, suffix = Path(output).stem, Path(output).suffix
    clip = make_clip(tmp_path / "in.mp4", frames=5)
    found = upscale(clip, tmp_path / f"out{suffix}", codec=codec)
    assert found.codec == codec
    assert (found.color.matrix, found.color.range) == ("smpte170m", "tv")


def test_failure_of_ffmpeg_is_told_and_cleaned_up(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3, audio_tracks=1)
    info = probe(clip)
    parts = write_parts(info, list(read_frames(info)), tmp_path, count=1)
    clip.write_bytes(b"gone" * 100)
    with pytest.raises(VideoError, match=r"out.mp4: the final mux failed, ffmpeg ended with \d+: .*in.mp4"):
        join_parts(parts, info, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


@pytest.mark.parametrize("name", ["a:b.mp4", "-y.mp4", "50% 'it' \"is\"; 100%d.mkv"])
def test_any_file_name(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_clip(tmp_path / "in.mp4", frames=3, audio_tracks=1).rename(tmp_path / name)
    (tmp_path / "out").mkdir()
    monkeypatch.chdir(tmp_path)
    output = upscale(Path(name), Path("out") / name)
    assert [stream.kind for stream in output.streams] == ["video", "audio"]


def test_trial_leaves_nothing(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "in.mkv", frames=5, audio_tracks=1, subtitles=True))
    before = set(tmp_path.iterdir())
    for suffix in (".mp4", ".mkv", ".mov"):
        try_target(info, tmp_path / f"out{suffix}", width=256, height=192)
    assert set(tmp_path.iterdir()) == before
    with pytest.raises(VideoError, match="webm cannot hold h264"):
        try_target(info, tmp_path / "out.webm", width=256, height=192)


def test_parts_out_of_order_are_refused(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "in.mp4", frames=6))
    parts = write_parts(info, list(read_frames(info)), tmp_path)
    with pytest.raises(VideoError, match="out of order"):
        join_parts(parts[::-1], info, tmp_path / "out.mp4")
