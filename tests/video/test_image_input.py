"""Images and folders of images as sources."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import (
    make_picture,
)
from identity import write_parts
from outputs import join_parts, verify_file

from ristn_cli.video import (
    ReadOptions,
    VideoError,
    check_mux,
    probe,
    read_frames,
    read_image,
    write_image,
)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_is_lossless(tmp_path: Path, dtype: type[np.generic]) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (17, 33, 3)).astype(dtype)
    write_image(tmp_path / "a.png", image)
    found = read_image(tmp_path / "a.png")
    assert found.dtype == dtype
    assert (found == image).all()


def test_jpeg(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", make_picture(3, 33, 17))
    found = read_image(tmp_path / "a.jpg")
    assert np.abs(found.astype(int) - make_picture(3, 33, 17)).mean() < 2
    (frame,) = read_frames(tmp_path / "a.jpg")
    assert np.abs(frame.image.astype(int) - make_picture(3, 33, 17)).mean() < 2


def test_writing_refuses_what_the_format_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"JPEG has 8 bits"):
        write_image(tmp_path / "a.jpg", np.zeros((4, 4, 3), np.uint16))
    with pytest.raises(VideoError, match=r"use \.png or \.jpg"):
        write_image(tmp_path / "a.gif", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(VideoError, match="cannot write the image"):
        write_image(tmp_path / "no" / "a.png", np.zeros((4, 4, 3), np.uint8))


@pytest.mark.parametrize("as_pattern", [False, True])
def test_a_folder_is_a_video(tmp_path: Path, as_pattern: bool) -> None:
    folder = tmp_path / "shot"
    folder.mkdir()
    for index in range(12):
        write_image(folder / f"shot_{index}.png", make_picture(index, 32, 24))
    info = probe(folder / "shot_%d.png" if as_pattern else folder, rate=Fraction(24000, 1001))
    frames = list(read_frames(info))
    assert (info.rate, info.frame_count, info.is_image_sequence) == (Fraction(24000, 1001), 12, True)
    assert [frame.time for frame in frames] == [k * Fraction(1001, 24000) for k in range(12)]
    assert all((frame.image == make_picture(k, 32, 24)).all() for k, frame in enumerate(frames))
    cut = list(read_frames(info, ReadOptions(start=frames[10].time)))
    assert [frame.time for frame in cut] == [frame.time for frame in frames[10:]]
    output = tmp_path / "out.mp4"
    parts = write_parts(info, frames, tmp_path)
    join_parts(parts, info, output)
    verify_file(output, frames=12, width=128, height=96, source=info, plan=check_mux(info, output))
    assert probe(output).color.matrix == "bt709"
    first = next(read_frames(output)).image[::4, ::4].astype(int)
    assert np.abs(first - make_picture(0, 32, 24)).mean() < 2.5


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("none here", encoding="utf-8")
    with pytest.raises(VideoError, match=r"has no images; expected numbered files ending in \.png"):
        probe(tmp_path)


def test_a_still_is_one_frame(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", make_picture(0, 32, 24))
    info = probe(tmp_path / "a.png", rate=Fraction(10))
    (frame,) = read_frames(info)
    assert (info.rate, frame.time, frame.duration) == (10, 0, Fraction(1, 10))
    assert (frame.image == make_picture(0, 32, 24)).all()
