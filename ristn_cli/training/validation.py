"""Validation: PSNR-Y on the middles of held-out clips, and what the network takes from neighbouring frames."""

from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ristn_cli.degradation import crop_to_multiple, degrade, quantize
from ristn_cli.evaluation.metrics import psnr_y
from ristn_cli.inference.device import Backend
from ristn_cli.model import RISTN, bicubic_upsample
from ristn_cli.training.data import CLIP_SUFFIXES, list_files, to_8_bits
from ristn_cli.training.footage import compress
from ristn_cli.training.objective import autocast
from ristn_cli.training.recipe import Recipe, RecipeError
from ristn_cli.video import Compression, read_frames

VALIDATION_FRAMES = 7
VALIDATION_SIZE = 384
"""Validation windows: the middle frames of each clip, cut to this many HR pixels around the centre."""


def load_validation(recipe: Recipe, folder: Path) -> list[Tensor]:
    """HR validation windows, each (T, 3, H, W) in [0, 1]: the middle of each validation clip."""
    if not recipe.data.validation:
        return []
    paths = list_files(folder / recipe.data.validation, CLIP_SUFFIXES)
    if not paths:
        raise RecipeError(f"{folder / recipe.data.validation}: no clips to validate on")
    windows = []
    for path in paths:
        count = sum(1 for _ in read_frames(path))  # containers only guess it; frames are dropped as they are counted
        first = max(0, (count - VALIDATION_FRAMES) // 2)
        frames = islice(read_frames(path), first, first + VALIDATION_FRAMES)
        clip = torch.stack([to_8_bits(frame.image) for frame in frames])
        height, width = clip.shape[-2:]
        top, left = max(0, (height - VALIDATION_SIZE) // 2), max(0, (width - VALIDATION_SIZE) // 2)
        window = clip[..., top:, left:][..., :VALIDATION_SIZE, :VALIDATION_SIZE]
        windows.append(crop_to_multiple(window.float().div(255)))
    return windows


@torch.inference_mode()
def validate(model: RISTN, windows: list[Tensor], backend: Backend, crf: int = 0) -> dict[str, float]:
    """PSNR-Y of the middle frames in dB, bicubic's, the temporal gain, and the temporal path's share of the features.

    The temporal gain is PSNR with the true neighbours minus PSNR with the middle frame repeated: what the network takes
    from other frames. With a `crf` above 0 the LR windows are compressed by x264, for the bicubic figure too.
    """

    def upscale(lr: Tensor, middle: int) -> Tensor:
        with autocast(backend):
            sr: Tensor = model(lr[None].to(backend.device), keep=slice(middle, middle + 1))
        return sr[0, 0].float().cpu()

    def to_image(frame: Tensor) -> Any:
        return quantize(frame).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()

    model.eval()
    rows = []
    for hr in windows:
        lr = quantize(degrade(hr))
        if crf:
            lr = compress(lr, Compression(strength=crf))
        middle = len(hr) // 2
        truth = to_image(hr[middle])
        moving = upscale(lr, middle)
        still = upscale(lr[middle].expand_as(lr), middle)
        bicubic = bicubic_upsample(lr[middle][None])[0]
        psnr, still_psnr, bicubic_psnr = (
            psnr_y(to_image(image), truth, crop_border=8) for image in (moving, still, bicubic)
        )
        with autocast(backend):
            share = model.temporal_share(lr[None].to(backend.device))
        row = {"psnr_y": psnr, "bicubic_psnr_y": bicubic_psnr, "temporal_gain": psnr - still_psnr}
        rows.append(row if share is None else row | {"temporal_share": share})
    return {name: round(sum(row[name] for row in rows) / len(rows), 4) for name in rows[0]}
