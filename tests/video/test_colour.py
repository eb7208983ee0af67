"""Colour from file to file: code values through an identity network, and tags, in the stream and in the container."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import encode_planes, has_box
from colours import LUMA_WEIGHTS, code_values, color_bars, grey_ramp
from jobs import run_job
from outputs import join_parts, open_writer

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.model import RISTN
from ristn_cli.video import (
    Color,
    Frame,
    MasteringMetadata,
    probe,
    read_frames,
)

MASTERING = MasteringMetadata("G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)", "1000,400")
LOSSLESS = {
    "h264": {"qp": "0"},
    "hevc": {"x265-params": "lossless=1"},
    "ffv1": {},
}


def write_part(path: Path, source: Path, codec: str, options: dict[str, str]) -> None:
    """The source's only frame with each pixel as 4x4, as a network that adds nothing has it."""
    info = probe(source)
    (frame,) = read_frames(info)
    with open_writer(
        path,
        width=4 * info.width,
        height=4 * info.height,
        rate=info.rate,
        time_base=info.time_base,
        color=info.color,
        codec=codec,
        preset="ultrafast",
        options=options,
        mastering=info.mastering,
    ) as writer:
        writer.write(replace(frame, image=frame.image.repeat(4, 0).repeat(4, 1)))


@pytest.mark.parametrize(("bits", "codec"), [(8, "h264"), (8, "hevc"), (8, "ffv1"), (10, "hevc"), (10, "ffv1")])
@pytest.mark.parametrize("range_", ["tv", "pc"])
@pytest.mark.parametrize("matrix", list(LUMA_WEIGHTS))
def test_values_survive_decoding_identity_and_lossless_encoding(
    tmp_path: Path, bits: int, codec: str, range_: str, matrix: str
) -> None:
    """A grey ramp above 75 % bars: every plane of the finished file is within one code value on average."""
    dtype = np.uint8 if bits == 8 else np.uint16
    picture = np.concatenate((grey_ramp(), color_bars()))
    codes = code_values(picture, bits, matrix, range_).round().clip(0, 2**bits - 1).astype(dtype)
    planes = [codes[0], codes[1, ::2, ::2], codes[2, ::2, ::2]]
    name = "yuv420p" if bits == 8 else "yuv420p10le"
    source = encode_planes(tmp_path / "in.mp4", planes, name, matrix=matrix, range_=range_)
    part, target = tmp_path / "part.mp4", tmp_path / f"out{'.mkv' if codec == 'ffv1' else '.mp4'}"
    write_part(part, source, codec, LOSSLESS[codec])
    join_parts([part], probe(source), target)
    if target.suffix == ".mp4":
        assert has_box(target, b"colr")
    with av.open(str(target)) as container:
        decoded = next(container.decode(video=0))
    assert decoded.format.name in (name, name.replace("yuv", "yuvj"))
    assert decoded.color_range == (1 if range_ == "tv" else 2)
    assert decoded.colorspace == {"bt709": 1, "smpte170m": 6, "bt2020nc": 9}[matrix]
    for index, (plane, values) in enumerate(zip(decoded.planes, planes, strict=True)):
        found = np.frombuffer(plane, dtype).reshape(plane.height, -1)[:, : plane.width].astype(float)
        error = found - values.repeat(4, 0).repeat(4, 1)
        scale = 4 if index == 0 else 2  # output pixels to a column of the source's luma
        across = np.arange(plane.width) // scale % 32
        rows = slice(None, plane.height // 2 - 3 * scale), slice(plane.height // 2 + 3 * scale, None)
        ramp, bars = error[rows[0]], error[rows[1]][:, (across > 4) & (across < 27)]
        assert np.abs(ramp).mean() < 1
        assert abs(ramp.mean()) < 0.4
        assert np.abs(bars).mean() < 1  # away from edges, where the chroma of neighbours mixes


@pytest.mark.parametrize("known", [MasteringMetadata(), replace(MASTERING, light_level=None)])
def test_no_light_level_is_made_up(tmp_path: Path, known: MasteringMetadata) -> None:
    write_hdr(tmp_path / "a.mp4", "smpte2084", known)
    assert probe(tmp_path / "a.mp4").mastering == known


def write_hdr(path: Path, transfer: str, mastering: MasteringMetadata) -> None:
    """Two frames of 64x32 of 10-bit HEVC, BT.2020, with this transfer."""
    color = Color("bt2020nc", "tv", "bt2020", transfer, "topleft")
    rate = Fraction(25)
    with open_writer(
        path,
        width=64,
        height=32,
        rate=rate,
        time_base=1 / rate,
        color=color,
        mastering=mastering,
        codec="hevc",
        preset="ultrafast",
    ) as writer:
        for index in range(2):
            writer.write(Frame(np.full((32, 64, 3), 20000 + 9000 * index, np.uint16), index / rate))


@pytest.mark.parametrize(("codec", "suffix"), [("auto", ".mp4"), ("auto", ".mkv"), ("av1", ".mp4"), ("av1", ".webm")])
@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_carried_with_its_metadata(
    tiny_model: RISTN, tmp_path: Path, codec: str, suffix: str, transfer: str
) -> None:
    """HDR10 keeps mastering display and content light level, HLG its transfer; 10 bits stay, and so do the values."""
    source, target = tmp_path / "in.mp4", tmp_path / f"out{suffix}"
    mastering = MASTERING if transfer == "smpte2084" else MasteringMetadata()
    write_hdr(source, transfer, mastering)
    upscaler = Upscaler(tiny_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=2, context=0))
    options = UpscaleOptions(codec=codec, preset="ultrafast")
    list(run_job(source, target, upscaler, options))
    output = probe(target)
    assert (output.color.matrix, output.color.primaries, output.color.transfer) == ("bt2020nc", "bt2020", transfer)
    assert output.color.chroma_location == "topleft"
    assert output.color.is_hdr
    assert output.bit_depth == 10
    assert output.mastering == mastering
    for index, frame in enumerate(read_frames(output)):
        assert np.abs(frame.image.astype(float) - (20000 + 9000 * index)).mean() < 64 * 1.5
    if suffix == ".mp4":
        assert has_box(target, b"colr")
