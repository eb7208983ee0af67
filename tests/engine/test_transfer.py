"""What crosses to the device and back, in which order, and that launching a window never waits."""

import errno
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ristn_cli.engine import allocator as runtime
from ristn_cli.engine import transfer
from ristn_cli.engine.allocator import map_memory
from ristn_cli.engine.device import Backend, DeviceError
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.short_memory import OutOfMemory
from ristn_cli.engine.transfer import Arrival, CudaTransfer, PlainTransfer, open_transfer
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.model import CONFIGS, RISTN

CPU = torch.device("cpu")
META = torch.device("meta")


def noise(count: int, height: int, width: int, dtype: type = np.uint8) -> tuple[np.ndarray, ...]:
    """Images of which nothing is still, and nothing a bar."""
    return tuple(np.random.default_rng(0).integers(0, 256, (count, height, width, 3)).astype(dtype))


class CountingTransfer:
    """The way to a device that computes nothing, and cannot be waited for: any attempt raises."""

    def __init__(self) -> None:
        self.sent: list[tuple[torch.dtype, int]] = []
        self.fetched: list[tuple[torch.dtype, tuple[int, ...]]] = []
        self.free = 1 << 40

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype, device=META)

    def upload(self, images: Sequence[np.ndarray]) -> Tensor:
        stacked = torch.from_numpy(np.stack(images))
        self.sent.append((stacked.dtype, stacked.nbytes))
        if stacked.nbytes > self.free:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return stacked.to(META).unbind()

    def download(self, images: list[Tensor], is_finite: Tensor) -> Arrival:
        self.fetched += [(image.dtype, tuple(image.shape)) for image in images]
        assert is_finite.dtype == torch.bool
        return Arrival(images, is_finite, lambda: None)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("dtype", "levels"), [(np.uint8, torch.uint8), (np.uint16, torch.uint16)])
def test_integers_cross_once_each_way_and_nothing_waits(name: str, dtype: type, levels: torch.dtype) -> None:
    upscaler = Upscaler(RISTN(CONFIGS[name]), Backend(META, "fp16"), Tiling(tile=64))
    upscaler.transfer = counting = CountingTransfer()
    images = noise(6, 72, 100, dtype)
    list(upscaler.launch_window(Window(images, slice(0, 4))))
    assert counting.sent == [(levels, 6 * images[0].nbytes)]
    assert counting.fetched == [(levels, (288, 400, 3))] * 4


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_large_images_are_the_same_as_small_ones(
    random_model: RISTN, monkeypatch: pytest.MonkeyPatch, dtype: type
) -> None:
    images = noise(4, 20, 24, dtype)
    upscaler = Upscaler(random_model, Backend(CPU, "fp32"))
    small = upscaler.upscale_window(Window(images, slice(1, 3)))
    sizes: list[int] = []
    monkeypatch.setattr(transfer, "LARGE_IMAGE", small[0].nbytes)
    monkeypatch.setattr(transfer, "map_memory", lambda size: sizes.append(size) or map_memory(size))
    large = upscaler.upscale_window(Window(images, slice(1, 3)))
    assert sizes == [small[0].nbytes] * 2
    assert all(np.array_equal(a, b) for a, b in zip(small, large, strict=True))


def test_where_large_images_find_no_memory_work_goes_on(
    random_model: RISTN, monkeypatch: pytest.MonkeyPatch, notices: list[str]
) -> None:
    failures = [OSError(errno.ENOMEM, "Cannot allocate memory")]

    def fail_once(_: int, size: int, **flags: int) -> bytearray:
        if failures:
            raise failures.pop()
        return bytearray(size)

    monkeypatch.setattr(transfer, "LARGE_IMAGE", 1)
    monkeypatch.setattr(runtime.mmap, "mmap", fail_once)
    upscaler = Upscaler(random_model, Backend(CPU, "fp32"))
    images = noise(4, 48, 48)
    assert len(upscaler.upscale_window(Window(images, slice(0, 4)))) == 4
    assert len(notices) == 1


