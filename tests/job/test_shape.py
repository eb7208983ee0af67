"""Sizes, pixel shapes and rates of outputs, by hand-computed values, and through a whole job."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import make_clip, make_picture
from jobs import plan_run, run_job

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.shape import choose_shape
from ristn_cli.model import RISTN
from ristn_cli.video import EncoderSettings, OutputShape, VideoError, VideoInfo, probe, read_frames
from ristn_cli.video.resample import Resampler

CPU = Backend(torch.device("cpu"), "fp32")


def shape_of(info: VideoInfo, **options: Any) -> OutputShape:
    encoder = EncoderSettings.for_source(info, pixel_format=options.get("pixel_format"))
    return choose_shape(info, UpscaleOptions(**options), encoder)


@pytest.fixture
def info(tmp_path: Path) -> VideoInfo:
    return probe(make_clip(tmp_path / "in.mp4", frames=3, width=64, height=48))


@pytest.mark.parametrize(
    ("source", "options", "expected"),
    [
        ((64, 48, 1), {}, (256, 192, 1)),
        ((64, 48, 1), {"scale": 2}, (128, 96, 1)),
        ((33, 17, 1), {"scale": 3}, (100, 52, 1)),  # 99 and 51 are odd
        ((33, 17, 1), {"scale": 3, "pixel_format": "yuv444p"}, (99, 51, 1)),
        ((33, 17, 1), {"scale": 3, "pixel_format": "yuv422p"}, (100, 51, 1)),
        ((640, 360, 1), {"size": (1280, 720)}, (1280, 720, 1)),
        ((640, 360, 1), {"size": (1024, 768)}, (1024, 768, Fraction(4, 3))),
        ((640, 360, 1), {"size": (1024, 768), "square_pixels": True}, (1024, 768, 1)),
        ((640, 360, 1), {"size": (7680, 4320)}, (7680, 4320, 1)),
        ((1920, 1080, 1), {"fit": "2160p"}, (3840, 2160, 1)),
        ((1280, 720, 1), {"fit": "1080p"}, (1920, 1080, 1)),
        ((1280, 534, 1), {"fit": "1080p"}, (1920, 802, 1)),  # 801 is odd
        ((640, 480, 1), {"fit": "1080p"}, (1440, 1080, 1)),
        ((720, 1280, 1), {"fit": "1080p"}, (1080, 1920, 1)),  # on its side
        ((320, 180, 1), {"fit": "2160p"}, (1280, 720, 1)),  # not above 4x
        ((720, 576, Fraction(16, 15)), {"fit": "1080p"}, (1350, 1080, Fraction(16, 15))),
        ((720, 576, Fraction(16, 15)), {"fit": "1080p", "square_pixels": True}, (1440, 1080, 1)),
        ((720, 576, Fraction(16, 15)), {"square_pixels": True}, (3072, 2304, 1)),
        ((720, 480, Fraction(8, 9)), {"square_pixels": True}, (2880, 2160, 1)),
        ((720, 480, Fraction(8, 9)), {"scale": 2, "square_pixels": True}, (1440, 1080, 1)),
    ],
)
def test_sizes(
    info: VideoInfo, source: tuple[int, int, Any], options: dict[str, Any], expected: tuple[int, int, Any]
) -> None:
    width, height, aspect = source
    source_info = replace(info, width=width, height=height, sample_aspect_ratio=Fraction(aspect))
    shape = shape_of(source_info, **options)
    assert (shape.width, shape.height, shape.sample_aspect_ratio) == expected
    assert shape.is_resampled == (expected[:2] != (4 * width, 4 * height))


def test_a_size_that_the_chroma_cannot_have_is_refused(info: VideoInfo) -> None:
    with pytest.raises(VideoError, match=r"--size 101x50 is not possible .*width divisible by 2"):
        shape_of(info, size=(101, 50))
    assert shape_of(info, size=(101, 50), pixel_format="yuv444p").width == 101


def test_only_one_option_says_how_large() -> None:
    with pytest.raises(ValueError, match="scale, size and fit all set"):
        UpscaleOptions(scale=2, fit="1080p")


def test_twice_the_rate_needs_half_the_time_base(info: VideoInfo) -> None:
    shape = shape_of(info, deinterlace="field")
    assert (shape.rate, shape.time_base) == (50, info.time_base / 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resampling_keeps_levels_and_means(dtype: type[np.generic]) -> None:
    peak = int(np.iinfo(dtype).max)  # type: ignore[type-var]
    for level in (0, 1, peak // 3, peak):
        assert (Resampler(50, 34).apply(np.full((64, 96, 3), level, dtype)) == level).all()  # type: ignore[arg-type]
    ramp = np.linspace(0, peak, 400)
    image = np.broadcast_to(ramp[None, :, None], (96, 400, 3)).round().astype(dtype)
    half = Resampler(200, 48).apply(image)  # type: ignore[arg-type]
    middle = slice(5, -5)
    assert np.abs(half[7, middle, 1] - ramp.reshape(200, 2).mean(1)[middle]).max() < 1
    stripes = np.broadcast_to(np.array([0, peak], dtype).repeat(3).reshape(1, 6, 1), (48, 6, 3)).repeat(1, 1)
    tiled = np.tile(stripes, (1, 40, 1))
    assert np.ptp(Resampler(60, 12).apply(tiled)[:, 10:-10].astype(int)) < peak // 10  # too fine to be held: grey


@pytest.mark.parametrize(
    ("options", "size", "aspect"),
    [
        ({"scale": 2}, (128, 96), Fraction(4, 3)),
        ({"scale": 3, "square_pixels": True}, (256, 144), Fraction(1)),
        ({"size": (100, 60)}, (100, 60), Fraction(16, 15)),
        ({"fit": "1080p"}, (256, 192), Fraction(4, 3)),
    ],
)
def test_a_job_writes_the_shape_it_planned(
    tiny_model: RISTN, tmp_path: Path, options: dict[str, Any], size: tuple[int, int], aspect: Fraction
) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3, sample_aspect_ratio=Fraction(4, 3))
    target = tmp_path / "out.mkv"
    upscaler = Upscaler(tiny_model, CPU, Tiling(window=3, context=0))
    chosen = UpscaleOptions(preset="ultrafast", crf=4, **options)
    plan = plan_run(source, target, upscaler, chosen)
    assert (plan.width, plan.height, plan.sample_aspect_ratio) == (*size, aspect)
    assert list(run_job(source, target, upscaler, chosen))[-1].frames == 3
    output = probe(target)
    assert ((output.width, output.height), output.sample_aspect_ratio) == (size, aspect)
    for index, frame in enumerate(read_frames(output)):
        expected = Resampler(*size).apply(make_picture(index, 64, 48)).astype(int)
        assert np.abs(frame.image - expected).mean() < 2
