"""Telecined film: recognised, made film again frame by frame, the same from anywhere, at its own even times."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_clip, make_sound, packet_times, run_ffmpeg, stop_after
from commands import in_process
from film import FILM, NTSC, PULLDOWNS, encode, make_edited_film, native, picture, pull_down
from jobs import plan_run, run_job, segments_of, short

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.job.plan import JobPlan
from ristn_cli.model import RISTN
from ristn_cli.video import (
    FieldOrder,
    Frame,
    InputStream,
    ReadOptions,
    Telecine,
    VideoInfo,
    find_fields,
    find_telecine,
    probe,
    read_frames,
)
from ristn_cli.video.reading import telecine
from ristn_cli.video.reading.cadence import Cadence, Change

CPU = Backend(torch.device("cpu"), "fp32")
IVTC = ReadOptions(deinterlace="ivtc")


def found_in(path: Path) -> VideoInfo:
    """The source as a job with default options knows it."""
    return find_telecine(find_fields(probe(path)))


def psnr(found: np.ndarray, expected: np.ndarray) -> float:
    error = float(((found.astype(float) - expected) ** 2).mean())
    return 99.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def match(frames: Sequence[Frame], film: Sequence[np.ndarray]) -> list[tuple[int, float]]:
    """For each frame the film frame that it resembles most, and the PSNR in dB."""
    best = [max((psnr(frame.image, image), index) for index, image in enumerate(film)) for frame in frames]
    return [(index, value) for value, index in best]


FILM_FRAMES = [picture(index) for index in range(40)]


@pytest.fixture
def telecined(tmp_path: Path) -> Path:
    """40 film frames in 50 interlaced ones."""
    return encode(tmp_path / "in.mp4", pull_down(FILM_FRAMES))


@pytest.fixture
def edited(tmp_path: Path) -> Path:
    return make_edited_film(tmp_path / "edited.mp4")


class TestFilm:
    @pytest.mark.parametrize("pattern", PULLDOWNS)
    @pytest.mark.parametrize(("order", "is_flagged"), [("top", True), ("bottom", False)])
    def test_every_frame_comes_back(self, tmp_path: Path, order: FieldOrder, is_flagged: bool, pattern: str) -> None:
        images = pull_down(FILM_FRAMES, order, pattern)
        source = found_in(encode(tmp_path / "a.mp4", images, is_flagged=is_flagged))
        assert source.telecine == Telecine(order, Fraction(1))
        frames = list(read_frames(source))
        matched = match(frames, FILM_FRAMES)
        assert [index for index, _ in matched] == list(range(40))
        assert min(value for _, value in matched) > 40
        gaps = [after.time - before.time for before, after in pairwise(frames)]
        assert all(abs(gap - 1 / FILM) < Fraction(1, 10_000) for gap in gaps)
        assert [frame.duration for frame in frames[:-1]] == gaps
        last = frames[-1]
        assert last.duration is not None
        assert abs(last.time + last.duration - 50 / NTSC) < Fraction(1, 10_000)

    def test_it_equals_what_the_film_is_encoded_to(self, tmp_path: Path, telecined: Path) -> None:
        direct = list(read_frames(encode(tmp_path / "film.mp4", FILM_FRAMES, rate=FILM, is_flagged=False)))
        frames = list(read_frames(found_in(telecined)))
        assert min(psnr(a.image, b.image) for a, b in zip(frames, direct, strict=True)) > 40
        assert max(abs(a.time - b.time) for a, b in zip(frames, direct, strict=True)) < Fraction(1, 80)

    def test_it_is_no_worse_than_the_filters_of_ffmpeg(self, tmp_path: Path, telecined: Path) -> None:
        run_ffmpeg("-i", telecined, "-vf", "fieldmatch,decimate", "-c:v", "ffv1", tmp_path / "theirs.mkv")
        theirs = match(list(read_frames(tmp_path / "theirs.mkv")), FILM_FRAMES)
        ours = match(list(read_frames(found_in(telecined))), FILM_FRAMES)
        assert len(ours) >= len(theirs)
        assert min(value for _, value in ours) > min(value for _, value in theirs) - 0.1

    def test_deep_colour_stays_deep(self, tmp_path: Path, telecined: Path) -> None:
        run_ffmpeg("-i", telecined, "-c:v", "ffv1", "-pix_fmt", "yuv422p10le", tmp_path / "deep.mkv")
        frames = list(read_frames(found_in(tmp_path / "deep.mkv")))
        assert frames[0].image.dtype == np.uint16
        eight = [replace(frame, image=(frame.image // 257).astype(np.uint8)) for frame in frames]
        assert [index for index, _ in match(eight, FILM_FRAMES)] == list(range(40))

    def test_an_edit_in_the_pattern(self, edited: Path) -> None:
        """No frame is lost or left twice, and a field without a partner gives no comb."""
        source = found_in(edited)
        assert source.telecine == Telecine("top", Fraction(1))
        frames = list(read_frames(source))
        second = [picture(index, 1) for index in range(40)]
        matched = match(frames, [*FILM_FRAMES, *second])
        indices = [index for index, _ in matched]
        assert indices == sorted(set(indices))
        # The cut leaves one field of frame 26, behind a repeat of 25; of the second shot one field of 1, all of 2.
        assert set(indices) >= set(range(26)) | set(range(42, 80))
        gaps = [after.time - before.time for before, after in pairwise(frames)]
        assert max(gaps) < 2 / NTSC
        assert sum(value < 40 for _, value in matched) <= 2
        assert min(value for _, value in matched) > 25

    def test_a_still_scene_keeps_the_pattern(self, tmp_path: Path) -> None:
        """Nothing tells the pattern where nothing moves; time still goes on at the film's rate."""
        film = [*FILM_FRAMES[:20], *[FILM_FRAMES[19]] * 20, *FILM_FRAMES[20:]]
        frames = list(read_frames(found_in(encode(tmp_path / "a.mp4", pull_down(film)))))
        assert len(frames) == 60
        gaps = [after.time - before.time for before, after in pairwise(frames)]
        assert all(abs(gap - 1 / FILM) < Fraction(1, 10_000) for gap in gaps)

    def test_drawings_that_are_shown_twice_stay_twice(self, tmp_path: Path) -> None:
        film = [picture(2 * (index // 2)) for index in range(60)]
        frames = list(read_frames(found_in(encode(tmp_path / "a.mp4", pull_down(film)))))
        assert len(frames) == 60
        assert all(psnr(frame.image, image) > 40 for frame, image in zip(frames, film, strict=True))


class TestOthers:
    def test_interlaced_video_is_no_film(self, tmp_path: Path) -> None:
        source = found_in(encode(tmp_path / "a.mp4", native(60)))
        assert (source.is_interlaced, source.telecine) == (True, None)
        assert found_in(encode(tmp_path / "b.mp4", native(60), is_flagged=False)).telecine is None

    @pytest.mark.parametrize("hold", [1, 2, 3])
    def test_whole_frames_are_no_film(self, tmp_path: Path, hold: int) -> None:
        """Not even where drawings are shown twice or three times, in video that is flagged as interlaced."""
        source = found_in(encode(tmp_path / "a.mp4", [picture(2 * (index // hold)) for index in range(60)]))
        assert (source.is_interlaced, source.telecine) == (True, None)

    def test_progressive_video_is_not_looked_at(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clip = make_clip(tmp_path / "a.mp4", frames=20)
        monkeypatch.delattr(telecine, "_sampled_changes")
        assert found_in(clip).telecine is None

    def test_film_that_is_telecined_by_flags(self, tmp_path: Path) -> None:
        """The coded frames come as they are, for three fields and two in turn."""
        plain = encode(tmp_path / "plain.m2v", FILM_FRAMES, is_flagged=True).read_bytes()
        flags = [(1, 1), (0, 0), (0, 1), (1, 0)]
        data, at, number = bytearray(plain), -1, 0
        while (at := data.find(b"\x00\x00\x01\xb5", at + 1)) >= 0:
            if data[at + 4] >> 4 == 1:  # sequence extension: not a progressive sequence, where flags mean other things
                data[at + 5] &= ~0x08
            if data[at + 4] >> 4 == 8:  # picture coding extension
                first, repeats = flags[number % 4]
                data[at + 7] = data[at + 7] & 0x7D | first << 7 | repeats << 1
                data[at + 8] |= 0x80  # a progressive frame
                number += 1
        assert number == 40
        (tmp_path / "soft.m2v").write_bytes(data)
        run_ffmpeg("-i", tmp_path / "soft.m2v", "-c", "copy", tmp_path / "soft.vob")
        source = found_in(tmp_path / "soft.vob")
        assert source.telecine is None
        frames = list(read_frames(source))
        assert [index for index, _ in match(frames, FILM_FRAMES)] == list(range(40))
        fields = [round((after.time - before.time) * 2 * NTSC) for before, after in pairwise(frames[1:])]
        assert fields in ([2, 3] * 19, [3, 2] * 19)

    def test_video_that_is_partly_film(self, tmp_path: Path) -> None:
        """Film is decimated; of real 30 frames a second none is lost, and all stay at their times."""
        video = [picture(index, 1) for index in range(30)]
        clip = encode(tmp_path / "a.mp4", pull_down(FILM_FRAMES) + video + pull_down(FILM_FRAMES))
        source = found_in(clip)
        assert source.telecine is not None
        assert source.telecine.is_mostly_film
        frames = list(read_frames(source))
        matched = [index for index, _ in match(frames, [*FILM_FRAMES, *video])]
        assert matched == [*range(40), *range(40, 70), *range(40)]
        start = [frame.time * NTSC for frame in frames[40:70]]
        assert all(abs(time - 50 - index) < 1 for index, time in enumerate(start))

    def test_what_is_hardly_film_is_deinterlaced_as_before(self, tmp_path: Path) -> None:
        clip = encode(tmp_path / "a.mp4", native(120, 1) + pull_down(FILM_FRAMES))
        source = found_in(clip)
        assert source.telecine is not None
        assert 0 < source.telecine.share < Fraction(1, 2)
        assert len(list(read_frames(source))) == 170
        asked = list(read_frames(source, IVTC))
        assert 158 <= len(asked) <= 161

    def test_asked_for_where_there_is_none(self, tmp_path: Path) -> None:
        images = [picture(index) for index in range(40)]
        frames = list(read_frames(encode(tmp_path / "a.mp4", images, is_flagged=False), IVTC))
        assert [index for index, _ in match(frames, images)] == list(range(40))


class TestResuming:
    @pytest.mark.parametrize("kind", ["mp4", "ts", "range"])
    def test_reading_goes_on_from_any_frame(self, tmp_path: Path, edited: Path, kind: str) -> None:
        source, options = found_in(edited), ReadOptions()
        if kind == "ts":
            run_ffmpeg("-i", edited, "-c", "copy", tmp_path / "a.ts")
            source = found_in(tmp_path / "a.ts")
        if kind == "range":
            options = ReadOptions(start=Fraction(1, 3), end=Fraction(2))
        whole = list(read_frames(source, options))
        for index in range(1, len(whole), 3):
            frame = whole[index]
            rest = list(read_frames(source, options, since=frame.time, clock=frame.clock))
            wanted = whole[index:]
            assert [(a.time, a.duration, a.clock) for a in rest] == [(b.time, b.duration, b.clock) for b in wanted]
            assert all(np.array_equal(a.image, b.image) for a, b in zip(rest, wanted, strict=True))

    def test_a_range_begins_and_ends_where_it_was_asked(self, telecined: Path) -> None:
        frames = list(read_frames(found_in(telecined), ReadOptions(start=Fraction(1, 2), end=Fraction(1))))
        assert frames[0].time >= Fraction(1, 2)
        assert frames[-1].duration is not None
        assert frames[-1].time + frames[-1].duration == 1
        assert 11 <= len(frames) <= 13

    def test_a_resumed_job_and_segments(
        self, random_model: RISTN, tmp_path: Path, edited: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        upscaler = Upscaler(random_model, CPU, Tiling(window=7, context=1))
        options = short(preset="ultrafast", scale=2, segment_frames=12)
        target, whole = tmp_path / "out.mkv", tmp_path / "whole.mkv"
        count = list(run_job(edited, whole, upscaler, options))[-1].frames
        for _ in range(2):
            with pytest.raises(Interrupted):
                list(run_job(edited, target, upscaler, options, should_stop=stop_after(target)))
        list(run_job(edited, target, upscaler, options))
        assert packet_times(target, 0) == packet_times(whole, 0)
        for found, expected in zip(read_frames(target), read_frames(whole), strict=True):
            assert np.array_equal(found.image, expected.image)
        segments = list(segments_of(edited, tmp_path, upscaler, options))
        assert sum(segment.frames for segment in segments) == count
        assert all(segment.begins is None or segment.begins.clock is not None for segment in segments)


def with_sound(video: Path) -> Path:
    sound = make_sound(video.with_suffix(".wav"), 440, 50 / 29.97)
    run_ffmpeg("-i", video, "-i", sound, "-c:v", "copy", "-c:a", "aac", video.with_name("sound.mp4"))
    return video.with_name("sound.mp4")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_job_makes_film_at_its_own_rate(tiny_model: RISTN, tmp_path: Path, telecined: Path, suffix: str) -> None:
    """And sound and picture begin and end together, as in the source."""
    upscaler = Upscaler(tiny_model, CPU, Tiling(window=8, context=0))
    source, target = with_sound(telecined), tmp_path / f"out{suffix}"
    options = UpscaleOptions(preset="ultrafast", scale=2)
    plan = plan_run(source, target, upscaler, options)
    assert (plan.rate, plan.frames, plan.deinterlaced) == (FILM, 40, "film")
    list(run_job(source, target, upscaler, options))
    output = probe(target)
    assert abs(output.rate - FILM) < Fraction(1, 20)
    times = sorted(time for time, _ in packet_times(target, 0))
    assert max(abs(time - times[0] - index / FILM) for index, time in enumerate(times)) <= Fraction(1, 900)
    (before, _), (after, _) = (packet_times(path, 1)[0] for path in (source, target))
    assert abs((after - times[0]) - (before - packet_times(source, 0)[0][0])) < Fraction(1, 50)
    off = plan_run(source, target.with_stem("off"), upscaler, replace(options, deinterlace="frame"))
    assert (off.rate, off.frames, off.deinterlaced) == (NTSC, 50, "all")


def test_film_through_a_pipe(tiny_model: RISTN, tmp_path: Path, telecined: Path) -> None:
    """It is taken at its word: nothing can be scanned."""
    run_ffmpeg("-i", telecined, "-c", "copy", tmp_path / "in.mkv")
    upscaler = Upscaler(tiny_model, CPU, Tiling(window=8, context=0))
    options, plans = UpscaleOptions(codec="ffv1", scale=2, deinterlace="ivtc"), list[JobPlan]()
    with (tmp_path / "in.mkv").open("rb") as file:
        list(run_job(InputStream(file), tmp_path / "out.mkv", upscaler, options, on_plan=plans.append))
    assert (plans[0].rate, plans[0].telecine) == (FILM, Telecine("top", Fraction(1)))
    assert sum(1 for _ in read_frames(tmp_path / "out.mkv")) == 40


def test_the_program_tells_what_it_found(tmp_path: Path, telecined: Path, tiny_weights: Path) -> None:
    code, stdout, _ = in_process("info", telecined)
    assert code == 0
    assert "telecine: film at 23.976 frames per second, top field first" in stdout
    plan: Callable[..., Any] = lambda *more: in_process(  # noqa: E731
        "upscale", telecined, tmp_path / "out.mkv", "--weights", tiny_weights, "--device", "cpu", "--dry-run", *more
    )
    assert "telecine: film, top field first; fields are matched" in plan()[1]
    assert "telecine" not in plan("--deinterlace", "off")[1]
    progressive = make_clip(tmp_path / "plain.mp4", frames=20)
    assert "telecine" not in in_process("info", progressive)[1]


def test_the_judgement_of_a_frame_depends_on_no_more_than_it_says() -> None:
    """From any frame on, with the frames since the last repeat, the verdicts are the same."""
    still, moving = Change(0.2, 0.2), Change(9.0, 9.0)
    cycle = [moving, moving, Change(0.2, 9.0), moving, Change(9.0, 0.2)]
    changes = [*cycle * 4, *[still] * 12, *[moving] * 9, *cycle[3:], *cycle * 4]
    whole = Cadence()
    verdicts = [verdict for change in changes for verdict in whole.push(change)] + whole.finish()
    assert sum(verdict.is_repeat for verdict in verdicts) >= 10
    assert not any(verdict.is_repeat for verdict in verdicts[33:41])
    for begin in range(3, len(changes)):
        later = Cadence(verdicts[begin].since_repeat)
        for change in changes[begin - 3 : begin]:
            later.note(change)
        assert [v for change in changes[begin:] for v in later.push(change)] + later.finish() == verdicts[begin:]
