"""Sources that could fail only after all frames are computed: what is found before, and what the check allows for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from clips import make_clip, make_sound, run_ffmpeg
from commands import in_process
from jobs import run_job
from outputs import join_parts, open_writer, try_target, verify_file

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job import finishing
from ristn_cli.job.job import job_folder
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.plan import JobPlan
from ristn_cli.model import RISTN
from ristn_cli.video import (
    Frame,
    Output,
    StreamPlan,
    VideoError,
    VideoInfo,
    check_mux,
    probe,
    read_frames,
)
from ristn_cli.video.muxing import trial
from ristn_cli.video.muxing.mux import mux_clip
from ristn_cli.video.muxing.prepared import Clip
from ristn_cli.video.muxing.verify import check_audio_times

PICTURES = ["-f", "lavfi", "-i", "testsrc2=s=16x16:r=25:d=2"]
SOUND = ["-f", "lavfi", "-i", "sine=440:d=2:r=44100"]
H264 = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]


@pytest.fixture
def upscaler(tiny_model: RISTN) -> Upscaler:
    return Upscaler(tiny_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=5))


def run(source: Path, target: Path, upscaler: Upscaler, **options: object) -> dict[int, StreamPlan]:
    """Upscale; what became of each stream."""
    plans: list[JobPlan] = []
    settings = UpscaleOptions(preset="ultrafast", **options)  # type: ignore[arg-type]
    list(run_job(source, target, upscaler, settings, on_plan=plans.append))
    return {entry.stream.index: entry for entry in plans[0].streams}


def streams_of(path: Path) -> list[tuple[str, str]]:
    with av.open(str(path)) as container:
        return [(stream.type, stream.codec_context.codec.canonical_name) for stream in container.streams]


def times_of(path: Path) -> list[float]:
    frames = list(read_frames(path))
    return [float(frame.time - frames[0].time) for frame in frames]


# Times of frames


def test_packets_that_hold_no_picture_of_their_own_are_no_frames(upscaler: Upscaler, tmp_path: Path) -> None:
    """As in AVI files of screen recorders: a packet says that nothing changed, and no frame comes of it."""
    plain, source, target = tmp_path / "plain.avi", tmp_path / "in.avi", tmp_path / "out.mkv"
    run_ffmpeg(*PICTURES, "-t", "0.8", "-c:v", "mpeg4", "-bf", "0", plain)
    with av.open(str(plain)) as before, av.open(str(source), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        for number, packet in enumerate(before.demux(video=0)):
            if packet.dts is None:
                continue
            skipped = av.Packet(b"\x7f") if number in (1, 2, 7, 19) else packet
            skipped.pts, skipped.dts, skipped.time_base = packet.pts, packet.dts, packet.time_base
            skipped.stream = stream
            after.mux(skipped)
    expected = [number / 25 for number in range(20) if number not in (1, 2, 7, 19)]
    assert times_of(source) == pytest.approx(expected)
    run(source, target, upscaler)
    assert times_of(target) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize(("codec", "suffix"), [("libvpx", ".mkv"), ("libvpx-vp9", ".mp4")])
def test_a_hidden_frame_in_a_packet_of_its_own_is_no_frame(
    upscaler: Upscaler, tmp_path: Path, codec: str, suffix: str
) -> None:
    whole, source, target = tmp_path / "whole.webm", tmp_path / "in.mkv", tmp_path / f"out{suffix}"
    coding = ["-c:v", codec, "-b:v", "100k", "-auto-alt-ref", "1", "-lag-in-frames", "16", "-arnr-maxframes", "5"]
    for number in (1, 2):
        out = ["-f", "null", "-"] if number == 1 else [whole]
        passes = ["-pass", str(number), "-passlogfile", tmp_path / "log"]
        run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=2", *coding, *passes, *out)
    with av.open(str(whole)) as before, av.open(str(source), "w") as after:
        stream = after.add_stream_from_template(before.streams.video[0])
        packets = [packet for packet in before.demux(video=0) if packet.size]
        if codec == "libvpx-vp9":  # whose hidden frames share a packet with the next
            split = av.BitStreamFilterContext("vp9_superframe_split", before.streams.video[0])
            packets = [piece for packet in packets for piece in split.filter(packet)]
        shown = -1
        for packet in packets:
            packet.pts = packet.dts = shown = max(packet.pts or 0, shown + 1)
            packet.stream = stream
            after.mux(packet)
    assert len(packets) > len(times_of(source)) == 50
    run(source, target, upscaler)
    assert times_of(target) == pytest.approx(times_of(source), abs=0.001)


def test_lost_frames_and_shifted_frames_are_still_found(tmp_path: Path) -> None:
    """By the packets of the source, and by its decoder, which is asked second."""
    source = probe(make_clip(tmp_path / "in.mp4", frames=8))
    good = {"width": 64, "height": 48, "source": source}
    verify_file(make_clip(tmp_path / "same.mp4", frames=8), frames=8, **good)
    with pytest.raises(VideoError, match="number of frames is 7, expected more"):
        verify_file(make_clip(tmp_path / "short.mp4", frames=7), frames=7, **good)
    late = make_clip(tmp_path / "late.mp4", times=[0, 1, 2, 3, 5, 6, 7, 8], time_base=Fraction(1, 25))
    with pytest.raises(VideoError, match=r"time of frame 5 is 0.2\d* s, expected 0.16"):
        verify_file(late, frames=8, **good)


# Streams that begin elsewhere


def cut_before_a_key_frame(tmp_path: Path, codec: str) -> Path:
    """A transport stream from the middle of a group of pictures on; its clock begins far from zero."""
    whole, source = tmp_path / "whole.ts", tmp_path / "in.ts"
    run_ffmpeg(*PICTURES, *SOUND, *H264, "-g", "25", "-c:a", codec, "-output_ts_offset", "31814", whole)
    data = whole.read_bytes()
    source.write_bytes(data[len(data) // 4 // 188 * 188 :])
    return source


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("codec", ["aac", "mp2"])
def test_audio_from_before_the_first_key_frame(upscaler: Upscaler, tmp_path: Path, codec: str, suffix: str) -> None:
    source, target = cut_before_a_key_frame(tmp_path, codec), tmp_path / f"out{suffix}"
    info = probe(source)
    with av.open(str(source)) as container:
        times = {kind: [] for kind in ("audio", "video")}  # type: dict[str, list[Fraction]]
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                times[packet.stream.type].append(packet.pts * packet.time_base)
    assert info.start_time - min(times["video"]) > Fraction(1, 5)  # packets that no picture comes of
    run(source, target, upscaler)
    with av.open(str(target)) as container:
        first = {}
        for packet in container.demux():
            if packet.size and packet.pts is not None:
                time = packet.pts * packet.time_base
                first[packet.stream.type] = min(time, first.get(packet.stream.type, time))
    expected = min(times["audio"]) - info.start_time
    assert float(first["audio"] - first["video"]) == pytest.approx(float(expected), abs=0.003)


@pytest.mark.parametrize("start", [None, Fraction(1, 5)])
def test_audio_that_begins_behind_the_video(upscaler: Upscaler, tmp_path: Path, start: Fraction | None) -> None:
    """Of such a clock ffmpeg takes the first stream that it uses for the beginning, and the video is not one."""
    source, target = tmp_path / "in.ts", tmp_path / "out.mkv"
    coding = ["-c:v", "mpeg2video", "-bf", "0", "-c:a", "mp2"]
    run_ffmpeg("-itsoffset", "7", *PICTURES, "-itsoffset", "7.5", *SOUND, "-map", "0", "-map", "1", *coding, source)
    assert run(source, target, upscaler, start=start)[1].action == "copy"
    first: dict[str, float] = {}
    with av.open(str(target)) as container:
        for packet in container.demux():
            if packet.size:
                first.setdefault(packet.stream.type, float(packet.pts * packet.time_base))
    assert first["audio"] - first["video"] == pytest.approx(0.5 - float(start or 0), abs=0.04)


@pytest.mark.parametrize("codec", ["pcm_s16le", "aac"])
def test_a_shifted_track_is_still_found(tmp_path: Path, codec: str) -> None:
    """Copied or converted; by 0.2 s, also where only the beginning is looked at."""
    clip, shifted = tmp_path / "in.mkv", tmp_path / "shifted.mp4"
    run_ffmpeg(*PICTURES, *SOUND, *H264, "-c:a", codec, clip)
    info = probe(clip)
    plan = check_mux(info, shifted)
    assert plan[1].action == ("copy" if codec == "aac" else "convert")
    run_ffmpeg("-i", clip, "-itsoffset", "0.2", "-i", clip, "-map", "0:v", "-map", "1:a", *H264, "-c:a", "aac", shifted)
    for until in (None, Fraction(1)):
        with pytest.raises(VideoError, match=r"begin of audio stream 1 is 0\.1\d+ s, expected (-0\.0\d+|0\.000) s"):
            check_audio_times(shifted, info, plan, Fraction(1, 25), until=until)


def test_aac_that_is_described_twice_is_one_stream(upscaler: Upscaler, tmp_path: Path) -> None:
    """FLV from streaming servers repeats the description; FFmpeg's Matroska muxer then lists each stream twice."""
    source, target = tmp_path / "in.flv", tmp_path / "out.mkv"
    run_ffmpeg(*PICTURES, *SOUND, *H264, "-c:a", "aac", source)
    data = source.read_bytes()
    at = data.index(b"\xaf\x00") - 11
    size = 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
    source.write_bytes(data[: at + size] + data[at : at + size] + data[at + size :])
    run(source, target, upscaler)
    assert streams_of(target) == [("video", "h264"), ("audio", "aac")]
    assert len(times_of(target)) == 50


