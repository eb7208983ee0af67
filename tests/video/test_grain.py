"""Grain: measured, made again, and put back where the network removed it."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
import typer
from clips import stop_after
from jobs import make_job, plan_run, run_job, segments_of, short
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from ristn_cli.cli.arguments import parse_grain
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.checks import identify
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.job.regrain import settle_grain
from ristn_cli.model import RISTN
from ristn_cli.spread.segments import Pulse, compute_segment
from ristn_cli.video import Grain, GrainMaker, GrainMeter, InputStream, VideoError, read_frames
from ristn_cli.video.grain import LEVELS, REACH, make_field

RAMP = np.linspace(30, 225, 96)
DELTA = (1.0,) + (0.0,) * REACH
BLUR = (0.84, 0.38, 0.03) + (0.0,) * (REACH - 2)


class Bicubic(nn.Module):
    """In the place of the network: it keeps all grain."""

    def forward(self, lr: Tensor, keep: slice) -> Tensor:
        return interpolate(lr[:, keep].flatten(0, 1), scale_factor=4, mode="bicubic").unflatten(0, (lr.shape[0], -1))


class Smoother(Bicubic):
    """In the place of the network: it removes nearly all grain, by the mean of 5 x 5 pixels and all frames."""

    def forward(self, lr: Tensor, keep: slice) -> Tensor:
        smooth = nn.functional.pad(lr.mean(dim=1), (2, 2, 2, 2), mode="replicate")
        return super().forward(avg_pool2d(smooth, 5, 1)[:, None].expand_as(lr), keep)


def upscaler_with(network: nn.Module, model: RISTN) -> Upscaler:
    backend = Backend(torch.device("cpu"), "fp32")
    upscaler = Upscaler(model, backend, Tiling(window=6, context=1, tile=96, overlap=8, detect_cuts=False))
    upscaler.model = network  # type: ignore[assignment]
    return upscaler


@pytest.fixture
def smoother(tiny_model: RISTN) -> Upscaler:
    return upscaler_with(Smoother(), tiny_model)


def make_grain(deviation: float, taps: tuple[float, ...] = BLUR) -> Grain:
    """Grey grain of a strength in codes of 8 bits that doubles from black to white."""
    strength = tuple(deviation / 255 * (1 + (k + 0.5) / LEVELS) for k in range(LEVELS))
    energy = (taps[0] ** 2 + 2 * sum(tap**2 for tap in taps[1:])) ** 0.5
    unit = tuple(tap / energy for tap in taps)
    return Grain(strength=(strength, (0.0,) * LEVELS, (0.0,) * LEVELS), across=(unit,) * 3, down=(unit,) * 3)


def make_images(count: int, grain: Grain, height: int = 64) -> list[np.ndarray]:
    smooth = np.repeat(np.tile(RAMP, (height, 1))[..., None], 3, axis=2).round().astype(np.uint8)
    return [GrainMaker(grain, 1).apply(smooth, 1000 + number) for number in range(count)]


def write_clip(path: Path, images: list[np.ndarray]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "bgr0"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "film.mkv", make_images(12, make_grain(4)))


def powers(images: list[np.ndarray], edge: int) -> np.ndarray:
    """Variances of what differs within a column, in six steps of brightness from dark to bright."""
    values = np.stack(images).astype(float)
    rest = (values - values.mean(axis=(0, 1), keepdims=True))[:, edge:-edge, edge:-edge]
    return np.array([step.var() for step in np.array_split(rest, 6, axis=2)])


def upscale(source: Path, target: Path, upscaler: Upscaler, options: UpscaleOptions) -> list[np.ndarray]:
    for _ in run_job(source, target, upscaler, options):
        pass
    return [frame.image for frame in read_frames(target)]


def options_of(grain: float, **others: object) -> UpscaleOptions:
    return short(codec="ffv1", pixel_format="bgr0", grain=grain, **others)


@pytest.mark.parametrize("taps", [DELTA, BLUR, (0.72, 0.44, 0.18, 0.02, 0.0, 0.0, 0.0)])
def test_the_meter_finds_strength_and_size(taps: tuple[float, ...]) -> None:
    meter, grain = GrainMeter(), make_grain(4, taps)
    images = make_images(12, grain, height=160)
    for first, second in zip(images[::2], images[1::2], strict=True):
        meter.add(first, second)
    found = meter.read()
    assert found is not None
    levels = slice(3, 13)
    assert np.square(found.strength[0])[levels] == pytest.approx(np.square(grain.strength[0])[levels], rel=0.15)
    assert found.across[0] == pytest.approx(grain.across[0], abs=0.1)
    assert found.down[0] == pytest.approx(grain.down[0], abs=0.1)
    assert max(found.strength[1]) == 0


def test_colours_of_grain_are_measured_apart() -> None:
    random = np.random.default_rng(0)
    meter = GrainMeter()
    meter.add(*(np.clip(random.normal(128, 6, (96, 96, 3)), 0, 255).round().astype(np.uint8) for _ in range(2)))
    found = meter.read()
    assert found is not None
    weights = np.array([0.2126, 0.7152, 0.0722])
    expected = [np.linalg.norm(weights), np.linalg.norm(weights - [0, 0, 1]), np.linalg.norm(weights - [1, 0, 0])]
    assert [255 * profile[8] for profile in found.strength] == pytest.approx(
        [6 * value for value in expected], rel=0.08
    )


def test_texture_that_moves_or_stands_is_no_grain() -> None:
    random = np.random.default_rng(0)
    texture = np.clip(random.normal(128, 30, (96, 96, 1)) * np.ones(3), 0, 255).astype(np.uint8)
    coarse = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(1))
    blotches = interpolate(coarse, scale_factor=4)[0, 0].numpy()
    blotches = (blotches[..., None] * np.ones(3) * 255).astype(np.uint8)
    nearly = texture.copy()
    nearly[0, 0] += 1
    meter = GrainMeter()
    meter.add(texture, nearly)
    assert meter.read() is None
    meter = GrainMeter()
    meter.add(blotches, np.roll(blotches, 6, axis=1))
    found = meter.read()
    assert found is None or max(found.strength[0]) < 0.3


@pytest.mark.parametrize("image", [np.zeros((64, 64, 3), np.uint8), np.full((8, 8, 3), 99, np.uint8)])
def test_what_has_no_grain_has_none(image: np.ndarray) -> None:
    meter = GrainMeter()
    meter.add(image)
    assert meter.read() is None


def test_fields_are_new_each_frame_and_the_same_each_time() -> None:
    grain = make_grain(4)
    first, again, next_one = (make_field(grain, 0, number, 200, 200) for number in (7, 7, 8))
    assert np.array_equal(first, again)
    assert abs(np.corrcoef(first.ravel(), next_one.ravel())[0, 1]) < 0.02
    assert (first.mean(), first.std()) == pytest.approx((0, 1), abs=0.03)
    assert np.sort(first.ravel())[[1000, -1000]] == pytest.approx([-1.96, 1.96], abs=0.06)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_black_and_white_and_the_given_image_stay(dtype: type) -> None:
    peak = 1 if dtype == np.float32 else np.iinfo(dtype).max
    image = np.zeros((64, 64, 3), dtype)
    image[:, 32:] = peak
    image[20:40] = peak * 0.4
    before = image.copy()
    result = GrainMaker(make_grain(4), 4).apply(image, 3)
    assert result.dtype == dtype
    assert np.array_equal(image, before)
    assert np.array_equal(result[:20], before[:20])
    assert np.all(result[20:40].std(axis=(0, 1)) > 0.005 * peak)


def test_the_result_has_the_power_of_the_source_by_brightness(smoother: Upscaler, film: Path, tmp_path: Path) -> None:
    source = powers([frame.image for frame in read_frames(film)], 8)
    without = powers(upscale(film, tmp_path / "a.mkv", smoother, options_of(0)), 32)
    grainy = upscale(film, tmp_path / "b.mkv", smoother, options_of(1))
    half = powers(upscale(film, tmp_path / "c.mkv", smoother, options_of(0.5)), 32)
    assert np.all(without < 0.1 * source)
    assert powers(grainy, 32) == pytest.approx(source, rel=0.2)
    assert half - without == pytest.approx(0.25 * source, rel=0.3)
    changes = [(image.astype(float) - np.mean(grainy, axis=0))[..., 1].ravel() for image in grainy]
    assert abs(np.corrcoef(changes[4], changes[5])[0, 1]) < 0.2


def test_nothing_is_added_to_what_the_network_keeps(
    tiny_model: RISTN, film: Path, tmp_path: Path, notices: list[str]
) -> None:
    bicubic = upscaler_with(Bicubic(), tiny_model)
    source = powers([frame.image for frame in read_frames(film)], 8)
    assert powers(upscale(film, tmp_path / "a.mkv", bicubic, options_of(1)), 32) == pytest.approx(source, rel=0.2)


def test_a_clean_source_gets_none(smoother: Upscaler, tmp_path: Path, notices: list[str]) -> None:
    clean = np.repeat(np.tile(RAMP, (64, 1))[..., None], 3, axis=2).round().astype(np.uint8)
    source = write_clip(tmp_path / "clean.mkv", [clean] * 4)
    images = upscale(source, tmp_path / "a.mkv", smoother, options_of(1))
    assert any("contains no grain" in notice for notice in notices)
    assert all(np.array_equal(image, images[0]) for image in images)


def test_frames_that_the_network_shares_get_grain_of_their_own(smoother: Upscaler, tmp_path: Path) -> None:
    images = [image for image in make_images(4, make_grain(4)) for _ in range(3)]
    source = write_clip(tmp_path / "held.mkv", images)
    found = upscale(source, tmp_path / "a.mkv", smoother, options_of(1))
    assert len(found) == 12
    assert not any(np.array_equal(found[k], found[k + 1]) for k in range(11))


def test_resumed_and_segmented_runs_give_the_same_frames(smoother: Upscaler, film: Path, tmp_path: Path) -> None:
    options = options_of(1)
    whole = upscale(film, tmp_path / "whole.mkv", smoother, options)
    resumed = tmp_path / "resumed.mkv"
    with pytest.raises(Interrupted):
        for _ in run_job(film, resumed, smoother, options, should_stop=stop_after(resumed)):
            pass
    assert all(map(np.array_equal, upscale(film, resumed, smoother, options), whole))

    job = settle_grain(make_job(film, tmp_path / "parts.mkv", options), smoother, restart=True)
    segments = list(segments_of(film, tmp_path, smoother, options))
    assert len(segments) > 2
    last = segments[-1]
    compute_segment(job, last, smoother, tmp_path / "last.mkv", Pulse())
    images = [frame.image for frame in read_frames(tmp_path / "last.mkv")]
    assert all(map(np.array_equal, images, whole[-last.frames :]))


def test_the_manifest_names_the_grain(smoother: Upscaler, tiny_model: RISTN, film: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.mkv"
    with pytest.raises(Interrupted):
        for _ in run_job(film, target, smoother, options_of(1), should_stop=stop_after(target)):
            pass
    bicubic = upscaler_with(Bicubic(), tiny_model)  # which would measure something else
    again = settle_grain(make_job(film, target, options_of(1)), bicubic, restart=False)
    assert again.grain is not None
    assert identify(again, smoother)["grain"] == "1"
    assert identify(again, smoother)["grain put back"]["across"] == again.grain.across
    plan = plan_run(film, target, smoother, options_of(1), speedup=None)
    assert plan.grain == max(again.grain.strength[0])
    with pytest.raises(Exception, match="another grain"):
        upscale(film, target, smoother, options_of(0.5))


def test_the_same_file_twice_gives_the_same_bytes(smoother: Upscaler, film: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        upscale(film, tmp_path / name, smoother, short(grain=1, preset="ultrafast"))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(("text", "share"), [(None, 0), ("match", 1), ("0", 0), ("0.25", 0.25), ("1", 1)])
def test_the_option_is_match_or_a_share(text: str | None, share: float) -> None:
    assert parse_grain(text) == share


@pytest.mark.parametrize("text", ["", "much", "1.5", "-1", "nan"])
def test_another_value_of_the_option_is_refused(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="match, or a number from 0 to 1"):
        parse_grain(text)


def test_a_share_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 0 to 1"):
        UpscaleOptions(grain=1.5)


def test_standard_input_cannot_be_measured(smoother: Upscaler, tmp_path: Path) -> None:
    with (tmp_path / "empty").open("wb+") as file, pytest.raises(VideoError, match="--grain"):
        next(run_job(InputStream(file), tmp_path / "a.mkv", smoother, options_of(1)))
