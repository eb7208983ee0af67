"""Colours in and out: ranges, matrices, bit depths, transparency."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import (
    encode_planes,
    has_box,
    make_clip,
    make_picture,
    run_ffmpeg,
)
from colours import LUMA_WEIGHTS, code_values, color_bars, grey_ramp
from identity import upscale, write_parts
from outputs import open_writer

from ristn_cli.video import (
    Color,
    Frame,
    ReadOptions,
    VideoError,
    probe,
    read_frames,
)


@pytest.mark.parametrize("picture", [grey_ramp(), color_bars()], ids=["ramp", "bars"])
@pytest.mark.parametrize("range_", ["tv", "pc"])
@pytest.mark.parametrize("matrix", list(LUMA_WEIGHTS))
@pytest.mark.parametrize("bits", [8, 10])
def test_decode_identity_encode_keeps_every_value(
    tmp_path: Path, bits: int, matrix: str, range_: str, picture: np.ndarray
) -> None:
    """Known code values in; RGB by the definition; the same code values out: mean error under one code value."""
    dtype = np.uint8 if bits == 8 else np.uint16
    codes = code_values(picture, bits, matrix, range_).round().clip(0, 2**bits - 1).astype(dtype)
    planes = [codes[0], codes[1, ::2, ::2], codes[2, ::2, ::2]]
    name = "yuv420p" if bits == 8 else "yuv420p10le"
    source = probe(encode_planes(tmp_path / "in.mp4", planes, name, matrix=matrix, range_=range_))
    assert (source.color.matrix, source.color.range, source.bit_depth) == (matrix, range_, bits)
    (frame,) = read_frames(source)
    inner = np.arange(256) % 32
    inner = (inner > 3) & (inner < 28)  # chroma of neighbouring bars mixes at their edges
    if picture[0, 0, 0] == picture[0, 100, 0]:
        inner[:] = True
    white = 255 if bits == 8 else 65535
    error = (frame.image / white - picture)[:, inner] * (2**bits - 1)
    assert np.abs(error).mean() < 1
    assert abs(error.mean()) < 0.4

    target = tmp_path / "out.mp4"
    with open_writer(
        target,
        width=256,
        height=32,
        rate=Fraction(25),
        time_base=Fraction(1, 25),
        color=source.color,
        codec="ffv1",
    ) as writer:
        writer.write(frame)
    with av.open(str(target)) as container:
        decoded = next(container.decode(video=0))
        assert decoded.format.name == name
        for plane, expected in zip(decoded.planes, planes, strict=True):
            found = np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width]
            columns = inner if plane.width == 256 else inner[::2]
            difference = found[:, columns].astype(float) - expected[:, columns]
            assert np.abs(difference).mean() < 1
    written = probe(target).color
    assert (written.matrix, written.range) == (matrix, range_)


def test_tags_are_in_stream_and_bitstream(tmp_path: Path) -> None:
    color = Color("smpte170m", "pc", "smpte170m", "smpte170m", "center")
    target = tmp_path / "a.mp4"
    with open_writer(target, width=64, height=48, rate=Fraction(25), time_base=Fraction(1, 25), color=color) as writer:
        writer.write(Frame(make_picture(0, 64, 48), Fraction(0)))
    assert has_box(target, b"colr")
    raw = tmp_path / "a.h264"
    run_ffmpeg("-i", target, "-c", "copy", raw)
    for path in (target, raw):
        found = probe(path).color
        assert (found.matrix, found.range, found.primaries, found.transfer) == (
            "smpte170m",
            "pc",
            *["smpte170m"] * 2,
        )
        assert found.chroma_location == "center"


def test_untagged_matrix_is_written_as_it_was_taken(tmp_path: Path) -> None:
    """480 lines become 1920: left untagged, players would turn from BT.601 to BT.709."""
    info = probe(make_clip(tmp_path / "a.mp4", frames=1, width=64, height=480))
    (part,) = write_parts(info, list(read_frames(info)), tmp_path, count=1)
    assert (probe(part).color.matrix, probe(part).color.range) == ("smpte170m", "tv")
    assert probe(part).color.primaries == "unspecified"


def test_refuses_a_matrix_it_does_not_know(tmp_path: Path) -> None:
    planes = [np.full((32, 64), 90, np.uint8), *[np.full((16, 32), 128, np.uint8)] * 2]
    clip = encode_planes(tmp_path / "a.mp4", planes, "yuv420p", matrix="ycgco", range_="tv")
    with pytest.raises(VideoError, match=r"a\.mp4: the colour matrix ycgco.*convert the file"):
        list(read_frames(clip))


def test_ten_bits_stay_ten_bits(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=3, codec="libx265", pixel_format="yuv420p10le")
    output = upscale(clip, tmp_path / "out.mp4")
    frames = list(read_frames(output))
    assert (output.codec, output.pixel_format) == ("hevc", "yuv420p10le")
    assert frames[0].image.dtype == np.uint16
    expected = make_picture(0, 64, 48).repeat(4, 0).repeat(4, 1) * 257.0
    assert np.abs(frames[0].image - expected).mean() < 1.5 * 257


def test_transparency_is_refused_or_dropped(tmp_path: Path) -> None:
    picture = np.full((32, 32, 4), 200, np.uint8)
    clip = tmp_path / "a.mov"
    with av.open(str(clip), "w") as container:
        stream = container.add_stream("qtrle", rate=25)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "argb"
        frame = av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format="argb")
        container.mux([*stream.encode(frame), *stream.encode(None)])
    assert probe(clip).has_alpha
    with pytest.raises(VideoError, match=r"transparency.*--drop alpha"):
        list(read_frames(clip))
    (frame,) = read_frames(clip, ReadOptions(drop_alpha=True))
    assert (frame.image == 200).all()
