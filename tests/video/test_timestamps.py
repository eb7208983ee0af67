"""Times of frames where a file's timestamps are wrong: those of the ffmpeg program, wherever reading begins."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
import pytest
import torch
from av.packet import Packet
from av.video.frame import VideoFrame
from clips import make_clip, make_flv, make_picture, make_reordered_flv, packet_times, run_ffmpeg, stop_after
from jobs import run_job, segments_of, short

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.border import Border
from ristn_cli.job.job import job_folder
from ristn_cli.job.manifest import Part
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.spread.local_worker import LocalWorker
from ristn_cli.spread.pool import Pool
from ristn_cli.spread.scheduling import spread_over
from ristn_cli.typed import build
from ristn_cli.video import Clock, ReadOptions, VideoInfo, probe, read_frames
from ristn_cli.video.reading.timestamps import Estimator

MILLISECOND = Fraction(1, 1000)
CPU = Backend(torch.device("cpu"), "fp32")
LOSSLESS = short(codec="ffv1")


def ffmpeg_times(path: Path) -> list[Fraction]:
    """Times in seconds of all frames that the ffmpeg program shows."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-v", "error", "-copyts", "-i", str(path), "-map", "0:V:0"]
    command += ["-fps_mode", "passthrough", "-enc_time_base", "demux", "-f", "framecrc", "-"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    base = next(Fraction(line.split(":")[1].strip()) for line in lines if line.startswith("#tb 0:"))
    return [int(line.split(",")[2]) * base for line in lines if not line.startswith("#")]


def assert_shown_as_by_ffmpeg(path: Path) -> list[str]:
    """Compare the times from the first frame on; the reports of damage."""
    damage: list[str] = []
    times = [frame.time for frame in read_frames(path, ReadOptions(deinterlace="off"), on_damage=damage.append)]
    expected = ffmpeg_times(path)
    assert len(times) == len(expected)
    for time, shown in zip(times, expected, strict=True):
        assert abs((time - times[0]) - (shown - expected[0])) <= 2 * MILLISECOND
    assert times == sorted(set(times))
    return damage


def estimate(stamps: list[tuple[int | None, int | None]], info: VideoInfo) -> list[Fraction]:
    """Times in ticks of 1/25 s."""
    estimator = Estimator(info)
    times = []
    for pts, dts in stamps:
        frame = VideoFrame(16, 16, "yuv420p")
        frame.pts, frame.dts, frame.time_base = pts, dts, Fraction(1, 25)
        times.append(estimator.stamp(frame).time * 25)
    return times


@pytest.fixture
def info(tmp_path: Path) -> VideoInfo:
    """Of a video with a clock of 1/25 s."""
    return replace(probe(make_clip(tmp_path / "info.mp4", width=32, height=32)), time_base=Fraction(1, 25))


class TestEstimate:
    def test_presentation_times_are_kept_while_they_grow(self, info: VideoInfo) -> None:
        assert estimate([(2, 0), (3, 1), (7, 2), (8, None)], info) == [2, 3, 7, 8]

    def test_decoding_times_take_over_at_the_first_fault(self, info: VideoInfo) -> None:
        assert estimate([(0, 1), (1, 2), (3, 3), (2, 4), (5, 5), (4, 6)], info) == [0, 1, 3, 4, 5, 6]

    def test_presentation_times_return_when_decoding_times_were_wrong_as_often(self, info: VideoInfo) -> None:
        assert estimate([(1, 1), (3, 2), (2, 3), (5, 3), (6, 4)], info) == [
            1,
            3,
            3 + Fraction(1, 4000),
            5,
            6,
        ]

    def test_a_frame_without_timestamps_follows_its_predecessor(self, info: VideoInfo) -> None:
        assert estimate([(None, None), (None, None), (5, 5), (None, None)], info) == [0, 1, 5, 9]

    def test_equal_times_come_close_behind_each_other(self, info: VideoInfo) -> None:
        times = estimate([(1, 1), (1, 1), (1, 1), (2, 2)], info)
        assert times[0] == 1
        assert times[3] == 2
        assert 1 < times[1] < times[2] < 1 + Fraction(25, 1000)

    def test_times_lie_on_the_clock_of_the_output(self, info: VideoInfo) -> None:
        for base in (Fraction(1, 25), Fraction(1001, 30000), Fraction(1, 1000), Fraction(1, 90000), Fraction(1, 600)):
            fine = replace(info, time_base=base).frame_time_base
            assert (base / fine).denominator == 1
            assert fine <= Fraction(1, 10_000)


def make_avi(folder: Path) -> Path:
    path = folder / "in.avi"
    run_ffmpeg("-i", make_clip(folder / "plain.mp4", frames=20, width=32, height=32), "-c", "copy", path)
    return path


def make_packed_avi(folder: Path) -> Path:
    """MPEG-4 with each B-frame in the packet of the frame before it, and an empty packet in its place, as DivX does."""
    plain, path = folder / "plain.avi", folder / "in.avi"
    run_ffmpeg("-i", make_clip(folder / "plain.mp4", frames=20), "-c:v", "mpeg4", "-bf", "1", "-q:v", "2", plain)
    with av.open(str(plain)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [bytes(packet) for packet in source.demux(video=0) if packet.size]
        packets[0] = packets[0].replace(b"\0\0\1\xb6", b"\0\0\1\xb2DivX503b1393p\0\0\1\xb6", 1)
        packed: list[bytes] = []
        for data in packets:
            is_bidirectional = data[data.index(b"\0\0\1\xb6") + 4] >> 6 == 2
            if is_bidirectional:
                packed[-1] += data
                packed.append(b"\0\0\1\xb6\x50\x4f")  # a picture that is not coded
            else:
                packed.append(data)
        for index, data in enumerate(packed):
            packet = Packet(data)
            packet.dts = packet.pts = index
            packet.time_base, packet.stream = Fraction(1, 25), stream
            packet.is_keyframe = index == 0
            target.mux(packet)
    return path


def make_decoding_order_mkv(folder: Path) -> Path:
    """Matroska whose blocks have their place in the file for their time, as VC-1 from Smooth Streaming has."""
    path = folder / "in.mkv"
    with (
        av.open(str(make_clip(folder / "plain.mkv", frames=20))) as source,
        av.open(str(path), "w") as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for index, packet in enumerate(packet for packet in source.demux(video=0) if packet.size):
            packet.pts = packet.dts = 40 * index
            packet.stream = stream
            target.mux(packet)
    return path


def make_ivf(folder: Path) -> Path:
    """VP8 in which two frames have the timestamp of the frame before, and three later ones lie before it."""
    path = folder / "in.ivf"
    run_ffmpeg(
        "-i", make_clip(folder / "plain.mp4", frames=20, width=32, height=32), "-c:v", "libvpx", "-b:v", "1M", path
    )
    data = bytearray(path.read_bytes())
    at, index = 32, 0
    while at < len(data):
        size, time = (int.from_bytes(data[at + a : at + b], "little") for a, b in ((0, 4), (4, 12)))
        time -= {6: 1, 7: 2, 12: 3, 13: 3, 14: 3}.get(index, 0)
        data[at + 4 : at + 12] = time.to_bytes(8, "little")
        at, index = at + 12 + size, index + 1
    path.write_bytes(data)
    return path


def make_two_layers(folder: Path) -> Path:
    """HEVC in which each picture is followed by a packet of its own with a second layer, which FFmpeg passes over."""
    path = folder / "in.ts"
    plain = make_clip(folder / "plain.mp4", codec="libx265", options={"x265-params": "log-level=none:bframes=2"})
    run_ffmpeg("-i", plain, "-c", "copy", "-bsf:v", "hevc_mp4toannexb", folder / "plain.ts")
    layer = b"\0\0\0\1" + bytes([63 << 1, 1]) + 30 * b"\x55"
    with av.open(str(folder / "plain.ts")) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if not packet.size:
                continue
            second = Packet(layer)
            second.pts, second.dts, second.time_base = packet.pts + 1, packet.dts + 1, packet.time_base
            packet.stream = second.stream = stream
            target.mux([packet, second])
    return path


def make_soft_telecine(folder: Path) -> Path:
    """Raw MPEG-2 with the flags of 2:3 pulldown: pictures are two and three fields long in turn."""
    path = folder / "in.m2v"
    options = ["-c:v", "mpeg2video", "-bf", "2", "-g", "12", "-flags", "+ilme", "-r", "30000/1001"]
    run_ffmpeg("-i", make_clip(folder / "plain.mp4", frames=24), *options, path)
    data = bytearray(path.read_bytes())
    at = order = 0
    while (at := data.find(b"\0\0\1", at)) >= 0:
        if data[at + 3] == 0:  # a picture: its place in the order of display
            order = data[at + 4] << 2 | data[at + 5] >> 6
        elif data[at + 3] == 0xB5 and data[at + 4] >> 4 == 1:  # the sequence's extension: it is not progressive
            data[at + 5] &= ~0x08
        elif data[at + 3] == 0xB5 and data[at + 4] >> 4 == 8:  # the picture's: top field first, repeat first field
            top, repeats = ((1, 0), (1, 1), (0, 0), (0, 1))[order % 4]
            data[at + 7] = data[at + 7] & ~0x82 | top << 7 | repeats << 1 | 1
            data[at + 8] |= 0x80
        at += 4
    path.write_bytes(data)
    return path


def make_raw_h264(folder: Path) -> Path:
    path = folder / "in.h264"
    run_ffmpeg("-i", make_clip(folder / "plain.mp4", frames=20), "-c", "copy", path)
    return path


def make_short_mov(folder: Path) -> Path:
    """A MOV whose edit list ends a frame before the last."""
    path = folder / "in.mov"
    run_ffmpeg("-i", make_clip(folder / "plain.mp4", frames=20), "-c", "copy", "-movie_timescale", "1000", path)
    data = bytearray(path.read_bytes())
    at = data.index(b"elst") + 12
    data[at : at + 4] = (int.from_bytes(data[at : at + 4], "big") - 40).to_bytes(4, "big")
    path.write_bytes(data)
    return path


def flv(change: Callable[[int, int, int], tuple[int, int]]) -> Callable[[Path], Path]:
    return lambda folder: make_flv(folder / "in.flv", change, frames=30)


MAKERS: dict[str, Callable[[Path], Path]] = {
    "h264-avi": make_avi,
    "packed-b-frames": make_packed_avi,
    "decoding-order": make_decoding_order_mkv,
    "equal-ivf": make_ivf,
    "two-layers": make_two_layers,
    "soft-telecine": make_soft_telecine,
    "raw-h264": make_raw_h264,
    "short-mov": make_short_mov,
    "no-composition": flv(lambda index, time, composition: (time, 0)),
    "some-composition": flv(lambda index, time, composition: (time, composition if index % 7 else 0)),
    "equal-flv": flv(lambda index, time, composition: (time - time % 120, composition)),
    "back-flv": flv(lambda index, time, composition: (time - 300 if 10 <= index < 14 else time, composition)),
    "back-far-flv": flv(lambda index, time, composition: (max(0, time - 5000) if index == 20 else time, composition)),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_frames_are_shown_when_ffmpeg_shows_them(kind: str, tmp_path: Path) -> None:
    """And nothing is called damaged: every picture is there."""
    path = MAKERS[kind](tmp_path)
    assert assert_shown_as_by_ffmpeg(path) == []
    assert len(list(read_frames(path, ReadOptions(strict=True)))) == len(ffmpeg_times(path))


@pytest.mark.parametrize("suffix", [".mov", ".flv"])
def test_no_frame_is_lost_where_the_last_packet_is_cut(suffix: str, tmp_path: Path) -> None:
    path, whole = tmp_path / f"in{suffix}", tmp_path / f"whole{suffix}"
    plain = make_clip(tmp_path / "plain.mp4", frames=30, options={"bf": "3", "g": "30"})
    run_ffmpeg("-i", plain, "-c", "copy", *(["-movflags", "faststart"] if suffix == ".mov" else []), whole)
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        last = packets[22]
        assert last.pos is not None
        end = last.pos + last.size // 4
    path.write_bytes(whole.read_bytes()[:end])
    damage = assert_shown_as_by_ffmpeg(path)
    assert sum("cannot be decoded" in line for line in damage) == 1


def assert_goes_on_alike(path: Path, **options: Any) -> None:
    """A reading that begins at any frame of another gives what that one gave from there on."""
    whole = list(read_frames(path, ReadOptions(**options)))
    for index in range(1, len(whole), 4):
        frame = whole[index]
        rest = list(read_frames(path, ReadOptions(**options), since=frame.time, clock=frame.clock))
        assert [(again.time, again.duration, again.clock) for again in rest] == [
            (before.time, before.duration, before.clock) for before in whole[index:]
        ]
        assert all(np.array_equal(again.image, before.image) for again, before in zip(rest, whole[index:], strict=True))


@pytest.mark.parametrize("kind", MAKERS)
def test_reading_goes_on_with_the_same_frames_and_times(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path)
    assert_goes_on_alike(path, deinterlace="off")


@pytest.mark.parametrize("kind", ["h264-avi", "some-composition", "equal-ivf"])
def test_so_it_does_with_both_fields_and_within_a_range(kind: str, tmp_path: Path) -> None:
    path = MAKERS[kind](tmp_path)
    assert_goes_on_alike(path, deinterlace="field")
    assert_goes_on_alike(path, start=Fraction(1, 3), end=Fraction(2, 3))


def test_a_reading_that_goes_on_seeks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where timestamps tell frames apart, however wrong they are."""
    path = make_reordered_flv(tmp_path / "in.flv", frames=60)
    frames = list(read_frames(path))
    decoded: list[Fraction] = []
    stamp = Estimator.stamp
    monkeypatch.setattr(Estimator, "stamp", lambda self, frame: decoded.append(frame.pts) or stamp(self, frame))
    list(read_frames(path, since=frames[50].time, clock=frames[50].clock))
    assert len(decoded) == 60 - 50 + 1


# Whole jobs.


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Broken composition times, sound, and an odd number of frames."""
    return make_reordered_flv(tmp_path / "in.flv", frames=21, width=32, height=32, audio_tracks=1)


@pytest.fixture
def upscaler(random_model: RISTN) -> Upscaler:
    return Upscaler(random_model, CPU, Tiling(window=6, context=2))


def shown(path: Path) -> tuple[list[Fraction], np.ndarray]:
    frames = list(read_frames(path))
    return [frame.time for frame in frames], np.stack([frame.image for frame in frames])


def assert_same(path: Path, expected: Path) -> None:
    (times, images), (expected_times, expected_images) = shown(path), shown(expected)
    assert times == expected_times
    assert np.array_equal(images, expected_images)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("start", [None, Fraction(2, 5)])
def test_the_output_has_these_times_and_audio_in_step(
    source: Path, upscaler: Upscaler, tmp_path: Path, suffix: str, start: Fraction | None
) -> None:
    target = tmp_path / f"out{suffix}"
    damage: list[str] = []
    options = short(preset="ultrafast", start=start)
    list(run_job(source, target, upscaler, options, on_damage=damage.append))
    assert damage == []
    frames = [frame.time for frame in read_frames(source, ReadOptions(start=start))]
    times = shown(target)[0]
    assert [time - times[0] for time in times] == pytest.approx(
        [float(time - frames[0]) for time in frames], abs=0.0011
    )
    if start is None:
        expected = packet_times(source, 1)[0][0] - frames[0]
        assert float(packet_times(target, 1)[0][0] - times[0]) == pytest.approx(float(expected), abs=0.002)


@pytest.mark.parametrize(("kind", "stops_after"), [("flv", 1), ("flv", 3), ("avi", 2), ("ivf", 2)])
def test_a_resumed_run_has_the_times_of_a_straight_one(
    source: Path, upscaler: Upscaler, tmp_path: Path, kind: str, stops_after: int
) -> None:
    if kind != "flv":
        source = MAKERS["h264-avi" if kind == "avi" else "equal-ivf"](tmp_path)
    list(run_job(source, tmp_path / "whole.mkv", upscaler, LOSSLESS))
    target = tmp_path / "out.mkv"
    with pytest.raises(Interrupted):
        list(run_job(source, target, upscaler, LOSSLESS, should_stop=stop_after(target, stops_after)))
    assert len(list(job_folder(target).glob("part-*"))) >= stops_after
    list(run_job(source, target, upscaler, LOSSLESS))
    assert_same(target, tmp_path / "whole.mkv")


@pytest.mark.parametrize("kind", ["flv", "ivf"])
def test_several_workers_give_the_times_of_one(
    source: Path, random_model: RISTN, upscaler: Upscaler, tmp_path: Path, kind: str
) -> None:
    if kind != "flv":
        source = MAKERS["equal-ivf"](tmp_path)
    list(run_job(source, tmp_path / "one.mkv", upscaler, LOSSLESS))
    workers = [LocalWorker(name, Upscaler(random_model, CPU, upscaler.tiling)) for name in ("a", "b")]
    with Pool(workers) as pool:
        list(run_job(source, tmp_path / "two.mkv", upscaler, LOSSLESS, make_parts=spread_over(pool)))
    assert_same(tmp_path / "two.mkv", tmp_path / "one.mkv")


def test_a_border_tells_what_the_times_behind_it_depend_on(source: Path, upscaler: Upscaler, tmp_path: Path) -> None:
    segments = list(segments_of(source, tmp_path, upscaler, LOSSLESS))
    assert len(segments) > 2
    clocks = [segment.begins.clock for segment in segments[1:] if segment.begins is not None]
    faults = [clock.pts_faults for clock in clocks if clock is not None]
    assert len(faults) == len(segments) - 1
    assert faults == sorted(faults)
    assert faults[-1] > 2


def test_the_manifest_holds_a_clock() -> None:
    border = Border(
        time=Fraction(1, 3),
        context=2,
        repeats=1,
        clock=Clock(frames=3, pts=5, dts=None, last_pts=4, last_dts=4, pts_faults=1, last_time=500),
        frames=4,
        end_time=Fraction(1, 2),
        is_damaged=True,
        is_last=False,
    )
    for part in (Part(file="a", frames=4, sha256="", border=other) for other in (border, replace(border, clock=None))):
        read = build(Part, json.loads(json.dumps(asdict(part), default=str)))
        assert read == part
        assert read.border.is_damaged


def test_pictures_are_those_of_their_times(tmp_path: Path) -> None:
    """The estimate orders nothing: picture k of the display is shown at the k-th time."""
    path = make_reordered_flv(tmp_path / "in.flv", frames=16)
    for index, frame in enumerate(read_frames(path)):
        assert np.abs(frame.image.astype(int) - make_picture(index, 64, 48)).mean() < 2
