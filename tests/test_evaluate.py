"""Evaluation: the protocol's numbers on clips with known pixels."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_clip
from PIL import Image

from ristn_cli.evaluation.evaluate import FrameScores, evaluate_clip, find_clips, mean_scores, without_ends
from ristn_cli.evaluation.metrics import psnr_y
from ristn_cli.inference.device import Backend
from ristn_cli.inference.memory import Tiling
from ristn_cli.inference.upscaler import Upscaler
from ristn_cli.model import RISTN
from ristn_cli.video import VideoError, read_frames

CPU = Backend(torch.device("cpu"), "fp32")


def score(value: float) -> FrameScores:
    return FrameScores(psnr_y=value, ssim_y=1, bicubic_psnr_y=value - 1, bicubic_ssim_y=1)


def test_bicubic_is_pillows(tiny_model: RISTN, tmp_path: Path) -> None:
    """Down and up by Pillow, which rounds between its passes: at 56 dB on these smooth frames that is still seen."""
    clip = make_clip(tmp_path / "clip.mkv", frames=3, width=90, height=70, codec="ffv1")
    scores = list(evaluate_clip(clip, Upscaler(tiny_model, CPU)))
    assert len(scores) == 3
    for frame, found in zip(read_frames(clip), scores, strict=True):
        hr = frame.image[:68, :88]
        small = Image.fromarray(hr).resize((22, 17), Image.Resampling.BICUBIC)
        expected = psnr_y(np.asarray(small.resize((88, 68), Image.Resampling.BICUBIC)), hr, crop_border=8)
        assert found.bicubic_psnr_y == pytest.approx(expected, abs=0.3)
        assert found.psnr_y == pytest.approx(found.bicubic_psnr_y, abs=0.02)  # the tiny network is bicubic
        assert math.isnan(found.temporal_gain)


def test_temporal_gain_tells_a_network_that_looks_aside(random_model: RISTN, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=5, width=96, height=96)
    gains = [s.temporal_gain for s in evaluate_clip(clip, Upscaler(random_model, CPU), temporal_gain=True)]
    assert any(gain != 0 for gain in gains)
    with torch.no_grad():
        assert random_model.fusion is not None
        random_model.fusion.matrix[: len(random_model.fusion.matrix) // 2] = 0  # type: ignore[union-attr,index]
    blind = [s.temporal_gain for s in evaluate_clip(clip, Upscaler(random_model, CPU), temporal_gain=True)]
    assert blind == pytest.approx([0] * 5, abs=1e-6)


def test_ends_can_be_left_out(random_model: RISTN, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=9, width=64, height=64)
    upscaler = Upscaler(random_model, CPU, Tiling(window=6))
    every = list(evaluate_clip(clip, upscaler))
    assert list(evaluate_clip(clip, upscaler, skip=2)) == every[2:-2]
    few = list(evaluate_clip(clip, upscaler, max_frames=4))
    assert [s.bicubic_psnr_y for s in few] == [s.bicubic_psnr_y for s in every[:4]]


def test_without_ends() -> None:
    scores = [score(value) for value in range(6)]
    assert list(without_ends(scores, 0)) == scores
    assert list(without_ends(scores, 2)) == scores[2:4]
    assert list(without_ends(scores, 3)) == []


def test_means() -> None:
    means = mean_scores([score(20), score(30)])
    assert (means.psnr_y, means.bicubic_psnr_y) == (25, 24)
    assert math.isnan(mean_scores([]).psnr_y)


def test_clips_are_found(tmp_path: Path) -> None:
    for name in ("b.mkv", "a.mp4", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "frames").mkdir()
    assert [path.name for path in find_clips(tmp_path)] == ["a.mp4", "b.mkv", "frames"]
    assert find_clips(tmp_path / "a.mp4") == [tmp_path / "a.mp4"]
    (tmp_path / ".hidden").mkdir()
    assert [path.name for path in find_clips(tmp_path)] == ["a.mp4", "b.mkv", "frames"]
    images = tmp_path / "images"
    images.mkdir()
    (images / "0001.png").touch()
    assert find_clips(images) == [images]
    with pytest.raises(VideoError, match="no clips found"):
        find_clips(tmp_path / "frames")
    with pytest.raises(VideoError, match="no such file"):
        find_clips(tmp_path / "missing")


def test_deep_clips_are_refused(random_model: RISTN, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=2, pixel_format="yuv420p10le", codec="libx265", width=64, height=64)
    with pytest.raises(VideoError, match="more than 8 bits"):
        list(evaluate_clip(clip, Upscaler(random_model, CPU)))