# Audio that a container cannot hold


@pytest.mark.parametrize(
    ("codec", "suffix", "target", "expected"),
    [
        ("mp2", ".mpg", "out.mp4", "copy"),
        ("mp2", ".mpg", "out.mov", "copy"),
        ("nellymoser", ".flv", "out.mkv", "convert to aac"),
        ("nellymoser", ".flv", "out.mov", "convert to aac"),
        ("wmav2", ".wmv", "out.mp4", "convert to aac"),
        ("wmav2", ".wmv", "out.mkv", "copy"),
        ("adpcm_ima_qt", ".mov", "out.mp4", "convert to aac"),
        ("libvorbis", ".mkv", "out.mp4", "convert to aac"),
        ("pcm_f32be", ".mov", "out.mkv", "convert to pcm_f32le"),
        ("pcm_s8", ".mov", "out.mkv", "convert to pcm_s16le"),
        ("pcm_s24be", ".mov", "out.mkv", "copy"),
        ("pcm_s16be_planar", ".nut", "out.mov", "convert to pcm_s16le"),
        ("tta", ".mkv", "out.mp4", "convert to flac"),
        ("flac", ".mkv", "out.mov", "convert to alac"),
        ("wavpack", ".mkv", "out.mkv", "copy"),
    ],
)
def test_audio_is_converted_where_it_cannot_be_copied(
    upscaler: Upscaler, tmp_path: Path, codec: str, suffix: str, target: str, expected: str
) -> None:
    source = tmp_path / f"in{suffix}"
    video = {".mpg": "mpeg1video", ".flv": "flv", ".wmv": "wmv2"}.get(suffix, "mpeg4")
    rate = ["-ar", "22050"] if codec == "nellymoser" else []
    run_ffmpeg(*PICTURES, *SOUND, "-t", "0.6", "-c:v", video, "-c:a", codec, *rate, source)
    plans = run(source, tmp_path / target, upscaler)
    assert [str(plan) for plan in plans.values() if plan.stream.kind == "audio"] == [expected]
    with av.open(str(tmp_path / target)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) >= 0.55 * container.streams.audio[0].rate


