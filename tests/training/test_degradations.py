"""Degradations of training footage: each by a property that can be computed, and the same in every process."""

import hashlib
import math
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ristn_cli.degradation import blur, resample
from ristn_cli.training.degradation_recipe import DegradationRecipe
from ristn_cli.training.degradations import COMPRESSIONS, DEGRADATIONS, SOURCE, analog, coding, sensor, sharpness
from ristn_cli.training.degradations.analog import fade, shift_chroma, shift_lines, wear_tape
from ristn_cli.training.degradations.coding import compress, compress_to_dvd, compress_twice, equal_compression
from ristn_cli.training.degradations.fields import deinterlace, split_fields, weave
from ristn_cli.training.degradations.planes import convolve, gaussian, smooth, to_rgb, to_ycbcr
from ristn_cli.training.degradations.sensor import add_grain, add_low_light_noise, correlated_noise, low_light_profile
from ristn_cli.training.degradations.sharpness import sharpen, upscale_before
from ristn_cli.training.footage import degrade_footage, draw_compression, draw_noise
from ristn_cli.training.recipe import DataRecipe
from ristn_cli.training.recipe_file import parse_recipe
from ristn_cli.video import Compression


def window(frames: int = 4, height: int = 36, width: int = 44) -> Tensor:
    """A coloured wave that moves by two pixels a frame, with values from 0.2 to 0.8."""
    y, x = np.mgrid[:height, :width]
    planes = [0.5 + 0.3 * np.sin((x + 0.7 * y) / (3 + channel)) for channel in range(3)]
    moved = [np.roll(np.stack(planes), 2 * t, axis=2) for t in range(frames)]
    return torch.from_numpy(np.stack(moved)).float()


def flat(level: float, frames: int = 4, side: int = 64) -> Tensor:
    return torch.full((frames, 3, side, side), level)


def error(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())


# All of them


def test_the_table_of_a_recipe_names_every_degradation() -> None:
    assert list(DegradationRecipe().shares) == list(DEGRADATIONS) == [*SOURCE, *COMPRESSIONS]
    assert {item.name for item in fields(DegradationRecipe)} - set(DEGRADATIONS) == {"weakest", "strongest"}


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_frames_keep_their_shape_and_range(name: str) -> None:
    frames = torch.rand(3, 3, 33, 47, generator=torch.Generator().manual_seed(1))
    before = frames.clone()
    for strength in (0.0, 0.03, 0.5, 1.0):
        result = DEGRADATIONS[name](frames, strength, 7)
        assert result.shape == frames.shape
        assert result.dtype == torch.float32
        assert 0 <= float(result.min()) <= float(result.max()) <= 1  # and so no value is missing
    assert torch.equal(frames, before)


@pytest.mark.parametrize("name", SOURCE)
def test_no_strength_changes_nothing(name: str) -> None:
    torch.testing.assert_close(DEGRADATIONS[name](window(), 0.0, 3), window(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_strength_makes_it_worse(name: str) -> None:
    errors = [
        np.mean([error(DEGRADATIONS[name](window(), strength, seed), window()) for seed in range(8)])
        for strength in (0.2, 0.6, 1.0)
    ]
    assert errors == sorted(errors)
    assert errors[-1] > 1.3 * errors[0]


@pytest.mark.parametrize("name", DEGRADATIONS)
@pytest.mark.parametrize("level", [0.3, 0.6])
def test_mean_brightness_stays(name: str, level: float) -> None:
    result = DEGRADATIONS[name](flat(level), 1.0, 5)
    torch.testing.assert_close(result.mean(dim=(0, 2, 3)), torch.full((3,), level), rtol=0, atol=3 / 255)


CHILD = """
import hashlib, sys
sys.path.insert(0, sys.argv[1])
from test_degradations import digest
print(digest())
"""


def digest() -> str:
    """Of what every degradation makes of a window."""
    results = [degrade(window(), 0.7, seed) for degrade in DEGRADATIONS.values() for seed in (2, 11)]
    return hashlib.sha256(torch.stack(results).numpy().tobytes()).hexdigest()


def test_seeds_decide_alone_in_every_process() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).parent)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == digest()
    for name in SOURCE:
        assert not torch.equal(DEGRADATIONS[name](window(), 0.7, 2), DEGRADATIONS[name](window(), 0.7, 5)), name


