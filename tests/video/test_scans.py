"""Film scans, DPX and EXR, in and out: a network that repeats pixels gives back what the scanner wrote."""

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import make_clip, stop_after
from jobs import run_job, short
from scans import BT709, LINEAR, LOG, make_codes, write_dpx, write_exr
from torch import Tensor, nn

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.video import ReadOptions, VideoError, probe, read_frames
from ristn_cli.video.reading import scan_curve as curve
from ristn_cli.video.reading.scan_header import as_rate, pack_timecode, read_scan, unpack_timecode

CPU = Backend(torch.device("cpu"), "fp32")
TEN_O_CLOCK = 0x10_20_30_12


class Repeat(nn.Module):
    """In the place of the network: each pixel becomes 4 x 4 of its value."""

    def forward(self, lr: Tensor, keep: slice) -> Tensor:
        return lr[:, keep].repeat_interleave(4, -1).repeat_interleave(4, -2)


@pytest.fixture
def repeater(tiny_model: RISTN) -> Upscaler:
    upscaler = Upscaler(tiny_model, CPU, Tiling(window=5, context=1, tile=64, overlap=8))
    upscaler.model = Repeat()  # type: ignore[assignment]
    return upscaler


def run(source: Path, target: Path, upscaler: Upscaler, **options: object) -> None:
    for _ in run_job(source, target, upscaler, UpscaleOptions(**options), makes_folder=True):  # type: ignore[arg-type]
        pass


