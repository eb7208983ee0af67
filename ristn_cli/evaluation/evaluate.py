"""Evaluation of a network on clips: degrade, upscale with the engine of `upscale`, measure against the original.

Streams: memory does not grow with the length of a clip. Protocol of the paper's tables: HR cut to a multiple of 4, LR
rounded to 8 bits, PSNR and SSIM on BT.601 Y of 8-bit output, 8 border pixels cut, mean over frames, then over clips.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch

from ristn_cli.degradation import Degradation, crop_to_multiple, degrade, quantize
from ristn_cli.evaluation.metrics import psnr_y, ssim_y
from ristn_cli.inference.upscaler import Upscaler
from ristn_cli.inference.windows import Window
from ristn_cli.model import bicubic_upsample
from ristn_cli.video import VideoError, list_images, probe, read_frames

CROP_BORDER = 8

SMALLEST_SIDE = 32
"""HR pixels: what the border leaves must hold SSIM's window of 11."""

HIGHEST_PSNR = 100.0
"""A frame that equals the original counts as this many dB, so that one black frame does not make a mean infinite."""

CLIP_SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".y4m"}


@dataclass(frozen=True, kw_only=True)
class FrameScores:
    """Scores of one frame: PSNR-Y in dB and SSIM-Y, ours and bicubic's; `temporal_gain` in dB when it was asked for.

    The temporal gain is PSNR with the true neighbours minus PSNR with the frame repeated in their place: what the
    network takes from other frames.
    """

    psnr_y: float
    ssim_y: float
    bicubic_psnr_y: float
    bicubic_ssim_y: float
    temporal_gain: float = math.nan


@dataclass(frozen=True, kw_only=True)
class ClipScores:
    """Means over the `frames` of a clip that were counted."""

    clip: str
    frames: int
    means: FrameScores


def find_clips(dataset: Path) -> list[Path]:
    """Clips of a dataset: a single file, the video files of a folder, or its folders of images.

    Raises:
        VideoError: there are none.
    """
    if dataset.is_file():
        return [dataset]
    if not dataset.is_dir():
        raise VideoError(f"{dataset}: no such file or folder")
    with suppress(VideoError):  # a folder without images is not itself a clip
        list_images(dataset)
        return [dataset]
    clips = [p for p in sorted(dataset.iterdir()) if is_clip(p)]
    if not clips:
        raise VideoError(f"{dataset}: no clips found; expected video files, or a folder of images for each clip")
    return clips


def is_clip(path: Path) -> bool:
    """Whether an entry of a dataset is a clip: a video file, or a folder of images."""
    return path.suffix.lower() in CLIP_SUFFIXES or (path.is_dir() and not path.name.startswith("."))


def frame_psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """PSNR-Y in dB within the border, at most `HIGHEST_PSNR`."""
    return min(psnr_y(image, truth, crop_border=CROP_BORDER), HIGHEST_PSNR)


def evaluate_clip(
    path: Path,
    upscaler: Upscaler,
    *,
    degradation: Degradation = "BI",
    skip: int = 0,
    max_frames: int | None = None,
    temporal_gain: bool = False,
) -> Iterator[FrameScores]:
    """Score the frames of a clip one by one.

    Args:
        path: video file or folder of images: the ground truth.
        upscaler: the network under test.
        degradation: how LR is made of it.
        skip: frames at each end that are upscaled but not scored: 2 is the paper's protocol, whose first and last two
            frames have no full window of 5.
        max_frames: read no more than this many.
        temporal_gain: measure it too, which costs a window of its own for every frame.

    Raises:
        VideoError: not readable, or not an 8-bit clip.
    """
    info = probe(path)
    if info.bit_depth > 8:
        raise VideoError(f"{path}: has more than 8 bits a channel; PSNR and SSIM are defined here on 8-bit frames")
    if min(info.width, info.height) < SMALLEST_SIDE:
        raise VideoError(f"{path}: is {info.width}x{info.height}; expected {SMALLEST_SIDE} pixels a side or more")
    truths: deque[tuple[np.ndarray, np.ndarray]] = deque()

    def low_resolution() -> Iterator[np.ndarray]:
        for frame in read_frames(path, max_frames=max_frames):
            hr = crop_to_multiple(torch.from_numpy(frame.image).permute(2, 0, 1))
            lr = to_image(degrade(hr[None].float() / 255, degradation)[0])
            truths.append((hr.permute(1, 2, 0).numpy(), lr))
            yield lr

    def scores() -> Iterator[FrameScores]:
        for sr in upscaler.upscale(low_resolution()):
            hr, lr = truths.popleft()
            bicubic = to_image(bicubic_upsample(to_tensor(lr)[None])[0])
            psnr = frame_psnr(sr, hr)
            gain = math.nan
            if temporal_gain:
                context = upscaler.tiling.context
                still = Window((lr,) * (2 * context + 1), slice(context, context + 1))
                gain = psnr - frame_psnr(upscaler.upscale_window(still)[0], hr)
            yield FrameScores(
                psnr_y=psnr,
                ssim_y=ssim_y(sr, hr, crop_border=CROP_BORDER),
                bicubic_psnr_y=frame_psnr(bicubic, hr),
                bicubic_ssim_y=ssim_y(bicubic, hr, crop_border=CROP_BORDER),
                temporal_gain=gain,
            )

    yield from without_ends(scores(), skip)


def without_ends(scores: Iterable[FrameScores], skip: int) -> Iterator[FrameScores]:
    """All but the first and the last `skip` of a stream."""
    held: deque[FrameScores] = deque()
    for index, score in enumerate(scores):
        if index < skip:
            continue
        held.append(score)
        if len(held) > skip:
            yield held.popleft()


def mean_scores(scores: Iterable[FrameScores]) -> FrameScores:
    """Means of each field; of nothing, NaN."""
    listed = list(scores)
    return FrameScores(
        **{
            field.name: float(np.mean([getattr(score, field.name) for score in listed])) if listed else math.nan
            for field in fields(FrameScores)
        }
    )


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """(H, W, 3) uint8 to (3, H, W) in [0, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def to_image(frame: torch.Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] to (H, W, 3) uint8, rounded."""
    image: np.ndarray = (quantize(frame) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return image
