"""Targets and terms of the loss: functions of frames (..., 3, H, W) in [0, 1], on any device."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ristn_cli.training.loss_recipe import LossRecipe

LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
"""Weights of R, G and B in Y with the range 16 to 235 (ITU-R BT.601), as used by PSNR-Y."""

CHROMA = ((-37.797 / 255, -74.203 / 255, 112 / 255), (112 / 255, -93.786 / 255, -18.214 / 255))
"""Weights of R, G and B in Cb and Cr with the range 16 to 240 (ITU-R BT.601)."""

CLEAN_RADIUS = 2
CLEAN_SIGMA = 1.5
"""Radius of the cleaning filter, and standard deviation of its spatial weights, in pixels."""

RANGE_RADIUS = 2
"""A sharpened value stays within the range of pixels up to this distance."""

SCALES = 3
"""Gradients are compared at full, half and quarter size."""

EDGE = 4 / 255
"""Gradients of the target well above this are edges."""

USUAL = 8 / 255
"""A usual error of a pixel. There, errors weigh the same with every power."""

PERIOD = 4
PATTERN_WINDOW = 16
FLAT = 8 / 255
"""A pattern repeats every 4 (or 2) pixels within a 16x16 window. A window is flat if the target's values differ by at
most FLAT. Averaging 16 repetitions suppresses grain."""


def smooth_abs(x: Tensor) -> Tensor:
    """Return sqrt(x^2 + 1e-6), the Charbonnier penalty."""
    return (x.square() + 1e-6).sqrt()


def smooth_power(x: Tensor, power: float) -> Tensor:
    """Return (x^2 + 1e-6)^(power / 2), the generalised Charbonnier penalty, scaled to have the slope 1 at `USUAL`.

    With a power of 1, the best value is the median of what is plausible; with less, it is closer to the mode: an edge
    of uncertain position is sharp somewhere instead of blurred everywhere.
    """
    scale = math.pow(USUAL, 1 - power) / power
    return (x.square() + 1e-6).pow(power / 2) * scale


def to_luma(frames: Tensor) -> Tensor:
    """Return BT.601 Y (..., H, W), without the offset of 16, of RGB (..., 3, H, W)."""
    return torch.einsum("...chw,c->...hw", frames, frames.new_tensor(LUMA))


def to_images(frames: Tensor) -> Tensor:
    """Reshape (..., C, H, W) to (N, C, H, W)."""
    return frames.reshape(-1, *frames.shape[-3:])


@torch.no_grad()
def make_target(terms: LossRecipe, hr: Tensor) -> Tensor:
    """Return the target of the loss: the original, cleaned and sharpened as the recipe requires."""
    target = clean(hr, terms.clean / 255) if terms.clean else hr
    if terms.sharpen:
        threshold = terms.sharpen_threshold / 255
        target = sharpen(target, terms.sharpen, terms.sharpen_sigma, threshold, terms.sharpen_overshoot)
    return target


def clean(frames: Tensor, tolerance: float) -> Tensor:
    """Bilateral filter: smooths differences of about `tolerance` or less and keeps edges.

    JPEG artefacts are beside edges, where a guided filter would leave them. The bilateral filter removes them because
    it averages pixels of one side of the edge only. All channels share the weights.
    """
    flat = to_images(frames)
    height, width = flat.shape[-2:]
    padded = F.pad(flat, [CLEAN_RADIUS] * 4, mode="replicate")
    change, total = torch.zeros_like(flat), torch.ones_like(flat[:, :1])
    steps = range(-CLEAN_RADIUS, CLEAN_RADIUS + 1)
    for dy, dx in ((dy, dx) for dy in steps for dx in steps if dy or dx):
        top, left = CLEAN_RADIUS + dy, CLEAN_RADIUS + dx
        difference = padded[..., top : top + height, left : left + width] - flat
        distance = difference.square().mean(1, keepdim=True) / (2 * tolerance**2)
        weight = torch.exp(-distance - (dy**2 + dx**2) / (2 * CLEAN_SIGMA**2))
        change.addcmul_(weight, difference)
        total += weight
    return (flat + change / total).view_as(frames)


def blur(frames: Tensor, sigma: float) -> Tensor:
    """Gaussian blur with a radius of three standard deviations. Borders are replicated."""
    radius = math.ceil(3 * sigma)
    taps = torch.arange(-radius, radius + 1, dtype=frames.dtype, device=frames.device)
    taps = torch.exp(-taps.square() / (2 * sigma**2))
    taps /= taps.sum()
    planes = F.pad(frames.reshape(-1, 1, *frames.shape[-2:]), [radius] * 4, mode="replicate")
    return F.conv2d(F.conv2d(planes, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1)).view_as(frames)


def sharpen(frames: Tensor, amount: float, sigma: float, threshold: float, overshoot: float = 0.0) -> Tensor:
    """Unsharp mask: adds `amount` times the difference from a blurred copy where the difference is above `threshold`.

    The amount grows linearly from 0 at the threshold to its full value at twice the threshold, which avoids steps. The
    channel with the largest difference determines the amount for all channels. With an `overshoot` above 0, each value
    stays within the range of its 5x5 pixels, plus `overshoot` times this range at each end: edges become steep with
    less of a halo, and texture gains less contrast.
    """
    mask = frames - blur(frames, sigma)
    if threshold:
        mask = mask * (mask.abs().amax(-3, keepdim=True) / threshold - 1).clamp(0, 1)
    sharp = frames + amount * mask
    if overshoot:
        highest, lowest = largest_around(frames), -largest_around(-frames)
        room = overshoot * (highest - lowest)
        sharp = torch.minimum(torch.maximum(sharp, lowest - room), highest + room)
    return sharp.clamp(0, 1)


def largest_around(planes: Tensor) -> Tensor:
    """Return the largest value within `RANGE_RADIUS` pixels."""
    return F.max_pool2d(to_images(planes), 2 * RANGE_RADIUS + 1, 1, RANGE_RADIUS).view_as(planes)


def temporal_term(sr: Tensor, target: Tensor) -> Tensor:
    """Return the Charbonnier error of differences between consecutive frames, for (B, T, 3, H, W) with T >= 2."""
    difference = sr - target
    return smooth_abs(difference[:, 1:] - difference[:, :-1]).mean()


def colour_term(sr: Tensor, target: Tensor) -> Tensor:
    """Return the Charbonnier error of the mean colour of each frame.

    The pixel error alone shifts it: a median of plausible values is darker than their mean in dark areas.
    """
    return smooth_abs((sr - target).mean((-2, -1))).mean()


def to_chroma(frames: Tensor) -> Tensor:
    """Return BT.601 Cb and Cr (..., 2, H, W), without the offset of 128, of RGB (..., 3, H, W)."""
    return torch.einsum("...chw,kc->...khw", frames, frames.new_tensor(CHROMA))


def chroma_term(sr: Tensor, target: Tensor, power: float) -> Tensor:
    """Return the generalised Charbonnier error of Cb and Cr, over all scales, because stains exceed a pixel."""
    planes = to_images(to_chroma(sr - target))
    terms = []
    for scale in range(SCALES):
        if scale:
            planes = F.avg_pool2d(planes, 2)
        terms.append(smooth_power(planes, power).mean())
    return torch.stack(terms).mean()


def gradients(planes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield horizontal and vertical gradients of planes (N, C, H, W) at each scale that fits."""
    for scale in range(SCALES):
        if min(planes.shape[-2:]) < 2:
            return
        corner = planes[..., :-1, :-1]
        yield planes[..., :-1, 1:] - corner, planes[..., 1:, :-1] - corner
        if scale < SCALES - 1:
            planes = F.avg_pool2d(planes, 2)


