"""Upscaler: images in, images at 4x out, through windows and tiles on one device.

The only module that turns images (H, W, 3) into tensors and back. Knows nothing of files.
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
from ristn_cli.engine.memory import MIB, AutoTiling, Tiling, most_kept, replace_tile, shrink, window_bytes
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
"""Of tiles along an axis: more than any frame has."""


@contextmanager
def stoppable(model: nn.Module, check: Callable[[], None]) -> Iterator[None]:
    """Within, `model` calls `check` before each of its layers: what that raises ends a long computation early."""
    handles = [module.register_forward_pre_hook(lambda *_: check()) for module in model.modules()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Upscaler:
    """A network made ready for one device and precision.

    Args:
        model: the network; it is copied, not changed.
        backend: device and precision.
        tiling: windows and tiles, or what decides them once the size of the frames is known.
        compilation: `auto`, `on` or `off`, as of `choose_compilation`.
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

        `encoder_bytes` of memory are left to what encodes the results.
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
            images: RGB, (H, W, 3), uint8, uint16, or float32 in [0, 1], all of one size and type.

        Yields:
            As many images (4H, 4W, 3) of the same type. Memory does not grow with the stream.
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

    def upscale_window(self, window: Window[np.ndarray]) -> list[np.ndarray]:
        """Images (4H, 4W, 3) of a window's kept frames, with the errors of `launch_window` and `collect`."""
        return [image for arrival in self.launch_window(window) for image in self.collect(arrival)]

    def record(self, window: Window[np.ndarray]) -> None:
        """Where the network is recorded, let it be so for windows of this kind, before they are timed, say."""
        for _ in range(0 if self.recorded is None else 2):  # a shape is recorded when it comes for the second time
            self.upscale_window(window)

    def rest(self) -> None:
        """Give back what the device holds beside the weights, until another window comes."""
        if self.recorded is not None:
            self.recorded.forget()
        release_memory(self.backend)

    def collect(self, arrival: Arrival) -> list[np.ndarray]:
        """Images that `launch_window` began, once they are there; another thread than its may wait for them.

        Raises:
            DeviceError: the precision is too narrow for the network: values overflowed.
        """
        images = arrival.collect()
        if images is None:
            raise DeviceError(f"values overflowed in {self.backend.precision}; use --precision fp32")
        return images

    def launch_window(self, window: Window[np.ndarray]) -> Iterator[Arrival]:
        """Begin to upscale a window's kept frames; a processor has done so when this yields, a GPU may be at it.

        It yields all of them together, unless they are more than `most_kept`. Where memory is short, the window is
        computed again in smaller tiles, and then as two: nothing is ever dropped.

        Raises:
            OutOfMemory: even the smallest tile is too large for the device.
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
                f"memory is short: going on with tiles of {smaller.tile} pixels and windows of {smaller.window} frames"
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
        """Launch a window; None where memory is too short for it.

        The error ends here: as long as it is handled, its traceback keeps the tensors of the failed tile alive, and
        the device's allocator cannot give their memory back.
        """
        try:
            with typed_memory_errors():
                return self._launch_window(window)
        except OutOfMemory as error:
            if error.__cause__ is not None:  # else its frames wait for the collector, since Python 3.13
                traceback.clear_frames(error.__cause__.__traceback__)
            return None

    def _blend_weights(self, spans: tuple[Span, ...], index: int, device: torch.device) -> Tensor:
        """`blend_weights` on the device. They are kept: to bring them there would wait for all that it is at."""
        key = (spans, index)
        if key not in self._weights:
            if len(self._weights) >= KEPT_WEIGHTS:
                self._weights.clear()
            self._weights[key] = torch.from_numpy(blend_weights(spans, index, SCALE)).to(device)
        return self._weights[key]

    def _describe_need(self, window: Window[np.ndarray]) -> str:
        """What even the smallest tile and window take, and what there is."""
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
        there = "" if free is None else f", and {free // MIB} MiB are free"
        half = "" if self.backend.dtype.itemsize == 2 else ", half of it in --precision bf16"
        return (
            f"{self.backend.device} is out of memory even with tiles of {tiling.tile} pixels and windows of "
            f"{tiling.window} frames: one of {width}x{height} takes about {math.ceil(needed / MIB)} MiB{there}{half}; "
            "end other programs, or upscale smaller pictures"
        )

    def computed_share(self, images: Sequence[np.ndarray]) -> float:
        """What consecutive images, computed together, cost beside images of which everything changes.

        Args:
            images: (H, W, 3), of one type and size.
        """
        window = Window(tuple(images), slice(0, len(images)))
        height, width, _ = images[0].shape
        everything = TilePlanner(self.tiling, window, Picture(Span(0, height), Span(0, width))).plan()
        return tiles_cost(self._plan(window)[2]) / tiles_cost(everything)

    def _plan(self, window: Window[np.ndarray]) -> tuple[Picture, tuple[np.ndarray, ...], list[Strip]]:
        """The picture within the bars of a window, its images as the network is to read them, and its tiles."""
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
        # A tensor a frame, so that each can go when it is encoded.
        shape = (SCALE * height, SCALE * width, 3)
        output = [self.transfer.empty(shape, frames[0].dtype) for _ in range(kept)]
        inside = [picture.crop(image, SCALE) for image in output]
        is_finite = torch.ones((), dtype=torch.bool, device=device)
        rows = tuple(strip.row for strip in strips)
        above: Tensor | None = None  # what the tiles above have added to rows that these share
        for r, strip in enumerate(strips):
            row, columns = strip.row, strip.columns
            down = self._blend_weights(rows, r, device)
            done = SCALE * ((rows[r + 1].start if r + 1 < len(rows) else row.stop) - row.start)
            below = torch.empty(kept, SCALE * row.size - done, SCALE * picture.columns.size, 3, device=device)
            left: Tensor | None = None  # the same of the tile to the left, in columns
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
                del sr, finished, values  # or they would stay while the network makes the next tile
            above = below
        if bars := bars_around(picture, height, width, SCALE):
            colour = torch.from_numpy(window.frames[0][0, 0].copy()).to(output[0])
            for image in output:
                for bar in bars:
                    image[bar].copy_(colour)
        return self.transfer.download(output, is_finite)


def fingerprint(model: RISTN) -> str:
    """SHA-256 over the network's tensors: what tells one set of weights from another."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.float().cpu().numpy().tobytes())
    return digest.hexdigest()
