"""Turns stills and clips into windows: a synthetic camera, foreground layers, fades, and cuts from clips.

A plan contains all random choices of a window, so rendering it gives the same result on any device, within rounding.
Does not know the network, and knows files only by their paths.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

Generator = np.random.Generator
Source = Path | int
"""Path of a photograph or clip, or number of a rendered page."""

SLOWEST = 0.6
"""Speed of the slowest moving still, in HR pixels per frame."""

MASK_EDGE = 1.5
"""Typical width of a layer's soft edge, in HR pixels."""

FADE_FRAMES = (6.0, 60.0)
"""Range of the length of a fade."""

PLAIN_FADES = 0.3
"""Share of the fades that are to or from black. The others are cross-fades."""


@dataclass(frozen=True, kw_only=True)
class View:
    """A square view that moves over a still.

    Attributes:
        source: the still.
        place: relative location of the view, from (0, 0) at the top left to (1, 1).
        path: (frames, 2) positions in HR pixels, row before column.
        reduction: factor by which the still is reduced.
        turn: rotation in radians per frame.
        growth: logarithm of the zoom factor per frame.
        is_warped: whether the view rotates and zooms. Otherwise it moves by whole HR pixels.
    """

    source: Source
    place: np.ndarray
    path: np.ndarray
    reduction: float
    turn: float = 0.0
    growth: float = 0.0
    is_warped: bool = False


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A foreground: a view that is visible where a smooth noise, which moves with it, is above a threshold.

    Attributes:
        view: the view; not warped.
        noise: (G, G) grid of noise, stretched over the area that the view covers.
        threshold: threshold of the noise.
    """

    view: View
    noise: np.ndarray
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A crop of some frames of a clip; `place` as in `View`."""

    source: Path
    place: np.ndarray
    times: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Fade:
    """A linear fade from the window to another scene, or to black. Reversed in time, it is a fade from there.

    Attributes:
        scene: the other scene, not warped; None for black.
        first: frame at which the fade begins; may be outside the window.
        length: number of frames that the fade takes.
    """

    scene: View | None
    first: float
    length: float


@dataclass(frozen=True, kw_only=True)
class WindowPlan:
    """All random choices of a window.

    Attributes:
        scene: the background.
        layers: foregrounds from back to front.
        fade: a fade to another scene, if any.
        exposure: relative change of brightness from the first to the last frame.
        flips: whether the window is flipped left-right, flipped top-bottom, transposed, and reversed in time.
    """

    scene: View | Cut
    layers: tuple[Layer, ...] = ()
    fade: Fade | None = None
    exposure: float = 0.0
    flips: tuple[bool, bool, bool, bool] = (False, False, False, False)


def camera_path(rng: Generator, frames: int, fastest: float, still_share: float) -> np.ndarray:
    """Draw positions of a moving camera in HR pixels: (frames, 2), starting at 0.

    Speeds are log-uniform from `SLOWEST` to `fastest` pixels per frame, but a share of the cameras does not move. Along
    each axis, the velocity changes by up to about its own size within a window.
    """
    if rng.random() < still_share:
        return np.zeros((frames, 2))
    speed = math.exp(rng.uniform(math.log(SLOWEST), math.log(fastest)))
    angle = rng.uniform(0, 2 * math.pi)
    velocity = speed * np.array([math.cos(angle), math.sin(angle)])
    acceleration = rng.uniform(-1, 1, 2) * speed / max(3, frames - 1)
    time = np.arange(frames)[:, None]
    path: np.ndarray = velocity * time + acceleration * time**2 / 2
    return path


def plan_warp(rng: Generator, view: View) -> View:
    """Return `view` with a random rotation and zoom."""
    return View(
        **vars(view) | {"turn": math.radians(rng.normal(0, 0.8)), "growth": rng.normal(0, 0.008), "is_warped": True}
    )


def plan_layer(rng: Generator, view: View) -> Layer:
    """Return a foreground layer with a random mask of a few blobs, which covers a part of the view."""
    cells = int(rng.integers(3, 8))
    return Layer(view=view, noise=rng.standard_normal((cells, cells)).astype(np.float32), threshold=rng.uniform(0, 0.8))


