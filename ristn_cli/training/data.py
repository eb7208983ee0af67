"""Training batches: plans random windows, renders them, and makes LR frames from them. Does not know the network.

A batch is a pure function of the recipe's seed and the batch's number, so a resumed run sees the same batches as an
uninterrupted run.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ristn_cli.degradation import SCALE, decimate, degrade, quantize
from ristn_cli.training.material import (
    IMAGE_SUFFIXES,
    PAGES,
    FrameCache,
    detail,
    list_clips,
    list_files,
    read_source,
)
from ristn_cli.training.motion import (
    Cut,
    Generator,
    Source,
    View,
    WindowPlan,
    camera_path,
    plan_cut,
    plan_fade,
    plan_flips,
    plan_layer,
    plan_warp,
    render_window,
)
from ristn_cli.training.recipe import Recipe, RecipeError, StageRecipe

MARGIN = 2
"""LR pixels cropped around a patch after degradation, because BI's kernel reaches 8 HR pixels."""

PHOTO_REDUCTION = (1.3, 2.2)
"""Range of the factor by which photographs are reduced before use. This makes them sharp, so that LR frames alias."""

PAGE_REDUCTION = (1.0, 1.6)
"""Range of the factor by which rendered pages are reduced."""

CANDIDATES = 4
"""Number of random locations per window, of which one is chosen in proportion to its detail."""


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """All random choices of a batch of windows, and how LR frames are made.

    Attributes:
        windows: one plan per window.
        size: side of the windows in HR pixels, including the margin.
        margin: LR pixels that are cropped on each side after degradation.
        aliasing: share of the unfiltered frame in LR frames, in [0, 1].
    """

    windows: tuple[WindowPlan, ...]
    size: int
    margin: int
    aliasing: float

    def render(self, get: Callable[[Source], Tensor]) -> Tensor:
        """Return HR windows (B, T, 3, size, size), quantized to 8 bits, in [0, 1], on the device of the tensors from
        `get`.
        """
        return quantize(torch.stack([render_window(window, self.size, get) for window in self.windows]))

    def reduce(self, hr: Tensor) -> Tensor:
        """Return LR windows (B, T, 3, size/4, size/4) of HR windows, not quantized."""
        flat = hr.flatten(0, 1)
        reduced = degrade(flat)
        if self.aliasing:
            reduced = torch.lerp(reduced, decimate(flat), self.aliasing)
        return reduced.view(*hr.shape[:2], *reduced.shape[1:])

    def cut(self, lr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
        """Crop the margin. Returns LR (B, T, 3, p, p) and HR (B, T, 3, 4p, 4p), uint8."""
        inner, wide = self.margin, SCALE * self.margin
        pair = quantize(lr)[..., inner:-inner, inner:-inner], hr[..., wide:-wide, wide:-wide]
        lr, hr = (windows.mul(255).round().to(torch.uint8).contiguous() for windows in pair)
        return lr, hr


class TrainingWindows(Dataset[tuple[Tensor, Tensor]]):
    """Batches by number, over all stages of a recipe and all processes of a run.

    Batch `number` belongs to step number // world of process number % world. The memory budget for decoded frames is
    divided among `makers`, the worker processes that each have a copy of this object. Runs on the same data can share
    decoded frames through `cache`.
    """

    def __init__(
        self, recipe: Recipe, folder: Path, world: int = 1, makers: int = 1, cache: FrameCache | None = None
    ) -> None:
        self.recipe = recipe
        self.world = world
        data = recipe.data
        self.photos, self.drawings = (
            list_files(folder / name, IMAGE_SUFFIXES) if name else [] for name in (data.photos, data.drawings)
        )
        self.stills = self.photos + self.drawings
        if data.drawing_share and not self.drawings:
            raise RecipeError(
                f"{folder}: drawing_share is {data.drawing_share}, but drawings {data.drawings!r} is empty"
            )
        if not data.drawing_share or not self.photos:
            self.photos = self.stills
        self.clips = list_clips(folder / data.clips) if data.clips else []
        if not self.stills and not self.clips:
            raise RecipeError(f"{folder}: no photographs in {data.photos!r} and no clips in {data.clips!r}")
        self.cache = cache or FrameCache(int(data.cache_gib * 2**30) // makers)

    def __len__(self) -> int:
        return self.recipe.iterations * self.world

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return LR (B, T, 3, p, p) and HR (B, T, 3, 4p, 4p), uint8."""
        plan = self.plan(number)
        hr = plan.render(self.read)
        lr = plan.reduce(hr)
        data = self.recipe.data
        if data.degradation == "real":
            from ristn_cli.training.footage import degrade_footage

            rng = np.random.default_rng(
                [self.recipe.seed, number, 1]
            )  # separate, so that the windows equal those of BI
            extra = self.recipe.degradations
            lr = torch.stack([degrade_footage(rng, window, data, extra) for window in quantize(lr)])
        return plan.cut(lr[:, data.lead :], hr[:, data.lead :])

    def plan(self, number: int) -> BatchPlan:
        """Draw all random choices of a batch."""
        index, step = self.recipe.stage_at(number // self.world)
        stage = self.recipe.stages[index]
        rng = np.random.default_rng([self.recipe.seed, number])
        margin = max(MARGIN, self.recipe.data.surround)
        size = SCALE * (stage.patch + 2 * margin)
        windows = tuple(self._plan_window(rng, stage, step, size) for _ in range(stage.batch))
        return BatchPlan(windows=windows, size=size, margin=margin, aliasing=stage.aliasing_at(step))

    def read(self, source: Source) -> Tensor:
        """Return the decoded frames of a source; see `read_source`."""
        return self.cache.get(source, read_source)

    def _clip_share(self, stage: StageRecipe) -> float:
        """Return the share of a stage's windows that are cut from clips. The spatial part uses stills if there are
        any.
        """
        if not self.stills:
            return 1.0
        return self.recipe.data.clip_share if self.clips and stage.part == "all" else 0.0

    def _plan_window(self, rng: Generator, stage: StageRecipe, step: int, size: int) -> WindowPlan:
        data = self.recipe.data
        frames = data.lead + (1 if stage.part == "spatial" else stage.frames)
        camera = stage.fastest_at(step), stage.still_share
        clip_share = self._clip_share(stage)
        kind = rng.random()
        if kind < clip_share:
            source, place = self._detailed(rng, lambda: choose(rng, self.clips), size)
            return WindowPlan(scene=self._plan_cut(rng, source, place, frames, size), flips=plan_flips(rng))
        if kind < clip_share + data.text_share:
            source, place = self._detailed(rng, lambda: int(rng.integers(PAGES)), size)
        else:
            is_drawing = kind < clip_share + data.text_share + data.drawing_share
            stills = self.drawings if is_drawing else self.photos
            source, place = self._detailed(rng, lambda: choose(rng, stills), 2 * size)
        scene = self._plan_view(rng, source, place, frames, camera)
        if rng.random() < data.warp_share:
            scene = plan_warp(rng, scene)
        layers = []
        if rng.random() < data.layer_share:
            for _ in range(int(rng.integers(1, 3))):
                is_page = rng.random() < data.text_share
                other = int(rng.integers(PAGES)) if is_page else choose(rng, self.stills)
                layers.append(plan_layer(rng, self._plan_view(rng, other, rng.random(2), frames, camera)))
        exposure = rng.uniform(-1, 1) * data.exposure if rng.random() < data.exposure_share else 0.0
        flips = plan_flips(rng)
        fade = None
        if rng.random() < data.fade_share:
            fade = plan_fade(rng, self._plan_view(rng, choose(rng, self.stills), rng.random(2), frames, camera), frames)
        return WindowPlan(scene=scene, layers=tuple(layers), fade=fade, exposure=exposure, flips=flips)

    def _plan_view(
        self, rng: Generator, source: Source, place: np.ndarray, frames: int, camera: tuple[float, float]
    ) -> View:
        reduction = rng.uniform(*(PAGE_REDUCTION if isinstance(source, int) else PHOTO_REDUCTION))
        return View(source=source, place=place, path=camera_path(rng, frames, *camera), reduction=reduction)

    def _plan_cut(self, rng: Generator, source: Source, place: np.ndarray, frames: int, size: int) -> Cut:
        """Draw the frames of a clip. Raises RecipeError if the clip is smaller than `size` pixels."""
        assert isinstance(source, Path)
        count, _, height, width = self.read(source).shape
        if min(height, width) < size:
            raise RecipeError(f"{source}: {width}x{height} is too small to cut {size}x{size} pixels from; remove it")
        return plan_cut(rng, source, count, place, frames, self.recipe.data.longest_stride)

    def _detailed(self, rng: Generator, draw: Callable[[], Source], size: int) -> tuple[Source, np.ndarray]:
        """Draw several sources and locations, and choose one with a probability in proportion to its detail.

        Most of most photographs is sky or out-of-focus background, from which little can be learned.
        """
        drawn = [(draw(), rng.random(2)) for _ in range(CANDIDATES)]
        frames = [self.read(source) for source, _ in drawn]
        details = np.array(
            [
                detail(frame[0] if frame.dim() == 4 else frame, place, size)
                for frame, (_, place) in zip(frames, drawn, strict=True)
            ]
        )
        details += 1e-3
        return drawn[int(rng.choice(CANDIDATES, p=details / details.sum()))]


def choose(rng: Generator, paths: Sequence[Path]) -> Path:
    return paths[int(rng.integers(len(paths)))]