@pytest.mark.parametrize(
    ("layout", "rate", "target", "expected"),
    [
        ("5.1(side)", 48000, "out.webm", ("opus", 6)),
        ("5.0(side)", 48000, "out.webm", ("opus", 5)),
        ("hexadecagonal", 48000, "out.mp4", ("aac", 8)),
        ("stereo", 96000, "out.mp4", ("aac", 2)),
    ],
)
def test_audio_that_an_encoder_or_muxer_refuses_as_it_is(
    tmp_path: Path, layout: str, rate: int, target: str, expected: tuple[str, int]
) -> None:
    """Opus and AAC have no such channels; MP4 holds no FLAC of such a rate, which is what TTA is converted to."""
    source, codec = tmp_path / "in.mkv", "pcm_s16le" if layout == "hexadecagonal" else "tta"
    sound = ["-f", "lavfi", "-i", f"sine=440:d=1:r={rate}", "-af", f"pan={layout}|c0=c0|c1=c0"]
    run_ffmpeg(*PICTURES, *sound, "-t", "1", *H264, "-c:a", codec, source)
    info = probe(source)
    settings: dict[str, Any] = {"codec": "av1" if target == "out.webm" else None}
    settings |= {"width": 64, "height": 64}
    plan = try_target(info, tmp_path / target, **settings)
    assert plan[1].action == "convert"
    times = {"rate": info.rate, "time_base": info.time_base}
    with open_writer(tmp_path / "part.mp4", color=info.color, **times, **settings) as writer:
        writer.write(Frame(np.zeros((64, 64, 3), np.uint8), info.start_time))
    join_parts([tmp_path / "part.mp4"], info, tmp_path / target, plan=plan, **settings)
    with av.open(str(tmp_path / target)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.codec.canonical_name, stream.channels) == expected


