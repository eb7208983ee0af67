"""Training windows: stills moved by a synthetic camera, rendered text, and real clips.

A batch is a pure function of the recipe's seed and of the batch's number, so a resumed run reads what an uninterrupted
one would have read. Knows nothing of the network.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from ristn_cli.degradation import SCALE, decimate, degrade, quantize
from ristn_cli.training.footage import degrade_footage
from ristn_cli.training.recipe import Recipe, RecipeError, StageRecipe
from ristn_cli.video import Image, read_frames, read_image

MARGIN = 2
"""LR pixels cut around a patch after degradation: BI's kernel reaches 8 HR pixels, so no patch sees an edge."""

PHOTO_REDUCTION = (1.3, 2.2)
"""Range of the factor by which photographs are reduced before use: it makes them sharp, so LR frames alias."""

PAGE_REDUCTION = (1.0, 1.6)
"""The same for rendered pages."""

PAGES = 256
"""Different pages of rendered text."""

CANDIDATES = 4
"""Places drawn for every window, of which one is taken in proportion to its detail."""

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
CLIP_SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v"}

Generator = np.random.Generator
Key = TypeVar("Key", bound=Hashable)


def list_files(folder: Path, suffixes: set[str]) -> list[Path]:
    """Files below `folder` with one of the suffixes, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)


def to_8_bits(image: Image) -> Tensor:
    """(H, W, 3) uint8, or uint16 on the full scale, to (3, H, W) uint8."""
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return torch.from_numpy(image).permute(2, 0, 1)


def read_clip(path: Path) -> Tensor:
    """All frames of a clip: (N, 3, H, W) uint8."""
    return torch.stack([to_8_bits(frame.image) for frame in read_frames(path)])


def read_photo(path: Path) -> Tensor:
    """A photograph: (3, H, W) uint8."""
    return to_8_bits(read_image(path)).contiguous()


class FrameCache:
    """Decoded files and rendered pages in memory up to a budget; what was not used for longest goes first.

    The newest is held even when it alone is beyond the budget.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.held_bytes = 0
        self._held: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Key, read: Callable[[Key], Tensor]) -> Tensor:
        """The frames of a file or a page, read by `read` when they are not held."""
        if key in self._held:
            self._held.move_to_end(key)
            return self._held[key]
        frames = read(key)
        self._held[key] = frames
        self.held_bytes += frames.nbytes
        while self.held_bytes > self.budget_bytes and len(self._held) > 1:
            _, evicted = self._held.popitem(last=False)
            self.held_bytes -= evicted.nbytes
        return frames


