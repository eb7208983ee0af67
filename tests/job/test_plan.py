"""Plans in numbers: counts against the iterators that do the work, disk against what a job leaves and needs."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from clips import make_clip
from outputs import output_of

from ristn_cli.engine.memory import Tiling, count_tiles
from ristn_cli.engine.windows import slide_windows
from ristn_cli.job.job import PART_PIXELS, Job
from ristn_cli.job.options import UpscaleOptions, estimate_frames
from ristn_cli.job.plan import count_parts, count_windows, estimate_disk, format_bytes
from ristn_cli.job.progress import SPEED_SECONDS, Meter
from ristn_cli.video import VideoInfo, probe

TILING = Tiling(window=10, context=2, tile=128, overlap=12)


@pytest.fixture
def info(tmp_path: Path) -> VideoInfo:
    return probe(make_clip(tmp_path / "in.mp4", frames=20))


@pytest.mark.parametrize("tiling", [TILING, Tiling(window=6, context=2), Tiling(window=5, context=0)])
@pytest.mark.parametrize("continued", [0, 2])
def test_windows_are_counted_as_they_are_cut(tiling: Tiling, continued: int) -> None:
    continued = min(continued, tiling.context)
    for frames in range(40):
        cut = list(slide_windows(range(frames + continued), tiling.window, tiling.context, continued=continued))
        assert count_windows(frames, tiling, continued=continued) == len(cut)


def test_parts_and_tiles(info: VideoInfo) -> None:
    job = Job(target=Path("out.mp4"), output=output_of(info, "out.mp4"), options=UpscaleOptions())
    assert job.part_frames == PART_PIXELS // (64 * 48)
    large = replace(job.output, source=replace(info, width=4096, height=4096))
    assert replace(job, output=large).part_frames == 24
    assert replace(job, options=UpscaleOptions(segment_frames=7)).part_frames == 7
    # 24 frames are four windows that keep six each; one frame more needs another part.
    assert [count_parts(frames, 24, TILING) for frames in (1, 24, 25, 48)] == [1, 1, 2, 2]
    assert count_tiles(128, 128, TILING) == 1
    assert count_tiles(129, 480, TILING) == 2 * 5


def test_frames_are_estimated_from_the_headers(info: VideoInfo) -> None:
    options = UpscaleOptions(start=Fraction(1, 5), end=Fraction(3, 5))
    assert estimate_frames(info, options) == 10
    assert estimate_frames(info, replace(options, max_frames=3)) == 3
    unknown = replace(info, frame_count=None, duration=None)
    assert estimate_frames(unknown, UpscaleOptions()) is None
    assert estimate_frames(unknown, UpscaleOptions(max_frames=7)) == 7


def test_disk_is_parts_and_output_and_all_else(info: VideoInfo) -> None:
    encoded = 100 * 256 * 192 * 0.25 / 8
    assert estimate_disk(256 * 192, "h264", 100, 5) == 2 * encoded + 5
    # Finished parts are there already, but the output holds them once more.
    assert estimate_disk(256 * 192, "h264", 0, 705) == 705
    assert estimate_disk(256 * 192, "prores", 100, 0) == 16 * 2 * encoded


def test_speed_is_that_of_late() -> None:
    now = 0.0
    meter = Meter(resumed_frames=100, total=1000, clock=lambda: now)
    first = meter.read(100, part=3)
    assert (first.frames_per_second, first.remaining_seconds, first.part) == (0, None, 3)
    now = 10.0
    assert meter.read(110, part=3).frames_per_second == 1
    assert meter.read(110, part=3).remaining_seconds == 890
    for second in range(1, 2 * round(SPEED_SECONDS) + 1):
        now = 10.0 + second
        done = meter.read(110 + 2 * second, part=4)
    assert done.frames_per_second == pytest.approx(2)
    assert done.remaining_seconds == pytest.approx((1000 - done.frames) / 2)
    assert done.mean_frames_per_second == pytest.approx((done.frames - 100) / now)


def test_no_total_means_no_remaining_time() -> None:
    now = 0.0
    meter = Meter(resumed_frames=0, total=None, clock=lambda: now)
    now = 2.0
    done = meter.read(4, part=1)
    assert (done.total, done.remaining_seconds, done.frames_per_second) == (None, None, 2)


def test_bytes_are_shown() -> None:
    assert [format_bytes(count) for count in (0, 12_300, 100_000, 999_900_000, 10**9)] == [
        *("0.0 MB", "12.3 kB", "0.1 MB", "999.9 MB", "1.00 GB")
    ]


def test_a_lost_worker_makes_no_negative_speed() -> None:
    times = iter((0.0, 10.0, 20.0, 21.0, 31.0))
    meter = Meter(resumed_frames=0, total=100, clock=lambda: next(times))
    for frames in (20, 40, 25):  # a worker is lost with 15 frames of its segment
        progress = meter.read(frames, 1)
    assert progress.frames_per_second == pytest.approx(40 / 21)
    assert progress.remaining_seconds == pytest.approx(75 * 21 / 40)
    assert meter.read(45, 1).frames_per_second == pytest.approx(60 / 31)