def test_aac_in_latm_is_converted_in_mp4(upscaler: Upscaler, tmp_path: Path) -> None:
    source, target = tmp_path / "in.ts", tmp_path / "out.mp4"
    run_ffmpeg(*PICTURES, *SOUND, *H264, "-c:a", "aac", "-mpegts_flags", "latm", source)
    assert str(run(source, target, upscaler)[1]) == "convert to aac"
    assert streams_of(target) == [("video", "h264"), ("audio", "aac")]


def without_description(path: Path) -> None:
    """Take away what the Matroska file says of the codec of its audio, as files of old tools lack it."""
    data = path.read_bytes()
    at = data.index(b"\x63\xa2", data.index(b"A_VORBIS"))
    assert data[at + 2] & 0xC0 == 0x40  # a size of two bytes
    size = int.from_bytes(data[at + 2 : at + 4], "big") & 0x3FFF
    void = b"\xec" + (0x200000 | size).to_bytes(3, "big")
    path.write_bytes(data[:at] + void + data[at + 4 :])


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_audio_that_cannot_be_decoded_is_left_out_and_named(upscaler: Upscaler, tmp_path: Path, suffix: str) -> None:
    source, target = tmp_path / "in.mkv", tmp_path / f"out{suffix}"
    run_ffmpeg(*PICTURES, *SOUND, *SOUND, "-map", "0", "-map", "1", "-map", "2", *H264, "-c:a:0", "libvorbis", "-ac",
               "2", "-c:a:1", "aac", source)  # fmt: skip
    without_description(source)
    plans = run(source, target, upscaler)
    assert plans[1].is_loss
    assert "it cannot be converted" in str(plans[1])
    assert str(plans[2]) == "copy"
    assert streams_of(target) == [("video", "h264"), ("audio", "aac")]


