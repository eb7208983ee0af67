"""Recipes: the settings of a training run. Files are read by `recipe_file`."""

import re
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from ristn_cli.model import SCALE, RISTNConfig
from ristn_cli.training.degradation_recipe import DegradationRecipe
from ristn_cli.training.loss_recipe import LossRecipe


class RecipeError(Exception):
    """A recipe cannot be found, read or carried out."""


FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
SHARES = (
    "clip_share",
    "text_share",
    "warp_share",
    "layer_share",
    "exposure",
    "exposure_share",
    "fade_share",
    "clean_share",
    "compression_share",
    "step_share",
)
MAX_RECIPE_BYTES = 2**20
MAX_STEPS = 2**40
MAX_PIXELS = 2**32
MAX_SPEED = 1000
"""Limits far above any useful recipe, so that a mistaken or malicious one is refused."""


def check_numbers(recipe: object, names: Iterable[str], *, highest: float = sys.float_info.max) -> None:
    """Raise ValueError if a field of the recipe is not from 0 to `highest`."""
    for name in names:
        number = getattr(recipe, name)
        if not 0 <= number <= highest:
            raise ValueError(f"{name} {number}: expected 0 to {highest:g}")


@dataclass(frozen=True, kw_only=True)
class DataRecipe:
    """The material of training windows, how it moves and how it is degraded.

    Attributes:
        photos: folder of photographs, relative to the data folder; empty for none.
        drawings: folder of drawings, relative to the data folder; empty for none.
        drawing_share: share of the windows that show moving drawings. With 0, drawings are mixed with the photographs.
        clips: folder of clips, relative to the data folder; empty for none.
        validation: folder of validation clips, relative to the data folder; empty for none.
        validation_photos: folder of validation photographs, which validation moves; empty for none.
        clip_share: share of the windows that are cut from clips.
        text_share: share of the windows that show rendered text and line art.
        warp_share: share of the moving stills that also rotate and zoom.
        layer_share: share of the moving stills that have one or two foreground layers with their own motion.
        exposure: largest relative change of brightness from the first to the last frame of a window.
        exposure_share: share of the moving stills whose brightness changes.
        fade_share: share of the moving stills that fade to or from another still or black.
        longest_stride: clips are read with a random stride from 1 to this many frames.
        cache_gib: GiB of memory for decoded frames, per training process including its batch workers.
        degradation: how LR frames are made: `BI` (bicubic), or `real`, which adds blur, resampling, noise and
            compression in random order. The fields below and `[degradations]` only apply to `real`.
        clean_share: share of the windows that only have BI.
        compression_share: share of the other windows that are compressed.
        step_share: probability of each of blur, resampling and noise in the other windows.
        lead: frames before each window that are degraded with it and then cut. The first frames of an encoder are
            better than later ones, and most windows of real footage start within a group of pictures.
        surround: LR pixels around each patch that are degraded with it and then cut, because encoders predict from
            them.
        blur: largest standard deviation of the blur, in LR pixels.
        smallest_resampling: smallest intermediate size of the resampling, relative to the LR size.
        noise: largest standard deviation of the noise, in 8-bit levels.
        lowest_crf, highest_crf: range of x264's crf.
        highest_scale: coarsest quantizer scale of MPEG-4 and MPEG-2; the finest is 2.
        validation_crf: crf of x264 for validation clips, with any degradation; 0 to leave them uncompressed.
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
    fade_share: float = 0.0
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
            raise ValueError("lowest_crf, highest_crf and validation_crf: expected 0 to 51, lowest_crf <= highest_crf")
        if not 2 <= self.highest_scale <= 31:
            raise ValueError(f"highest_scale {self.highest_scale}: expected 2 to 31")
        for name, number in (("lead", self.lead), ("surround", self.surround)):
            if number < 0 or (number and self.degradation == "BI"):
                raise ValueError(f"{name} {number}: expected 0, or a positive number with degradation 'real'")
        check_numbers(self, SHARES, highest=1)
        check_numbers(self, ("lead", "surround", "noise"), highest=MAX_SPEED)
        check_numbers(self, ("cache_gib",))
        if not 1 <= self.longest_stride <= MAX_SPEED:
            raise ValueError(f"longest_stride {self.longest_stride}: expected 1 to {MAX_SPEED}")
        for name in ("photos", "drawings", "clips", "validation", "validation_photos"):
            if "\0" in getattr(self, name):
                raise ValueError(f"{name}: a folder name cannot contain a zero byte")
        if not 0 <= self.blur <= 2 or not 0.3 <= self.smallest_resampling <= 1.2 or self.noise < 0:
            raise ValueError("expected blur from 0 to 2, smallest_resampling from 0.3 to 1.2, noise of 0 or more")


@dataclass(frozen=True, kw_only=True)
class StageRecipe:
    """One stage of training.

    Attributes:
        part: `all`, or `spatial` for the single-image network (Eq. 9) whose weights the next stage starts from.
        iterations: optimizer steps.
        frames: frames per window.
        patch: side of a square patch, in LR pixels.
        batch: windows per step and process.
        continues: whether the stage continues with the network, averages and optimizer of the previous stage. Otherwise
            it starts with a new optimizer and those averaged weights that fit.
        fastest: highest speed of a moving still, in HR pixels per frame.
        fastest_at_start: highest speed at the first step, from which it grows linearly to `fastest`; 0 for a constant
            speed.
        still_share: share of the stills that do not move.
        aliasing_until: step until which LR frames are mixed with frames decimated without a filter: fully for a third
            of that time, then less and less. Aliasing teaches the temporal path to use other frames.
        learning_rate: Adam's learning rate after `warmup` steps.
        final_learning_rate: end of the cosine schedule; equal to `learning_rate` for a constant rate.
        warmup: steps of linear warm-up.
        sparsity: lambda of Eq. 10.
        sparsity_after: step from which the L1 penalty applies, to let the temporal path develop first.
        loss: pixel error: `mse` (Eq. 9, 10), `charbonnier`, or `luma`, the mean squared error of BT.601 Y plus a tenth
            of that of RGB. In TOML, `loss` may also be a table with this value as `pixel` and the fields of `terms`.
        terms: further terms of the loss, and changes to the target. In TOML the table `loss`, of the recipe or of a
            stage.
        loss_border: border of a patch without loss, in LR pixels. The network has less context there than within a
            frame.
        freeze_norm: whether batch normalization uses its running statistics without updating them.
        beta2: Adam's decay rate of the second moment.
        clip_gradient: largest gradient norm; 0 for no limit.
        ema: decay of the averaged weights, which are validated and released.
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
    still_share: float = 0.05
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
            raise ValueError(
                f"aliasing_until {self.aliasing_until} is larger than the stage's {self.iterations} iterations"
            )
        if self.loss not in ("mse", "charbonnier", "luma"):
            raise ValueError(f"unknown loss {self.loss!r}: expected mse, charbonnier or luma")
        if not 0 <= 2 * self.loss_border < self.patch:
            raise ValueError(
                f"loss_border {self.loss_border}: expected 0 or more, and less than half of patch {self.patch}"
            )
        if min(self.iterations, self.frames, self.patch, self.batch) < 1:
            raise ValueError("iterations, frames, patch and batch: expected 1 or more")
        frames = 1 if self.part == "spatial" else self.frames
        self.terms.check(frames=frames, size=SCALE * (self.patch - 2 * self.loss_border))
        for name, decay in (("ema", self.ema), ("beta2", self.beta2)):
            if not 0 <= decay < 1:
                raise ValueError(f"{name} {decay}: expected 0 or more and less than 1")
        if self.iterations > MAX_STEPS or self.pixels > MAX_PIXELS:
            raise ValueError(f"expected at most {MAX_STEPS} iterations and {MAX_PIXELS} LR pixels per step")
        check_numbers(self, ("aliasing_until", "warmup", "sparsity_after"), highest=MAX_STEPS)
        check_numbers(self, ("fastest", "fastest_at_start"), highest=MAX_SPEED)
        check_numbers(self, ("still_share",), highest=1)
        check_numbers(self, ("learning_rate", "final_learning_rate", "sparsity", "clip_gradient"))

    @property
    def pixels(self) -> int:
        """LR pixels per step and process."""
        frames = 1 if self.part == "spatial" else self.frames
        return self.batch * frames * self.patch**2

    def fastest_at(self, step: int) -> float:
        """Return the highest speed of a moving still at a step of the stage, in HR pixels per frame."""
        if not self.fastest_at_start:
            return self.fastest
        return self.fastest_at_start + (self.fastest - self.fastest_at_start) * step / max(1, self.iterations - 1)

    def aliasing_at(self, step: int) -> float:
        """Return the share, in [0, 1], of the unfiltered frame in LR frames at a step of the stage."""
        return min(1.0, 1.5 * max(0.0, 1 - step / self.aliasing_until)) if self.aliasing_until else 0.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run: the network, its data and its stages.

    Attributes:
        name: name of the run and of its weights.
        model: the network.
        data: material and degradation of the windows.
        degradations: further degradations of LR windows, for `data.degradation` `real`.
        stages: carried out in order.
        seed: seed of the initial weights and of the data order.
        compile: whether to use torch.compile, which needs a C++ compiler or a GPU.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
        start_from: initial weights: a .safetensors file of the same network, or the name of released weights; empty for
            random weights.
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
                f"name is {self.name[:50]!r}, expected letters, digits, '.', '-' and '_', starting with a letter or "
                "digit, because files are named after it"
            )
        if not self.stages:
            raise ValueError("no [[stages]]: expected one or more")
        if min(self.validate_every, self.checkpoint_every) < 1:
            raise ValueError("validate_every and checkpoint_every: expected 1 or more")
        if not 0 <= self.seed <= MAX_STEPS:
            raise ValueError(f"seed {self.seed}: expected 0 to {MAX_STEPS}")
        if any(self.degradations.shares.values()) and self.data.degradation != "real":
            raise ValueError("[degradations] needs degradation = 'real' in [data]")
        for before, stage in zip((None, *self.stages), self.stages, strict=False):
            if stage.continues and (before is None or before.part != stage.part):
                raise ValueError(f"stage {stage.name!r} has continues = true, but the stage before has another part")

    @property
    def iterations(self) -> int:
        return sum(stage.iterations for stage in self.stages)

    def stage_at(self, iteration: int) -> tuple[int, int]:
        """Return the index of the stage that contains step `iteration`, and the step's number within the stage."""
        for index, stage in enumerate(self.stages):
            if iteration < stage.iterations:
                return index, iteration
            iteration -= stage.iterations
        raise IndexError("past the last stage")

    def pixels_at(self, iteration: int) -> int:
        """Return the LR pixels that each process has trained on after `iteration` steps."""
        total = 0
        for stage in self.stages:
            total += stage.pixels * min(max(iteration, 0), stage.iterations)
            iteration -= stage.iterations
        return total

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values, as stored in checkpoints and compared by `changed_field`."""
        return asdict(self) | {"model": self.model.to_dict(), "stages": [asdict(stage) for stage in self.stages]}


NOT_COMPARED = {"compile", "validate_every", "checkpoint_every"}
"""Fields that do not affect what is learned. They may change when a run is resumed."""