# Arithmetic


def test_luma_and_chroma_by_hand_and_back() -> None:
    luma, chroma = to_ycbcr(torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1))
    assert luma.item() == pytest.approx(0.299)
    assert chroma.flatten().tolist() == pytest.approx([-0.299 / 1.772, 0.5])
    torch.testing.assert_close(to_rgb(*to_ycbcr(window())), window(), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("deviation", "centre"), [(0, 0), (0, 0.4), (0.02, -1.7), (0.8, 0), (1.5, 2.25)])
def test_gaussians_have_their_mean_and_deviation(deviation: float, centre: float) -> None:
    kernel = gaussian(deviation, centre).double()
    taps = torch.arange(len(kernel)).double() - len(kernel) // 2
    assert kernel.sum().item() == pytest.approx(1)
    assert (kernel * taps).sum().item() == pytest.approx(centre, abs=1e-5)
    if deviation >= 0.8:
        share = centre % 1
        variance = (kernel * (taps - centre) ** 2).sum().item()
        assert variance == pytest.approx(deviation**2 + share * (1 - share), rel=0.05)


def test_filters_move_to_the_right_and_down() -> None:
    point = torch.zeros(1, 1, 15, 15)
    point[..., 7, 7] = 1
    assert torch.nonzero(smooth(point, 0, 0, right=3, below=-2)[0, 0] > 0.99).tolist() == [[5, 10]]
    faded = convolve(point, fade(2.0), -1)[0, 0, 7]
    assert not faded[:7].any()
    assert (faded[8:13] / faded[7:12]).tolist() == pytest.approx([math.exp(-0.5)] * 5)


def test_lines_move_by_their_own_offsets() -> None:
    ramp = torch.arange(10.0).expand(2, 3, 4, 10)
    offsets = torch.tensor([0.0, 1.0, -0.5, 0.25]).expand(2, 4)
    moved = shift_lines(ramp, offsets)
    for line, offset in enumerate((0.0, 1.0, -0.5, 0.25)):
        expected = (torch.arange(10.0) - offset).clamp(0, 9).expand(2, 3, 10)
        torch.testing.assert_close(moved[:, :, line], expected)


# Noise


def test_grain_has_the_spectrum_of_its_size() -> None:
    size = 0.8
    noise = correlated_noise(np.random.default_rng(0), (40, 1, 64, 64), size, size)
    assert noise.var().item() == pytest.approx(1, rel=0.03)
    power = torch.fft.fft2(noise).abs().square().mean(dim=(0, 1))
    frequency = torch.fft.fftfreq(64)
    gain = torch.exp(-((2 * math.pi * size * frequency) ** 2))  # of the variance, along one axis
    expected = gain[:, None] * gain
    expected *= power.sum() / expected.sum()
    low, high = (frequency.abs() < 0.1), (frequency.abs() > 0.25)
    for rows, columns in ((low, low), (low, high), (high, low)):
        found, wanted = power[rows][:, columns].mean(), expected[rows][:, columns].mean()
        assert found.item() == pytest.approx(wanted.item(), rel=0.15)


def test_grain_is_strongest_in_mid_tones_and_new_in_every_frame() -> None:
    for level in (0.1, 0.5, 0.9):
        noise = add_grain(flat(level), 0.5, 1) - level
        expected = 0.5 * sensor.GRAIN * 2 * math.sqrt(level * (1 - level))
        assert noise.std().item() == pytest.approx(expected, rel=0.05)
    assert torch.equal(add_grain(flat(0.0), 1.0, 1), flat(0.0))
    assert torch.equal(add_grain(flat(1.0), 1.0, 1), flat(1.0))


@pytest.mark.parametrize("add", [add_grain, add_low_light_noise, wear_tape])
def test_noise_of_two_frames_has_nothing_in_common(add) -> None:  # type: ignore[no-untyped-def]
    noise = add(flat(0.5, frames=5), 1.0, 3) - 0.5
    correlation = torch.corrcoef(noise.flatten(1))
    assert (correlation - torch.eye(5)).abs().max() < 0.1


