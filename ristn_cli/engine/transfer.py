"""Copies images to a device and back as integers. Does not know what is computed.

On CUDA, each direction uses pinned memory and its own stream, so that copies overlap with computing.
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
"""Bytes. A larger image gets its own memory, which returns to the system with it. Otherwise, encoded images would
stay in memory beside those of the next window. New pages for 7680x4320 take 0.05 s, its network 16 s."""


def peak_of(dtype: np.dtype[Any]) -> float:
    """Return the largest value of images of a data type: 1 for floats."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


@dataclass(frozen=True)
class Arrival:
    """Images that are being copied from the device."""

    images: list[Tensor]
    is_finite: Tensor
    wait: Callable[[], None]

    def collect(self) -> list[np.ndarray] | None:
        """Wait for the images (4H, 4W, 3) and return them; None if some values are not finite. Any thread may call
        it.
        """
        self.wait()
        return [image.numpy() for image in self.images] if bool(self.is_finite) else None


class Transfer(Protocol):
    """Copies images to a device and back."""

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return an uninitialised image on the device."""
        ...

    def upload(self, images: Sequence[np.ndarray]) -> Sequence[Tensor]:
        """Return images (H, W, 3) of one data type as read-only tensors on the device."""
        ...

    def download(self, images: list[Tensor], is_finite: Tensor) -> Arrival:
        """Start to copy images (4H, 4W, 3) and their flag from the device."""
        ...


class PlainTransfer:
    """Copies one image after another; on a CPU it does not copy."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Transfer`."""
        if self.device.type == "cpu" and math.prod(shape) * dtype.itemsize >= LARGE_IMAGE:
            return torch.frombuffer(map_memory(math.prod(shape) * dtype.itemsize), dtype=dtype).view(shape)
        return torch.empty(shape, dtype=dtype, device=self.device)

    def upload(self, images: Sequence[np.ndarray]) -> Sequence[Tensor]:
        """See `Transfer`."""
        if self.device.type == "mps" and images[0].dtype == np.uint16:  # which MPS does not support
            images = [image.astype(np.int32) for image in images]
        # Copy arrays that PyTorch does not accept: read-only and flipped ones.
        return [torch.from_numpy(np.require(image, requirements=["C", "W"])).to(self.device) for image in images]

    def download(self, images: list[Tensor], is_finite: Tensor) -> Arrival:
        """See `Transfer`."""
        fetched = [image.cpu() for image in images]
        deep = [image.to(torch.uint16) if image.dtype == torch.int32 else image for image in fetched]
        return Arrival(deep, is_finite, lambda: None)


class CudaTransfer:
    """Copies through pinned memory, which PyTorch reuses after each copy."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.inward = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.outward = torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # a shared stream would delay the next window

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Transfer`."""
        return torch.empty(shape, dtype=dtype, device=self.device)

    def upload(self, images: Sequence[np.ndarray]) -> Sequence[Tensor]:
        """See `Transfer`. Later computation waits for the copy, the caller does not."""
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
        """See `Transfer`. Copies start after all computation so far."""
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
    """Return the transfer for `device`."""
    return CudaTransfer(device) if device.type == "cuda" else PlainTransfer(device)
