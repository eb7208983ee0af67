"""PSNR, SSIM, luma and change over time against closed forms, hand-worked values and scikit-image."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from ristn_cli.evaluation.metrics import (
    gradient_energy,
    psnr,
    psnr_y,
    rgb_to_y,
    sharpness,
    ssim,
    ssim_rgb,
    ssim_y,
    temporal_error,
    temporal_profile,
)


def _noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def _picture(height: int, width: int) -> NDArray[np.uint8]:
    """Smooth waves, one frequency a channel: structure that noise can be measured against."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 5 + y / 9), np.sin(x / 7 - y / 4), np.cos(x / 3 + y / 11)]
    return np.rint(127.5 + 100 * np.stack(waves, axis=-1)).astype(np.uint8)


def _disturbed(image: NDArray[np.uint8], sigma: float) -> NDArray[np.uint8]:
    noise = np.random.default_rng(1).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("rgb", "y"),
    [
        ((0, 0, 0), 16.0),
        ((255, 255, 255), 235.0),
        ((255, 0, 0), 81.481),
        ((0, 255, 0), 144.553),
        ((0, 0, 255), 40.966),
        ((255, 255, 0), 210.034),
        ((51, 102, 153), 95.497),  # 16 + (65.481 + 2 * 128.553 + 3 * 24.966) / 5
    ],
)
def test_y_of_known_colours(rgb: tuple[int, int, int], y: float) -> None:
    assert rgb_to_y(np.array([[rgb]], dtype=np.uint8)) == pytest.approx(y, abs=1e-9)


def test_y_is_not_rounded_and_drops_only_the_channels() -> None:
    y = rgb_to_y(_noise(2, 4, 5, 3))
    assert y.shape == (2, 4, 5)
    assert y.dtype == np.float64
    assert not np.array_equal(y, np.rint(y))


def test_luma_requires_8_bit_rgb() -> None:
    with pytest.raises(TypeError, match="float32"):
        rgb_to_y(np.zeros((4, 4, 3), dtype=np.float32))
    with pytest.raises(ValueError, match=r"\(3, 4, 4\)"):
        rgb_to_y(np.zeros((3, 4, 4), dtype=np.uint8))


@pytest.mark.parametrize("offset", [1, 5, 100])
def test_psnr_of_a_constant_offset(offset: int) -> None:
    a = _noise(20, 30) // 2
    assert psnr(a, a + np.uint8(offset)) == pytest.approx(20 * math.log10(255 / offset), abs=1e-12)


def test_psnr_of_differences_of_either_sign() -> None:
    # uint8 arithmetic would wrap 0 - 255 to 1; the error is 255 in half of the pixels.
    a = np.array([[0, 255], [7, 7]], dtype=np.uint8)
    b = np.array([[255, 0], [7, 7]], dtype=np.uint8)
    assert psnr(a, b) == pytest.approx(10 * math.log10(2))


def test_psnr_uses_the_peak_it_is_given() -> None:
    a = np.full((8, 8), 0.25)
    assert psnr(a, a + 0.1, peak=1.0) == pytest.approx(20.0)
    assert psnr(a, a + 0.1, peak=10.0) == pytest.approx(40.0)


def test_identical_images_are_perfect() -> None:
    a = _noise(24, 32, 3)
    assert psnr(a, a) == math.inf
    assert psnr_y(a, a) == math.inf
    assert ssim_y(a, a) == pytest.approx(1.0, abs=1e-12)


def test_crop_border_leaves_out_exactly_that_many_pixels() -> None:
    a = _noise(32, 40, 3)
    b = a.copy()
    b[:4] ^= 0xFF
    b[-4:] ^= 0xFF
    b[:, :4] ^= 0xFF
    b[:, -4:] ^= 0xFF
    assert psnr_y(a, b, crop_border=4) == math.inf
    assert ssim_y(a, b, crop_border=4) == pytest.approx(1.0, abs=1e-12)
    assert psnr_y(a, b, crop_border=3) < 30
    assert ssim_y(a, b, crop_border=3) < 0.9999


def test_psnr_agrees_with_scikit_image() -> None:
    a = _picture(45, 61)
    b = _disturbed(a, sigma=6)
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=255), abs=1e-9)
    inner = np.s_[8:-8, 8:-8]
    luma_psnr = peak_signal_noise_ratio(rgb_to_y(a)[inner], rgb_to_y(b)[inner], data_range=255)
    assert psnr_y(a, b, crop_border=8) == pytest.approx(luma_psnr, abs=1e-9)


@pytest.mark.parametrize("sigma", [2, 20, 80])
def test_ssim_agrees_with_scikit_image(sigma: float) -> None:
    a = _picture(45, 61)
    b = _disturbed(a, sigma)
    y_a, y_b = rgb_to_y(a), rgb_to_y(b)
    _, ssim_map = structural_similarity(
        y_a, y_b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True
    )
    # scikit-image pads and so gives a value at every pixel; windows that fit have their centre 5 pixels inside.
    assert ssim_y(a, b) == pytest.approx(ssim_map[5:-5, 5:-5].mean(), abs=1e-9)
    assert ssim_y(a, b, crop_border=8) == pytest.approx(ssim_map[13:-13, 13:-13].mean(), abs=1e-9)


