"""Validation: PSNR-Y, sharpness and temporal stability on held-out windows, and the gain from neighbouring frames.

The windows are the centres of clips, and photographs that move by whole pixels at three speeds. Nothing is random.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ristn_cli.degradation import crop_to_multiple, degrade, quantize
from ristn_cli.engine.device import Backend
from ristn_cli.evaluation.metrics import gradient_energy, psnr_y, rgb_to_y, temporal_error
from ristn_cli.model import RISTN, bicubic_upsample
from ristn_cli.model.folded import inference_form
from ristn_cli.training.material import IMAGE_SUFFIXES, list_clips, list_files, read_clip, read_photo
from ristn_cli.training.motion import View, shift_still
from ristn_cli.training.objective import autocast
from ristn_cli.training.recipe import Recipe, RecipeError

VALIDATION_FRAMES = 7
VALIDATION_SIZE = 384
"""Windows from clips: the middle frames of each, cropped to this many HR pixels around the centre."""

MOVING_SIZE = 192
"""Side of the windows from photographs, in HR pixels."""

SPEEDS = {"slow": 1.5, "medium": 5.0, "fast": 14.0}
"""Speeds of moving photographs, in HR pixels per frame."""

BORDER = 8
"""Width of the border that is not measured, in HR pixels, as in evaluation."""


@dataclass(frozen=True)
class ValidationWindow:
    """Frames that are not used for training.

    Attributes:
        name: name of the clip, or of the photograph and the speed.
        kind: `clip`, or the speed of a moving photograph.
        hr: (T, 3, H, W) in [0, 1].
    """

    name: str
    kind: str
    hr: Tensor


@dataclass(frozen=True)
class Scores:
    """The result of a validation.

    Attributes:
        summary: means over all windows: `psnr_y` and `bicubic_psnr_y` in dB, over all frames; `sharpness`, the gradient
            energy of luma relative to the original; `temporal_error` and `bicubic_temporal_error`, the error of
            differences between consecutive frames, in 8-bit levels; `temporal_gain` in dB; `temporal_gain_<kind>` if
            there are several kinds; `temporal_share` in [0, 1], of one window of each kind, if the network has a
            fusion.
        windows: for each window, `psnr_y`, `sharpness` and `temporal_error` over all frames, and `middle_psnr_y` and
            `temporal_gain` of the middle frame.
    """

    summary: dict[str, float]
    windows: dict[str, dict[str, float]]


def load_validation(recipe: Recipe, folder: Path) -> list[ValidationWindow]:
    """Return the windows of a recipe's validation clips and photographs, sorted."""
    windows = []
    if name := recipe.data.validation:
        paths = list_clips(folder / name)
        if not paths:
            raise RecipeError(f"{folder / name}: no clips to validate on")
        windows += [ValidationWindow(path.stem, "clip", read_middle(path)) for path in paths]
    if name := recipe.data.validation_photos:
        paths = list_files(folder / name, IMAGE_SUFFIXES)
        if not paths:
            raise RecipeError(f"{folder / name}: no photographs to validate on")
        windows += [move_photo(path, index, kind) for index, path in enumerate(paths) for kind in SPEEDS]
    return windows


