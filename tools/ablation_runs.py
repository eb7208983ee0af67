"""Trains and evaluates the paper's ablations: Table 1's blocks, Table 2's fusions, Table 3's recurrent variants.

Every network sees the same windows for the same number of steps and has its own folder. Finished networks are kept.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ristn_cli.engine.device import Backend
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.evaluation.dataset import Clip, plan_clips
from ristn_cli.evaluation.methods import Interpolation, Method, Network
from ristn_cli.evaluation.scoring import Protocol, evaluate_clip, mean_scores
from ristn_cli.own_files import write_text
from ristn_cli.training.loop import train
from ristn_cli.training.material import FrameCache
from ristn_cli.training.recipe import Recipe
from ristn_cli.training.recipe_file import changed_field, load_recipe
from ristn_cli.typed import build, read_json
from ristn_cli.weights import load_weights

RESULT = "result.json"
RECIPE = Path(__file__).with_name("ablation.toml")


@dataclass(frozen=True)
class Variant:
    """A row of the paper's tables.

    Attributes:
        table: number of the table.
        name: name in the paper.
        changes: fields of `RISTNConfig` that differ from the recipe's network.
        psnr: the paper's PSNR in dB.
        ssim: the paper's SSIM; None if the paper has none.
        layers: number of ConvLSTM layers, if the table varies them.
    """

    table: int
    name: str
    changes: tuple[tuple[str, Any], ...]
    psnr: float
    ssim: float | None = None
    layers: int | None = None

    @property
    def key(self) -> str:
        """Name of its folder. Variants with the same network share it."""
        return "-".join(str(value) for _, value in self.changes)


def blocks(block: str) -> tuple[tuple[str, Any], ...]:
    return (("block", block), ("lstm_layers", 0))


def recurrent(fusion: str, pattern: str, layers: int) -> tuple[tuple[str, Any], ...]:
    return (("fusion", fusion), ("pattern", pattern), ("lstm_layers", layers))


# Table 3's C-LSTM with 8 and more layers is below bicubic, and its RDC-LSTM with 10 layers is near Table 2's RISTN-NF:
# spatial features cannot bypass the recurrence there, so the variants are compared without fusion.
TABLE_3 = {
    "c": (24.81, 24.90, 21.98, 22.13),
    "rc": (25.18, 25.26, 25.35, 25.40),
    "dc": (25.09, 25.13, 25.29, 25.36),
    "rdc": (25.16, 25.35, 25.47, 25.60),
}
DEPTHS = (3, 5, 8, 10)

VARIANTS = (
    Variant(1, "IB", blocks("ib"), 31.30, 0.872),
    Variant(1, "RB", blocks("rb"), 31.49, 0.885),
    Variant(1, "RIB", blocks("rib"), 31.65, 0.897),
    Variant(2, "RISTN-NF", recurrent("none", "rdc", 10), 25.74, 0.782),
    Variant(2, "RISTN-DF", recurrent("dense", "rdc", 10), 25.97, 0.789),
    Variant(2, "RISTN", recurrent("sparse", "rdc", 10), 26.13, 0.792),
    *(
        Variant(3, f"{pattern.upper()}-LSTM", recurrent("none", pattern, layers), psnr, layers=layers)
        for pattern, psnrs in TABLE_3.items()
        for layers, psnr in zip(DEPTHS, psnrs, strict=True)
    ),
)


@dataclass(frozen=True, kw_only=True)
class AblationResult:
    """Scores of a network on the test clips.

    Attributes:
        psnr_y: dB, mean over frames, then over clips.
        ssim_y: mean over frames, then over clips.
        parameters: number of learned values.
        seconds: duration of the training.
    """

    psnr_y: float
    ssim_y: float
    parameters: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class AblationProgress:
    """Progress of an ablation: the current network, its step, and all finished networks.

    Attributes:
        position: index of the network, from 0, of `count`.
        name: name of its folder.
        iteration: step of its training, of `iterations`.
    """

    position: int
    count: int
    name: str
    iteration: int
    iterations: int


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """Options of an ablation.

    Attributes:
        data: folder that contains the recipe's folders.
        test: clips to score.
        output: folder of the runs.
        tables: numbers of the tables.
        iterations: steps per network; None for the recipe's.
        frames: number of scored frames per test clip.
    """

    data: Path
    test: Path
    output: Path
    tables: tuple[int, ...] = (1, 2, 3)
    iterations: int | None = None
    frames: int = 10

    @property
    def variants(self) -> tuple[Variant, ...]:
        return tuple(variant for variant in VARIANTS if variant.table in self.tables)

    def make_recipe(self, variant: Variant) -> Recipe:
        """Return the recipe of a variant: `ablation.toml` with its changes. Table 1's has the same number of pixels of
        stills.
        """
        base = load_recipe(str(RECIPE))
        (stage,) = base.stages
        if self.iterations is not None:
            stage = replace(stage, iterations=self.iterations, warmup=min(stage.warmup, self.iterations))
        if variant.table == 1:
            stage = replace(stage, part="spatial", batch=stage.batch * stage.frames, frames=1)
        return replace(base, name=variant.key, model=replace(base.model, **dict(variant.changes)), stages=(stage,))


def run_ablation(
    ablation: Ablation,
    backend: Backend,
    *,
    minutes: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Iterator[AblationProgress]:
    """Train and evaluate every unfinished network; a second call resumes a stopped one.

    Args:
        ablation: the options.
        backend: device and precision.
        minutes: time limit; None for no limit.
        should_stop: called after each step; True stops.

    Raises:
        RecipeError, TrainingError: see `train`.
        VideoError: the test clips cannot be read.
    """
    clips = plan_clips(ablation.test, max_frames=ablation.frames)
    finished = read_results(ablation, clips)
    ends = None if minutes is None else time.monotonic() + 60 * minutes
    cache = FrameCache(int(load_recipe(str(RECIPE)).data.cache_gib * 2**30))
    pending = {variant.key: variant for variant in ablation.variants}
    for position, (key, variant) in enumerate(pending.items()):
        recipe, folder = ablation.make_recipe(variant), ablation.output / key
        done = AblationProgress(
            position=position, count=len(pending), name=key, iteration=0, iterations=recipe.iterations
        )
        if key in finished:
            yield replace(done, iteration=recipe.iterations)
            continue
        left = None if ends is None else (ends - time.monotonic()) / 60
        if should_stop() or (left is not None and left <= 0):
            return
        # Batches are made in this process, because another one would only compete for the processor.
        for step in train(
            recipe,
            data=ablation.data,
            output=folder,
            backend=backend,
            minutes=left,
            workers=0,
            should_stop=should_stop,
            cache=cache,
        ):
            done = replace(done, iteration=step.iteration)
            yield done
        weights = folder / f"{recipe.name}.safetensors"
        if not weights.exists():  # stopped on the way
            return
        network = load_weights(weights)
        result = score(Network(key, Upscaler(network, backend)), clips, ablation)
        log = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
        result = replace(result, parameters=network.count_parameters(), seconds=json.loads(log[-1])["seconds"])
        write_result(folder / RESULT, result, recipe, clips)
        yield replace(done, iteration=recipe.iterations)


def score(method: Method, clips: Sequence[Clip], ablation: Ablation) -> AblationResult:
    protocol = Protocol(max_frames=ablation.frames)
    means = mean_scores(evaluate_clip(clip, method, protocol).means for clip in clips)
    return AblationResult(psnr_y=means.psnr_y, ssim_y=means.ssim_y)


def score_bicubic(ablation: Ablation) -> AblationResult:
    return score(Interpolation("bicubic"), plan_clips(ablation.test, max_frames=ablation.frames), ablation)


def write_result(path: Path, result: AblationResult, recipe: Recipe, clips: Sequence[Clip]) -> None:
    """Write a result with the recipe and clips that it belongs to, completely or not at all."""
    entry = {"recipe": recipe.to_dict(), "clips": describe_clips(clips), "result": asdict(result)}
    write_text(path, json.dumps(entry, indent=1) + "\n")


@dataclass(frozen=True, kw_only=True)
class _File:
    recipe: dict[str, Any]
    clips: dict[str, int]
    result: AblationResult


def read_results(ablation: Ablation, clips: Sequence[Clip] | None = None) -> dict[str, AblationResult]:
    """Return finished networks by key, ignoring results of other recipes or test clips."""
    clips = clips if clips is not None else plan_clips(ablation.test, max_frames=ablation.frames)
    results = {}
    for variant in ablation.variants:
        path = ablation.output / variant.key / RESULT
        if not path.exists():
            continue
        entry: _File = build(_File, read_json(path), str(path))
        wanted = json.loads(json.dumps(ablation.make_recipe(variant).to_dict()))
        if not changed_field(entry.recipe, wanted) and entry.clips == describe_clips(clips):
            results[variant.key] = entry.result
    return results


def describe_clips(clips: Sequence[Clip]) -> dict[str, int]:
    return {clip.name: clip.frames for clip in clips}