def test_blending_weights_cross_once(random_model: RISTN, monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = Upscaler(random_model, Backend(META, "fp16"), Tiling(tile=40))
    upscaler.transfer = CountingTransfer()
    window = Window(noise(3, 72, 100), slice(0, 3))
    list(upscaler.launch_window(window))
    monkeypatch.setattr(torch, "from_numpy", lambda _: pytest.fail("something crosses again"))
    there = torch.empty(3, 72, 100, 3, dtype=torch.uint8, device=META).unbind()
    monkeypatch.setattr(upscaler.transfer, "upload", lambda images: there)
    list(upscaler.launch_window(window))


def test_a_device_without_room_for_the_images_gets_half_of_them(random_model: RISTN) -> None:
    upscaler = Upscaler(random_model, Backend(META, "fp16"), Tiling(tile=32))
    upscaler.transfer = counting = CountingTransfer()
    images = noise(9, 32, 32)
    counting.free = 5 * images[0].nbytes
    arrivals = list(upscaler.launch_window(Window(images, slice(0, 9))))
    assert sum(len(arrival.images) for arrival in arrivals) == len(counting.fetched) == 9
    counting.free = 0
    with pytest.raises(OutOfMemory, match="meta is out of memory even with tiles of 32 pixels"):
        list(upscaler.launch_window(Window(images, slice(0, 9))))


def test_what_is_no_number_is_told_when_it_arrives(random_model: RISTN) -> None:
    with torch.no_grad():
        random_model.reconstruction.last.bias.fill_(torch.inf)  # type: ignore[union-attr]
    upscaler = Upscaler(random_model, Backend(CPU, "fp32"))
    (launched,) = upscaler.launch_window(Window(noise(1, 8, 8), slice(0, 1)))
    with pytest.raises(DeviceError, match="overflowed in fp32; use --precision fp32"):
        upscaler.collect(launched)


def test_nothing_is_copied_on_a_processor() -> None:
    transfer = open_transfer(CPU)
    assert isinstance(transfer, PlainTransfer)
    image = torch.arange(48, dtype=torch.uint8).view(4, 4, 3)
    (result,) = transfer.download([image], torch.tensor(True)).collect() or []
    assert result.ctypes.data == image.data_ptr()
    assert transfer.download([image], torch.tensor(False)).collect() is None


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens in which order on the streams of a device that is a processor in truth."""
    happened: list[str] = []
    current = ["compute"]
    directions = iter(["inward", "outward"])

    class Stream:
        def __init__(self, name: object) -> None:
            self.name = name if isinstance(name, str) else next(directions)

        def wait_stream(self, other: "Stream") -> None:
            happened.append(f"{self.name} waits for {other.name}")

    class Event:
        def record(self, stream: Stream) -> None:
            happened.append(f"mark on {stream.name}")

        def synchronize(self) -> None:
            happened.append("the caller waits for the mark")

    @contextmanager
    def on(stream: Stream) -> Iterator[None]:
        current.append(stream.name)
        yield
        current.pop()

    def copy(self: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
        happened.append(f"fetch on {current[-1]}{'' if non_blocking else ', blocking'}")
        return original_copy(self, source)

    def send(self: Tensor, device: Any, non_blocking: bool = False) -> Tensor:
        happened.append(f"send on {current[-1]}{'' if non_blocking else ', blocking'}")
        return self.clone()

    def allocate(*size: Any, pin_memory: bool = False, **keywords: Any) -> Tensor:
        happened.append("pinned" if pin_memory else "pageable")
        return original_empty(*size, **keywords)

    original_copy, original_empty = Tensor.copy_, torch.empty
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "stream", on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: Stream("compute"))
    monkeypatch.setattr(Tensor, "copy_", copy)
    monkeypatch.setattr(Tensor, "to", send)
    monkeypatch.setattr(Tensor, "record_stream", lambda self, stream: happened.append(f"kept for {stream.name}"))
    monkeypatch.setattr(torch, "empty", allocate)
    return happened


def test_copies_go_beside_the_computation(order: list[str]) -> None:
    transfer = CudaTransfer(CPU)
    images = [np.full((2, 3, 3), level, np.uint16) for level in (1, 2)]
    lr = transfer.upload(images)
    assert order == ["pinned", "send on inward", "compute waits for inward", "kept for compute"]
    assert np.array_equal(np.stack([frame.numpy() for frame in lr]), np.stack(images))
    order.clear()
    arrival = transfer.download([lr[0], lr[1]], torch.tensor(True))
    fetched = ["pinned", "fetch on outward", "kept for outward"]
    assert order == ["outward waits for compute", *fetched * 3, "mark on outward"]
    order.clear()
    result = arrival.collect()
    assert order == ["the caller waits for the mark"]
    assert np.array_equal(np.stack(result or []), np.stack(images))


def test_a_processor_reads_images_where_they_lie() -> None:
    image = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    locked = image.copy()
    locked.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        own, *copied = PlainTransfer(CPU).upload([image, locked, image[::-1]])
    assert own.data_ptr() == image.ctypes.data
    assert np.array_equal(np.stack([frame.numpy() for frame in copied]), np.stack([image, image[::-1]]))


def test_a_device_without_uint16_gets_wider_integers() -> None:
    transfer = PlainTransfer(CPU)
    (image,) = transfer.download([torch.tensor([[[0, 65535, 40000]]], dtype=torch.int32)], torch.tensor(True)).images
    assert image.dtype == torch.uint16
    assert image.numpy().tolist() == [[[0, 65535, 40000]]]