@lru_cache(maxsize=1)
def font_files() -> list[str]:
    """Outline fonts that matplotlib carries: text can be rendered on any machine that can train."""
    import matplotlib

    return sorted(str(path) for path in (Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("DejaVu*.ttf"))


def render_page(number: int, width: int = 720, height: int = 540) -> Tensor:
    """Page `number` of random words, numbers, rules, grids and shapes in random colours: (3, height, width) uint8."""
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(number)

    def colour() -> tuple[int, int, int]:
        if rng.random() < 0.5:
            grey = int(rng.choice([rng.integers(0, 60), rng.integers(190, 256)]))
            return grey, grey, grey
        red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
        return red, green, blue

    page = Image.new("RGB", (width, height), colour())
    draw = ImageDraw.Draw(page)
    alphabet = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789&.,:;!?%()/-")
    for _ in range(int(rng.integers(10, 24))):
        x, y = int(rng.integers(-40, width)), int(rng.integers(-20, height))
        ink = colour()
        kind = rng.random()
        if kind < 0.65:
            font = ImageFont.truetype(str(rng.choice(font_files())), int(rng.integers(9, 64)))
            lines = ["".join(rng.choice(alphabet, int(rng.integers(2, 24)))) for _ in range(int(rng.integers(1, 7)))]
            draw.multiline_text((x, y), "\n".join(lines), fill=ink, font=font)
        elif kind < 0.75:
            pitch, lines_across = int(rng.integers(4, 24)), int(rng.integers(4, 20))
            thickness = int(rng.integers(1, 4))
            for line in range(lines_across):
                draw.line((x + line * pitch, y, x + line * pitch, y + lines_across * pitch), fill=ink, width=thickness)
                draw.line((x, y + line * pitch, x + lines_across * pitch, y + line * pitch), fill=ink, width=thickness)
        elif kind < 0.9:
            x1, y1 = (int(value) for value in rng.integers(0, (width, height)))
            draw.line((x, y, x1, y1), fill=ink, width=int(rng.integers(1, 8)))
        else:
            size = int(rng.integers(8, 120))
            draw.ellipse((x, y, x + size, y + size), outline=ink, width=int(rng.integers(1, 6)))
    return torch.from_numpy(np.asarray(page).copy()).permute(2, 0, 1).contiguous()


def detail(frame: Tensor, place: np.ndarray, size: int) -> float:
    """Mean absolute difference over three pixels of green, in 8-bit levels, in a square of a (3, H, W) uint8 frame."""
    top, left = ((np.array(frame.shape[1:]) - size).clip(0) * place).astype(int)
    green = frame[1, top : top + size, left : left + size].to(torch.int16)
    return float((green[3:] - green[:-3]).abs().float().mean() + (green[:, 3:] - green[:, :-3]).abs().float().mean())


def camera_path(rng: Generator, frames: int, fastest: float) -> np.ndarray:
    """Positions of a moving camera in HR pixels: (frames, 2), the first at 0.

    Speeds are spread evenly over their logarithm from 0.6 to `fastest` pixels a frame, one window in twenty stands
    still; the velocity changes by up to a third of itself from frame to frame.
    """
    if rng.random() < 0.05:
        return np.zeros((frames, 2))
    speed = math.exp(rng.uniform(math.log(0.6), math.log(fastest)))
    angle = rng.uniform(0, 2 * math.pi)
    velocity = speed * np.array([math.cos(angle), math.sin(angle)])
    acceleration = rng.uniform(-1, 1, 2) * speed / 3
    time = np.arange(frames)[:, None]
    path: np.ndarray = velocity * time + acceleration * time**2 / 2
    return path


def shift_still(still: Tensor, place: np.ndarray, path: np.ndarray, size: int, reduction: float) -> Tensor:
    """Move a square view over a still in whole HR pixels, which keeps every frame as sharp as the still.

    Args:
        still: (3, H, W) uint8.
        place: where the view is, from (0, 0) at the top left to (1, 1).
        path: (frames, 2) positions in HR pixels.
        size: side of the view in HR pixels.
        reduction: factor by which the still is reduced first, less if it is too small for the path.

    Returns:
        (frames, 3, size, size) in [0, 1]. The LR frames move by quarters of a pixel.
    """
    steps = np.round(path).astype(int)
    steps -= steps.min(axis=0)
    room = np.array(still.shape[1:])  # height, width
    needed = size + steps.max(axis=0)
    if (room < needed).any():  # the still is too small for the path: stand still
        steps[:] = 0
        needed = np.array([size, size])
    reduction = min(reduction, *(room / needed))
    taken = np.minimum(np.round(needed * reduction).astype(int), room)
    top, left = np.round((room - taken) * place).astype(int)
    region = still[:, top : top + taken[0], left : left + taken[1]].float().div(255)
    reduced = F.interpolate(
        region[None], size=[int(value) for value in needed], mode="bicubic", antialias=True, align_corners=False
    )[0].clamp(0, 1)
    return torch.stack([reduced[:, y : y + size, x : x + size] for y, x in steps.tolist()])


def warp_still(
    rng: Generator, still: Tensor, place: np.ndarray, path: np.ndarray, size: int, reduction: float
) -> Tensor:
    """Move, rotate and zoom a square view over a still, with the arguments of `shift_still`.

    The still is sampled twice as densely as the view's pixels and averaged in pairs: at a `reduction` of 1.3 to 2.2 one
    sample is about one pixel of the still, so interpolation costs little sharpness and nothing aliases.

    Returns:
        (frames, 3, size, size) in [0, 1].
    """
    frames = len(path)
    height, width = still.shape[1:]
    turn, growth = np.radians(rng.normal(0, 0.8)), rng.normal(0, 0.008)
    positions = path - path.mean(axis=0)
    reach = reduction * (0.75 * size * math.exp(abs(growth) * frames) + float(np.abs(positions).max())) + 2
    room = np.array([height, width])
    nearest = np.minimum(reach, room / 2)
    centre_y, centre_x = nearest + (room - 2 * nearest) * place
    top, left = max(int(centre_y - reach), 0), max(int(centre_x - reach), 0)
    region = still[:, top : int(centre_y + reach) + 1, left : int(centre_x + reach) + 1].float().div(255)
    axis = (np.arange(2 * size) + 0.5) / 2 - size / 2
    grids = []
    for t, (y, x) in enumerate(positions):
        angle, zoom = turn * (t - frames / 2), reduction * math.exp(growth * (t - frames / 2))
        sine, cosine = zoom * math.sin(angle), zoom * math.cos(angle)
        rows = cosine * axis[:, None] + sine * axis[None] + reduction * y + centre_y - top
        columns = cosine * axis[None] - sine * axis[:, None] + reduction * x + centre_x - left
        grids.append(np.stack([2 * columns / region.shape[2] - 1, 2 * rows / region.shape[1] - 1], axis=-1))
    grid = torch.from_numpy(np.stack(grids)).float()
    dense = F.grid_sample(
        region.expand(frames, -1, -1, -1), grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return F.avg_pool2d(dense, 2)


def cut_clip(rng: Generator, clip: Tensor, place: np.ndarray, frames: int, size: int, longest_stride: int) -> Tensor:
    """A window of a clip at a place, and a random time and stride: (frames, 3, size, size) in [0, 1].

    A clip that is too short for the stride is read back and forth.
    """
    count, _, height, width = clip.shape
    stride = int(rng.integers(1, longest_stride + 1))
    stride = min(stride, max(1, (count - 1) // max(1, frames - 1)))
    first = int(rng.integers(0, max(1, count - (frames - 1) * stride)))
    period = max(1, 2 * (count - 1))
    times = [min(t % period, period - t % period) for t in range(first, first + frames * stride, stride)]
    top, left = ((np.array([height, width]) - size) * place).astype(int)
    return clip[times, :, top : top + size, left : left + size].float().div(255)


def flip_at_random(rng: Generator, window: Tensor) -> Tensor:
    """Flips, transposition and time reversal, each half of the time: (T, 3, S, S) to the same shape."""
    if rng.random() < 0.5:
        window = window.flip(-1)
    if rng.random() < 0.5:
        window = window.flip(-2)
    if rng.random() < 0.5:
        window = window.transpose(-1, -2)
    if rng.random() < 0.5:
        window = window.flip(0)
    return window


class TrainingWindows(Dataset[tuple[Tensor, Tensor]]):
    """Batches by number, over all stages of a recipe and all processes of a run.

    Batch `number` belongs to step number // world of process number % world. `makers` processes each hold a copy of
    this and make batches for one of them: they share its budget for decoded frames. Runs on one folder, one after
    another, decode it once if they are given the same `cache`.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, world: int = 1, makers: int = 1, cache: FrameCache | None = None
    ) -> None:
        self.recipe = recipe
        self.world = world
        data = recipe.data
        self.photos = list_files(folder / data.photos, IMAGE_SUFFIXES) if data.photos else []
        self.clips = list_files(folder / data.clips, CLIP_SUFFIXES) if data.clips else []
        if not self.photos and not self.clips:
            raise RecipeError(f"{folder}: neither photographs in {data.photos!r} nor clips in {data.clips!r}")
        self.cache = cache or FrameCache(int(data.cache_gib * 2**30) // makers)

    def __len__(self) -> int:
        return self.recipe.iterations * self.world

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """LR (B, T, 3, p, p) and HR (B, T, 3, 4p, 4p), uint8."""
        index, step = self.recipe.stage_at(number // self.world)
        stage = self.recipe.stages[index]
        rng = np.random.default_rng([self.recipe.seed, number])
        lead = self.recipe.data.lead
        frames = lead + (1 if stage.part == "spatial" else stage.frames)
        margin = max(MARGIN, self.recipe.data.surround)
        size = SCALE * (stage.patch + 2 * margin)
        clip_share = self._clip_share(stage)
        hr = torch.stack([self._window(rng, frames, size, stage.fastest, clip_share) for _ in range(stage.batch)])
        hr = quantize(hr)
        flat = hr.flatten(0, 1)
        reduced = torch.lerp(degrade(flat), decimate(flat), stage.aliasing_at(step))
        lr = reduced.view(*hr.shape[:2], *reduced.shape[1:])
        if self.recipe.data.degradation == "real":
            rng = np.random.default_rng([self.recipe.seed, number, 1])  # its own: the windows are BI's
            lr = torch.stack([degrade_footage(rng, window, self.recipe.data) for window in quantize(lr)])
        lr = quantize(lr)
        lr = lr[:, lead:, :, margin:-margin, margin:-margin]
        hr = hr[:, lead:, :, SCALE * margin : -SCALE * margin, SCALE * margin : -SCALE * margin]
        return lr.mul(255).round().to(torch.uint8).contiguous(), hr.mul(255).round().to(torch.uint8).contiguous()

    def _clip_share(self, stage: StageRecipe) -> float:
        """Share of a stage's windows that are cut from clips; the spatial part trains on stills where there are any."""
        if not self.photos:
            return 1.0
        return self.recipe.data.clip_share if self.clips and stage.part == "all" else 0.0

    def _window(self, rng: Generator, frames: int, size: int, fastest: float, clip_share: float) -> Tensor:
        """One HR window (frames, 3, size, size) in [0, 1]."""
        data = self.recipe.data
        source = rng.random()
        if source < clip_share:
            clip, place = self._detailed(rng, lambda: self._clip(choose(rng, self.clips), size), size)
            return flip_at_random(rng, cut_clip(rng, clip, place, frames, size, data.longest_stride))
        if source < clip_share + data.text_share:
            still, place = self._detailed(rng, lambda: self.cache.get(int(rng.integers(PAGES)), render_page), size)
            reduction = rng.uniform(*PAGE_REDUCTION)
        else:
            still, place = self._detailed(rng, lambda: self.cache.get(choose(rng, self.photos), read_photo), 2 * size)
            reduction = rng.uniform(*PHOTO_REDUCTION)
        path = camera_path(rng, frames, fastest)
        if rng.random() < data.warp_share:
            return flip_at_random(rng, warp_still(rng, still, place, path, size, reduction))
        return flip_at_random(rng, shift_still(still, place, path, size, reduction))

    def _clip(self, path: Path, size: int) -> Tensor:
        """A clip that a square of `size` pixels can be cut from."""
        clip = self.cache.get(path, read_clip)
        height, width = clip.shape[-2:]
        if min(height, width) < size:
            raise RecipeError(f"{path}: {width}x{height} is too small to cut {size}x{size} pixels from; remove it")
        return clip

    def _detailed(self, rng: Generator, draw: Callable[[], Tensor], size: int) -> tuple[Tensor, np.ndarray]:
        """A source and a place in it, one of several drawn at random, with a chance in proportion to its detail.

        Skies and out-of-focus backgrounds fill most of most photographs and teach nothing.
        """
        drawn = [(draw(), rng.random(2)) for _ in range(CANDIDATES)]
        details = np.array([detail(source[0] if source.dim() == 4 else source, place, size) for source, place in drawn])
        details += 1e-3
        return drawn[int(rng.choice(CANDIDATES, p=details / details.sum()))]


def choose(rng: Generator, paths: Sequence[Path]) -> Path:
    """One of `paths`, each as likely."""
    return paths[int(rng.integers(len(paths)))]
