"""Upscales images to 4x through windows and tiles on one device.

The only module that converts images (H, W, 3) to tensors and back. Does not read or write files.
"""

import hashlib
import itertools
import logging
import math
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ristn_cli.engine.auto_tiling import AutoTiling
from ristn_cli.engine.bars import Picture, bars_around, find_picture
from ristn_cli.engine.blending import blend_weights, weigh_ends
from ristn_cli.engine.compilation import (
    CompileName,
    CudaRecorder,
    RecordedNetwork,
    choose_compilation,
    compile_steps,
)
from ristn_cli.engine.device import Backend, DeviceError, free_bytes, prepare, release_memory
from ristn_cli.engine.memory import MIB, Tiling, most_kept, replace_tile, shrink, window_bytes
from ristn_cli.engine.rounding import write_levels
from ristn_cli.engine.scenes import scene_windows
from ristn_cli.engine.short_memory import OutOfMemory, typed_memory_errors
from ristn_cli.engine.still import MOST_FRAMES, find_changes
from ristn_cli.engine.tile_plan import Strip, TilePlanner, tiles_cost
from ristn_cli.engine.tiles import Span
from ristn_cli.engine.transfer import Arrival, open_transfer, peak_of
from ristn_cli.engine.windows import Window, split_window
from ristn_cli.model import RISTN, SCALE

Item = TypeVar("Item")

log = logging.getLogger("ristn.engine")


KEPT_WEIGHTS = 256
"""Most tiles along an axis whose weights are cached, more than any frame has."""


