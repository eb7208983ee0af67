"""Transparency: carried by the codecs that can, refused by the others before the first frame, whatever holds it."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import make_clip, make_picture, run_ffmpeg, stop_after
from jobs import plan_run, run_job, short
from outputs import verify_file
from PIL import Image

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.job import job_folder
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.video import Color, ReadOptions, VideoError, find_transparency, probe, read_frames
from ristn_cli.video.convert import FrameBuilder, RgbReader, scale_codes
from ristn_cli.video.resample import ALPHA_FLAGS, Resampler

CPU = Backend(torch.device("cpu"), "fp32")
WIDTH, HEIGHT = 64, 48


def make_alpha(index: int) -> np.ndarray:
    """Alpha of frame `index`, (H, W) uint8: a ramp from nothing at the left to all at the right, less each frame."""
    ramp = np.linspace(0, 255, WIDTH) * (1 - index / 16)
    return np.broadcast_to(ramp[None], (HEIGHT, WIDTH)).round().astype(np.uint8)


def encode(path: Path, alphas: list[np.ndarray], codec: str = "ffv1", pixel_format: str = "yuva444p") -> Path:
    """`make_picture` frames with these alphas at 25 frames a second."""
    options = {"libvpx-vp9": {"crf": "4", "b": "0", "auto-alt-ref": "0", "cpu-used": "8"}}.get(codec, {})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixel_format
        for index, alpha in enumerate(alphas):
            pixels = np.dstack((make_picture(index, WIDTH, HEIGHT), alpha))
            frame = av.VideoFrame.from_ndarray(pixels, format="rgba").reformat(format=pixel_format)
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def upscaler(tiny_model: RISTN) -> Upscaler:
    return Upscaler(tiny_model, CPU, Tiling(window=5, context=1))


def run(source: Path, target: Path, upscaler: Upscaler, options: UpscaleOptions) -> int:
    return list(run_job(source, target, upscaler, options))[-1].frames


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix"),
    [
        ("ffv1", "yuva444p", ".mkv"),
        ("ffv1", "bgra", ".mkv"),
        ("ffv1", "yuva420p10le", ".mkv"),
        ("prores_ks", "yuva444p10le", ".mov"),
        ("qtrle", "argb", ".mov"),
        ("libvpx-vp9", "yuva420p", ".webm"),
    ],
)
def test_frames_come_with_their_transparency(tmp_path: Path, codec: str, pixel_format: str, suffix: str) -> None:
    clip = encode(tmp_path / f"in{suffix}", [make_alpha(index) for index in range(6)], codec, pixel_format)
    info = probe(clip)
    assert info.has_alpha
    frames = list(read_frames(info, ReadOptions(carry_alpha=True)))
    assert len(frames) == 6
    for index, frame in enumerate(frames):
        assert frame.alpha is not None
        assert frame.alpha.dtype == frame.image.dtype
        white = np.iinfo(frame.image.dtype).max / 255
        assert np.abs(frame.alpha / white - make_alpha(index)).mean() < (1.5 if suffix == ".webm" else 0.6)
        assert np.abs(frame.image / white - make_picture(index, WIDTH, HEIGHT)).mean() < 3
    later = next(read_frames(info, ReadOptions(carry_alpha=True, start=Fraction(4, 25))))
    assert later.alpha is not None
    assert np.array_equal(later.alpha, frames[4].alpha)  # type: ignore[arg-type]
    with pytest.raises(VideoError, match=r"transparency.*--drop alpha"):
        list(read_frames(info))
    assert all(frame.alpha is None for frame in read_frames(info, ReadOptions(drop_alpha=True)))


@pytest.mark.parametrize(
    ("codec", "pixel_format", "suffix", "written"),
    [
        ("ffv1", None, ".mkv", "yuva420p"),
        ("ffv1", "bgra", ".mkv", "bgra"),
        ("ffv1", "yuva444p", ".mkv", "yuva444p"),
        ("prores", None, ".mov", "yuva444p"),  # decoded as yuva444p12le, whatever it was encoded from
        ("prores", None, ".mkv", "yuva444p"),
    ],
)
def test_a_job_carries_it(
    upscaler: Upscaler, tmp_path: Path, codec: str, pixel_format: str | None, suffix: str, written: str
) -> None:
    source = encode(tmp_path / "in.mkv", [make_alpha(index) for index in range(6)])
    target = tmp_path / f"out{suffix}"
    options = UpscaleOptions(codec=codec, pixel_format=pixel_format)
    assert plan_run(source, target, upscaler, options).has_alpha
    assert run(source, target, upscaler, options) == 6
    output = probe(target)
    assert output.has_alpha
    assert output.pixel_format.startswith(written)
    bicubic = Resampler(4 * WIDTH, 4 * HEIGHT, ALPHA_FLAGS)
    for index, frame in enumerate(read_frames(output, ReadOptions(carry_alpha=True))):
        assert frame.alpha is not None
        white = np.iinfo(frame.image.dtype).max / 255
        assert np.abs(frame.alpha / white - bicubic.apply(make_alpha(index))).mean() < 0.6
        expected = np.asarray(Image.fromarray(make_picture(index, WIDTH, HEIGHT)).resize((256, 192)))
        assert np.abs(frame.image / white - expected).mean() < 3


def test_sixteen_bits_of_transparency(tmp_path: Path, upscaler: Upscaler) -> None:
    """A source above 8 bits keeps the steps of its transparency: 1024 of them from left to right."""
    source = tmp_path / "in.mkv"
    ramp = np.broadcast_to(np.arange(1024, dtype=np.uint16)[None], (16, 1024))
    builder = FrameBuilder(1024, 16, "yuva444p10le", Color())
    with av.open(str(source), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 1024, 16, "yuva444p10le"
        picture = builder.to_frame(np.full((16, 1024, 3), 30000, np.uint16), scale_codes(ramp, 10, 16))
        picture.pts, picture.time_base = 0, Fraction(1, 25)
        container.mux([*stream.encode(picture), *stream.encode(None)])
    for codec, suffix in (("ffv1", ".mkv"), ("prores", ".mov")):
        target = tmp_path / f"out{suffix}"
        run(source, target, upscaler, UpscaleOptions(codec=codec, scale=2))
        (frame,) = read_frames(target, ReadOptions(carry_alpha=True))
        assert frame.alpha is not None
        found = frame.alpha[16, 32:-32].astype(float) * 1023 / 65535
        expected = (np.arange(2048)[32:-32] - 0.5) / 2
        assert np.abs(found - expected).max() < 1.01
        assert len(np.unique(frame.alpha)) > 1000


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("pixel_format", ["yuva420p", "yuva444p10le", "yuva420p10le", "bgra", "gbrap10le", "gbrap16le"])
def test_alpha_values_survive_both_conversions(pixel_format: str, dtype: type[np.generic]) -> None:
    peak = int(np.iinfo(dtype).max)  # type: ignore[type-var]
    alpha = np.linspace(0, peak, 256).round().astype(dtype)[None].repeat(4, 0)
    image = np.full((4, 256, 3), peak // 2, dtype)
    color = Color("bt709", "tv")
    frame = FrameBuilder(256, 4, pixel_format, color).to_frame(image, alpha)  # type: ignore[arg-type]
    found, back = RgbReader(color, path="x").to_rgba(frame)
    assert back is not None
    scale = peak / np.iinfo(back.dtype).max
    step = 1 if dtype == np.uint8 or "16" in pixel_format else peak / (1023 if "10" in pixel_format else 255)
    assert np.abs(back * scale - alpha).max() <= step
    assert np.abs(found * scale - image).max() <= 2 * max(1, peak / 255)


@pytest.mark.parametrize(
    ("target", "options", "words"),
    [
        ("out.mp4", UpscaleOptions(), r"in\.mkv: .*transparency, which h264 cannot hold; use --codec prores.*ffv1"),
        ("out.mkv", UpscaleOptions(codec="hevc"), r"hevc cannot hold; .*--drop alpha"),
        ("out.mkv", UpscaleOptions(codec="ffv1", pixel_format="yuv420p"), r"pixel format yuv420p cannot hold"),
        ("out.mov", UpscaleOptions(codec="ffv1"), r"mov cannot hold ffv1"),
    ],
)
def test_what_cannot_hold_it_is_refused_first(
    upscaler: Upscaler, tmp_path: Path, target: str, options: UpscaleOptions, words: str
) -> None:
    source = encode(tmp_path / "in.mkv", [make_alpha(index) for index in range(2)])
    with pytest.raises(VideoError, match=words):
        next(run_job(source, tmp_path / target, upscaler, options))
    assert not job_folder(tmp_path / target).exists()


def test_it_can_be_given_up(upscaler: Upscaler, tmp_path: Path) -> None:
    source = encode(tmp_path / "in.mkv", [make_alpha(index) for index in range(3)])
    assert run(source, tmp_path / "out.mp4", upscaler, UpscaleOptions(drop_alpha=True)) == 3
    assert run(source, tmp_path / "out.mkv", upscaler, UpscaleOptions(drop_alpha=True, codec="ffv1")) == 3
    assert not probe(tmp_path / "out.mkv").has_alpha


def test_transparency_that_begins_later_is_found_before_the_first_frame(upscaler: Upscaler, tmp_path: Path) -> None:
    opaque = np.full((HEIGHT, WIDTH), 255, np.uint8)
    late = encode(tmp_path / "late.mkv", [opaque, opaque, opaque, make_alpha(3)])
    assert not probe(late).has_alpha
    assert find_transparency(probe(late))
    assert not find_transparency(probe(late), end=Fraction(3, 25))
    with pytest.raises(VideoError, match="h264 cannot hold"):
        next(run_job(late, tmp_path / "out.mp4", upscaler))
    assert run(late, tmp_path / "out.mkv", upscaler, UpscaleOptions(codec="ffv1")) == 4
    *_, last = read_frames(tmp_path / "out.mkv", ReadOptions(carry_alpha=True))
    assert last.alpha is not None
    assert last.alpha.min() == 0
    never = encode(tmp_path / "never.mkv", [opaque] * 3)
    assert run(never, tmp_path / "never.mp4", upscaler, UpscaleOptions()) == 3


def test_images_with_transparency(upscaler: Upscaler, tmp_path: Path) -> None:
    folder = tmp_path / "shots"
    folder.mkdir()
    for index in range(3):
        pixels = np.dstack((make_picture(index, WIDTH, HEIGHT), make_alpha(index)))
        Image.fromarray(pixels, "RGBA").save(folder / f"{index}.png")
    with pytest.raises(VideoError, match="h264 cannot hold"):
        next(run_job(folder, tmp_path / "out.mp4", upscaler))
    assert run(folder, tmp_path / "out.mov", upscaler, UpscaleOptions(codec="prores")) == 3
    frames = list(read_frames(tmp_path / "out.mov", ReadOptions(carry_alpha=True)))
    for index, frame in enumerate(frames):
        assert frame.alpha is not None
        assert np.abs(frame.alpha[::4, ::4] / 257 - make_alpha(index)).mean() < 3


def test_a_rotation_turns_it_too(tmp_path: Path) -> None:
    clip = encode(tmp_path / "plain.mov", [make_alpha(0)], "prores_ks", "yuva444p10le")
    run_ffmpeg("-display_rotation:v:0", "-90", "-i", clip, "-c", "copy", tmp_path / "in.mov")
    (frame,) = read_frames(tmp_path / "in.mov", ReadOptions(carry_alpha=True))
    assert frame.alpha is not None
    assert frame.alpha.shape == (WIDTH, HEIGHT)
    assert np.abs(frame.alpha / 257 - np.rot90(make_alpha(0), -1)).mean() < 1


def test_a_resumed_run_has_the_same(upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = encode(tmp_path / "in.mkv", [make_alpha(index) for index in range(10)])
    options = short(codec="ffv1", scale=2, segment_frames=3)
    run(source, tmp_path / "whole.mkv", upscaler, options)
    should_stop = stop_after(tmp_path / "out.mkv")
    with pytest.raises(Interrupted):
        list(run_job(source, tmp_path / "out.mkv", upscaler, options, should_stop=should_stop))
    assert run(source, tmp_path / "out.mkv", upscaler, options) == 10
    pairs = zip(
        read_frames(tmp_path / "out.mkv", ReadOptions(carry_alpha=True)),
        read_frames(tmp_path / "whole.mkv", ReadOptions(carry_alpha=True)),
        strict=True,
    )
    for found, expected in pairs:
        assert np.array_equal(found.alpha, expected.alpha)  # type: ignore[arg-type]
        assert np.array_equal(found.image, expected.image)


def test_an_output_that_lost_it_fails_its_check(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=3)
    with pytest.raises(VideoError, match="pixel format is yuv420p, expected one with transparency"):
        verify_file(clip, frames=3, width=WIDTH, height=HEIGHT, source=probe(clip), has_alpha=True)
