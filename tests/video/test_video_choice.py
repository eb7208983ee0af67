"""Which of several video streams is upscaled: the film rather than a still or a cover, or the one asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from clips import make_clip, run_ffmpeg
from commands import in_process
from jobs import make_job

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.checks import identify
from ristn_cli.job.manifest import JobError, Manifest
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.model import RISTN
from ristn_cli.video import InputStream, VideoError, probe

SETTINGS = ("--device", "cpu", "--preset", "ultrafast")
FILM, STILL = (64, 48), (128, 96)


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "film.mp4", frames=6)


@pytest.fixture
def still(tmp_path: Path) -> Path:
    path = tmp_path / "still.jpg"
    run_ffmpeg("-f", "lavfi", "-i", "testsrc2=s=128x96", "-frames:v", "1", path)
    return path


def join(path: Path, *inputs: Path, options: tuple[str, ...] = ()) -> Path:
    """All streams of the inputs in one file, without encoding."""
    named = [word for source in inputs for word in ("-i", source)]
    maps = [word for number in range(len(inputs)) for word in ("-map", str(number))]
    run_ffmpeg(*named, *maps, "-c", "copy", *options, path)
    return path


def size_of(path: Path, number: int | None = None) -> tuple[int, int]:
    info = probe(path, video_stream=number)
    return info.width, info.height


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
def test_a_film_goes_before_a_still_that_comes_first(film: Path, still: Path, tmp_path: Path, suffix: str) -> None:
    """In MKV both have the default flag, and no header counts their frames."""
    clip = join(tmp_path / f"in{suffix}", still, film)
    info = probe(clip)
    assert (info.video_index, info.width, info.height) == (1, *FILM)
    assert info.streams[0].is_cover
    assert size_of(clip, 0) == STILL
    assert size_of(clip, 1) == FILM


def test_a_still_of_another_codec_is_no_film_either(film: Path, tmp_path: Path) -> None:
    single = make_clip(tmp_path / "single.mp4", frames=1, width=128, height=96)
    assert size_of(join(tmp_path / "in.mkv", single, film)) == FILM


def test_the_default_flag_goes_before_size(film: Path, tmp_path: Path) -> None:
    large = make_clip(tmp_path / "large.mp4", frames=6, width=128, height=96)
    flags = ("-disposition:v:0", "0", "-disposition:v:1", "default")
    assert size_of(join(tmp_path / "in.mp4", large, film, options=flags)) == FILM
    assert size_of(join(tmp_path / "in.mkv", large, film, options=flags)) == FILM


def test_size_decides_where_both_are_default(film: Path, tmp_path: Path) -> None:
    large = make_clip(tmp_path / "large.mp4", frames=6, width=128, height=96)
    flags = ("-disposition:v:0", "default", "-disposition:v:1", "default")
    assert size_of(join(tmp_path / "in.mkv", film, large, options=flags)) == (128, 96)


def test_the_first_is_taken_where_nothing_distinguishes(film: Path, tmp_path: Path) -> None:
    assert probe(join(tmp_path / "in.mkv", film, film)).video_index == 0


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_an_untaken_still_is_kept_as_a_cover(
    film: Path, still: Path, tiny_weights: Path, tmp_path: Path, suffix: str
) -> None:
    clip, target = join(tmp_path / "in.mkv", still, film), tmp_path / f"out{suffix}"
    code, _, err = in_process("upscale", clip, target, "--model", tiny_weights, *SETTINGS)
    assert code == 0, err
    assert "2 video streams: number 1, counted from 0, is upscaled (stream 1 of the file); use --video-stream N" in err
    info = probe(target)
    assert (info.width, info.height, info.frame_count) == (4 * FILM[0], 4 * FILM[1], 6)
    assert [(stream.kind, stream.is_cover, stream.is_still) for stream in info.streams] == [
        ("video", False, False),
        ("video", True, False),
    ]
    assert "video streams" not in in_process("info", target)[1]  # of one video and a cover there is nothing to choose


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_a_cut_keeps_an_untaken_still(film: Path, still: Path, tiny_weights: Path, tmp_path: Path, suffix: str) -> None:
    clip, target = join(tmp_path / "in.mkv", still, film), tmp_path / f"out{suffix}"
    options = ("--start", "0.1", "--model", tiny_weights, *SETTINGS)
    code, _, err = in_process("upscale", clip, target, *options)
    assert code == 0, err
    assert [stream.is_cover for stream in probe(target).streams] == [False, True]


def test_the_stream_that_was_asked_for_is_upscaled(film: Path, tiny_weights: Path, tmp_path: Path) -> None:
    large = make_clip(tmp_path / "large.mp4", frames=9, width=128, height=96)
    clip, target = join(tmp_path / "in.mkv", large, film), tmp_path / "out.mkv"
    code, _, err = in_process("upscale", clip, target, "--video-stream", 1, "--model", tiny_weights, *SETTINGS)
    assert code == 0, err
    assert size_of(target, 0) == (4 * FILM[0], 4 * FILM[1])
    assert size_of(target, 1) == (128, 96)  # the other one, as it is
    assert "2 video streams: number 1" in in_process("info", clip, "--video-stream", 1)[1]


def test_an_impossible_number_is_refused_with_the_list(film: Path, still: Path, tmp_path: Path) -> None:
    clip = join(tmp_path / "in.mkv", still, film)
    with pytest.raises(
        VideoError, match=r"in\.mkv: has no video stream 2; it has 2: 0 \(mjpeg 128x96\), 1 \(h264 64x48"
    ):
        probe(clip, video_stream=2)
    assert in_process("info", clip, "--video-stream", 2)[0] == 1
    assert in_process("info", clip, "--video-stream", -1)[0] == 2


def test_a_marked_cover_can_be_asked_for(film: Path, still: Path, tmp_path: Path) -> None:
    clip = join(tmp_path / "in.mp4", film, still, options=("-disposition:v:1", "attached_pic"))
    assert size_of(clip) == FILM
    assert size_of(clip, 1) == STILL


def test_standard_input_is_searched_for_the_film_too(film: Path, still: Path, tmp_path: Path) -> None:
    clip = join(tmp_path / "in.mkv", still, film)
    with clip.open("rb") as stream:
        assert probe(InputStream(stream)).video_index == 1
    with clip.open("rb") as stream:
        assert probe(InputStream(stream), video_stream=0).video_index == 0


def test_another_stream_is_another_job(film: Path, still: Path, tiny_model: RISTN, tmp_path: Path) -> None:
    upscaler = Upscaler(tiny_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=5))
    clip = join(tmp_path / "in.mkv", film, still)

    def identity(number: int | None) -> dict[str, object]:
        return identify(make_job(clip, tmp_path / "out.mkv", UpscaleOptions(video_stream=number)), upscaler)

    assert identity(None) == identity(0)
    (tmp_path / "manifest.json").write_text('{"identity": {"video stream": 0}, "parts": []}')
    with pytest.raises(JobError, match=r"another video stream \(0, now 1\)"):
        Manifest(tmp_path, {"video stream": identity(1)["video stream"]}).load()
