"""Targets and terms of the loss: functions of frames (..., 3, H, W) in [0, 1], on any device."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ristn_cli.training.loss_recipe import LossRecipe

LUMA = (65.481 / 255, 128.553 / 255, 24.966 / 255)
"""Y of R, G and B on the scale from 16 to 235, which PSNR-Y is measured on (ITU-R BT.601)."""

CLEAN_RADIUS = 2
CLEAN_SIGMA = 1.5
"""Pixels on each side that a cleaned pixel is a mean of, and the standard deviation of their weights by distance."""

SCALES = 3
"""Gradients are compared at full, half and quarter size."""

EDGE = 4 / 255
"""Gradients of the target well above this are edges, whose direction counts."""

PERIOD = 4
PATTERN_WINDOW = 16
FLAT = 8 / 255
"""A pattern is what repeats every 4 pixels (2 included) within 16x16 pixels, which are flat if the target's values are
no further apart than this. Sixteen repeats are averaged, so that grain hardly counts."""


def smooth_abs(x: Tensor) -> Tensor:
    """sqrt(x^2 + 1e-6), the Charbonnier penalty."""
    return (x.square() + 1e-6).sqrt()


def to_luma(frames: Tensor) -> Tensor:
    """BT.601 Y (..., H, W), without its offset of 16, of RGB (..., 3, H, W)."""
    return torch.einsum("...chw,c->...hw", frames, frames.new_tensor(LUMA))


def to_images(frames: Tensor) -> Tensor:
    """(..., C, H, W) as (N, C, H, W)."""
    return frames.reshape(-1, *frames.shape[-3:])


@torch.no_grad()
def make_target(terms: LossRecipe, hr: Tensor) -> Tensor:
    """What the network's output is compared with: the original, cleaned and sharpened as the recipe says."""
    target = clean(hr, terms.clean / 255) if terms.clean else hr
    if terms.sharpen:
        target = sharpen(target, terms.sharpen, terms.sharpen_sigma, terms.sharpen_threshold / 255)
    return target


def clean(frames: Tensor, tolerance: float) -> Tensor:
    """Bilateral filter: smooth what differs by about `tolerance` or less, and keep edges.

    JPEG's artefacts lie beside edges. A guided filter leaves what is near an edge as it is. This filter cleans it,
    because it averages pixels of one side only. All channels share their weights.
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
    """Gaussian blur over three standard deviations on each side; borders are repeated."""
    radius = math.ceil(3 * sigma)
    taps = torch.arange(-radius, radius + 1, dtype=frames.dtype, device=frames.device)
    taps = torch.exp(-taps.square() / (2 * sigma**2))
    taps /= taps.sum()
    planes = F.pad(frames.reshape(-1, 1, *frames.shape[-2:]), [radius] * 4, mode="replicate")
    return F.conv2d(F.conv2d(planes, taps.view(1, 1, 1, -1)), taps.view(1, 1, -1, 1)).view_as(frames)


def sharpen(frames: Tensor, amount: float, sigma: float, threshold: float) -> Tensor:
    """Unsharp mask: `amount` times the difference from a blurred copy is added where it is above `threshold`.

    The amount grows evenly from nothing at the threshold to all at twice that, so that no steps appear. The channel
    that differs most decides for all three.
    """
    mask = frames - blur(frames, sigma)
    if threshold:
        mask = mask * (mask.abs().amax(-3, keepdim=True) / threshold - 1).clamp(0, 1)
    return (frames + amount * mask).clamp(0, 1)


def temporal_term(sr: Tensor, target: Tensor) -> Tensor:
    """Charbonnier error of the change from frame to frame, (B, T, 3, H, W) with T of 2 or more."""
    difference = sr - target
    return smooth_abs(difference[:, 1:] - difference[:, :-1]).mean()


def gradients(planes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Horizontal and vertical gradients of planes (N, C, H, W), at each scale as many as there is room for."""
    for scale in range(SCALES):
        if min(planes.shape[-2:]) < 2:
            return
        corner = planes[..., :-1, :-1]
        yield planes[..., :-1, 1:] - corner, planes[..., 1:, :-1] - corner
        if scale < SCALES - 1:
            planes = F.avg_pool2d(planes, 2)


def gradient_term(sr: Tensor, target: Tensor) -> Tensor:
    """Length of the difference of the gradients' vectors, mean over all scales."""
    difference = to_images(sr - target)
    terms = [(x.square() + y.square() + 1e-6).sqrt().mean() for x, y in gradients(difference)]
    return torch.stack(terms).mean()


def direction_term(sr: Tensor, target: Tensor) -> Tensor:
    """Gradient of luma along the target's edges, mean over all scales.

    It is the part of the output's gradient that is perpendicular to the target's. Along a straight edge there is none,
    however sharp the edge is; jags have one.
    """
    pairs = (gradients(to_luma(to_images(frames))[:, None]) for frames in (sr, target))
    terms = []
    for (x, y), (edge_x, edge_y) in zip(*pairs, strict=True):
        length = (edge_x.square() + edge_y.square() + EDGE**2).sqrt()
        terms.append(smooth_abs((x * edge_y - y * edge_x) / length).mean())
    return torch.stack(terms).mean()


def pattern_term(sr: Tensor, target: Tensor) -> Tensor:
    """Size of the patterns of period 2 and 4 that the output has and the target has not; 0 in windows with detail.

    The mean is over all windows, so that a flat window counts the same whatever is beside it.
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
    # Each channel's own range: colour does not make a window less flat.
    spread = windows.amax((3, 4, 6, 7)) - windows.amin((3, 4, 6, 7))
    is_flat = (spread.amax(1) <= FLAT).to(sr.dtype)
    sizes = smooth_abs(pattern).mean((1, 3, 5))
    return (sizes * is_flat).mean()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of scores of originals, which should be above 1, and of outputs, which should be below -1."""
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()
