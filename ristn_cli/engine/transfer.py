"""Images to a device and back. Integers cross, and become values there; knows nothing of what is computed.

On CUDA each way goes through pinned memory on a stream of its own, so that the device computes one window while it
hands over the one before. Elsewhere there is nothing to overlap with.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ristn_cli.engine.allocator import map_memory

LARGE_IMAGE = 32 << 20
"""Bytes. From here on an image is memory of its own, which goes back to the system with it: kept, the images that have
gone to the encoder would stay beside those of the next window. New pages for 7680x4320 took 0.05 s, its network 16."""


def peak_of(dtype: np.dtype[Any]) -> float:
    """The largest value of images of a type: 1 of floats."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


@dataclass(frozen=True)
class Arrival:
    """Images on their way from the device."""

    images: list[Tensor]
    is_finite: Tensor
    wait: Callable[[], None]

    def collect(self) -> list[np.ndarray] | None:
        """The images (4H, 4W, 3) as they are when they have arrived; None when there were values that are no numbers.

        May be called by another thread than the one that computes.
        """
        self.wait()
        return [image.numpy() for image in self.images] if bool(self.is_finite) else None


class Transfer(Protocol):
    """The way to a device and back."""

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An image on the device to be filled and brought back."""
        ...

    def upload(self, images: Sequence[np.ndarray]) -> Sequence[Tensor]:
        """Images (H, W, 3) of one integer type on the device, to be read only."""
        ...

    def download(self, images: list[Tensor], is_finite: Tensor) -> Arrival:
        """Begin to bring images (4H, 4W, 3) and the flag that goes with them from the device."""
        ...


class PlainTransfer:
    """By one copy after another, and by none on a processor."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """As in `Transfer`."""
        if self.device.type == "cpu" and math.prod(shape) * dtype.itemsize >= LARGE_IMAGE:
            return torch.frombuffer(map_memory(math.prod(shape) * dtype.itemsize), dtype=dtype).view(shape)
        return torch.empty(shape, dtype=dtype, device=self.device)

    def upload(self, images: Sequence[np.ndarray]) -> Sequence[Tensor]:
        """As in `Transfer`."""
        if self.device.type == "mps" and images[0].dtype == np.uint16:  # which it does not know
            images = [image.astype(np.int32) for image in images]
        # What PyTorch does not take is copied: it warns of arrays not to be written to, and refuses flipped ones.
        return [torch.from_numpy(np.require(image, requirements=["C", "W"])).to(self.device) for image in images]

    def download(self, images: list[Tensor], is_finite: Tensor) -> Arrival:
        """As in `Transfer`."""
        fetched = [image.cpu() for image in images]
        deep = [image.to(torch.uint16) if image.dtype == torch.int32 else image for image in fetched]
        return Arrival(deep, is_finite, lambda: None)


class CudaTransfer:
    """Through pinned memory, which PyTorch keeps and gives out again once a copy is done with it."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.inward = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.outward = torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # or the next window waited for this one

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """As in `Transfer`."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    def upload(self, images: Sequence[np.ndarray]) -> Sequence[Tensor]:
        """As in `Transfer`; what is computed after it waits for the copy, the caller does not."""
        first = images[0]
        staged = torch.empty(len(images), *first.shape, dtype=torch.from_numpy(first[:0]).dtype, pin_memory=True)
        np.stack(images, out=staged.numpy())
        compute = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.inward):
            lr = staged.to(self.device, non_blocking=True)
        compute.wait_stream(self.inward)
        lr.record_stream(compute)
        return lr.unbind()

    def download(self, images: list[Tensor], is_finite: Tensor) -> Arrival:
        """As in `Transfer`; the copies begin when what was computed so far is done."""
        self.outward.wait_stream(torch.cuda.current_stream(self.device))
        staged = []
        with torch.cuda.stream(self.outward):
            for source in (*images, is_finite):
                target = torch.empty(source.shape, dtype=source.dtype, pin_memory=True)
                target.copy_(source, non_blocking=True)
                source.record_stream(self.outward)
                staged.append(target)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record(self.outward)
        return Arrival(staged[:-1], staged[-1], arrived.synchronize)


def open_transfer(device: torch.device) -> Transfer:
    """What serves `device` best."""
    return CudaTransfer(device) if device.type == "cuda" else PlainTransfer(device)