def test_ssim_of_two_flat_planes() -> None:
    # Without variance the structure term is 1, and the luminance term alone is left.
    c1 = (0.01 * 255) ** 2
    a, b = np.full((11, 11), 100.0), np.full((11, 11), 150.0)
    assert ssim(a, b) == pytest.approx((2 * 100 * 150 + c1) / (100**2 + 150**2 + c1), abs=1e-12)


def test_ssim_of_an_inverted_plane_is_negative() -> None:
    a = _noise(40, 40)
    assert ssim(a, 255 - a) < -0.9


def test_metrics_are_symmetric() -> None:
    a = _picture(30, 31)
    b = _disturbed(a, sigma=10)
    assert psnr_y(a, b) == psnr_y(b, a)
    assert ssim_y(a, b) == pytest.approx(ssim_y(b, a), abs=1e-12)


def test_images_that_cannot_be_compared_are_refused() -> None:
    a = np.zeros((16, 16))
    with pytest.raises(ValueError, match=r"\(16, 16\) and \(16, 15\)"):
        psnr(a, a[:, :15])
    with pytest.raises(ValueError, match="nothing is left"):
        psnr(a, a, crop_border=8)
    with pytest.raises(ValueError, match="0 or more"):
        psnr(a, a, crop_border=-1)
    with pytest.raises(ValueError, match="got shape"):
        psnr(a[0], a[0])
    with pytest.raises(ValueError, match="one plane"):
        ssim(np.zeros((16, 16, 3)), np.zeros((16, 16, 3)))
    with pytest.raises(ValueError, match="at least 11x11"):
        ssim(a, a, crop_border=3)


def test_rgb_ssim_agrees_with_scikit_image() -> None:
    a = _picture(45, 61)
    b = _disturbed(a, sigma=20)
    _, ssim_map = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, full=True, channel_axis=2
    )
    assert ssim_rgb(a, b, crop_border=3) == pytest.approx(ssim_map[8:-8, 8:-8].mean(), abs=1e-9)


def test_rgb_psnr_is_over_all_channels_together() -> None:
    a = np.full((9, 9, 3), 100, dtype=np.uint8)
    b = a + np.array([3, 0, 0], dtype=np.uint8)
    assert psnr(a, b) == pytest.approx(10 * math.log10(255**2 / 3))


def test_sharpness_by_hand() -> None:
    ramp = np.tile(np.arange(0.0, 40.0, 2.0), (20, 1))
    assert gradient_energy(ramp) == 4
    assert gradient_energy(ramp.T) == 4
    assert sharpness(ramp / 2, ramp) == 0.25
    assert sharpness(ramp + 7, ramp) == 1
    edge = ramp.copy()
    edge[0] += 100
    assert sharpness(edge, ramp) > sharpness(edge, ramp, crop_border=1) == 1
    assert math.isnan(sharpness(ramp, np.ones_like(ramp)))


def test_temporal_error_of_errors_by_hand() -> None:
    still = np.full((6, 8), 7.0)
    assert temporal_error(still, still) == 0  # an error that stands still does not flicker
    assert temporal_error(still + 3, still) == 3  # one that grows by 3 levels everywhere
    half = still.copy()
    half[:, :4] += 4
    assert temporal_error(half, still) == pytest.approx(math.sqrt(8))
    assert temporal_error(half, still, crop_border=2) == pytest.approx(math.sqrt(8))
    outside = still.copy()
    outside[0] += 50
    assert temporal_error(outside, still, crop_border=1) == 0


def test_temporal_error_does_not_punish_motion() -> None:
    frames = [np.roll(_picture(30, 40), shift, axis=1) for shift in range(2)]
    luma = [rgb_to_y(frame) for frame in frames]
    assert temporal_error(luma[1] - luma[1], luma[0] - luma[0]) == 0
    stuck = temporal_error(luma[0] - luma[1], luma[0] - luma[0])  # the first frame shown twice
    assert stuck == pytest.approx(math.sqrt(float(np.mean((luma[1] - luma[0]) ** 2))))


def test_a_temporal_profile_stacks_one_line_of_every_frame() -> None:
    frames = [_noise(5, 7, 3, seed=seed) for seed in range(4)]
    rows = temporal_profile(iter(frames), row=2)
    assert rows.shape == (4, 7, 3)
    assert all(np.array_equal(rows[t], frame[2]) for t, frame in enumerate(frames))
    columns = temporal_profile(frames, column=6)
    assert columns.shape == (4, 5, 3)
    assert all(np.array_equal(columns[t], frame[:, 6]) for t, frame in enumerate(frames))
    with pytest.raises(ValueError, match="needs either row or column"):
        temporal_profile(frames)
    with pytest.raises(ValueError, match="needs either row or column"):
        temporal_profile(frames, row=1, column=1)
    with pytest.raises(ValueError, match="at least one frame"):
        temporal_profile([], row=1)
