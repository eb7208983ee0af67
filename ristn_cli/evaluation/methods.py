"""Methods that can be scored: interpolation, networks and existing outputs. Each yields 4x frames for LR frames."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ristn_cli.degradation import SCALE, quantize
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.evaluation.dataset import Clip, find_counterpart, probe_clip, refuse_change
from ristn_cli.model import bicubic_upsample
from ristn_cli.video import read_frames

INTERPOLATIONS = ("bicubic", "lanczos")

LANCZOS_LOBES = 3


class Method(Protocol):
    """A method of 4x upscaling.

    Attributes:
        name: name in tables.
        is_timed: whether this process computes the frames, so that timing them is meaningful.
    """

    @property
    def name(self) -> str: ...

    @property
    def is_timed(self) -> bool: ...

    def restore(self, clip: Clip, lr: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield 4x frames (4H, 4W, 3) for the LR frames (H, W, 3) of a clip, uint8, in order. Existing outputs may be
        fewer.
        """
        ...


@dataclass(frozen=True)
class Interpolation:
    """`bicubic` or `lanczos` interpolation of single frames."""

    name: str
    is_timed: bool = True

    def restore(self, clip: Clip, lr: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for image in lr:
            yield interpolate_bicubic(image) if self.name == "bicubic" else interpolate_lanczos(image)


@dataclass(frozen=True)
class Network:
    """A network in the engine of `ristn upscale`."""

    name: str
    upscaler: Upscaler
    is_timed: bool = True

    def restore(self, clip: Clip, lr: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        return self.upscaler.upscale(lr)

    def restore_still(self, image: np.ndarray) -> np.ndarray:
        """Upscale one frame with copies of itself as its neighbours."""
        context = self.upscaler.tiling.context
        still = Window((image,) * (2 * context + 1), slice(context, context + 1))
        return self.upscaler.upscale_window(still)[0]


@dataclass(frozen=True)
class Outputs:
    """Existing outputs: for each clip a video file or a folder of images with the clip's name."""

    name: str
    folder: Path
    is_timed: bool = False

    def restore(self, clip: Clip, lr: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        info = probe_clip(find_counterpart(self.folder, clip.name, clip.is_still))
        for _, frame in zip(lr, read_frames(info, on_change=refuse_change), strict=False):  # outputs may be fewer
            yield frame.image


def interpolate_bicubic(image: np.ndarray) -> np.ndarray:
    """Upscale (H, W, 3) uint8 to (4H, 4W, 3) with the bicubic kernel, a = -0.5."""
    return to_image(bicubic_upsample(to_tensor(image)[None])[0])


def interpolate_lanczos(image: np.ndarray) -> np.ndarray:
    """Upscale (H, W, 3) uint8 to (4H, 4W, 3) with the Lanczos kernel, a = 3, renormalised at the edges as in Pillow."""
    height, width = image.shape[:2]
    planes = image.transpose(2, 0, 1).astype(np.float32)
    enlarged = lanczos_matrix(height) @ planes @ lanczos_matrix(width).T
    return np.ascontiguousarray(np.rint(enlarged.clip(0, 255)).astype(np.uint8).transpose(1, 2, 0))


@lru_cache(maxsize=8)
def lanczos_matrix(size: int) -> np.ndarray:
    """Return the interpolation weights of one axis, (4 * size, size)."""
    centres = (np.arange(SCALE * size) + 0.5) / SCALE - 0.5
    distance = np.arange(size)[None, :] - centres[:, None]
    weights = np.where(np.abs(distance) < LANCZOS_LOBES, np.sinc(distance) * np.sinc(distance / LANCZOS_LOBES), 0)
    normalised: np.ndarray = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return normalised


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """Convert (H, W, 3) uint8 to (3, H, W) in [0, 1]."""
    return torch.from_numpy(image).permute(2, 0, 1).float() / 255


def to_image(frame: torch.Tensor) -> np.ndarray:
    """Convert (3, H, W) in [0, 1] to (H, W, 3) uint8, rounded."""
    image: np.ndarray = (quantize(frame) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return image