def plan_fade(rng: Generator, view: View, frames: int) -> Fade:
    """Return a fade to `view` or to black, of which at least one frame is within the window."""
    length = math.exp(rng.uniform(*np.log(FADE_FRAMES)))
    scene = None if rng.random() < PLAIN_FADES else view
    return Fade(scene=scene, first=rng.uniform(1 - length, frames - 2), length=length)


def plan_cut(rng: Generator, source: Path, count: int, place: np.ndarray, frames: int, longest_stride: int) -> Cut:
    """Draw frames of a clip of `count` frames at a random time and stride. Clips that are too short are read back and
    forth.
    """
    stride = int(rng.integers(1, longest_stride + 1))
    stride = min(stride, max(1, (count - 1) // max(1, frames - 1)))
    first = int(rng.integers(0, max(1, count - (frames - 1) * stride)))
    period = max(1, 2 * (count - 1))
    times = tuple(min(t % period, period - t % period) for t in range(first, first + frames * stride, stride))
    return Cut(source=source, place=place, times=times)


def plan_flips(rng: Generator) -> tuple[bool, bool, bool, bool]:
    """Draw flips, transposition and time reversal, each with probability 1/2."""
    left_right, top_bottom, transposed, reverse = (rng.random(4) < 0.5).tolist()
    return left_right, top_bottom, transposed, reverse


def render_window(plan: WindowPlan, size: int, get: Callable[[Source], Tensor]) -> Tensor:
    """Render the HR window of a plan: (frames, 3, size, size) in [0, 1], on the device of the tensors from `get`."""
    source = get(plan.scene.source)
    if isinstance(plan.scene, Cut):
        window = cut_clip(source, plan.scene, size)
    else:
        window = warp_still(source, plan.scene, size) if plan.scene.is_warped else shift_still(source, plan.scene, size)
    for layer in plan.layers:
        seen, mask = render_layer(get(layer.view.source), layer, size)
        window = torch.lerp(window, seen, mask)
    if plan.fade:
        window = render_fade(window, plan.fade, get)
    if plan.exposure:
        drift = torch.linspace(-0.5, 0.5, len(window), device=window.device)[:, None, None, None]
        window = (window * (1 + plan.exposure * drift)).clamp_(0, 1)
    return flip(window, plan.flips)


def render_fade(window: Tensor, fade: Fade, get: Callable[[Source], Tensor]) -> Tensor:
    """Mix a window (frames, 3, S, S) with the scene of a fade, or with black."""
    frames, size = len(window), window.shape[-1]
    share = (torch.arange(frames, device=window.device) - fade.first) / fade.length
    other = shift_still(get(fade.scene.source), fade.scene, size) if fade.scene else torch.zeros_like(window)
    return torch.lerp(window, other, share.clamp(0, 1)[:, None, None, None])


def flip(window: Tensor, flips: tuple[bool, bool, bool, bool]) -> Tensor:
    """Flip, transpose and reverse (T, 3, S, S) as `WindowPlan.flips` describes."""
    left_right, top_bottom, transposed, reverse = flips
    flipped = [dim for dim, is_flipped in ((-1, left_right), (-2, top_bottom), (0, reverse)) if is_flipped]
    window = window.flip(flipped) if flipped else window
    return window.transpose(-1, -2) if transposed else window


def shift_still(still: Tensor, view: View, size: int) -> Tensor:
    """Move a view over a still by whole HR pixels, so that every frame is as sharp as the still. LR frames move by
    quarters of a pixel.

    Args:
        still: (3, H, W) uint8. If it is too small for the path, the view does not move; if it is too small for the
            reduction, it is reduced less.
        view: the view.
        size: side of the view in HR pixels.

    Returns:
        (frames, 3, size, size) in [0, 1].
    """
    canvas, steps = reduce_still(still, view, size)
    return torch.stack([canvas[:, y : y + size, x : x + size] for y, x in steps])


def reduce_still(still: Tensor, view: View, size: int) -> tuple[Tensor, list[list[int]]]:
    """Return the area that a view covers, (3, h, w) in [0, 1], and the top-left corner of the view in each frame."""
    steps = np.round(view.path).astype(int)
    steps -= steps.min(axis=0)
    room = np.array(still.shape[1:])  # height, width
    needed = size + steps.max(axis=0)
    if (room < needed).any():  # the still is too small for the path
        steps[:] = 0
        needed = np.array([size, size])
    reduction = min(view.reduction, *(room / needed))
    taken = np.minimum(np.round(needed * reduction).astype(int), room)
    top, left = np.round((room - taken) * view.place).astype(int)
    region = still[:, top : top + taken[0], left : left + taken[1]].float().div(255)
    canvas = F.interpolate(
        region[None], size=[int(value) for value in needed], mode="bicubic", antialias=True, align_corners=False
    )[0].clamp(0, 1)
    return canvas, steps.tolist()


def render_layer(still: Tensor, layer: Layer, size: int) -> tuple[Tensor, Tensor]:
    """Return a layer's frames (frames, 3, size, size) and opacity (frames, 1, size, size), both in [0, 1]."""
    canvas, steps = reduce_still(still, layer.view, size)
    noise = torch.from_numpy(layer.noise).to(canvas.device)[None, None]
    smooth = F.interpolate(noise, size=canvas.shape[1:], mode="bicubic", align_corners=True)[0]
    cell = max(canvas.shape[1:]) / (len(layer.noise) - 1)
    opacity = ((smooth - layer.threshold) * (cell / MASK_EDGE) + 0.5).clamp(0, 1)
    both = torch.cat([canvas, opacity])
    frames = torch.stack([both[:, y : y + size, x : x + size] for y, x in steps])
    return frames[:, :3], frames[:, 3:]


def warp_still(still: Tensor, view: View, size: int) -> Tensor:
    """Move, rotate and zoom a view over a still. Arguments and result are those of `shift_still`.

    The still is sampled at twice the density of the view's pixels, and 2x2 samples are averaged. With a `reduction` of
    1.3 to 2.2, one sample is about one pixel of the still, so that interpolation keeps the still sharp without
    aliasing.
    """
    frames = len(view.path)
    height, width = still.shape[1:]
    positions = view.path - view.path.mean(axis=0)
    widest = 0.75 * size * math.exp(abs(view.growth) * frames)
    reach = view.reduction * (widest + float(np.abs(positions).max())) + 2
    room = np.array([height, width])
    nearest = np.minimum(reach, room / 2)
    centre_y, centre_x = nearest + (room - 2 * nearest) * view.place
    top, left = max(int(centre_y - reach), 0), max(int(centre_x - reach), 0)
    region = still[:, top : int(centre_y + reach) + 1, left : int(centre_x + reach) + 1].float().div(255)
    axis = (np.arange(2 * size) + 0.5) / 2 - size / 2
    grids = []
    for t, (y, x) in enumerate(positions):
        angle, zoom = view.turn * (t - frames / 2), view.reduction * math.exp(view.growth * (t - frames / 2))
        sine, cosine = zoom * math.sin(angle), zoom * math.cos(angle)
        rows = cosine * axis[:, None] + sine * axis[None] + view.reduction * y + centre_y - top
        columns = cosine * axis[None] - sine * axis[:, None] + view.reduction * x + centre_x - left
        grids.append(np.stack([2 * columns / region.shape[2] - 1, 2 * rows / region.shape[1] - 1], axis=-1))
    grid = torch.from_numpy(np.stack(grids)).float().to(region.device)
    dense = F.grid_sample(
        region.expand(frames, -1, -1, -1), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return F.avg_pool2d(dense, 2)


def cut_clip(clip: Tensor, cut: Cut, size: int) -> Tensor:
    """Crop frames of a clip (N, 3, H, W) uint8: (frames, 3, size, size) in [0, 1]."""
    room = np.array(clip.shape[-2:]) - size
    top, left = (room * cut.place).astype(int)
    return clip[list(cut.times), :, top : top + size, left : left + size].float().div(255)
