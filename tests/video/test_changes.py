"""Pictures that change on the way (size, shape, pixel format, colours) are made like the first one of the job."""

import struct
import zlib
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips import join_packets, make_clip, make_picture, run_ffmpeg, stop_after
from jobs import plan_run, run_job, short
from PIL import Image
from typer.testing import CliRunner

from ristn_cli.cli import app
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.checks import examine
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.spread.local_worker import LocalWorker
from ristn_cli.spread.pool import Pool
from ristn_cli.spread.scheduling import spread_over
from ristn_cli.video import ReadOptions, VideoError, probe, read_frames, write_image
from ristn_cli.video.reading.layout import Layout

CPU = Backend(torch.device("cpu"), "fp32")
LOSSLESS = UpscaleOptions(codec="ffv1")


def make_ts(path: Path, *, width: int = 64, height: int = 48, frames: int = 8, **more: object) -> Path:
    """A clip whose key frames carry its headers."""
    clip = make_clip(path.with_suffix(".mp4"), width=width, height=height, frames=frames, **more)  # type: ignore[arg-type]
    run_ffmpeg("-i", clip, "-c", "copy", path)
    return path


@pytest.fixture
def changing(tmp_path: Path) -> Path:
    """8 frames of 64x48, 8 of 96x72, 8 of 64x48, H.264 with B-frames."""
    small, large = make_ts(tmp_path / "small.ts"), make_ts(tmp_path / "large.ts", width=96, height=72)
    return join_packets(tmp_path / "in.mkv", small, large, small)


@pytest.fixture
def brief(tmp_path: Path) -> Path:
    """5 frames of 32x24, 5 of 48x36, 4 of 32x24."""
    clips = [
        make_ts(tmp_path / f"{width}-{frames}.ts", width=width, height=width * 3 // 4, frames=frames)
        for width, frames in ((32, 5), (48, 5), (32, 4))
    ]
    return join_packets(tmp_path / "brief.mkv", *clips)


def images(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(path)])


def changes(source: Path, **options: Any) -> tuple[list[np.ndarray], list[str]]:
    told: list[str] = []
    return [frame.image for frame in read_frames(source, ReadOptions(**options), on_change=told.append)], told


def test_a_larger_picture_is_scaled_with_one_warning(changing: Path) -> None:
    found, told = changes(changing)
    assert [image.shape for image in found] == [(48, 64, 3)] * 24
    for index, image in enumerate(found):
        assert np.abs(image.astype(int) - make_picture(index % 8, 64, 48)).mean() < 3
    assert told == [f"{changing}: the format changes from 64x48 to 96x72 at 0.32 s; such frames are scaled to 64x48"]
    with pytest.raises(VideoError, match=r"from 64x48 to 96x72 at 0\.32 s; split the job there .*run without --strict"):
        list(read_frames(changing, ReadOptions(strict=True)))


def test_pieces_cut_at_the_change_are_strict_and_keep_their_size(changing: Path) -> None:
    for start, end, size in ((None, Fraction(32, 100), (48, 64)), (Fraction(32, 100), Fraction(64, 100), (72, 96))):
        info = examine(probe(changing), UpscaleOptions(start=start, end=end))
        assert (info.height, info.width) == size
        found = list(read_frames(info, ReadOptions(start=start, end=end, strict=True)))
        assert [frame.image.shape[:2] for frame in found] == [size] * 8
    assert len(list(read_frames(changing, ReadOptions(max_frames=8, strict=True)))) == 8


@pytest.mark.parametrize("codec", ["mpeg2video", "libx264"])
def test_a_change_of_pixel_aspect_alone_gets_black_bars(tmp_path: Path, codec: str) -> None:
    """Broadcast goes from 4:3 to 16:9 in frames of one size."""
    clips = []
    for aspect in (Fraction(1), Fraction(4, 3)):
        clip = make_clip(tmp_path / f"{aspect.numerator}.mkv", frames=8, codec=codec, sample_aspect_ratio=aspect)
        run_ffmpeg("-i", clip, "-c", "copy", clip.with_suffix(".ts"))
        clips.append(clip.with_suffix(".ts"))
    source = join_packets(tmp_path / "in.ts", *clips)
    found, told = changes(source)
    assert probe(source).sample_aspect_ratio == 1
    assert len(found) == 16
    assert [image[:5].max() < 3 for image in found] == [False] * 8 + [True] * 8  # exact to the frame
    wide, plain = found[8].astype(int), make_picture(0, 64, 48)
    assert wide[43:].max() < 3
    assert np.abs(wide[8:40] - plain[2:46:1][np.linspace(1, 42, 32).round().astype(int)]).mean() < 6
    assert told[0].endswith(
        "from 64x48 (4:3) to 64x48 (16:9) at 0.32 s; such frames are scaled to 64x48 with black bars"
    )
    assert len(told) == 1
    info = examine(probe(source), UpscaleOptions(start=Fraction(2, 5)))
    assert info.sample_aspect_ratio == Fraction(4, 3)
    assert changes(source, start=Fraction(2, 5))[1][0].find("before 0.40 s") > 0


