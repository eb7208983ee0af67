"""PSNR, SSIM, sharpness and temporal error of frames, as in the paper's tables. Pure NumPy in float64; reads no files.

The protocol: frames are rounded to 8-bit RGB and converted to BT.601 luma, and 8 border pixels are cut
(``crop_border=8``). Scores are means over the frames of a clip, then over clips.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# BT.601 luma weights times 219 for full-range R, G, B in [0, 1], and the black level, as in MATLAB's rgb2ycbcr.
_Y_WEIGHTS = np.array([65.481, 128.553, 24.966])
_Y_BLACK = 16.0

# Wang et al. 2004: an 11x11 Gaussian with sigma 1.5, and the constants that keep the quotients finite.
_SSIM_TAPS = 11
_SSIM_SIGMA = 1.5
_SSIM_K1 = 0.01
_SSIM_K2 = 0.03


def rgb_to_y(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the BT.601 luma, (...) from 16 to 235 and not rounded, of an 8-bit RGB image (..., 3).

    Requires uint8, so that scores describe the frames that a viewer sees.
    """
    if image.dtype != np.uint8:
        raise TypeError(f"luma needs 8-bit RGB: got {image.dtype}, expected uint8")
    if image.ndim < 1 or image.shape[-1] != 3:
        raise ValueError(f"luma needs RGB with channels last: got shape {image.shape}, expected (..., 3)")
    luma: NDArray[np.float64] = image @ (_Y_WEIGHTS / 255.0) + _Y_BLACK
    return luma


def psnr(a: NDArray[Any], b: NDArray[Any], *, crop_border: int = 0, peak: float = 255.0) -> float:
    """Return the peak signal-to-noise ratio in dB of two images, (H, W) or (H, W, C); infinity if they are equal."""
    a, b = _prepare(a, b, crop_border)
    squared_error = float(np.mean(np.square(a - b)))
    if squared_error == 0.0:
        return float("inf")
    return float(10.0 * np.log10(peak**2 / squared_error))


def ssim(a: NDArray[Any], b: NDArray[Any], *, crop_border: int = 0) -> float:
    """Return the mean structural similarity of two planes (H, W) on the 8-bit scale.

    Follows Wang et al.'s MATLAB code: Gaussian windows, population covariance, no padding. Without the border, H and W
    must be at least 11.
    """
    a, b = _prepare(a, b, crop_border)
    if a.ndim != 2:
        raise ValueError(f"SSIM needs one plane: got shape {a.shape}, expected (H, W)")
    if min(a.shape) < _SSIM_TAPS:
        raise ValueError(f"SSIM needs at least {_SSIM_TAPS}x{_SSIM_TAPS} pixels within the border: got {a.shape}")
    # Subtracting a common constant leaves the moments unchanged and reduces cancellation.
    center = float(a.mean())
    da, db = a - center, b - center
    mean_a, mean_b, aa, bb, ab = _gaussian_valid(np.stack([da, db, da * da, db * db, da * db]))
    variance_sum = aa - mean_a**2 + bb - mean_b**2
    covariance = ab - mean_a * mean_b
    mean_a, mean_b = mean_a + center, mean_b + center
    c1, c2 = (_SSIM_K1 * 255.0) ** 2, (_SSIM_K2 * 255.0) ** 2
    luminance = (2.0 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2.0 * covariance + c2) / (variance_sum + c2)
    return float(np.mean(luminance * structure))


def psnr_y(a: NDArray[np.uint8], b: NDArray[np.uint8], *, crop_border: int = 0) -> float:
    """Return the PSNR in dB of the luma of two 8-bit RGB images (H, W, 3)."""
    return psnr(rgb_to_y(a), rgb_to_y(b), crop_border=crop_border)


def ssim_y(a: NDArray[np.uint8], b: NDArray[np.uint8], *, crop_border: int = 0) -> float:
    """Return the SSIM of the luma of two 8-bit RGB images (H, W, 3)."""
    return ssim(rgb_to_y(a), rgb_to_y(b), crop_border=crop_border)