def read_middle(path: Path) -> Tensor:
    """Return the middle frames of a clip, cropped around the centre: (T, 3, H, W) in [0, 1]."""
    clip = read_clip(path)
    first = max(0, (len(clip) - VALIDATION_FRAMES) // 2)
    clip = clip[first : first + VALIDATION_FRAMES]
    height, width = clip.shape[-2:]
    top, left = max(0, (height - VALIDATION_SIZE) // 2), max(0, (width - VALIDATION_SIZE) // 2)
    window = clip[..., top:, left:][..., :VALIDATION_SIZE, :VALIDATION_SIZE]
    return crop_to_multiple(window.float().div(255))


def move_photo(path: Path, index: int, kind: str) -> ValidationWindow:
    """Return a window of a photograph's centre, moved at one of the speeds. The direction depends on `index` and
    `kind`.
    """
    angle = 2 * math.pi * (index * len(SPEEDS) + list(SPEEDS).index(kind)) * (math.sqrt(5) - 1) / 2  # spread evenly
    velocity = SPEEDS[kind] * np.array([math.sin(angle), math.cos(angle)])
    still = read_photo(path)
    size = min(MOVING_SIZE, *(side // 4 * 4 for side in still.shape[1:]))
    positions = velocity * np.arange(VALIDATION_FRAMES)[:, None]
    view = View(source=path, place=np.array([0.5, 0.5]), path=positions, reduction=1.0)
    return ValidationWindow(f"{path.stem} {kind}", kind, quantize(shift_still(still, view, size)))


@torch.inference_mode()
def validate(model: RISTN, windows: list[ValidationWindow], backend: Backend, crf: int = 0) -> Scores:
    """Measure a network on validation windows.

    The temporal gain is PSNR-Y of the middle frame with its true neighbours, minus PSNR-Y with that frame repeated: the
    benefit of the other frames.

    Args:
        model: the network.
        windows: the validation windows.
        backend: device and precision.
        crf: if above 0, x264 compresses the LR windows at this crf, also for the bicubic scores.
    """

    model.eval()
    network = inference_form(model).to(backend.device, backend.dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch omits it

    def upscale(lr: Tensor, keep: slice) -> Tensor:
        sr: Tensor = network(lr[None].to(backend.device), keep)
        return sr[0].float().cpu()

    rows: dict[str, dict[str, float]] = {}
    shares: dict[str, float] = {}
    for window in windows:
        lr = quantize(degrade(window.hr))
        if crf:
            from ristn_cli.training.degradations.coding import compress
            from ristn_cli.video import Compression

            lr = compress(lr, Compression(strength=crf))
        middle = len(lr) // 2
        truth = [to_image(frame) for frame in window.hr]
        made, made_bicubic = (
            [to_image(frame) for frame in frames] for frames in (upscale(lr, slice(None)), bicubic_upsample(lr))
        )
        moving = [measure(*pair) for pair in zip(made, truth, strict=True)]
        repeated = upscale(lr[middle].expand_as(lr), slice(middle, middle + 1))[0]
        still = measure(to_image(repeated), truth[middle])
        bicubic = [measure(*pair) for pair in zip(made_bicubic, truth, strict=True)]
        rows[window.name] = {
            "psnr_y": mean(moving),
            "bicubic_psnr_y": mean(bicubic),
            "sharpness": mean(list(map(edge_energy, made))) / max(1e-9, mean(list(map(edge_energy, truth)))),
            "temporal_error": mean_temporal_error(made, truth),
            "bicubic_temporal_error": mean_temporal_error(made_bicubic, truth),
            "middle_psnr_y": moving[middle],
            "temporal_gain": moving[middle] - still,
        }
        if window.kind not in shares:
            with autocast(backend):
                share = model.temporal_share(lr[None].to(backend.device))
            if share is not None:
                shares[window.kind] = share
    averaged = ("psnr_y", "bicubic_psnr_y", "sharpness", "temporal_error", "bicubic_temporal_error")
    summary = {name: mean([row[name] for row in rows.values()]) for name in averaged}
    gains: dict[str, list[float]] = {}
    for window in windows:
        gains.setdefault(window.kind, []).append(rows[window.name]["temporal_gain"])
    summary["temporal_gain"] = mean([gain for each in gains.values() for gain in each])
    if len(gains) > 1:
        summary |= {f"temporal_gain_{kind}": mean(each) for kind, each in gains.items()}
    if shares:
        summary["temporal_share"] = mean(list(shares.values()))
    kept = ("psnr_y", "middle_psnr_y", "temporal_gain", "sharpness", "temporal_error")
    return Scores(
        {name: round(value, 4) for name, value in summary.items()},
        {window: {name: round(row[name], 3) for name in kept} for window, row in rows.items()},
    )


def to_image(frame: Tensor) -> Any:
    """Convert (3, H, W) in [0, 1] to (H, W, 3) uint8."""
    return quantize(frame).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()


def measure(frame: Any, truth: Any) -> float:
    """Return PSNR-Y in dB of a frame (H, W, 3) uint8 against the original."""
    return psnr_y(frame, truth, crop_border=BORDER)


def edge_energy(frame: Any) -> float:
    """Return the `gradient_energy` of luma of a frame (H, W, 3) uint8 without its border."""
    return gradient_energy(rgb_to_y(frame)[BORDER:-BORDER, BORDER:-BORDER])


def mean_temporal_error(frames: list[Any], truth: list[Any]) -> float:
    """Return the mean `temporal_error` over consecutive frames, in 8-bit levels; 0 for a single frame."""
    errors = [rgb_to_y(a) - rgb_to_y(b) for a, b in zip(frames, truth, strict=True)]
    steps = [temporal_error(*pair, crop_border=BORDER) for pair in zip(errors[1:], errors, strict=False)]
    return mean(steps) if steps else 0.0


def mean(values: list[float]) -> float:
    return sum(values) / len(values)
