"""PSNR and SSIM of frames, as the paper's tables take them, and what changes from frame to frame.

Pure NumPy in float64; knows no files and no video. The protocol: both frames rounded to 8-bit RGB, BT.601 luma, 8
border pixels cut (``crop_border=8``), the mean over the frames of a clip, then over clips.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Luma of full-range R, G, B in [0, 1] (BT.601 weights times 219), and its black level: what MATLAB's rgb2ycbcr uses.
_Y_WEIGHTS = np.array([65.481, 128.553, 24.966])
_Y_BLACK = 16.0

# Wang et al. 2004: an 11x11 Gaussian of sigma 1.5, and the two constants that keep the quotients finite.
_SSIM_TAPS = 11
_SSIM_SIGMA = 1.5
_SSIM_K1 = 0.01
_SSIM_K2 = 0.03


def rgb_to_y(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the BT.601 luma, (..., 16 to 235), of an 8-bit RGB image (..., 3).

    The image is 8-bit so that what is measured is what a viewer gets; luma itself is not rounded.
    """
    if image.dtype != np.uint8:
        raise TypeError(f"luma is taken of 8-bit RGB: got {image.dtype}, expected uint8")
    if image.ndim < 1 or image.shape[-1] != 3:
        raise ValueError(f"luma is taken of RGB with the channels last: got shape {image.shape}, expected (..., 3)")
    luma: NDArray[np.float64] = image @ (_Y_WEIGHTS / 255.0) + _Y_BLACK
    return luma


def psnr(a: NDArray[Any], b: NDArray[Any], *, crop_border: int = 0, peak: float = 255.0) -> float:
    """Peak signal-to-noise ratio in dB of two images, (H, W) or (H, W, C); infinity when they are equal."""
    a, b = _prepare(a, b, crop_border)
    squared_error = float(np.mean(np.square(a - b)))
    if squared_error == 0.0:
        return float("inf")
    return float(10.0 * np.log10(peak**2 / squared_error))


def ssim(a: NDArray[Any], b: NDArray[Any], *, crop_border: int = 0) -> float:
    """Mean structural similarity of two planes (H, W) on the 8-bit scale, over the windows that fit inside both.

    As in Wang et al.'s MATLAB code: Gaussian windows, population covariance, no padding, so that H and W must be at
    least 11 once the border is cut.
    """
    a, b = _prepare(a, b, crop_border)
    if a.ndim != 2:
        raise ValueError(f"SSIM is taken of one plane: got shape {a.shape}, expected (H, W)")
    if min(a.shape) < _SSIM_TAPS:
        raise ValueError(f"SSIM needs at least {_SSIM_TAPS}x{_SSIM_TAPS} pixels within the border: got {a.shape}")
    # Moments about a common constant are the same and lose fewer digits to cancellation.
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
    """PSNR in dB between the luma of two 8-bit RGB images (H, W, 3)."""
    return psnr(rgb_to_y(a), rgb_to_y(b), crop_border=crop_border)


def ssim_y(a: NDArray[np.uint8], b: NDArray[np.uint8], *, crop_border: int = 0) -> float:
    """SSIM between the luma of two 8-bit RGB images (H, W, 3)."""
    return ssim(rgb_to_y(a), rgb_to_y(b), crop_border=crop_border)


def ssim_rgb(a: NDArray[np.uint8], b: NDArray[np.uint8], *, crop_border: int = 0) -> float:
    """Mean of the SSIM of the red, green and blue planes of two 8-bit RGB images (H, W, 3)."""
    return float(np.mean([ssim(a[..., c], b[..., c], crop_border=crop_border) for c in range(3)]))


def temporal_error(error: NDArray[np.float64], previous_error: NDArray[np.float64], *, crop_border: int = 0) -> float:
    """How unlike the original's the change from one frame to the next is, in 8-bit levels; 0 at best.

    The root mean square over pixels of (SR(t) - SR(t-1)) - (HR(t) - HR(t-1)), which is that of E(t) - E(t-1) with the
    errors E = SR - HR, (H, W), of luma. An error that stands still costs nothing, one that flickers, crawls or lags
    does, and motion is not punished. It is the frame-difference error dtSSD of Erofeev et al. ("Perceptually Motivated
    Benchmark for Video Matting", BMVC 2015), per pixel, so that frame sizes do not matter.
    """
    now, before = _prepare(error, previous_error, crop_border)
    return float(np.sqrt(np.mean(np.square(now - before))))


def temporal_profile(
    frames: Iterable[NDArray[np.uint8]], *, row: int | None = None, column: int | None = None
) -> NDArray[np.uint8]:
    """One line of every frame (H, W, 3), time downwards: (T, W, 3) of a `row`, or (T, H, 3) of a `column` (Fig. 8).

    Edges that hold still give straight lines; flicker and jitter give ragged ones.
    """
    if (row is None) == (column is None):
        raise ValueError("a temporal profile is taken of a row or of a column: give one of them")
    lines = [frame[row] if column is None else frame[:, column] for frame in frames]
    if not lines:
        raise ValueError("a temporal profile needs at least one frame")
    return np.stack(lines)


def _prepare(a: NDArray[Any], b: NDArray[Any], crop_border: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both images in float64, without the border; refused unless they are of one shape and something is left."""
    if a.shape != b.shape:
        raise ValueError(f"the images differ in shape: {a.shape} and {b.shape}")
    if a.ndim not in (2, 3):
        raise ValueError(f"an image is (H, W) or (H, W, C): got shape {a.shape}")
    if crop_border < 0:
        raise ValueError(f"crop_border counts pixels: got {crop_border}, expected 0 or more")
    height, width = a.shape[:2]
    if min(height, width) <= 2 * crop_border:
        raise ValueError(f"nothing is left of {width}x{height} pixels within a border of {crop_border}")
    inner = np.s_[crop_border : height - crop_border, crop_border : width - crop_border]
    return a[inner].astype(np.float64), b[inner].astype(np.float64)


def _gaussian_valid(planes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Window means of planes (N, H, W), only where the whole window lies inside: (N, H - 10, W - 10)."""
    offsets = np.arange(_SSIM_TAPS) - _SSIM_TAPS // 2
    taps = np.exp(-(offsets**2) / (2.0 * _SSIM_SIGMA**2))
    taps /= taps.sum()
    height, width = (size - _SSIM_TAPS + 1 for size in planes.shape[1:])
    # The Gaussian is separable: columns first, then rows, 22 multiplications a pixel rather than 121.
    columns = np.zeros((planes.shape[0], height, planes.shape[2]))
    for k, tap in enumerate(taps):
        columns += tap * planes[:, k : k + height, :]
    means = np.zeros((planes.shape[0], height, width))
    for k, tap in enumerate(taps):
        means += tap * columns[:, :, k : k + width]
    return means