def decode(path: Path) -> np.ndarray:
    """The samples (H, W, 3) of a DPX or EXR file by FFmpeg alone, integers at their own depth."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    name = frame.format.name
    if name.startswith("gbrp"):
        dtype = {"f16": "<f2", "f32": "<f4"}.get(name[4:7], "<u2")
        planes = [np.frombuffer(plane, np.uint8).view(dtype).reshape(frame.height, -1) for plane in frame.planes]
        return np.stack([planes[k][:, : frame.width] for k in (2, 0, 1)], axis=-1)
    array: np.ndarray = frame.to_ndarray()
    return array[..., :3]


def folder_of(path: Path, count: int, write: object) -> Path:
    path.mkdir()
    for number in range(count):
        write(path / f"scan.{number + 1001}.dpx", number)  # type: ignore[operator]
    return path


@pytest.mark.parametrize("order", [">", "<"])
@pytest.mark.parametrize("transfer", [LOG, LINEAR, BT709])
@pytest.mark.parametrize(("bits", "packing"), [(8, 1), (10, 1), (10, 2), (12, 0), (12, 1), (12, 2), (16, 1)])
def test_a_dpx_comes_back_code_for_code(
    repeater: Upscaler, tmp_path: Path, bits: int, packing: int, transfer: int, order: str
) -> None:
    codes = make_codes(bits, 46)
    source = write_dpx(tmp_path / "a.dpx", codes, bits, transfer=transfer, order=order, packing=packing)
    run(source, tmp_path / "b.dpx", repeater)
    found = decode(tmp_path / "b.dpx").astype(int)
    assert np.array_equal(found[::4, ::4], codes)
    assert np.array_equal(found[3::4, 3::4], codes)
    assert read_scan(tmp_path / "b.dpx") == read_scan(source)


@pytest.mark.parametrize("transfer", [LOG, LINEAR])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_values_lie_within_half_a_code_before_they_are_rounded(bits: int, transfer: int) -> None:
    codes = np.arange(2**bits) / (2**bits - 1)
    values = curve.light_to_values(curve.log_to_light(codes) if transfer == LOG else codes)
    seen = values.astype(np.float32) if bits > 10 else np.round(values * 65535) / 65535
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert np.all(np.diff(seen) > 0)
    light = curve.values_to_light(seen)
    back = curve.light_to_log(light) if transfer == LOG else light
    assert np.abs(back - codes).max() * (2**bits - 1) < 0.15


def test_every_finite_half_comes_back_as_it_was(repeater: Upscaler, tmp_path: Path) -> None:
    halves = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(256, 256)
    halves = np.where(np.isfinite(halves), halves, np.float16(0.25))
    source = write_exr(tmp_path / "a.exr", {"R": halves, "G": halves.T.copy(), "B": halves[::-1].copy()})
    run(source, tmp_path / "b.exr", repeater)
    found = decode(tmp_path / "b.exr")
    assert found.dtype == np.float16
    assert np.array_equal(found[::4, ::4, 0], halves)
    assert np.array_equal(found[1::4, 2::4, 1], halves.T)


def test_a_rate_that_nobody_states_is_not_made_up(repeater: Upscaler, tmp_path: Path) -> None:
    source = write_exr(tmp_path / "a.exr", {name: np.full((8, 8), 0.5, np.float16) for name in "RGB"})
    for suffix in (".exr", ".dpx"):
        run(source, tmp_path / f"b{suffix}", repeater)
        run(source, tmp_path / f"c{suffix}", repeater, image_rate=Fraction(48))
        found = [read_scan(tmp_path / f"{name}{suffix}") for name in "bc"]
        assert [scan and scan.rate for scan in found] == [None, 48]


def test_floats_come_back_within_a_hundred_thousandth(repeater: Upscaler, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    light = (random.choice([-1, 1], (40, 30)) * 10 ** random.uniform(-3, 4.8, (40, 30))).astype(np.float32)
    light[0, :4] = np.inf, -np.inf, np.nan, 1e30
    run(write_exr(tmp_path / "a.exr", {"Y": light}), tmp_path / "b.exr", repeater)
    found = decode(tmp_path / "b.exr")[::4, ::4, 1]
    assert found.dtype == np.float32
    assert found[0, :4] == pytest.approx([65504, -65504, 0, 65504], rel=1e-4, abs=1e-6)
    assert found.flat[4:] == pytest.approx(light.flat[4:], rel=1e-5)


def test_the_curve_is_smooth_where_its_pieces_meet() -> None:
    for place in (0.0, 1.0, curve.BETA):
        around = np.array([place - 2e-4, place - 1e-4, place, place + 1e-4, place + 2e-4])
        slopes = np.diff(curve.light_to_values(around)) / 1e-4
        assert slopes.max() / slopes.min() < 1.03
    black, white = curve.light_to_values(np.array([0.0, 1.0]))
    assert (black, white) == pytest.approx((0.085, 0.690), abs=1e-3)


def test_log_codes_are_cineons() -> None:
    light = curve.log_to_light(np.array([95, 470, 685, 1023]) / 1023)
    assert light == pytest.approx([0, 0.1832, 1, 13.52], rel=2e-3, abs=1e-9)


def test_a_log_scan_becomes_bt709_video(repeater: Upscaler, tmp_path: Path) -> None:
    codes = np.empty((16, 32, 3), np.uint16)
    codes[:, :16], codes[:, 16:] = 685, 470
    frames = folder_of(tmp_path / "in", 3, lambda path, k: write_dpx(path, codes, 10, timecode=TEN_O_CLOCK + k))
    run(frames, tmp_path / "out.mov", repeater, crf=1, preset="ultrafast")
    info = probe(tmp_path / "out.mov")
    assert info.bit_depth == 10
    assert [frame.time for frame in read_frames(info)] == [0, Fraction(1, 24), Fraction(2, 24)]
    with av.open(str(tmp_path / "out.mov")) as container:
        assert container.streams.video[0].metadata["timecode"] == "10:20:30:12"
    assert (info.color.matrix, info.color.transfer, info.color.primaries) == ("bt709", "bt709", "bt709")
    image = next(iter(read_frames(info))).image / 65535
    grey = float(curve.camera_curve(curve.log_to_light(np.array(470 / 1023))))
    assert image[32, 16] == pytest.approx([1] * 3, abs=0.01)
    assert image[32, 110] == pytest.approx([grey] * 3, abs=0.01)


@pytest.mark.parametrize("suffix", [".dpx", ".exr"])
def test_video_becomes_a_scan_of_its_own_colours(repeater: Upscaler, tmp_path: Path, suffix: str) -> None:
    clip = make_clip(tmp_path / "a.mp4", frames=3)
    run(clip, tmp_path / "out" / f"%04d{suffix}", repeater)
    source = [frame.image for frame in read_frames(clip)]
    for number, image in enumerate(source, start=1):
        found = decode(tmp_path / "out" / f"{number:04}{suffix}")[::4, ::4].astype(float)
        expected = image / 255
        if suffix == ".dpx":
            assert np.abs(found / 1023 - expected).max() < 0.51 / 1023
        else:
            assert np.abs(found - curve.inverse_camera_curve(expected)).max() < 2**-11
    scan = read_scan(tmp_path / "out" / f"0001{suffix}")
    assert scan is not None
    assert scan.rate == 25
    assert scan.is_curved == (suffix == ".exr")


def test_exr_and_dpx_become_each_other(repeater: Upscaler, tmp_path: Path) -> None:
    codes = make_codes(10)
    source = write_dpx(tmp_path / "a.dpx", codes, 10)
    run(source, tmp_path / "b.exr", repeater)
    light = decode(tmp_path / "b.exr")[::4, ::4]
    expected = curve.log_to_light(codes / 1023)
    assert light.dtype == np.float16
    assert light.astype(float) == pytest.approx(expected, rel=1e-3, abs=1e-4)
    write_exr(tmp_path / "c.exr", {name: np.ascontiguousarray(light[..., k]) for k, name in enumerate("RGB")})
    run(tmp_path / "c.exr", tmp_path / "d.dpx", repeater)
    assert np.abs(decode(tmp_path / "d.dpx")[::4, ::4].astype(int) - codes).max() <= 1
    found = read_scan(tmp_path / "d.dpx")
    assert found is not None
    assert (found.transfer, found.bit_depth) == ("log", 10)


def test_each_frame_keeps_its_own_timecode_and_the_rate(repeater: Upscaler, tmp_path: Path) -> None:
    words = [TEN_O_CLOCK, TEN_O_CLOCK + 1, 0x11_00_00_00, 0xFFFFFFFF]
    codes = make_codes(10)
    frames = folder_of(
        tmp_path / "in", 4, lambda path, k: write_dpx(path, codes, 10, rate=23.976, timecode=words[k], order="<")
    )
    run(frames, tmp_path / "out" / "frame-%06d.dpx", repeater, start=Fraction(1001, 24000), segment_frames=1)
    found = [read_scan(tmp_path / "out" / f"frame-{number:06}.dpx") for number in (1, 2, 3)]
    assert [scan and scan.timecode for scan in found] == ["10:20:30:13", "11:00:00:00", None]
    assert {scan and scan.rate for scan in found} == {Fraction(24000, 1001)}


def test_exr_keeps_its_rate_timecode_and_chromaticities(repeater: Upscaler, tmp_path: Path) -> None:
    primaries = struct.pack("<8f", 0.7347, 0.2653, 0, 1, 0.0001, -0.077, 0.32168, 0.33767)
    source = write_exr(
        tmp_path / "a.exr",
        {name: np.full((8, 8), 0.5, np.float16) for name in "RGB"},
        {
            "framesPerSecond": ("rational", struct.pack("<iI", 24000, 1001)),
            "timeCode": ("timecode", struct.pack("<II", TEN_O_CLOCK, 0)),
            "chromaticities": ("chromaticities", primaries),
        },
    )
    run(source, tmp_path / "b.exr", repeater)
    scan = read_scan(tmp_path / "b.exr")
    assert scan == read_scan(source)
    assert scan is not None
    assert (scan.rate, scan.timecode) == (Fraction(24000, 1001), "10:20:30:12")


def test_alpha_of_exr_stays_multiplied_into_its_colours(repeater: Upscaler, tmp_path: Path) -> None:
    alpha = np.linspace(0, 1, 64, dtype=np.float16).reshape(8, 8)
    colour = (alpha * np.float16(0.5)).astype(np.float16)
    source = write_exr(tmp_path / "a.exr", {"R": colour, "G": colour, "B": colour, "A": alpha})
    run(source, tmp_path / "b.exr", repeater)
    run(source, tmp_path / "b.png", repeater)
    found = read_planes(tmp_path / "b.exr")
    assert found[3][2::4, 2::4] == pytest.approx(alpha, abs=0.03)
    assert np.array_equal(found[2][2::4, 2::4].astype(np.float16), colour)
    frame = next(iter(read_frames(tmp_path / "b.png", ReadOptions(carry_alpha=True))))
    opaque = float(curve.camera_curve(np.array(0.5)))
    assert frame.image[17, 30] / 65535 == pytest.approx([opaque] * 3, abs=0.03)


def read_planes(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    dtype = "<f2" if "f16" in frame.format.name else "<f4"
    return [np.frombuffer(p, np.uint8).view(dtype).reshape(frame.height, -1)[:, : frame.width] for p in frame.planes]


def test_resumed_scans_equal_those_of_one_run(repeater: Upscaler, tmp_path: Path) -> None:
    frames = folder_of(
        tmp_path / "in", 6, lambda path, k: write_dpx(path, np.roll(make_codes(16), k, 0), 16, timecode=TEN_O_CLOCK + k)
    )
    whole, resumed = (tmp_path / name / "%03d.dpx" for name in ("whole", "resumed"))
    options = short(segment_frames=2)
    for _ in run_job(frames, whole, repeater, options, makes_folder=True):
        pass
    with pytest.raises(Interrupted):
        for _ in run_job(frames, resumed, repeater, options, makes_folder=True, should_stop=stop_after(resumed)):
            pass
    for _ in run_job(frames, resumed, repeater, options, makes_folder=True):
        pass
    assert [path.read_bytes() for path in sorted(whole.parent.iterdir())] == [
        path.read_bytes() for path in sorted(path for path in resumed.parent.iterdir() if path.suffix == ".dpx")
    ]


@pytest.mark.parametrize(
    ("number", "rate"),
    [(23.976, Fraction(24000, 1001)), (24, 24), (29.97, Fraction(30000, 1001)), (12.5, Fraction(25, 2))],
)
def test_rates_are_what_they_round(number: float, rate: Fraction) -> None:
    assert as_rate(number) == rate


@pytest.mark.parametrize("timecode", ["00:00:00:00", "23:59:59:29", "01:10:00;02"])
def test_timecode_survives_its_bits(timecode: str) -> None:
    assert unpack_timecode(pack_timecode(timecode)) == timecode


@pytest.mark.parametrize("word", [0xFFFFFFFF, 0x24000000, 0x00600000, 0x0000000A])
def test_what_is_no_timecode_is_none(word: int) -> None:
    assert unpack_timecode(word) is None


def hostile_files(folder: Path) -> Iterator[Path]:
    whole = write_dpx(folder / "whole.dpx", make_codes(10), 10).read_bytes()
    exr = write_exr(folder / "whole.exr", {name: np.ones((8, 8), np.float16) for name in "RGB"}).read_bytes()
    kinds = {
        "short.dpx": whole[:700],
        "bits.dpx": whole[:803] + b"\x20" + whole[804:],
        "packed.dpx": whole[:804] + b"\0\0" + whole[806:],
        "huge.dpx": whole[:772] + b"\x7f\xff\xff\xff\x7f\xff\xff\xff" + whole[780:],
        "empty.exr": exr[:8],
        "long.exr": exr[:8] + b"x" * 5000,
        "size.exr": exr.replace(b"chlist\0" + struct.pack("<I", 55), b"chlist\0" + struct.pack("<I", 2**31 - 1)),
        "deep.exr": exr[:5] + b"\x08" + exr[6:],
        "parts.exr": exr[:5] + b"\x10" + exr[6:],
    }
    for name, data in kinds.items():
        (folder / name).write_bytes(data)
        yield folder / name


def test_hostile_headers_are_refused_in_one_line(tmp_path: Path) -> None:
    for path in hostile_files(tmp_path):
        with pytest.raises(VideoError) as refusal:
            list(read_frames(path))
        assert str(refusal.value).startswith(str(path))
        assert "\n" not in str(refusal.value)


def test_what_ffmpeg_marks_as_linear_is_video(tmp_path: Path) -> None:
    path = write_dpx(tmp_path / "a.dpx", make_codes(10), 10, transfer=LINEAR)
    data = bytearray(path.read_bytes())
    data[160:164] = b"Lavc"
    path.write_bytes(data)
    scan = read_scan(path)
    assert scan is not None
    assert scan.transfer == "display"