def test_low_light_is_noisier_in_shadows_and_blotchy_in_chroma() -> None:
    assert low_light_profile(torch.tensor(1.0)).item() == pytest.approx(1)
    for level in (0.15, 0.4, 0.8):
        luma, chroma = to_ycbcr(add_low_light_noise(flat(level), 0.5, 1) - level)
        read = 1 + (sensor.READ_NOISE / (level + 0.1)) ** 2
        expected = 0.5 * sensor.LOW_LIGHT * math.sqrt(read / (1 + (sensor.READ_NOISE / 1.1) ** 2))
        assert luma.std().item() == pytest.approx(expected, rel=0.08)
        assert chroma.std().item() == pytest.approx(expected / 2, rel=0.08)

    def neighbours(planes: Tensor) -> float:
        return float(torch.corrcoef(torch.stack([planes[..., 1:].flatten(), planes[..., :-1].flatten()]))[0, 1])

    assert neighbours(chroma) > neighbours(luma) + 0.3


# Analogue video


def test_chroma_moves_by_the_stated_length_and_luma_stays() -> None:
    spot = torch.zeros(3, 1, 41, 41)
    spot[:, :, 20, 20] = 0.2
    frames = to_rgb(torch.full_like(spot, 0.5), torch.cat([spot, -spot], dim=1))
    lengths = set()
    for seed in range(6):
        luma, chroma = to_ycbcr(shift_chroma(frames, 0.8, seed))
        torch.testing.assert_close(luma, torch.full_like(luma, 0.5), rtol=0, atol=1e-5)
        assert torch.equal(chroma[0], chroma[2])  # constant over the frames
        weight = chroma[0, 0] / chroma[0, 0].sum()
        places = torch.arange(41) - 20.0
        right, below = float((weight.sum(0) * places).sum()), float((weight.sum(1) * places).sum())
        assert math.hypot(right, below) == pytest.approx(0.8 * analog.CHROMA_SHIFT, abs=0.02)
        lengths.add(round(right, 3))
    assert len(lengths) == 6
    assert min(lengths) < 0 < max(lengths)


def test_tape_has_horizontal_noise_and_colours_that_run_to_the_right() -> None:
    luma, _ = to_ycbcr(wear_tape(flat(0.5, frames=6), 1.0, 0) - 0.5)
    rows, columns = (planes.diff(dim=axis).square().mean() for planes, axis in ((luma, -2), (luma, -1)))
    assert rows > 1.5 * columns  # streaks along lines
    edge = flat(0.5, frames=6)
    edge[..., 32:] = torch.tensor([0.75, 0.4, 0.4]).view(3, 1, 1)
    clean, worn = (to_ycbcr(frames)[1][:, 1].mean(dim=(0, 1)) for frames in (edge, wear_tape(edge, 1.0, 0)))
    late = float((clean - worn).sum() / clean.max())  # columns by which the step is later
    # The mean of an exponential that is sampled from its first column on.
    assert late == pytest.approx(analog.TAPE_DELAY + 1 / (math.exp(1 / analog.TAPE_BLEED) - 1), abs=0.6)


# Sharpness