def test_a_conversion_is_told_in_a_line(tiny_weights: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    run_ffmpeg(*PICTURES, *SOUND, "-t", "0.2", *H264, "-c:a", "tta", source)
    command = ("upscale", source, tmp_path / "out.mp4", "--model", tiny_weights, "--precision", "fp32")
    code, _, stderr = in_process(*command, "--preset", "ultrafast")
    assert code == 0
    assert "converted to flac, because the output cannot hold the source's codec: stream 1: audio tta" in " ".join(
        stderr.split()
    )


def test_packets_are_tried_in_the_middle_and_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in for a muxer that refuses packets behind the first quarter of a minute."""
    source = tmp_path / "in.mkv"
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=16x16:r=5:d=40", "-i", make_sound(tmp_path / "a.wav", 440, 40), *H264,
               "-c:a", "aac", source)  # fmt: skip
    tried: list[tuple[float, tuple[str, ...]]] = []

    def refuse(parts: Sequence[Path], output: Output, target: Path, clip: Clip) -> None:
        tried.append((float(clip.zero), tuple(map(str, output.streams))))
        if clip.zero > 15 and "copy" in tried[-1][1]:
            raise VideoError(f"{target}: the final mux failed")
        mux_clip(parts, output, target, clip)

    monkeypatch.setattr(trial, "mux_clip", refuse)
    plan = try_target(probe(source), tmp_path / "out.mkv", width=64, height=64)
    assert str(plan[1]) == "convert to aac"
    assert sorted({round(zero) for zero, _ in tried}) == [0, 20, 38]


# Subtitles without an event in the range


@pytest.mark.parametrize("options", [{"end": Fraction(1)}, {"max_frames": 5}, {"start": Fraction(7, 4)}, {}])
@pytest.mark.parametrize(("codec", "source"), [("ass", "in.mkv"), ("mov_text", "in.mp4"), ("subrip", "in.mkv")])
def test_subtitles_without_an_event_in_the_range(
    upscaler: Upscaler, tmp_path: Path, codec: str, source: str, options: dict[str, object]
) -> None:
    words = tmp_path / "words.srt"
    words.write_text("1\n00:00:01,300 --> 00:00:01,500\nwords\n", encoding="utf-8")
    run_ffmpeg(*PICTURES, "-i", words, "-map", "0", "-map", "1", *H264, "-c:s", codec, tmp_path / source)
    for suffix in (".mkv", ".mp4"):
        target = tmp_path / f"out{suffix}"
        run(tmp_path / source, target, upscaler, **options)
        if not options:
            with av.open(str(target)) as container:
                assert any(packet.size > 2 for packet in container.demux(subtitles=0))


def test_subtitles_that_begin_late_are_no_failure(tmp_path: Path) -> None:
    """Behind the seconds that are tried, in a job that is trimmed."""
    words, source = tmp_path / "words.srt", tmp_path / "in.mkv"
    words.write_text("1\n00:00:13,000 --> 00:00:14,000\nwords\n", encoding="utf-8")
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=16x16:r=5:d=16", "-i", words, *H264, "-c:s", "ass", source)
    for start in (None, Fraction(1)):
        plan = try_target(probe(source), tmp_path / "out.mp4", width=64, height=64, start=start)
        assert str(plan[1]) == "convert to mov_text"


# A check that fails all the same


@pytest.fixture
def failing_check(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A stand-in for whatever nobody thought of; called, it lets the check pass again."""

    def fail(target: Path, *_: object, **__: object) -> None:
        raise VideoError(f"{target}: the finished file fails its check: everything; please report it")

    monkeypatch.setattr(finishing, "verify", fail)
    monkeypatch.setattr(finishing, "verify_images", lambda folder, *_, **__: fail(folder))
    return monkeypatch.undo


def test_a_result_that_fails_its_check_is_kept(
    failing_check: Callable[[], None], tiny_weights: Path, tmp_path: Path
) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=6), tmp_path / "out.mkv"
    precious = tmp_path / "out.unverified.mkv"
    precious.write_bytes(b"precious")
    command = ("upscale", source, target, "--model", tiny_weights, "--preset", "ultrafast", "--precision", "fp32")
    names = [f"out.unverified-{number}.mkv" for number in (2, 2, 3, 3)]
    for runs, name in enumerate(names, start=1):
        code, _, stderr = in_process(*command)
        assert code == 1
        told = " ".join(stderr.split())
        assert "out.mkv: the finished file fails its check: everything" in told
        assert name in told
        assert len(list(read_frames(tmp_path / name))) == 6
        assert not target.exists()
        if runs == 2:  # somebody works on the second result: the next run must not replace it
            (tmp_path / name).write_bytes(b"mended")
    assert sorted(path.name for path in tmp_path.glob("*.unverified*")) == [
        "out.unverified-2.mkv",
        "out.unverified-3.mkv",
        "out.unverified.mkv",
    ]
    assert (tmp_path / "out.unverified-2.mkv").read_bytes() == b"mended"
    assert precious.read_bytes() == b"precious"
    failing_check()
    code, _, stderr = in_process(*command)
    assert code == 0
    assert len(list(read_frames(target))) == 6
    assert not job_folder(target).exists()


