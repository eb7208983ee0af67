"""BI against Pillow, BD against a Gaussian summed by hand, and rounding."""

import numpy as np
import pytest
import torch
from PIL import Image

from ristn_cli.degradation import add_noise, blur, crop_to_multiple, decimate, degrade, quantize, resample


def picture(height: int, width: int) -> np.ndarray:
    """Smooth shapes and noise: (H, W, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    smooth = 127 + 90 * np.sin(x / 5)[..., None] * np.cos(y[..., None] / np.array([3.0, 7.0, 11.0]))
    return np.clip(smooth + np.random.default_rng(0).normal(0, 20, smooth.shape), 0, 255).astype(np.uint8)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float().div(255)


def test_bi_is_pillows_bicubic() -> None:
    hr = picture(48, 64)
    lr = degrade(to_tensor(hr))[0]
    for channel in range(3):  # in floating point, exactly
        plane = Image.fromarray(hr[..., channel].astype(np.float32) / 255)
        expected = np.asarray(plane.resize((16, 12), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(lr[channel].numpy(), expected, atol=1e-5)
    expected = np.asarray(Image.fromarray(hr).resize((16, 12), Image.Resampling.BICUBIC)).astype(int)
    rounded = quantize(lr).mul(255).round().permute(1, 2, 0).numpy()
    difference = np.abs(rounded - expected)
    assert difference.max() <= 1  # Pillow rounds to 8 bits between the two passes
    assert (difference == 0).mean() > 0.8


def test_bd_is_a_gaussian_of_1_6_and_every_fourth_pixel_from_the_first() -> None:
    hr = picture(40, 48)
    lr = degrade(to_tensor(hr), "BD")[0]
    assert lr.shape == (3, 10, 12)
    offsets = np.arange(-6, 7)
    kernel = np.exp(-(offsets[:, None] ** 2 + offsets[None] ** 2) / (2 * 1.6**2))
    kernel /= kernel.sum()
    mirrored = np.pad(hr / 255, ((6, 6), (6, 6), (0, 0)), mode="reflect")
    for row, column in ((4, 5), (0, 0), (9, 11), (3, 0)):
        # Pixel (4 row, 4 column) is 6 further in the mirrored picture: its neighbourhood begins at its own numbers.
        neighbourhood = mirrored[4 * row : 4 * row + 13, 4 * column : 4 * column + 13]
        expected = (kernel[..., None] * neighbourhood).sum(axis=(0, 1))
        np.testing.assert_allclose(lr[:, row, column].numpy(), expected, atol=1e-6)


def test_decimation_is_the_mean_of_the_middle_of_every_block() -> None:
    hr = picture(8, 12) / 255
    lr = decimate(torch.from_numpy(hr).permute(2, 0, 1)[None])[0]
    assert lr.shape == (3, 2, 3)
    for row, column in ((0, 0), (1, 2), (0, 1)):
        middle = hr[4 * row + 1 : 4 * row + 3, 4 * column + 1 : 4 * column + 3]
        np.testing.assert_allclose(lr[:, row, column].numpy(), middle.mean(axis=(0, 1)), atol=1e-12)


@pytest.mark.parametrize("kind", ["BI", "BD"])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 20), (32, 36)])
def test_constants_stay(kind: str, height: int, width: int) -> None:
    lr = degrade(torch.full((2, 3, height, width), 0.3), "BI" if kind == "BI" else "BD")
    torch.testing.assert_close(lr, torch.full((2, 3, height // 4, width // 4), 0.3), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(8, 10), (9, 8)])
def test_sizes_that_do_not_divide_are_refused(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=f"{width}x{height} is not a multiple of 4"):
        degrade(torch.zeros(1, 3, height, width))


def test_cropping_keeps_the_top_left() -> None:
    frames = torch.arange(11 * 7).view(1, 1, 11, 7)
    assert torch.equal(crop_to_multiple(frames), frames[..., :8, :4])
    assert torch.equal(crop_to_multiple(frames, 3), frames[..., :9, :6])
    assert torch.equal(crop_to_multiple(frames[..., :8, :4]), frames[..., :8, :4])


def test_quantize_rounds_to_the_nearest_level_and_clamps() -> None:
    values = torch.tensor([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 100.4 / 255, 100.6 / 255, 1.0, 1.3])
    torch.testing.assert_close(quantize(values).mul(255), torch.tensor([0.0, 0, 0, 1, 100, 101, 255, 255]))


def test_blur_by_closed_form_and_turns() -> None:
    point = torch.zeros(1, 1, 21, 21)
    point[..., 10, 10] = 1
    spread = blur(point, 1.5, 0.8, 0.0)[0, 0]
    taps = torch.arange(21) - 10.0
    assert float(spread.sum()) == pytest.approx(1, abs=1e-5)
    assert float((spread.sum(0) * taps**2).sum()) == pytest.approx(1.5**2, rel=0.03)
    assert float((spread.sum(1) * taps**2).sum()) == pytest.approx(0.8**2, rel=0.03)
    torch.testing.assert_close(blur(point, 1.5, 0.8, torch.pi / 2)[0, 0], spread.T, atol=1e-6, rtol=0)


def test_resampling_keeps_size_and_brightness() -> None:
    frames = torch.full((2, 3, 20, 24), 0.25)
    for name in ("bilinear", "bicubic", "area"):
        torch.testing.assert_close(resample(frames, (13, 15), name, "bicubic"), frames)


def test_noise_is_even_or_grows_with_brightness() -> None:
    noise = torch.ones(1, 1, 2, 2)
    frames = torch.tensor([0.0, 0.5]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    torch.testing.assert_close(add_noise(frames, noise, 0.1, is_shot=False), frames + 0.1)
    torch.testing.assert_close(add_noise(frames, noise, 0.1, is_shot=True)[0, :, 0, 0], torch.tensor([0.0, 0.6]))
