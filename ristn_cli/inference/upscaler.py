"""Upscaler: images in, images at 4x out, through windows and tiles on one device.

The only module that turns images (H, W, 3) into tensors and back. Knows nothing of files.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ristn_cli.inference.device import Backend, DeviceError, prepare
from ristn_cli.inference.scenes import scene_windows
from ristn_cli.inference.tiles import blend_weights, plan_spans
from ristn_cli.inference.windows import Window
from ristn_cli.model import RISTN, SCALE

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How much the network sees at once.

    Attributes:
        window: frames read together.
        context: frames at each inner end of a window that are read but not kept.
        tile: largest side of a tile in LR pixels, overlap included.
        overlap: LR pixels that a tile reads beyond its share, on each side.
        detect_cuts: windows end at scene cuts, so that no frame reads another shot.
    """

    window: int = 10
    context: int = 2
    tile: int = 128
    overlap: int = 12
    detect_cuts: bool = True

    def __post_init__(self) -> None:
        if self.context < 0 or self.window <= 2 * self.context:
            raise ValueError(
                f"a window of {self.window} frames keeps nothing between {self.context} frames of context on each side"
            )
        if self.overlap < 0 or self.tile <= 2 * self.overlap:
            raise ValueError(f"a tile of {self.tile} pixels is all overlap with {self.overlap} pixels on each side")


class OutOfMemory(Exception):
    """The device cannot hold what the tiling asks of it."""


@contextmanager
def typed_memory_errors(tiling: Tiling) -> Iterator[None]:
    """Raise `OutOfMemory` for the several errors by which PyTorch and NumPy say that memory is short."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if type(error) is RuntimeError and "can't allocate memory" not in str(error):
            raise
        raise OutOfMemory(
            f"out of memory with tiles of {tiling.tile} pixels and windows of {tiling.window} frames; "
            "use a smaller --tile or --window"
        ) from error


class Upscaler:
    """A network made ready for one device and precision.

    Args:
        model: the network; it is copied, not changed.
        backend: device and precision.
        tiling: windows and tiles.
    """

    def __init__(self, model: RISTN, backend: Backend, tiling: Tiling | None = None) -> None:
        self.backend = backend
        self.tiling = tiling or Tiling()
        self.model = prepare(model, backend)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the network's tensors as they compute: what tells one set of weights from another."""
        digest = hashlib.sha256()
        for name, tensor in self.model.state_dict().items():
            digest.update(name.encode())
            digest.update(tensor.float().cpu().numpy().tobytes())
        return digest.hexdigest()

    def upscale(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Upscale a stream of consecutive images.

        Args:
            images: RGB, (H, W, 3), uint8 or uint16, all of one size and type.

        Yields:
            As many images (4H, 4W, 3) of the same type. Memory does not grow with the stream.
        """
        for window in self.windows(images, lambda image: image):
            yield from self.upscale_window(window)

    def windows(
        self, frames: Iterable[Item], image_of: Callable[[Item], np.ndarray], *, continued: int = 0
    ) -> Iterator[Window[Item]]:
        """Windows of a stream of frames, with the arguments of `scene_windows`."""
        tiling = self.tiling
        return scene_windows(
            frames,
            image_of,
            tiling.window,
            tiling.context,
            detect_cuts=tiling.detect_cuts and tiling.context > 0,  # without context there is no border to mind
            continued=continued,
        )

    @torch.inference_mode()
    def upscale_window(self, window: Window[np.ndarray]) -> list[np.ndarray]:
        """Images (4H, 4W, 3) of a window's kept frames.

        Raises:
            OutOfMemory: the tiling is too large for the device.
            DeviceError: the precision is too narrow for the network: values overflowed.
        """
        with typed_memory_errors(self.tiling):
            return self._upscale_window(window)

    def _upscale_window(self, window: Window[np.ndarray]) -> list[np.ndarray]:
        images = np.stack(window.frames)  # (T, H, W, 3)
        _, height, width, _ = images.shape
        peak = np.iinfo(images.dtype).max
        lr = torch.from_numpy(images).to(self.backend.device)
        kept = len(range(len(images))[window.keep])
        output = np.empty((kept, SCALE * height, SCALE * width, 3), images.dtype)
        rows = plan_spans(height, self.tiling.tile, self.tiling.overlap)
        columns = plan_spans(width, self.tiling.tile, self.tiling.overlap)
        carried: Tensor | None = None  # what the band above has added to rows that the next one shares
        for r, row in enumerate(rows):
            band = torch.zeros(kept, SCALE * row.size, SCALE * width, 3, device=self.backend.device)
            if carried is not None:
                band[:, : carried.shape[1]] = carried
            down = torch.from_numpy(blend_weights(rows, r, SCALE)).to(band.device)
            for c, column in enumerate(columns):
                tile = lr[:, row.start : row.stop, column.start : column.stop].permute(0, 3, 1, 2).float() / peak
                sr = self.model(tile[None], window.keep)[0].permute(0, 2, 3, 1)  # (T', h, w, 3)
                across = torch.from_numpy(blend_weights(columns, c, SCALE)).to(band.device)
                place = band[:, :, SCALE * column.start : SCALE * column.stop]
                place.addcmul_(sr, (down[:, None] * across[None]).unsqueeze(-1))
            below = rows[r + 1].start if r + 1 < len(rows) else row.stop
            done = SCALE * (below - row.start)
            if not torch.isfinite(band[:, :done]).all():
                raise DeviceError(f"values overflowed in {self.backend.precision}; use --precision fp32")
            finished = band[:, :done].clamp_(0, 1).mul_(peak).round_()
            target = output[:, SCALE * row.start : SCALE * below]
            np.copyto(target, finished.to(torch.int32).cpu().numpy(), casting="unsafe")
            carried = band[:, done:]
        return list(output)
