"""Interlaced sources: found, deinterlaced the same wherever reading begins, and doubled in rate, through whole jobs."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import make_clip, packet_times, run_ffmpeg, stop_after
from jobs import plan_run, run_job, short

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.options import UpscaleOptions, expected_end
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.video import Deinterlace, FieldOrder, ReadOptions, find_fields, probe, read_frames
from ristn_cli.video.filters import Chain

CPU = Backend(torch.device("cpu"), "fp32")
WIDTH, HEIGHT = 128, 64
BAR = 40


def field(moment: int) -> np.ndarray:
    """The picture at a moment, (H, W, 3): a bright bar, 4 pixels further to the right each moment, on texture."""
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    image[:, ::16] += 8
    left = 4 * moment % (WIDTH - BAR)
    image[:, left : left + BAR] = 180
    return image


def woven(index: int, order: FieldOrder = "top") -> np.ndarray:
    """Frame `index` of interlaced video, 50 fields a second: one field of one moment, the other of the next."""
    first, second = field(2 * index), field(2 * index + 1)
    image = first.copy()
    image[1 if order == "top" else 0 :: 2] = second[1 if order == "top" else 0 :: 2]
    return image


def encode(path: Path, images: Sequence[np.ndarray], *, is_flagged: bool = False, keyframes: int = 5) -> Path:
    """H.264 at 25 frames a second; flagged as interlaced, top field first, when asked."""
    options = {"crf": "4", "bf": "0", "g": str(keyframes), "preset": "veryfast"}
    marks: Chain | None = None
    if is_flagged:
        options |= {"flags": "+ildct+ilme"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = images[0].shape[1], images[0].shape[0], "yuv420p"
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            if is_flagged:
                marks = marks or Chain(frame, [("setfield", "tff")])  # PyAV cannot set the flag itself
                frame = marks.apply(frame)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(params=["flagged", "unflagged"])
def interlaced(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """24 woven frames, top field first, with the flags that say so and without."""
    images = [woven(index) for index in range(24)]
    return encode(tmp_path / "in.mkv", images, is_flagged=request.param == "flagged")


@pytest.fixture
def hybrid(tmp_path: Path) -> Path:
    """Runs of 5, 7, 5, 8, 1 and 5 frames, by turns progressive and flagged as interlaced, joined as raw H.264.

    Each run begins with a keyframe, and has others every 3 frames.
    """
    raw = b""
    begin = 0
    for number, length in enumerate((5, 7, 5, 8, 1, 5)):
        is_flagged = number % 2 == 1
        indices = range(begin, begin + length)
        images = [woven(index) if is_flagged else field(2 * index) for index in indices]
        clip = encode(tmp_path / f"{number}.mp4", images, is_flagged=is_flagged, keyframes=3)
        run_ffmpeg("-i", clip, "-c", "copy", tmp_path / f"{number}.h264")
        raw += (tmp_path / f"{number}.h264").read_bytes()
        begin += length
    (tmp_path / "all.h264").write_bytes(raw)
    run_ffmpeg("-fflags", "+genpts", "-r", "25", "-i", tmp_path / "all.h264", "-c", "copy", tmp_path / "hybrid.ts")
    return tmp_path / "hybrid.ts"


def comb(image: np.ndarray) -> float:
    """How much lines differ from those beside them."""
    return float(np.abs(np.diff(image[8:-8].astype(int), axis=0)).mean())


class TestDetection:
    @pytest.mark.parametrize("order", ["top", "bottom"])
    def test_silent_flags(self, tmp_path: Path, order: FieldOrder) -> None:
        clip = encode(tmp_path / "a.mp4", [woven(index, order) for index in range(20)])
        assert not probe(clip).is_interlaced
        assert find_fields(probe(clip)).field_order == order

    def test_flags_are_trusted(self, tmp_path: Path) -> None:
        clip = encode(tmp_path / "a.mp4", [woven(index) for index in range(20)], is_flagged=True)
        assert probe(clip).is_interlaced
        assert find_fields(probe(clip)).field_order is None
        assert find_fields(probe(clip), is_interlaced=True).field_order == "top"

    def test_progressive_is_left_alone(self, tmp_path: Path) -> None:
        moving = encode(tmp_path / "a.mp4", [field(2 * index) for index in range(20)])
        run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=320x240:d=1.5", tmp_path / "graphics.mp4")
        assert find_fields(probe(tmp_path / "graphics.mp4")).field_order is None
        noise = np.random.default_rng(0).integers(0, 255, (20, HEIGHT, WIDTH, 3)).astype(np.uint8)
        for clip in (moving, encode(tmp_path / "b.mp4", list(noise)), make_clip(tmp_path / "c.mp4", frames=2)):
            assert find_fields(probe(clip)).field_order is None

    def test_elementary_streams_have_no_times(self, tmp_path: Path) -> None:
        """All pictures are judged, not the first one alone, and the fields of each are half its time apart."""
        images = [field(0)] * 40 + [woven(index) for index in range(40)]
        run_ffmpeg("-i", encode(tmp_path / "a.mp4", images), "-c", "copy", tmp_path / "a.h264")
        info = probe(tmp_path / "a.h264")
        assert find_fields(info).field_order == "top"
        frames = list(read_frames(info, ReadOptions(deinterlace="field", max_frames=4)))
        assert [frame.time for frame in frames] == [Fraction(index, 50) for index in range(4)]

    def test_it_looks_beyond_the_beginning(self, tmp_path: Path) -> None:
        images = [field(0)] * 60 + [woven(index) for index in range(60)]
        assert find_fields(probe(encode(tmp_path / "a.mp4", images, keyframes=25))).field_order == "top"

    def test_flags_beyond_the_beginning_are_seen(self, tiny_model: RISTN, tmp_path: Path, hybrid: Path) -> None:
        assert not probe(hybrid).is_interlaced
        found = find_fields(probe(hybrid))
        assert (found.is_interlaced, found.field_order) == (True, None)
        upscaler = Upscaler(tiny_model, CPU, Tiling(window=8, context=0))
        assert plan_run(hybrid, tmp_path / "out.mp4", upscaler).deinterlaced == "flagged"

    def test_telecined_film_is_taken_as_interlaced(self, tmp_path: Path) -> None:
        film = encode(tmp_path / "film.mp4", [field(4 * index) for index in range(24)])
        run_ffmpeg("-i", film, "-vf", "telecine", "-crf", "4", tmp_path / "a.mp4")
        assert find_fields(probe(tmp_path / "a.mp4")).field_order == "top"


class TestFrames:
    def test_each_frame_is_its_first_field(self, interlaced: Path) -> None:
        info = find_fields(probe(interlaced))
        whole = list(read_frames(info))
        raw = list(read_frames(info, ReadOptions(deinterlace="off")))
        assert [frame.time for frame in whole] == [frame.time for frame in raw]
        for index, (frame, before) in enumerate(zip(whole, raw, strict=True)):
            assert comb(before.image) > 3 * comb(frame.image)
            assert np.abs(frame.image[::2].astype(int) - field(2 * index)[::2]).mean() < 3

    def test_each_field_becomes_a_frame_halfway(self, interlaced: Path) -> None:
        info = find_fields(probe(interlaced))
        frames = list(read_frames(info, ReadOptions(deinterlace="field")))
        assert len(frames) == 48
        assert [frame.time - frames[0].time for frame in frames] == [Fraction(20 * index, 1000) for index in range(48)]
        assert all(frame.duration == Fraction(1, 50) for frame in frames)
        for index, frame in enumerate(frames[2:-2], start=2):
            assert np.abs(frame.image.astype(int) - field(index)).mean() < 4

    @pytest.mark.parametrize("mode", ["auto", "frame", "field"])
    def test_reading_from_anywhere_gives_the_same_frames(self, hybrid: Path, mode: Deinterlace) -> None:
        info = probe(hybrid)
        whole = list(read_frames(info, ReadOptions(deinterlace=mode)))
        assert len(whole) == (62 if mode == "field" else 31)
        for index, expected in enumerate(whole):
            found = next(read_frames(info, ReadOptions(start=expected.time - info.start_time, deinterlace=mode)))
            assert found.time == expected.time
            assert np.array_equal(found.image, expected.image), f"frame {index}"

    def test_progressive_frames_of_a_hybrid_pass_untouched(self, hybrid: Path) -> None:
        raw, whole = list(read_frames(hybrid, ReadOptions(deinterlace="off"))), list(read_frames(hybrid))
        is_progressive = np.repeat([True, False, True, False, True, False], (5, 7, 5, 8, 1, 5))
        for before, after, passes in zip(raw, whole, is_progressive, strict=True):
            assert np.array_equal(before.image, after.image) == passes

    def test_a_single_frame(self, tmp_path: Path) -> None:
        clip = encode(tmp_path / "a.mp4", [woven(0)], is_flagged=True)
        for mode in ("auto", "frame", "field"):
            assert [frame.time for frame in read_frames(clip, ReadOptions(deinterlace=mode))] == [0]


@pytest.mark.parametrize(("mode", "suffix"), [("auto", ".mkv"), ("field", ".mp4")])
def test_a_job_resumes_to_the_frames_of_an_uninterrupted_one(
    random_model: RISTN, tmp_path: Path, hybrid: Path, mode: Deinterlace, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    upscaler = Upscaler(random_model, CPU, Tiling(window=7, context=1))
    options = short(preset="ultrafast", deinterlace=mode, scale=2, max_frames=26, segment_frames=5)
    target, whole = tmp_path / f"out{suffix}", tmp_path / f"whole{suffix}"
    list(run_job(hybrid, whole, upscaler, options))
    for _ in range(3):
        with pytest.raises(Interrupted):
            list(run_job(hybrid, target, upscaler, options, should_stop=stop_after(target)))
    list(run_job(hybrid, target, upscaler, options))
    assert packet_times(target, 0) == packet_times(whole, 0)
    for found, expected in zip(read_frames(target), read_frames(whole), strict=True):
        assert np.array_equal(found.image, expected.image)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_job_by_field(tiny_model: RISTN, tmp_path: Path, interlaced: Path, suffix: str) -> None:
    """Twice the frames at twice the rate in the same time, said beforehand and written in the file."""
    upscaler = Upscaler(tiny_model, CPU, Tiling(window=8, context=0))
    options = UpscaleOptions(preset="ultrafast", crf=4, deinterlace="field")
    target = tmp_path / f"out{suffix}"
    planned = plan_run(interlaced, target, upscaler, options)
    assert (planned.rate, planned.frames, planned.deinterlaced, planned.field_order) == (50, 48, "field", "top")
    assert list(run_job(interlaced, target, upscaler, options))[-1].frames == 48
    output = probe(target)
    assert output.rate == 50
    assert output.duration is not None
    assert abs(output.duration - Fraction(24, 25)) < Fraction(
        1, 40
    )  # the last packet decoded need not be the last shown
    times = sorted(time for time, _ in packet_times(target, 0))
    assert [time - times[0] for time in times] == [Fraction(index, 50) for index in range(48)]
    middle = list(read_frames(output))[21]
    assert np.abs(middle.image[::4, ::4].astype(int) - field(21)).mean() < 5


def test_fields_as_images_come_at_an_even_rate(tiny_model: RISTN, tmp_path: Path, interlaced: Path) -> None:
    upscaler = Upscaler(tiny_model, CPU, Tiling(window=8, context=0))
    options = UpscaleOptions(deinterlace="field", max_frames=6)
    list(run_job(interlaced, tmp_path / "out" / "%d.png", upscaler, options))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{number}.png" for number in range(1, 7)]


def test_fields_end_after_half_the_time(interlaced: Path) -> None:
    options = UpscaleOptions(deinterlace="field", max_frames=10, start=Fraction(1, 5))
    assert expected_end(probe(interlaced), options) == Fraction(1, 5) + Fraction(10, 50)


def test_the_plan_says_what_was_found(tiny_model: RISTN, tmp_path: Path, interlaced: Path) -> None:
    upscaler = Upscaler(tiny_model, CPU, Tiling(window=8, context=0))
    is_flagged = probe(interlaced).is_interlaced
    found = plan_run(interlaced, tmp_path / "out.mp4", upscaler)
    assert (found.deinterlaced, found.field_order) == (("flagged", None) if is_flagged else ("all", "top"))
    off = plan_run(interlaced, tmp_path / "out.mp4", upscaler, UpscaleOptions(deinterlace="off"))
    assert (off.deinterlaced, off.field_order) == ("none", None)
    progressive = make_clip(tmp_path / "plain.mp4", frames=20)
    assert plan_run(progressive, tmp_path / "out.mp4", upscaler).deinterlaced == "none"