def ssim_rgb(a: NDArray[np.uint8], b: NDArray[np.uint8], *, crop_border: int = 0) -> float:
    """Return the mean SSIM of the red, green and blue planes of two 8-bit RGB images (H, W, 3)."""
    return float(np.mean([ssim(a[..., c], b[..., c], crop_border=crop_border) for c in range(3)]))


def sharpness(luma: NDArray[np.float64], truth: NDArray[np.float64], *, crop_border: int = 0) -> float:
    """Return the `gradient_energy` of a luma plane (H, W) relative to that of the original; NaN if that is flat.

    Below 1, the plane is softer than the original; above 1, it has halos or noise.
    """
    luma, truth = _prepare(luma, truth, crop_border)
    wanted = gradient_energy(truth)
    return gradient_energy(luma) / wanted if wanted else float("nan")


def gradient_energy(plane: NDArray[np.float64]) -> float:
    """Return the mean squared difference between vertically adjacent pixels of a plane (H, W), plus horizontally."""
    return float(np.square(np.diff(plane, axis=0)).mean() + np.square(np.diff(plane, axis=1)).mean())


def temporal_error(error: NDArray[np.float64], previous_error: NDArray[np.float64], *, crop_border: int = 0) -> float:
    """Return the error of the change between consecutive frames, in 8-bit levels; 0 is best.

    This is the root mean square over pixels of (SR(t) - SR(t-1)) - (HR(t) - HR(t-1)), which equals that of E(t) -
    E(t-1) for the luma errors E = SR - HR, (H, W). Constant errors and motion cost nothing; flicker and lag do. It is
    dtSSD of Erofeev et al. ("Perceptually Motivated Benchmark for Video Matting", BMVC 2015), per pixel.
    """
    now, before = _prepare(error, previous_error, crop_border)
    return float(np.sqrt(np.mean(np.square(now - before))))


def temporal_profile(
    frames: Iterable[NDArray[np.uint8]], *, row: int | None = None, column: int | None = None
) -> NDArray[np.uint8]:
    """Return one line of every frame (H, W, 3), stacked over time: (T, W, 3) for a `row`, (T, H, 3) for a `column`
    (Fig. 8).

    Stable edges give straight lines; flicker and jitter give ragged ones.
    """
    if (row is None) == (column is None):
        raise ValueError("temporal_profile needs either row or column")
    lines = [frame[row] if column is None else frame[:, column] for frame in frames]
    if not lines:
        raise ValueError("temporal_profile needs at least one frame")
    return np.stack(lines)


def _prepare(a: NDArray[Any], b: NDArray[Any], crop_border: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both images in float64 without the border. Raises ValueError if shapes differ or nothing remains."""
    if a.shape != b.shape:
        raise ValueError(f"the images have different shapes: {a.shape} and {b.shape}")
    if a.ndim not in (2, 3):
        raise ValueError(f"expected an image (H, W) or (H, W, C), got shape {a.shape}")
    if crop_border < 0:
        raise ValueError(f"crop_border: got {crop_border}, expected 0 or more")
    height, width = a.shape[:2]
    if min(height, width) <= 2 * crop_border:
        raise ValueError(f"nothing is left of {width}x{height} pixels within a border of {crop_border}")
    inner = np.s_[crop_border : height - crop_border, crop_border : width - crop_border]
    return a[inner].astype(np.float64), b[inner].astype(np.float64)


def _gaussian_valid(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return window means of planes (N, H, W), for windows inside the plane only: (N, H - 10, W - 10)."""
    offsets = np.arange(_SSIM_TAPS) - _SSIM_TAPS // 2
    taps = np.exp(-(offsets**2) / (2.0 * _SSIM_SIGMA**2))
    taps /= taps.sum()
    height, width = (size - _SSIM_TAPS + 1 for size in planes.shape[1:])
    # The Gaussian is separable: 22 multiplications per pixel instead of 121.
    columns = np.zeros((planes.shape[0], height, planes.shape[2]))
    for k, tap in enumerate(taps):
        columns += tap * planes[:, k : k + height, :]
    means = np.zeros((planes.shape[0], height, width))
    for k, tap in enumerate(taps):
        means += tap * columns[:, :, k : k + width]
    return means
