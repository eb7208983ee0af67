"""Files that ask for more memory than anyone has: refused by their headers, in one line that names the way out."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import join_packets, make_clip, run_ffmpeg
from jobs import plan_run

from ristn_cli.engine.auto_tiling import AutoTiling
from ristn_cli.engine.device import Backend
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.model import RISTN
from ristn_cli.video import ReadOptions, VideoError, probe, read_frames, read_image, write_image
from ristn_cli.video.filters import strips
from ristn_cli.video.limits import DEFAULT_LIMIT, LIMIT_VARIABLE, pixel_limit


def write_png(path: Path, width: int, height: int, *, bits: int = 16, kind: int = 6) -> None:
    """A black PNG, written a row at a time: `kind` 6 is RGBA, 3 a palette."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = bytes(1 + (width * bits * 4 // 8 if kind == 6 else width))
    packer = zlib.compressobj(1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    palette = chunk(b"PLTE", bytes(3)) if kind == 3 else b""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + palette + chunk(b"IDAT", data) + chunk(b"IEND", b""))


@pytest.mark.parametrize("size", [(15360, 8640), (16384, 12288), (16320, 12240)])
def test_film_scans_and_large_stills_are_within_the_limit(size: tuple[int, int]) -> None:
    assert size[0] * size[1] < DEFAULT_LIMIT == pixel_limit()


@pytest.mark.parametrize("kind", [3, 6])
def test_a_small_file_that_asks_for_all_memory_is_refused_at_once(tmp_path: Path, kind: int) -> None:
    path = tmp_path / "bomb.png"
    write_png(path, 16000, 16000 if kind == 3 else 15000, bits=8 if kind == 3 else 16, kind=kind)
    assert path.stat().st_size < 12_000_000
    code = (
        "import resource, sys\n"
        "from ristn_cli.video import VideoError, probe, read_image\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for read in (probe, read_image):\n"
        "    try:\n        read(sys.argv[1])\n"
        "    except VideoError as error:\n        print(error)\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    megapixels = 256 if kind == 3 else 240
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"{path}: a frame of 16000x1")
        assert f"has {megapixels} megapixels, more than the limit of 225" in line
        assert f"{LIMIT_VARIABLE}={megapixels}000000" in line


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "ffv1"), ("a.ts", "mpeg2video"), ("a.png", ""), ("a.jpg", "")]
)
def test_the_limit_can_be_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, codec: str) -> None:
    path = tmp_path / name
    if codec:
        clip = make_clip(tmp_path / "clip.mkv", frames=8, codec=codec)
        run_ffmpeg("-i", clip, "-c", "copy", path)
    else:
        write_image(path, np.zeros((48, 64, 3), np.uint8))
    monkeypatch.setenv(LIMIT_VARIABLE, str(64 * 48))
    assert (probe(path).width, probe(path).height) == (64, 48)
    monkeypatch.setenv(LIMIT_VARIABLE, str(64 * 48 - 1))
    with pytest.raises(VideoError, match=f"a frame of 64x48 .* {LIMIT_VARIABLE}=3072"):
        probe(path)
    for text in ("many", "-1", "0", "1e9", "9" * 400):
        monkeypatch.setenv(LIMIT_VARIABLE, text)
        with pytest.raises(VideoError, match=f"{LIMIT_VARIABLE} is .* expected a number of pixels"):
            probe(path)


def test_a_picture_that_grows_beyond_the_limit_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = tmp_path / "small.ts", tmp_path / "large.ts"
    for path, width, height in ((small, 64, 48), (large, 96, 72)):
        clip = make_clip(path.with_suffix(".mkv"), frames=8, width=width, height=height)
        run_ffmpeg("-i", clip, "-c", "copy", path)
    source = join_packets(tmp_path / "grows.mkv", small, large, small)
    monkeypatch.setenv(LIMIT_VARIABLE, "4000")
    damage: list[str] = []
    changes: list[str] = []
    frames = list(read_frames(source, on_damage=damage.append, on_change=changes.append))
    assert 8 <= len(frames) <= 16
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert changes == []  # no larger picture was decoded
    assert damage[0].startswith(f"{source}: a video packet at 0.")
    with pytest.raises(VideoError, match="cannot be decoded"):
        list(read_frames(source, ReadOptions(strict=True)))


def test_each_image_of_a_sequence_is_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "1.png", np.zeros((48, 64, 3), np.uint8))
    write_image(tmp_path / "2.png", np.zeros((480, 640, 3), np.uint8))
    monkeypatch.setenv(LIMIT_VARIABLE, "10000")
    with pytest.raises(VideoError, match=r"2\.png: a frame of 640x480"):
        list(read_frames(tmp_path, on_change=lambda message: None))
    with pytest.raises(VideoError, match=r"2\.png: a frame of 640x480"):
        read_image(tmp_path / "2.png")


@pytest.mark.parametrize("name", ["rgba64le", "yuva420p", "gbrap10le", "ya8"])
def test_strips_are_the_frame(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr("ristn_cli.video.filters.MAX_STRIP_PIXELS", 64 * 10)
    image = np.random.default_rng(0).integers(0, 255, (47, 64, 3), dtype=np.uint8)
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    frame = frame.reformat(format=name)
    pieces = list(strips(frame))
    assert len(pieces) == 5
    assert sum(piece.height for piece in pieces) == 47
    assert {(piece.width, piece.format.name) for piece in pieces} == {(64, frame.format.name)}


def test_a_plan_beyond_what_is_free_is_refused(tmp_path: Path, tiny_model: RISTN) -> None:
    path = tmp_path / "large.png"
    write_png(path, 3000, 2000, bits=8, kind=3)
    engine = Upscaler(tiny_model, Backend(torch.device("cpu"), "fp32"), AutoTiling(free_bytes=2**30))
    with pytest.raises(VideoError, match=r"large\.png: needs .* GB more memory than the free memory allows") as caught:
        plan_run(path, tmp_path / "out.png", engine, speedup=None)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]
