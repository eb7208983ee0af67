"""Single images that are none: one clear line each."""

from pathlib import Path

import numpy as np
import pytest

from ristn_cli.video import VideoError, encode_png, read_image, write_image


@pytest.mark.parametrize("content", [b"", b"just text\n" * 30, b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(VideoError, match=r"picture\.png"):
        read_image(path)


def test_a_cut_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:600])
    with pytest.raises(VideoError, match=r"picture\.png"):
        read_image(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_is_lossless(tmp_path: Path, dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 7, 3)).astype(dtype)
    write_image(tmp_path / "picture.png", image)
    assert np.array_equal(read_image(tmp_path / "picture.png"), image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_in_memory_is_lossless(tmp_path: Path, dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 7, 3)).astype(dtype)
    (tmp_path / "picture.png").write_bytes(encode_png(image))
    assert np.array_equal(read_image(tmp_path / "picture.png"), image)
    with pytest.raises(VideoError, match=r"\(9, 7\).*expected uint8 or uint16 \(H, W, 3\)"):
        encode_png(image[..., 0])