@pytest.mark.usefixtures("failing_check")
def test_a_run_after_a_failed_check_computes_nothing(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=6), tmp_path / "out.mp4"
    with pytest.raises(VideoError, match=r"out\.mp4: the finished .*kept as .*out\.unverified\.mp4$"):
        run(source, target, upscaler)
    monkeypatch.setattr(upscaler, "launch_window", lambda *_: pytest.fail("frames are computed again"))
    with pytest.raises(VideoError, match=r"kept as .*out\.unverified\.mp4$"):
        run(source, target, upscaler)
    assert [path.name for path in tmp_path.glob("*.unverified*")] == ["out.unverified.mp4"]


def test_frames_are_kept_where_the_mux_fails(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stand-in for a source whose disk is gone when all frames are computed."""
    source, target = make_clip(tmp_path / "in.mp4", frames=6), tmp_path / "out.mkv"

    def fail(parts: object, info: VideoInfo, joined: Path, **_: object) -> None:
        raise VideoError(f"{joined}: the final mux failed")

    monkeypatch.setattr(finishing, "join_and_mux", fail)
    with pytest.raises(VideoError, match=r"out\.mkv: the final mux failed; all frames .* kept in .*\.out\.mkv\.ristn"):
        run(source, target, upscaler)
    monkeypatch.undo()
    monkeypatch.setattr(upscaler, "launch_window", lambda *_: pytest.fail("frames are computed again"))
    run(source, target, upscaler)
    assert len(list(read_frames(target))) == 6


@pytest.mark.usefixtures("failing_check")
def test_images_that_fail_their_check_are_kept(upscaler: Upscaler, tmp_path: Path) -> None:
    source, folder = make_clip(tmp_path / "in.mp4", frames=3), tmp_path / "frames"
    for _ in range(2):
        with pytest.raises(VideoError, match=r"kept as .*frames\.unverified$"):
            run(source, folder / "%05d.png", upscaler)
        assert len(list((tmp_path / "frames.unverified").glob("*.png"))) == 3
    (tmp_path / "frames.unverified" / "00002.png").write_bytes(b"mended")
    with pytest.raises(VideoError, match=r"kept as .*frames\.unverified-2$"):
        run(source, folder / "%05d.png", upscaler)
    assert (tmp_path / "frames.unverified" / "00002.png").read_bytes() == b"mended"
    assert not list(folder.glob("*.png"))


def test_a_rate_that_is_a_guess_does_not_narrow_the_trial(tmp_path: Path) -> None:
    """90000 frames a second, as FFmpeg guesses of some recordings, would leave no room for the packets of the audio."""
    source = tmp_path / "in.mkv"
    run_ffmpeg(*PICTURES, *SOUND, *H264, "-c:a", "aac", source)
    info = replace(probe(source), rate=Fraction(90000))
    assert str(try_target(info, tmp_path / "out.mp4", width=64, height=64)[1]) == "copy"