def gradient_term(sr: Tensor, target: Tensor) -> Tensor:
    """Return the mean length of the difference of gradient vectors, over all scales."""
    difference = to_images(sr - target)
    terms = [(x.square() + y.square() + 1e-6).sqrt().mean() for x, y in gradients(difference)]
    return torch.stack(terms).mean()


def direction_term(sr: Tensor, target: Tensor) -> Tensor:
    """Return the mean gradient of luma along the target's edges, over all scales.

    This is the component of the output's gradient perpendicular to the target's gradient. It is zero along straight
    edges of any sharpness, and positive for jaggies.
    """
    pairs = (gradients(to_luma(to_images(frames))[:, None]) for frames in (sr, target))
    terms = []
    for (x, y), (edge_x, edge_y) in zip(*pairs, strict=True):
        length = (edge_x.square() + edge_y.square() + EDGE**2).sqrt()
        terms.append(smooth_abs((x * edge_y - y * edge_x) / length).mean())
    return torch.stack(terms).mean()


def pattern_term(sr: Tensor, target: Tensor) -> Tensor:
    """Return the size of patterns of period 2 and 4 that only the output has, in flat windows.

    The mean is over all windows, so that the weight of a flat window does not depend on the others.
    """
    height, width = (side // PATTERN_WINDOW * PATTERN_WINDOW for side in sr.shape[-2:])
    repeats = PATTERN_WINDOW // PERIOD

    def to_windows(frames: Tensor) -> Tensor:
        """(N, 3, rows, repeats, PERIOD, columns, repeats, PERIOD)."""
        flat = to_images(frames)[..., :height, :width]
        return flat.reshape(*flat.shape[:2], -1, repeats, PERIOD, width // PATTERN_WINDOW, repeats, PERIOD)

    repeated = to_windows(sr - target).mean((3, 6))  # (N, 3, rows, PERIOD, columns, PERIOD)
    pattern = repeated - repeated.mean((3, 5), keepdim=True)
    windows = to_windows(target)
    # The range of each channel separately, because a window of one colour is flat.
    spread = windows.amax((3, 4, 6, 7)) - windows.amin((3, 4, 6, 7))
    is_flat = (spread.amax(1) <= FLAT).to(sr.dtype)
    sizes = smooth_abs(pattern).mean((1, 3, 5))
    return (sizes * is_flat).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss: scores of originals should be above 1, those of outputs below -1."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
