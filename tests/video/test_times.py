"""Times of frames: constant and variable rate, ranges, what is written at them."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from clips import (
    make_clip,
    make_picture,
    run_ffmpeg,
)
from identity import upscale
from outputs import open_writer

from ristn_cli.video import (
    Color,
    Frame,
    ReadOptions,
    VideoError,
    has_variable_rate,
    part_suffix,
    probe,
    read_frames,
)

NINETY_KHZ = Fraction(1, 90000)
# Uneven gaps, two frames one tick of 1/30000 s apart, a late start; no multiple of any frame rate.
VARIABLE_TIMES = [45000 + tick for tick in (0, 3003, 6006, 12012, 12500, 20000, 33333, 33336, 40000, 50000, 51000)]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("rate", [Fraction(25), Fraction(24000, 1001)])
def test_constant_rate(tmp_path: Path, suffix: str, rate: Fraction) -> None:
    info = probe(make_clip(tmp_path / f"a{suffix}", frames=7, rate=rate))
    frames = list(read_frames(info))
    grain = Fraction(1, 1000) if suffix == ".mkv" else Fraction(0)
    assert abs(info.rate - rate) < Fraction(1, 100)
    assert all(abs(frame.time - k / rate) <= grain for k, frame in enumerate(frames))
    assert all(a.time + a.duration == b.time for a, b in pairwise(frames))
    assert abs(frames[-1].duration - 1 / rate) <= grain
    for index, frame in enumerate(frames):
        expected = make_picture(index, 64, 48)
        assert np.abs(frame.image.astype(int) - expected).mean() < 1.5


def test_variable_rate_is_read_exactly(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", times=VARIABLE_TIMES, time_base=NINETY_KHZ)
    frames = list(read_frames(clip))
    assert [frame.time for frame in frames] == [tick * NINETY_KHZ for tick in VARIABLE_TIMES]


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "ffv1", "prores"])
@pytest.mark.parametrize(
    ("time_base", "ticks"),
    [
        (NINETY_KHZ, VARIABLE_TIMES),
        (Fraction(1001, 24000), [240, 241, 242, 243, 244, 245]),
        (Fraction(1, 1_000_000), [10_000_000 + 33_367 * k for k in range(6)]),
    ],
)
def test_parts_hold_times_exactly(tmp_path: Path, codec: str, time_base: Fraction, ticks: list[int]) -> None:
    part = tmp_path / f"part{part_suffix(codec)}"
    times = [tick * time_base for tick in ticks]
    ends = [*times[1:], times[-1] + 3 * (times[1] - times[0])]
    with open_writer(
        part,
        width=64,
        height=48,
        rate=Fraction(30),
        time_base=time_base,
        color=Color(),
        codec=codec,
        preset="ultrafast" if codec == "av1" else "medium",
    ) as writer:
        for index, (time, end) in enumerate(zip(times, ends, strict=True)):
            writer.write(Frame(make_picture(index, 64, 48), time, end - time))
    frames = list(read_frames(part))
    assert writer.frames_written == len(times)
    assert [frame.time for frame in frames] == times
    assert frames[-1].duration == ends[-1] - times[-1]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_start_and_end_are_frame_exact(tmp_path: Path, suffix: str) -> None:
    info = probe(make_clip(tmp_path / f"a{suffix}", frames=24))
    whole = list(read_frames(info))
    for first, last in ((0, 24), (1, 2), (7, 13), (10, 24), (23, 24), (12, 12)):
        start, end = whole[first].time if first < 24 else Fraction(1), Fraction(last, 25)
        part = list(read_frames(info, ReadOptions(start=start, end=end)))
        assert [frame.time for frame in part] == [frame.time for frame in whole[first:last]]
        assert all((a.image == b.image).all() for a, b in zip(part, whole[first:last], strict=True))
    between = list(read_frames(info, ReadOptions(start=Fraction("0.201"), end=Fraction("0.30"))))
    assert [frame.time for frame in between] == [Fraction(6, 25), Fraction(7, 25)]
    assert between[-1].duration == Fraction("0.02")
    assert len(list(read_frames(info, ReadOptions(start=Fraction("0.2"), max_frames=3)))) == 3
    assert list(read_frames(info, ReadOptions(max_frames=0))) == []
    assert list(read_frames(info, ReadOptions(start=Fraction(9)))) == []


def test_start_counts_from_the_first_frame(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "a.mp4", times=VARIABLE_TIMES, time_base=NINETY_KHZ))
    frames = list(read_frames(info, ReadOptions(start=Fraction(6007, 90000))))
    assert info.start_time == Fraction(1, 2)
    assert frames[0].time == VARIABLE_TIMES[3] * NINETY_KHZ


@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_avi_with_b_frames_is_whole_and_in_order(tmp_path: Path, codec: str) -> None:
    """AVI holds no presentation times: frame k of the display is shown at the k-th decoding time."""
    clip = tmp_path / "in.avi"
    copied = ["-c", "copy"] if codec == "h264" else ["-c:v", "mpeg4", "-bf", "2", "-q:v", "2", "-c:a", "copy"]
    run_ffmpeg("-i", make_clip(tmp_path / "a.mp4", frames=16, audio_tracks=1), *copied, clip)
    info = probe(clip)
    assert (info.codec, info.frame_count, info.rate) == (codec, 16, 25)
    assert not has_variable_rate(info)
    damage: list[str] = []
    frames = list(read_frames(info, on_damage=damage.append))
    assert damage == []
    assert [frame.time - frames[0].time for frame in frames] == [Fraction(k, 25) for k in range(16)]
    assert frames[-1].duration == Fraction(1, 25)
    for index, frame in enumerate(frames):
        assert np.abs(frame.image.astype(int) - make_picture(index, 64, 48)).mean() < 2
    later = list(read_frames(info, ReadOptions(start=Fraction(7, 25), end=Fraction(9, 25))))
    assert [frame.time for frame in later] == [frame.time for frame in frames[7:9]]
    assert np.array_equal(later[0].image, frames[7].image)
    assert len(list(read_frames(upscale(clip, tmp_path / "out.mkv")))) == 16
    upscale(clip, tmp_path / "cut.mp4", start=Fraction(7, 25), end=Fraction(12, 25))


def test_times_must_lie_on_the_time_base(tmp_path: Path) -> None:
    with (
        pytest.raises(VideoError, match="is not a multiple of the time base 1/25"),
        open_writer(
            tmp_path / "a.mp4", width=64, height=48, rate=Fraction(25), time_base=Fraction(1, 25), color=Color()
        ) as writer,
    ):
        writer.write(Frame(make_picture(0, 64, 48), Fraction(1, 30)))
