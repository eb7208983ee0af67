"""Rotation, anamorphic pixels, odd sizes."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import (
    make_clip,
    make_picture,
)
from identity import upscale

from ristn_cli.video import (
    Frame,
    ReadOptions,
    probe,
    read_frames,
)


@pytest.mark.parametrize(("rotation", "turns"), [(90, -1), (180, -2), (270, -3)])
def test_rotation_is_applied_once(tmp_path: Path, rotation: int, turns: int) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=2, rotation=rotation, sample_aspect_ratio=Fraction(4, 3))
    info = probe(clip)
    is_upright = rotation == 180
    assert info.rotation == rotation
    assert (info.width, info.height) == ((64, 48) if is_upright else (48, 64))
    assert info.sample_aspect_ratio == (Fraction(4, 3) if is_upright else Fraction(3, 4))
    frame = next(read_frames(info))
    expected = np.rot90(make_picture(0, 64, 48), turns)
    assert np.abs(frame.image.astype(int) - expected).mean() < 1.5
    output = upscale(clip, tmp_path / "out.mp4")
    assert output.rotation == 0
    assert output.sample_aspect_ratio == info.sample_aspect_ratio


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_sample_aspect_ratio_is_kept(tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=2, sample_aspect_ratio=Fraction(16, 11))
    output = upscale(clip, tmp_path / f"out{suffix}")
    assert output.sample_aspect_ratio == Fraction(16, 11)


def test_odd_sizes(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=3, width=33, height=17, codec="ffv1", pixel_format="yuv444p")
    output = upscale(clip, tmp_path / "out.mp4")
    frames = list(read_frames(output))
    assert (output.width, output.height, len(frames)) == (132, 68, 3)
    expected = make_picture(2, 33, 17).repeat(4, 0).repeat(4, 1)
    assert np.abs(frames[2].image.astype(int) - expected).mean() < 1.5


def test_interlaced_is_deinterlaced(tmp_path: Path) -> None:
    """A bar moving 8 pixels a frame, woven by field, top first, and flagged: no comb may be left at its edges."""
    clip = tmp_path / "a.mkv"
    with av.open(str(clip), "w") as container:
        options = {"flags": "+ildct+ilme", "crf": "4", "x264-params": "tff=1"}
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 128, 64, "yuv420p"
        for index in range(6):
            image = np.full((64, 128, 3), 60, np.uint8)
            image[0::2, 16 + 8 * index : 40 + 8 * index] = 180
            image[1::2, 20 + 8 * index : 44 + 8 * index] = 180
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    info = probe(clip)
    assert info.is_interlaced

    def comb(frame: Frame) -> float:
        return float(np.abs(np.diff(frame.image[8:-8].astype(int), axis=0)).mean())

    woven = list(read_frames(info, ReadOptions(deinterlace="off")))
    single = list(read_frames(info))
    double = list(read_frames(info, ReadOptions(deinterlace="field")))
    assert comb(woven[2]) > 3 * comb(single[2])
    assert [frame.time for frame in single] == [frame.time for frame in woven]
    assert len(double) == 12
    assert double[1].time - double[0].time == Fraction(1, 50)
    later = list(read_frames(info, ReadOptions(start=Fraction(3, 25))))
    assert (later[0].image == single[3].image).all()