def test_a_shape_that_differs_by_rounding_only_is_stretched() -> None:
    assert Layout(426, 240, Fraction(1), "yuv420p").fit(1920, 1080, Fraction(1)) == (1920, 1080)
    assert Layout(720, 576, Fraction(12, 11), "yuv420p").fit(720, 576, Fraction(16, 15)) == (720, 576)
    assert Layout(720, 576, Fraction(64, 45), "yuv420p").fit(720, 576, Fraction(16, 15)) == (720, 432)
    assert Layout(720, 576, Fraction(16, 15), "yuv420p").fit(1920, 1080, Fraction(1)) == (1440, 1080)


def test_what_the_container_says_of_the_pixels_holds_for_all_sizes(tmp_path: Path) -> None:
    """Adaptive VP9 in WebM: the pixel aspect ratio is in the container alone, so a smaller frame fills the picture."""
    clips = []
    for width, height in ((64, 48), (32, 24)):
        clip = make_clip(tmp_path / f"{width}.mkv", width=width, height=height, frames=4, codec="libvpx-vp9")
        clips.append(clip)
    source = tmp_path / "in.mkv"
    run_ffmpeg("-i", join_packets(tmp_path / "joined.mkv", *clips), "-c", "copy", "-aspect", "16:9", source)
    found, told = changes(source)
    assert probe(source).sample_aspect_ratio == Fraction(4, 3)
    assert np.abs(found[6].astype(int) - make_picture(2, 64, 48)).mean() < 4
    assert told == [f"{source}: the format changes from 64x48 to 32x24 at 0.16 s; such frames are scaled to 64x48"]


@pytest.mark.parametrize("reverse", [False, True])
def test_a_change_of_depth_and_pixel_format(tmp_path: Path, reverse: bool) -> None:
    clips = [make_ts(tmp_path / f"{name}.ts", frames=5, pixel_format=name) for name in ("yuv420p", "yuv422p10le")]
    source = join_packets(tmp_path / "in.mkv", *(clips[::-1] if reverse else clips))
    found, told = changes(source)
    assert {image.dtype for image in found} == {np.dtype(np.uint16 if reverse else np.uint8)}
    for index, image in enumerate(found):
        picture = make_picture(index % 5, 64, 48).astype(float)
        assert np.abs(image / (257 if reverse else 1) - picture).mean() < 2
    assert len(told) == 1
    assert "; such frames are converted to match the first frame" in told[0]