def test_halos_are_as_high_as_the_unsharp_mask_says() -> None:
    edge = flat(0.4, frames=2)
    edge[..., 32:] = 0.6
    result = sharpen(edge, 0.5, 4)
    torch.testing.assert_close(result.mean(), edge.mean(), rtol=0, atol=1e-4)
    amount, deviation = 0.5 * sharpness.SHARPENING, float(np.random.default_rng(4).uniform(*sharpness.HALOS))
    kernel = gaussian(deviation)
    half = float(kernel[: len(kernel) // 2].sum())  # what the mask takes from the other side of the edge
    overshoot = amount * 0.2 * half
    assert result[..., 32].mean().item() == pytest.approx(0.6 + overshoot, abs=1e-4)
    assert result[..., 31].mean().item() == pytest.approx(0.4 - overshoot, abs=1e-4)
    torch.testing.assert_close(result[..., :20], edge[..., :20], rtol=0, atol=1e-5)


def test_upscaled_footage_has_no_detail_beyond_its_source() -> None:
    noise = torch.rand(4, 3, 60, 60, generator=torch.Generator().manual_seed(0)) / 2 + 0.25
    frequency = torch.fft.fftfreq(60).abs()

    def high(frames: Tensor, lowest: float) -> float:
        return float(torch.fft.fft2(frames).abs().square()[..., frequency > lowest].mean())

    for strength in (0.5, 1.0):
        nyquist = 0.5 / (1 + strength * (sharpness.REDUCTION - 1))
        assert high(upscale_before(noise, strength, 1), 1.25 * nyquist) < 0.04 * high(noise, 1.25 * nyquist)
    torch.testing.assert_close(upscale_before(flat(0.3), 1.0, 1), flat(0.3), rtol=0, atol=1e-5)


# Compression


@pytest.mark.parametrize("first", [0, 1])
def test_fields_are_those_of_two_frames(first: int) -> None:
    frames = window()
    fields = split_fields(frames, first)
    assert fields.shape == (8, 3, 18, 44)
    woven = weave(fields, first)
    assert torch.equal(woven[:, :, first::2], frames[:, :, first::2])
    assert torch.equal(woven[:-1, :, 1 - first :: 2], frames[1:, :, 1 - first :: 2])
    assert torch.equal(woven[-1], frames[-1])


@pytest.mark.parametrize("first", [0, 1])
def test_each_deinterlacer_leaves_its_typical_artefact(first: int) -> None:
    levels = flat(0.4, frames=2, side=12)
    levels[1] = 0.5
    woven = weave(split_fields(levels, first), first)[:1]
    assert torch.equal(deinterlace(woven, first, "none"), woven)
    inner = slice(2, -2)
    blended = deinterlace(woven, first, "blend")[:, :, inner]
    torch.testing.assert_close(blended, torch.full_like(blended, 0.45))
    doubled = deinterlace(woven, first, "double")[:, :, inner]
    torch.testing.assert_close(doubled, torch.full_like(doubled, 0.4))  # the first field alone
    assert torch.equal(deinterlace(woven, first, "partly", 0.11), woven)  # a faint comb
    removed = deinterlace(woven, first, "partly", 0.09)[:, :, inner]
    torch.testing.assert_close(removed, torch.full_like(removed, 0.4))


def test_a_dvd_combs_where_it_moves() -> None:
    seed = next(seed for seed in range(99) if drawn_for_dvd(seed) == (False, "none"))
    moving = window(frames=6)

    def comb(frames: Tensor) -> float:
        """Mean squared difference of neighbouring lines of luma; the last frame has but one field."""
        return float(to_ycbcr(frames[:-1])[0].diff(dim=-2).square().mean())

    assert comb(compress_to_dvd(moving, 0.2, seed)) > 3 * comb(moving)
    still = moving[:1].expand(6, -1, -1, -1).contiguous()
    assert comb(compress_to_dvd(still, 0.2, seed)) < 1.5 * comb(still)


def drawn_for_dvd(seed: int) -> tuple[bool, str]:
    rng = np.random.default_rng(seed)
    is_film, _, treatment = rng.random() < 0.25, rng.integers(2), str(rng.choice(coding.TREATMENTS))
    return bool(is_film), treatment


def test_equal_compression_is_equally_bad() -> None:
    frames = window(frames=8, height=64, width=64)
    noise = np.random.default_rng(0).normal(0, 0.05, frames.shape).astype(np.float32)
    frames = (frames + smooth(torch.from_numpy(noise), 0.8, 0.8)).clamp(0, 1)
    assert [equal_compression("mpeg4", crf).strength for crf in (10, 28, 34, 50)] == [2, 8, 16, 31]
    assert equal_compression("mpeg2video", 40).strength == 31
    for crf in (28, 34):
        decibels = [
            -10 * math.log10(error(compress(frames, equal_compression(encoder, crf)), frames))
            for encoder in ("libx264", "mpeg4", "mpeg2video")
        ]
        assert max(decibels) - min(decibels) < 3


def test_compression_twice_loses_more_than_once() -> None:
    assert error(compress_twice(window(6), 0.5, 1), window(6)) > error(
        compress(window(6), Compression(strength=26)), window(6)
    )


# Recipes


def degrade_without_table(rng: np.random.Generator, lr: Tensor, data: DataRecipe) -> Tensor:
    """What recipes without [degradations] draw, written once more."""
    if rng.random() < data.clean_share:
        return lr
    steps = [name for name in ("blur", "resample", "noise") if rng.random() < data.step_share]
    if rng.random() < data.compression_share:
        steps.append("compress")
    for name in rng.permutation(steps).tolist():
        if name == "blur":
            along, across = rng.uniform(0.1, data.blur, 2)
            across = along if rng.random() < 0.5 else across
            lr = blur(lr, float(along), float(across), float(rng.uniform(0, np.pi)))
        elif name == "resample":
            factor = rng.uniform(data.smallest_resampling, 1.2)
            size = round(lr.shape[2] * factor), round(lr.shape[3] * factor)
            there, back = rng.choice(["bilinear", "bicubic", "area"]), rng.choice(["bilinear", "bicubic"])
            lr = resample(lr, size, str(there), str(back))
        elif name == "noise":
            lr = draw_noise(rng, lr, data.noise)
        else:
            lr = compress(lr, draw_compression(rng, data))
        lr = lr.clamp(0, 1)
    return lr


def test_recipes_without_a_table_keep_their_windows() -> None:
    data = DataRecipe(degradation="real")
    for seed in range(12):
        expected = degrade_without_table(np.random.default_rng(seed), window(), data)
        assert torch.equal(degrade_footage(np.random.default_rng(seed), window(), data, DegradationRecipe()), expected)


def test_windows_get_the_degradations_of_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, float]] = []

    def record(name: str):  # type: ignore[no-untyped-def]
        def degrade(frames: Tensor, strength: float, seed: int) -> Tensor:
            calls.append((name, strength))
            return frames

        return degrade

    for name in DEGRADATIONS:
        monkeypatch.setitem(DEGRADATIONS, name, record(name))
    data = DataRecipe(degradation="real", clean_share=0.1, step_share=0.0, compression_share=0.0)
    table = DegradationRecipe(grain=0.5, vhs=0.1, strong=0.4, dvd=0.3, weakest=0.2, strongest=0.8)
    rng, per_window = np.random.default_rng(0), []
    for _ in range(1000):
        calls.clear()
        degrade_footage(rng, window(1, 8, 8), data, table)
        per_window.append(list(calls))
    names = [[name for name, _ in calls] for calls in per_window]
    counts = {name: sum(name in drawn for drawn in names) for name in DEGRADATIONS}
    for name, share in table.shares.items():
        assert counts[name] == pytest.approx(900 * share, abs=50 if share else 0), name
    assert not any({"strong", "dvd"} <= set(drawn) for drawn in names)
    assert all(drawn == sorted(drawn, key=list(DEGRADATIONS).index) for drawn in names)  # compressed last
    strengths = [strength for calls in per_window for _, strength in calls]
    assert 0.2 <= min(strengths) < 0.22
    assert 0.78 < max(strengths) <= 0.8


def test_the_documentation_names_every_degradation_and_its_table_is_a_recipe() -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    section = text.partition("\n### Degradations\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(DEGRADATIONS)
    table = section.partition("```toml\n")[2].partition("```")[0]
    recipe = parse_recipe(f"name = 'x'\n{table}\n[[stages]]\nname = 'a'\niterations = 1\n")
    assert all(recipe.degradations.shares.values())
    assert (1 - recipe.data.clean_share) * recipe.degradations.strong == pytest.approx(1 / 3, abs=0.01)


def test_windows_of_a_table_depend_on_their_seed_alone() -> None:
    data = DataRecipe(degradation="real", clean_share=0.0, compression_share=1.0)
    table = DegradationRecipe(**dict.fromkeys(DEGRADATIONS, 0.3))
    first = [degrade_footage(np.random.default_rng(seed), window(), data, table) for seed in range(12)]
    for seed in reversed(range(12)):
        assert torch.equal(degrade_footage(np.random.default_rng(seed), window(), data, table), first[seed])