@contextmanager
def stoppable(model: nn.Module, check: Callable[[], None]) -> Iterator[None]:
    """Call `check` before each layer of `model` while the context is active. If it raises, the computation ends
    early.
    """
    handles = [module.register_forward_pre_hook(lambda *_: check()) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Upscaler:
    """A network on one device in one precision.

    Args:
        model: the network; it is copied, not changed.
        backend: device and precision.
        tiling: windows and tiles, or rules that choose them by frame size.
        compilation: `auto`, `on` or `off`; see `choose_compilation`.
    """

    def __init__(
        self,
        model: RISTN,
        backend: Backend,
        tiling: Tiling | AutoTiling | None = None,
        *,
        compilation: CompileName = "auto",
    ) -> None:
        self.backend = backend
        self.auto_tiling = tiling or AutoTiling() if not isinstance(tiling, Tiling) else None
        self.tiling = tiling if isinstance(tiling, Tiling) else Tiling()
        self.config = model.config
        self.detail = model.detail
        self.fingerprint = fingerprint(model)
        self.is_compiled = choose_compilation(compilation, backend.device)
        self.model = prepare(model, backend)
        self.recorded: RecordedNetwork | None = None
        if self.is_compiled:
            compile_steps(self.model)
            if backend.device.type == "cuda":
                self.recorded = RecordedNetwork(self.model, CudaRecorder(backend.device))
        self.transfer = open_transfer(backend.device)
        self._weights: dict[tuple[tuple[Span, ...], int], Tensor] = {}

    def fit(self, width: int, height: int, *, image_bytes: int = 1, encoder_bytes: int = 0) -> None:
        """Choose windows and tiles for frames of `width` x `height` LR pixels, unless they were given.

        `encoder_bytes` of memory are reserved for the encoder.
        """
        if self.auto_tiling is not None:
            self.tiling = self.auto_tiling.fit(
                self.config,
                self.backend.device,
                width=width,
                height=height,
                value_bytes=self.backend.dtype.itemsize,
                image_bytes=image_bytes,
                encoder_bytes=encoder_bytes,
            )

    def upscale(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Upscale a stream of consecutive images.

        Args:
            images: RGB, (H, W, 3), uint8, uint16, or float32 in [0, 1], all of one size and data type.

        Yields:
            As many images (4H, 4W, 3) of the same data type. Memory does not grow with the stream.
        """
        stream = iter(images)
        first = next(stream, None)
        if first is None:
            return
        self.fit(first.shape[1], first.shape[0], image_bytes=first.itemsize)
        for window in self.windows(itertools.chain([first], stream), lambda image: image):
            for arrival in self.launch_window(window):
                yield from self.collect(arrival)

    def windows(
        self, frames: Iterable[Item], image_of: Callable[[Item], np.ndarray], *, continued: int = 0
    ) -> Iterator[Window[Item]]:
        """Yield the windows of a stream of frames; see `scene_windows`."""
        tiling = self.tiling
        return scene_windows(
            frames,
            image_of,
            tiling.window,
            tiling.context,
            detect_cuts=tiling.detect_cuts and tiling.context > 0,  # without context, no window reads across a cut
            continued=continued,
        )

    def upscale_window(self, window: Window[np.ndarray]) -> list[np.ndarray]:
        """Return images (4H, 4W, 3) of a window's kept frames, with the errors of `launch_window` and `collect`."""
        return [image for arrival in self.launch_window(window) for image in self.collect(arrival)]

    def record(self, window: Window[np.ndarray]) -> None:
        """Record the network for windows of this kind, if it is recorded at all."""
        for _ in range(0 if self.recorded is None else 2):  # a shape is recorded at its second occurrence
            self.upscale_window(window)

    def rest(self) -> None:
        """Release the device's memory except for the weights, until the next window."""
        if self.recorded is not None:
            self.recorded.forget()
        release_memory(self.backend)

    def collect(self, arrival: Arrival) -> list[np.ndarray]:
        """Wait for images that `launch_window` started, and return them. Another thread may call it.

        Raises:
            DeviceError: values overflowed in this precision.
        """
        images = arrival.collect()
        if images is None:
            raise DeviceError(f"values overflowed in {self.backend.precision}; use --precision fp32")
        return images

    def launch_window(self, window: Window[np.ndarray]) -> Iterator[Arrival]:
        """Start to upscale a window's kept frames, and yield the images on their way from the device.

        Yields once, unless there are more than `most_kept` frames. If there is too little memory, the window is
        computed again with smaller tiles, then in two halves. No frame is dropped.

        Raises:
            OutOfMemory: the smallest tile does not fit.
        """
        first = window.frames[0]
        height, width, _ = first.shape
        kept = len(window.frames[window.keep])
        if kept > most_kept(self.tiling, width=width, height=height, image_bytes=first.itemsize):
            for half in split_window(window, self.tiling.context) or ():
                yield from self.launch_window(half)
            return
        while (arrival := self._try_window(window)) is None:
            self.rest()
            smaller = shrink(replace_tile(self.tiling, min(self.tiling.tile, max(height, width))))
            if smaller is None or smaller.tile >= self.tiling.tile:
                break
            self.tiling = smaller
            log.warning(
                f"out of memory; continuing with tiles of {smaller.tile} pixels and windows of {smaller.window} frames"
            )
        if arrival is not None:
            yield arrival
            return
        halves = split_window(window, self.tiling.context)
        if halves is None:
            raise OutOfMemory(self._describe_need(window))
        for half in halves:
            yield from self.launch_window(half)

    def _try_window(self, window: Window[np.ndarray]) -> Arrival | None:
        """Launch a window; return None if there is too little memory.

        The exception must end here: its traceback keeps the tensors of the failed tile in memory.
        """
        try:
            with typed_memory_errors():
                return self._launch_window(window)
        except OutOfMemory as error:
            if error.__cause__ is not None:  # else its frames wait for the collector, since Python 3.13
                traceback.clear_frames(error.__cause__.__traceback__)
            return None

    def _blend_weights(self, spans: tuple[Span, ...], index: int, device: torch.device) -> Tensor:
        """Return `blend_weights` on the device. They are cached, because uploading them would wait for the device."""
        key = (spans, index)
        if key not in self._weights:
            if len(self._weights) >= KEPT_WEIGHTS:
                self._weights.clear()
            self._weights[key] = torch.from_numpy(blend_weights(spans, index, SCALE)).to(device)
        return self._weights[key]

    def _describe_need(self, window: Window[np.ndarray]) -> str:
        """Return a message with the memory that the smallest tile and window need, and the free memory."""
        height, width, _ = window.frames[0].shape
        tiling = replace(self.tiling, window=len(window.frames), context=(len(window.frames) - 1) // 2)
        needed = window_bytes(
            self.config,
            tiling,
            width=width,
            height=height,
            value_bytes=self.backend.dtype.itemsize,
            image_bytes=window.frames[0].itemsize,
        )
        free = free_bytes(self.backend.device)
        available = "" if free is None else f"; {free // MIB} MiB are free"
        half = "" if self.backend.dtype.itemsize == 2 else ", use --precision bf16 to halve it"
        return (
            f"{self.backend.device} is out of memory even with tiles of {tiling.tile} pixels and windows of "
            f"{tiling.window} frames: a window of {width}x{height} needs about {math.ceil(needed / MIB)} MiB"
            f"{available}; end other programs{half}, or upscale smaller frames"
        )

    def computed_share(self, images: Sequence[np.ndarray]) -> float:
        """Return the cost of consecutive images as a share of that of images that change everywhere.

        Args:
            images: (H, W, 3), of one size and data type.
        """
        window = Window(tuple(images), slice(0, len(images)))
        height, width, _ = images[0].shape
        everything = TilePlanner(self.tiling, window, Picture(Span(0, height), Span(0, width))).plan()
        return tiles_cost(self._plan(window)[2]) / tiles_cost(everything)

    def _plan(self, window: Window[np.ndarray]) -> tuple[Picture, tuple[np.ndarray, ...], list[Strip]]:
        """Return the content within the bars of a window, the images for the network, and the tiles."""
        tolerance = self.tiling.still_tolerance
        height, width, _ = window.frames[0].shape
        picture = Picture(Span(0, height), Span(0, width))
        images, changes = window.frames, None
        if tolerance is not None:
            picture = find_picture(images, tolerance)
            images = tuple(picture.crop(image) for image in images)
        if not images[0].size:
            return picture, images, []
        if tolerance is not None and len(images) <= MOST_FRAMES:
            changes = find_changes(images, tolerance)
            images = changes.images
        planner = TilePlanner(self.tiling, window, picture, changes)
        return picture, images, planner.plan(follows_content=self.recorded is None)

    @torch.inference_mode()
    def _launch_window(self, window: Window[np.ndarray]) -> Arrival:
        height, width, _ = window.frames[0].shape
        peak = peak_of(window.frames[0].dtype)
        picture, images, strips = self._plan(window)
        frames = self.transfer.upload(images)
        device = frames[0].device
        kept = len(range(len(frames))[window.keep])
        # One tensor per frame, so that each can be freed after encoding.
        shape = (SCALE * height, SCALE * width, 3)
        output = [self.transfer.empty(shape, frames[0].dtype) for _ in range(kept)]
        inside = [picture.crop(image, SCALE) for image in output]
        is_finite = torch.ones((), dtype=torch.bool, device=device)
        rows = tuple(strip.row for strip in strips)
        above: Tensor | None = None  # sums of the tiles above in the shared rows
        for r, strip in enumerate(strips):
            row, columns = strip.row, strip.columns
            down = self._blend_weights(rows, r, device)
            done = SCALE * ((rows[r + 1].start if r + 1 < len(rows) else row.stop) - row.start)
            below = torch.empty(kept, SCALE * row.size - done, SCALE * picture.columns.size, 3, device=device)
            left: Tensor | None = None  # sums of the tile to the left in the shared columns
            for c, column in enumerate(columns):
                across = self._blend_weights(columns, c, device)
                plan = strip.frames[c]
                read = [frames[index][row.start : row.stop, column.start : column.stop].float() for index in plan.read]
                tile = torch.stack(read).permute(0, 3, 1, 2) / peak
                sr = (self.recorded or self.model)(tile[None], plan.finished)[0].permute(0, 2, 3, 1)  # (T', h, w, 3)
                if len(sr) < kept or self.recorded is not None:
                    sr = torch.stack([sr[index] for index in plan.shared])
                end = SCALE * ((columns[c + 1].start if c + 1 < len(columns) else column.stop) - column.start)
                weigh_ends(sr, 1, down, 0 if above is None else above.shape[1], sr.shape[1] - done)
                weigh_ends(sr, 2, across, 0 if left is None else left.shape[2], sr.shape[2] - end)
                if left is not None:
                    sr[:, :, : left.shape[2]].add_(left)
                left = sr[:, :, end:].clone()
                finished = sr[:, :, :end]
                at = slice(SCALE * column.start, SCALE * column.start + end)
                if above is not None:
                    finished[:, : above.shape[1]].add_(above[:, :, at])
                below[:, :, at] = finished[:, done:]
                values = finished[:, :done]
                levels = [image[SCALE * row.start : SCALE * row.start + done, at] for image in inside]
                is_finite &= write_levels(values, levels, peak)
                del sr, finished, values  # otherwise they would stay in memory during the next tile
            above = below
        if bars := bars_around(picture, height, width, SCALE):
            colour = torch.from_numpy(window.frames[0][0, 0].copy()).to(output[0])
            for image in output:
                for bar in bars:
                    image[bar].copy_(colour)
        return self.transfer.download(output, is_finite)


def fingerprint(model: RISTN) -> str:
    """Return the SHA-256 of the network's tensors, which identifies the weights."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()