def test_a_change_of_matrix_and_range(tmp_path: Path) -> None:
    """Each frame is read by its own tags."""
    clips = [
        make_ts(tmp_path / f"{matrix}.ts", frames=3, options={"colorspace": matrix, "color_range": range_})
        for matrix, range_ in (("bt709", "tv"), ("smpte170m", "pc"))
    ]
    source = join_packets(tmp_path / "in.mkv", *clips)
    found, told = changes(source)
    for index in (0, 3):
        alone = images(clips[index // 3])[0]
        assert np.abs(found[index].astype(int) - alone).max() <= 1
    assert np.abs(found[0].astype(int) - found[3]).max() > 5
    (line,) = told
    assert "from bt709, limited range to smpte170m, full range at 0.12 s" in line


def test_the_alpha_channel_of_webm_is_no_change(tmp_path: Path) -> None:
    """It comes from another decoder, with another pixel format."""
    pictures = [np.dstack([make_picture(k, 64, 48), np.full((48, 64), 128, np.uint8)]) for k in range(3)]
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    source = tmp_path / "in.webm"
    run_ffmpeg("-i", tmp_path / "%d.png", "-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", source)
    told: list[str] = []
    frames = list(read_frames(source, ReadOptions(carry_alpha=True, strict=True), on_change=told.append))
    assert told == []
    assert all(frame.alpha is not None for frame in frames)


def test_a_rotated_video_is_scaled_as_shown(tmp_path: Path) -> None:
    joined = join_packets(tmp_path / "a.mkv", make_ts(tmp_path / "1.ts"), make_ts(tmp_path / "2.ts", width=96))
    run_ffmpeg("-display_rotation:v:0", "-90", "-i", joined, "-c", "copy", tmp_path / "in.mkv")
    found, told = changes(tmp_path / "in.mkv")
    assert {image.shape for image in found} == {(64, 48, 3)}
    assert "changes from 48x64 (3:4) to 48x96 (1:2) at 0.32 s" in told[0]
    assert [image[:, :6].max() < 3 for image in found] == [False] * 8 + [True] * 8


@pytest.mark.parametrize("mode", ["frame", "field"])
def test_deinterlacing_reads_the_same_from_anywhere(changing: Path, mode: str) -> None:
    info = probe(changing)
    whole = list(read_frames(info, ReadOptions(deinterlace=mode)))  # type: ignore[arg-type]
    assert len(whole) == (48 if mode == "field" else 24)
    for expected in whole[4::5]:
        found = next(read_frames(info, ReadOptions(start=expected.time - info.start_time, deinterlace=mode)))  # type: ignore[arg-type]
        assert found.time == expected.time
        assert np.array_equal(found.image, expected.image)


@pytest.mark.parametrize("deinterlace", ["auto", "field"])
def test_resumed_and_spread_runs_give_the_frames_of_a_straight_one(
    random_model: RISTN,
    brief: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    deinterlace: str,
) -> None:

    def make_upscaler() -> Upscaler:
        return Upscaler(random_model, CPU, Tiling(window=6, context=1))

    options = short(codec="ffv1", deinterlace=deinterlace)  # type: ignore[arg-type]
    list(run_job(brief, tmp_path / "straight.mkv", make_upscaler(), options))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    whole = images(tmp_path / "straight.mkv")
    assert whole.shape == (28 if deinterlace == "field" else 14, 96, 128, 3)
    resumed = tmp_path / "resumed.mkv"
    while not resumed.exists():
        with suppress(Interrupted):
            list(run_job(brief, resumed, make_upscaler(), options, should_stop=stop_after(resumed)))
    assert np.array_equal(images(resumed), whole)
    caplog.clear()
    with Pool([LocalWorker(name, make_upscaler()) for name in ("a", "b")]) as workers:
        spread = run_job(brief, tmp_path / "spread.mkv", make_upscaler(), options, make_parts=spread_over(workers))
        list(spread)
    assert np.array_equal(images(tmp_path / "spread.mkv"), whole)
    assert len(caplog.messages) == 1


def test_a_job_that_begins_behind_the_change_has_its_size(random_model: RISTN, brief: Path, tmp_path: Path) -> None:
    upscaler = Upscaler(random_model, CPU, Tiling(window=6, context=1))
    options = UpscaleOptions(codec="ffv1", start=Fraction(6, 25))
    planned = plan_run(brief, tmp_path / "out.mkv", upscaler, options)
    assert (planned.width, planned.height) == (192, 144)
    list(run_job(brief, tmp_path / "out.mkv", upscaler, options))
    assert images(tmp_path / "out.mkv").shape == (8, 144, 192, 3)


def run_command(weights: Path, source: Path, target: Path, *more: str) -> tuple[int, str]:
    asked = ["upscale", str(source), str(target), "--model", str(weights), "--device", "cpu", "--window", "6", *more]
    done = CliRunner().invoke(app, [*asked, "--compile", "off", "--codec", "ffv1"])
    return done.exit_code, " ".join(done.stderr.split())


def test_the_command_warns_once_and_does_not_speak_of_damage(tiny_weights: Path, brief: Path, tmp_path: Path) -> None:
    code, told = run_command(tiny_weights, brief, tmp_path / "out.mkv")
    assert code == 0, told
    assert told.count("changes from 32x24 to 48x36 at 0.20 s") == 1
    assert "damage" not in told
    code, told = run_command(tiny_weights, brief, tmp_path / "strict.mkv", "--strict")
    assert code == 1
    assert "changes from 32x24 to 48x36 at 0.20 s; split the job there" in told


class TestImages:
    def test_of_another_size_shape_or_depth(self, tmp_path: Path) -> None:
        folder = tmp_path / "in"
        folder.mkdir()
        write_image(folder / "0.png", make_picture(0, 64, 48))
        write_image(folder / "1.png", make_picture(0, 32, 24))
        write_image(folder / "2.png", make_picture(0, 48, 96))
        write_image(folder / "3.png", make_picture(0, 64, 48).astype(np.uint16) * np.uint16(257))
        found, told = changes(folder)
        assert {(image.shape, image.dtype) for image in found} == {((48, 64, 3), np.dtype(np.uint8))}
        assert np.array_equal(found[3], found[0])
        assert np.abs(found[1].astype(int) - found[0]).mean() < 3
        assert (found[2][:, :18].max(), found[2][:, 46:].max()) == (0, 0)
        assert found[2][:, 21:43].min() > 30
        (line,) = told
        assert "changes from 64x48 to 32x24 at 0.04 s; such frames are scaled to 64x48" in line
        assert "--images stills" in line
        with pytest.raises(VideoError, match=r"1\.png.*changes from 64x48 to 32x24"):
            list(read_frames(folder, ReadOptions(strict=True)))

    def test_that_begin_later_set_the_size(self, tmp_path: Path) -> None:
        for index, width in enumerate((32, 40, 40)):
            write_image(tmp_path / f"{index}.png", make_picture(0, width, 24))
        info = examine(probe(tmp_path), UpscaleOptions(start=Fraction(1, 25)))
        found = list(read_frames(info, ReadOptions(start=Fraction(1, 25), strict=True)))
        assert [frame.image.shape for frame in found] == [(24, 40, 3)] * 2

    @pytest.mark.parametrize("orientation", [1, 6])
    @pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
    def test_a_still_is_the_image_of_a_folder(self, tmp_path: Path, mode: str, orientation: int) -> None:
        """A JPEG is BT.601, full range, at any size; one with more than 720 lines too."""
        folder = tmp_path / "in"
        folder.mkdir()
        exif = Image.Exif()
        exif[0x112] = orientation
        picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (760, 40, 3), np.uint8)).resize((30, 750))
        picture.convert(mode).save(folder / "0.jpg", exif=exif)
        (still,), (first,) = read_frames(folder / "0.jpg"), read_frames(folder)
        assert still.image.shape == ((30, 750, 3) if orientation == 6 else (750, 30, 3))
        assert np.array_equal(still.image, first.image)
        expected = Image.open(folder / "0.jpg").convert("RGB")
        assert np.array_equal(still.image, np.rot90(expected, -1) if orientation == 6 else np.asarray(expected))

    def test_a_deep_still_is_turned_upright(self, tmp_path: Path) -> None:
        picture = make_picture(0, 40, 24).astype(np.uint16) * np.uint16(257)
        write_image(tmp_path / "a.png", picture)
        exif = Image.Exif()
        exif[0x112] = 6
        chunk = exif.tobytes()[6:]
        data = (tmp_path / "a.png").read_bytes()
        body = b"eXIf" + chunk
        block = struct.pack(">I", len(chunk)) + body + struct.pack(">I", zlib.crc32(body))
        (tmp_path / "a.png").write_bytes(data[:33] + block + data[33:])
        info = probe(tmp_path / "a.png")
        for source in (tmp_path / "a.png", tmp_path):
            (frame,) = read_frames(source)
            assert frame.image.shape == (info.height, info.width, 3) == (40, 24, 3)
            assert np.array_equal(frame.image, np.rot90(picture, -1))

    def test_a_damaged_still_is_concealed_and_reported(self, tmp_path: Path) -> None:
        path = tmp_path / "a.jpg"
        noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[:2000])
        told: list[str] = []
        (frame,) = read_frames(path, on_damage=told.append)
        assert frame.image.shape == (64, 64, 3)
        assert len(told) == 1
        assert "damaged" in told[0]
        with pytest.raises(VideoError, match=r"a\.jpg.*damaged.*--strict"):
            list(read_frames(path, ReadOptions(strict=True)))
