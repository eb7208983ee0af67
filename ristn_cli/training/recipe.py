"""Recipes: a training run as a small TOML file."""

import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ristn_cli.model import SCALE, RISTNConfig
from ristn_cli.training.degradation_recipe import DegradationRecipe
from ristn_cli.training.loss_recipe import LossRecipe


class RecipeError(Exception):
    """A recipe that cannot be found, read or carried out."""


FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
SHARES = (
    "clip_share",
    "text_share",
    "warp_share",
    "layer_share",
    "exposure",
    "exposure_share",
    "clean_share",
    "compression_share",
    "step_share",
)
MOST_RECIPE_BYTES = 2**20
MOST_STEPS = 2**40
MOST_PIXELS = 2**32
MOST_SPEED = 1000
"""Limits that no recipe needs to reach: what is beyond is a mistake, or meant to harm."""


def check_numbers(recipe: object, names: Iterable[str], *, highest: float = sys.float_info.max) -> None:
    """Raise ValueError for a number of the recipe that is not from 0 to `highest`."""
    for name in names:
        number = getattr(recipe, name)
        if not 0 <= number <= highest:
            raise ValueError(f"{name} {number}: expected 0 to {highest:g}")


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """What windows are made of, and how they move.

    Attributes:
        photos: folder of photographs, relative to the data folder; empty for none.
        drawings: folder of drawings, likewise.
        drawing_share: share of the windows that show moving drawings; 0 for each as likely as a photograph.
        clips: folder of clips, likewise.
        validation: folder of clips that are never trained on, likewise.
        validation_photos: folder of photographs that are never trained on, likewise; validation moves them.
        clip_share: share of the windows cut from clips.
        text_share: share of the windows that show rendered text and line art.
        warp_share: share of the moving stills that also rotate and zoom.
        layer_share: share of the moving stills that have one or two foregrounds, which move on their own.
        exposure: largest relative change of brightness from the first frame of a window to the last.
        exposure_share: share of the moving stills whose brightness changes.
        longest_stride: clips are read with a random stride of 1 to this many frames.
        cache_gib: budget for decoded frames in memory, of each training process and all that make its batches.
        degradation: of LR frames: `BI`, or `real`: after BI also blur, resampling, noise and compression by real
            encoders, in random order; the fields below and `[degradations]` only count for `real`.
        clean_share: share of the windows that stay BI.
        compression_share: share of the other windows that are compressed.
        step_share: chance of each of blur, resampling and noise in a window that does not stay BI.
        lead: frames before each window that are degraded with it and then cut: an encoder's first pictures are better
            than those that follow, so most windows of real footage begin somewhere within a group of pictures.
        surround: LR pixels around each patch that are degraded with it and then cut: an encoder predicts from there.
        blur: largest standard deviation of the blur, in LR pixels.
        smallest_resampling: factor of the smallest size on the way of a resampling.
        noise: largest standard deviation of the noise, in 8-bit levels.
        lowest_crf, highest_crf: range of x264's rate factor.
        highest_scale: coarsest quantiser scale of MPEG-4 and MPEG-2; the finest is 2.
        validation_crf: validation clips are compressed by x264 at this rate factor; 0 for not at all. Any degradation.
    """

    photos: str = "photos"
    drawings: str = ""
    clips: str = "clips"
    validation: str = ""
    validation_photos: str = ""
    clip_share: float = 0.1
    text_share: float = 0.1
    drawing_share: float = 0.0
    warp_share: float = 0.2
    layer_share: float = 0.0
    exposure: float = 0.05
    exposure_share: float = 0.0
    longest_stride: int = 3
    cache_gib: float = 4.0
    degradation: str = "BI"
    clean_share: float = 0.2
    compression_share: float = 0.85
    step_share: float = 0.5
    lead: int = 0
    surround: int = 0
    blur: float = 0.7
    smallest_resampling: float = 0.6
    noise: float = 6.0
    lowest_crf: int = 15
    highest_crf: int = 35
    highest_scale: int = 12
    validation_crf: int = 0

    def __post_init__(self) -> None:
        if self.degradation not in ("BI", "real"):
            raise ValueError(f"unknown degradation {self.degradation!r}: expected BI or real")
        if not 0 <= self.lowest_crf <= self.highest_crf <= 51 or not 0 <= self.validation_crf <= 51:
            raise ValueError("lowest_crf, highest_crf and validation_crf are from 0 to 51, in order")
        if not 2 <= self.highest_scale <= 31:
            raise ValueError(f"highest_scale {self.highest_scale} is not from 2 to 31")
        for name, number in (("lead", self.lead), ("surround", self.surround)):
            if number < 0 or (number and self.degradation == "BI"):
                raise ValueError(f"{name} {number}: expected 0, or more for degradation 'real'")
        check_numbers(self, SHARES, highest=1)
        check_numbers(self, ("lead", "surround", "noise"), highest=MOST_SPEED)
        check_numbers(self, ("cache_gib",))
        if not 1 <= self.longest_stride <= MOST_SPEED:
            raise ValueError(f"longest_stride {self.longest_stride}: expected 1 to {MOST_SPEED}")
        for name in ("photos", "drawings", "clips", "validation", "validation_photos"):
            if "\0" in getattr(self, name):
                raise ValueError(f"{name}: a folder's name cannot have a zero byte")
        if not 0 <= self.blur <= 2 or not 0.3 <= self.smallest_resampling <= 1.2 or self.noise < 0:
            raise ValueError("blur is from 0 to 2, smallest_resampling from 0.3 to 1.2, noise at least 0")


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """One stage of training.

    Attributes:
        part: `all`, or `spatial` for the single-image network whose weights the next stage starts from (Eq. 9).
        iterations: optimiser steps.
        frames: frames of a window.
        patch: LR pixels of a square patch's side.
        batch: windows a step and process.
        continues: go on with the network, the averages and the optimiser of the stage before, rather than with a new
            optimiser and what fits of the averaged weights.
        fastest: the highest speed of a moving still, in HR pixels a frame.
        fastest_at_start: the highest speed at the stage's first step, from which it grows evenly to `fastest`; 0 for
            the same.
        aliasing_until: step until which LR frames are mixed with nearly unfiltered ones: all of them for a third of
            that time, then ever fewer. It teaches the temporal path to look at other frames.
        learning_rate: Adam's, reached after `warmup` steps.
        final_learning_rate: where the cosine ends; the same as `learning_rate` for none.
        warmup: steps of linear warm-up.
        sparsity: the lambda of Eq. 10.
        sparsity_after: step from which the L1 penalty is applied; before, the temporal path only has to live.
        loss: `mse` (Eq. 9, 10), `charbonnier`, or `luma`: the mean squared error of BT.601 Y, as PSNR-Y has it, and a
            tenth of that of RGB. In TOML also a table: `pixel` is this, all else is of `terms`.
        terms: what is minimised beside it, and what targets are; in TOML in the table `loss`, of the recipe for all
            stages, or of a stage.
        loss_border: LR pixels at the border of a patch whose error does not count: there the network sees less than
            it does within a frame.
        freeze_norm: batch normalisation uses its running statistics, which no longer change.
        beta2: Adam's decay of the second moment.
        clip_gradient: largest gradient norm; 0 for no limit.
        ema: decay of the averaged weights that are validated and released.
    """

    name: str
    part: str = "all"
    continues: bool = False
    iterations: int
    frames: int = 5
    patch: int = 50
    batch: int = 16
    fastest: float = 16.0
    fastest_at_start: float = 0.0
    aliasing_until: int = 0
    learning_rate: float = 1e-4
    final_learning_rate: float = 1e-4
    warmup: int = 0
    sparsity: float = 5e-7
    sparsity_after: int = 0
    loss: str = "mse"
    terms: LossRecipe = field(default_factory=LossRecipe)
    loss_border: int = 0
    freeze_norm: bool = False
    beta2: float = 0.999
    clip_gradient: float = 0.0
    ema: float = 0.999

    def __post_init__(self) -> None:
        if self.part not in ("all", "spatial"):
            raise ValueError(f"unknown part {self.part!r}: expected all or spatial")
        if self.aliasing_until > self.iterations:
            raise ValueError(f"aliasing_until {self.aliasing_until} is past the stage's {self.iterations} iterations")
        if self.loss not in ("mse", "charbonnier", "luma"):
            raise ValueError(f"unknown loss {self.loss!r}: expected mse, charbonnier or luma")
        if not 0 <= 2 * self.loss_border < self.patch:
            raise ValueError(f"loss_border {self.loss_border} leaves nothing of a patch of {self.patch}")
        if min(self.iterations, self.frames, self.patch, self.batch) < 1:
            raise ValueError("iterations, frames, patch and batch are at least 1")
        frames = 1 if self.part == "spatial" else self.frames
        self.terms.check(frames=frames, size=SCALE * (self.patch - 2 * self.loss_border))
        for name, decay in (("ema", self.ema), ("beta2", self.beta2)):
            if not 0 <= decay < 1:
                raise ValueError(f"{name} {decay}: expected at least 0 and less than 1")
        if self.iterations > MOST_STEPS or self.pixels > MOST_PIXELS:
            raise ValueError(f"expected at most {MOST_STEPS} iterations, and {MOST_PIXELS} LR pixels a step")
        check_numbers(self, ("aliasing_until", "warmup", "sparsity_after"), highest=MOST_STEPS)
        check_numbers(self, ("fastest", "fastest_at_start"), highest=MOST_SPEED)
        check_numbers(self, ("learning_rate", "final_learning_rate", "sparsity", "clip_gradient"))

    @property
    def pixels(self) -> int:
        """LR pixels of a step and process."""
        frames = 1 if self.part == "spatial" else self.frames
        return self.batch * frames * self.patch**2

    def fastest_at(self, step: int) -> float:
        """The highest speed of a moving still at a step of the stage, in HR pixels a frame."""
        if not self.fastest_at_start:
            return self.fastest
        return self.fastest_at_start + (self.fastest - self.fastest_at_start) * step / max(1, self.iterations - 1)

    def aliasing_at(self, step: int) -> float:
        """Share of the unfiltered frame in LR frames at a step of the stage, in [0, 1]."""
        return min(1.0, 1.5 * max(0.0, 1 - step / self.aliasing_until)) if self.aliasing_until else 0.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole run: which network, on what, through which stages.

    Attributes:
        name: names the run and the weights it makes.
        model: the network.
        data: the windows.
        degradations: what else LR windows suffer, where the degradation is `real`.
        stages: carried out in order.
        seed: of the initial weights and of the data order.
        compile: run the network through torch.compile (needs a C++ compiler or a GPU).
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
        start_from: weights that the first stage begins with: a .safetensors file of the same network, or the name of
            released weights; empty for random ones.
    """

    name: str
    model: RISTNConfig
    stages: tuple[StageRecipe, ...]
    data: DataRecipe = field(default_factory=DataRecipe)
    degradations: DegradationRecipe = field(default_factory=DegradationRecipe)
    seed: int = 0
    compile: bool = False
    validate_every: int = 1000
    checkpoint_every: int = 500
    start_from: str = ""

    def __post_init__(self) -> None:
        if FILE_NAME.fullmatch(self.name) is None:
            raise ValueError(
                f"name is {self.name[:50]!r}, expected letters, digits, '.', '-' and '_', the first a letter or digit: "
                "it names files"
            )
        if not self.stages:
            raise ValueError("no [[stages]]")
        if min(self.validate_every, self.checkpoint_every) < 1:
            raise ValueError("validate_every and checkpoint_every are at least 1")
        if not 0 <= self.seed <= MOST_STEPS:
            raise ValueError(f"seed {self.seed}: expected 0 to {MOST_STEPS}")
        if any(self.degradations.shares.values()) and self.data.degradation != "real":
            raise ValueError("[degradations] is for degradation 'real' in [data]")
        for before, stage in zip((None, *self.stages), self.stages, strict=False):
            if stage.continues and (before is None or before.part != stage.part):
                raise ValueError(f"stage {stage.name!r} continues, but no stage of the same part stands before it")

    @property
    def iterations(self) -> int:
        """Steps of all stages."""
        return sum(stage.iterations for stage in self.stages)

    def stage_at(self, iteration: int) -> tuple[int, int]:
        """Index of the stage that step `iteration` belongs to, and the step's number within it."""
        for index, stage in enumerate(self.stages):
            if iteration < stage.iterations:
                return index, iteration
            iteration -= stage.iterations
        raise IndexError("past the last stage")

    def pixels_at(self, iteration: int) -> int:
        """LR pixels that each process has trained on after as many steps."""
        total = 0
        for stage in self.stages:
            total += stage.pixels * min(max(iteration, 0), stage.iterations)
            iteration -= stage.iterations
        return total

    def to_dict(self) -> dict[str, Any]:
        """Plain values that tell one recipe from another, as stored in checkpoints."""
        return asdict(self) | {"model": self.model.to_dict(), "stages": [asdict(stage) for stage in self.stages]}


HOW_CARRIED_OUT = {"compile", "validate_every", "checkpoint_every"}
"""Fields that do not change what is learned: they may be others when a run goes on."""
