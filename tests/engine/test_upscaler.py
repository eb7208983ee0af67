"""Upscaler: images to images, the same in tiles and windows as at once."""

import gc
import re
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_picture
from PIL import Image
from torch import Tensor, nn

from ristn_cli.engine.blending import weigh_ends
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.short_memory import OutOfMemory, typed_memory_errors
from ristn_cli.engine.upscaler import Upscaler, stoppable
from ristn_cli.engine.windows import Window, split_window
from ristn_cli.evaluation.metrics import psnr
from ristn_cli.model import RISTN
from ristn_cli.video import ReadOptions, read_frames
from ristn_cli.weights import find_weights, load_weights

CPU = Backend(torch.device("cpu"), "fp32")


def noise(frames: int, height: int, width: int, dtype: type = np.uint8) -> list[np.ndarray]:
    """Images of seeded noise over half of the range, so that nothing is clipped."""
    generator = np.random.default_rng(0)
    peak = np.iinfo(dtype).max
    return list(generator.integers(peak // 4, 3 * peak // 4, (frames, height, width, 3)).astype(dtype))


def test_a_network_without_detail_gives_bicubic(tiny_model: RISTN) -> None:
    image = make_picture(3, 40, 30)
    (sr,) = Upscaler(tiny_model, CPU).upscale([image])
    expected = np.asarray(Image.fromarray(image).resize((160, 120), Image.Resampling.BICUBIC)).astype(int)
    assert sr.dtype == np.uint8
    assert np.abs(sr.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (5, 3), (17, 33), (1, 70)])
@pytest.mark.parametrize("frames", [1, 2, 13])
def test_any_size_and_count(random_model: RISTN, height: int, width: int, frames: int) -> None:
    images = noise(frames, height, width)
    result = list(Upscaler(random_model, CPU, Tiling(tile=32, overlap=4)).upscale(images))
    assert [image.shape for image in result] == [(4 * height, 4 * width, 3)] * frames


def test_tiled_equals_untiled_within_a_level_when_overlap_covers_the_receptive_field(random_model: RISTN) -> None:
    images = noise(3, 90, 70)
    field = 3 + 2 * 3 + 3 + 1  # a bottleneck, two layers over three frames, a bottleneck, the last convolution
    whole = np.stack(list(Upscaler(random_model, CPU, Tiling(tile=1000, overlap=0)).upscale(images)))
    tiling = Tiling(tile=2 * (field + 2) + 8, overlap=field + 2)
    tiled = np.stack(list(Upscaler(random_model, CPU, tiling).upscale(images)))
    assert np.abs(whole.astype(int) - tiled.astype(int)).max() <= 1


def test_a_smaller_overlap_would_have_shown(random_model: RISTN) -> None:
    """The test above can fail: without overlap, tiles are visible."""
    images = noise(3, 90, 70)
    whole = np.stack(list(Upscaler(random_model, CPU, Tiling(tile=1000, overlap=0)).upscale(images)))
    tiled = np.stack(list(Upscaler(random_model, CPU, Tiling(tile=32, overlap=0)).upscale(images)))
    assert np.abs(whole.astype(int) - tiled.astype(int)).max() > 3


def test_windows_agree_with_one_window_over_everything(random_model: RISTN) -> None:
    """The recurrence forgets: frames with two neighbours of context hardly change."""
    images = noise(20, 24, 24)
    whole = list(Upscaler(random_model, CPU, Tiling(window=20)).upscale(images))
    for window in (8, 10):
        parts = list(Upscaler(random_model, CPU, Tiling(window=window, context=2)).upscale(images))
        assert min(psnr(a, b) for a, b in zip(whole, parts, strict=True)) > 50


def test_neighbours_are_read(random_model: RISTN) -> None:
    images = noise(5, 24, 24)
    changed = [*images[:3], 255 - images[3], images[4]]
    first = list(Upscaler(random_model, CPU).upscale(images))
    second = list(Upscaler(random_model, CPU).upscale(changed))
    assert not np.array_equal(first[2], second[2])


def test_sixteen_bits_keep_what_eight_would_round(random_model: RISTN) -> None:
    deep = noise(2, 20, 20, np.uint16)
    result = list(Upscaler(random_model, CPU).upscale(deep))
    assert result[0].dtype == np.uint16
    lr = torch.from_numpy(np.stack(deep).astype(np.float32) / 65535).permute(0, 3, 1, 2)[None]
    with torch.inference_mode():
        expected = random_model(lr)[0].permute(0, 2, 3, 1).clamp(0, 1).mul(65535).round().numpy()
    assert np.abs(np.stack(result).astype(float) - expected).max() <= 2


@pytest.mark.parametrize(("first", "last"), [(0, 0), (3, 0), (0, 4), (3, 4), (7, 6)])
@pytest.mark.parametrize("axis", [1, 2])
def test_each_shared_pixel_is_weighed_once(axis: int, first: int, last: int) -> None:
    values = torch.rand(2, 9, 9, 3, generator=torch.Generator().manual_seed(0))
    weights = torch.ones(9)
    weights[:first] = weights[9 - last :] = 0.25
    expected = values * weights.view(-1, *[1] * (3 - axis))
    weigh_ends(values, axis, weights, first, last)
    assert torch.equal(values, expected)


def test_values_are_rounded_not_truncated(tiny_model: RISTN) -> None:
    """A flat image of any level must come back as the same level."""
    levels = [np.full((8, 8, 3), level, np.uint8) for level in range(0, 256, 5)]
    for image in levels:
        (sr,) = Upscaler(tiny_model, CPU).upscale([image])
        assert (sr == image[0, 0, 0]).all()


def test_bfloat16_stays_close_to_float32(random_model: RISTN) -> None:
    images = noise(5, 40, 40)
    exact = list(Upscaler(random_model, CPU).upscale(images))
    rough = list(Upscaler(random_model, Backend(torch.device("cpu"), "bf16")).upscale(images))
    assert min(psnr(a, b) for a, b in zip(exact, rough, strict=True)) > 40


def test_half_precision_is_above_fifty_decibels_on_film() -> None:
    model = load_weights(find_weights("ristn-lite"))
    clip = Path(__file__).parents[2] / "examples" / "bbb.mp4"
    images = [frame.image[40:104, 100:196] for frame in read_frames(clip, ReadOptions(max_frames=5))]
    exact = list(Upscaler(model, CPU).upscale(images))
    rough = list(Upscaler(model, Backend(torch.device("cpu"), "bf16")).upscale(images))
    assert 50 < min(psnr(a, b) for a, b in zip(exact, rough, strict=True)) < 80


def test_the_model_given_is_not_changed(random_model: RISTN) -> None:
    Upscaler(random_model, Backend(torch.device("cpu"), "bf16"))
    assert all(parameter.dtype == torch.float32 for parameter in random_model.parameters())


@pytest.mark.parametrize("fields", [{"window": 4, "context": 2}, {"tile": 32, "overlap": 16}, {"context": -1}])
def test_impossible_tilings_are_refused(fields: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"too short for|too small for"):
        Tiling(**fields)


def runs_out_above(tile: int, frames: int, model: nn.Module, calls: list[tuple[int, ...]]) -> Callable[..., Tensor]:
    """A network on a device that holds tiles of `tile` pixels a side and windows of `frames` frames, no more."""

    def limited(lr: Tensor, keep: slice) -> Tensor:
        calls.append(tuple(lr.shape))
        if max(lr.shape[3:]) > tile or lr.shape[1] > frames:
            raise torch.OutOfMemoryError("CUDA out of memory")
        result: Tensor = model(lr, keep)
        return result

    return limited


@pytest.mark.parametrize(("tile", "frames"), [(60, 20), (40, 20), (33, 7), (33, 5)])
def test_where_memory_is_short_nothing_is_dropped(
    random_model: RISTN, tile: int, frames: int, notices: list[str]
) -> None:
    """Tiles shrink first, then windows are halved; the pictures are those of such tiles and windows."""
    images = noise(9, 70, 50)
    whole = list(Upscaler(random_model, CPU, Tiling(tile=100)).upscale(images))
    upscaler = Upscaler(random_model, CPU, Tiling(tile=100))
    calls: list[tuple[int, ...]] = []
    upscaler.model = runs_out_above(tile, frames, upscaler.model, calls)  # type: ignore[assignment]
    result = list(upscaler.upscale(images))
    assert len(result) == 9
    assert min(psnr(a, b) for a, b in zip(result, whole, strict=True)) > 35
    assert f"continuing with tiles of {upscaler.tiling.tile} pixels" in notices[-1]
    assert upscaler.tiling.tile <= tile
    count = len(calls)
    list(upscaler.upscale(images))
    assert len(calls) <= 2 * count  # what was learnt of the device is not tried again for every window


@pytest.mark.parametrize("tile", [60, 8])
def test_the_tensors_of_a_failed_tile_are_gone_when_memory_is_released(
    random_model: RISTN, monkeypatch: pytest.MonkeyPatch, tile: int
) -> None:
    """Without the garbage collector, which would come too late; where the tile shrinks, and where nothing helps."""
    failed: list[weakref.ref[Tensor]] = []
    alive: list[int] = []
    upscaler = Upscaler(random_model, CPU, Tiling(tile=100))
    model = upscaler.model

    def limited(lr: Tensor, keep: slice) -> Tensor:
        features = lr.clone()
        if max(lr.shape[3:]) > tile:
            failed.append(weakref.ref(features))
            raise torch.OutOfMemoryError("CUDA out of memory")
        result: Tensor = model(lr, keep)
        return result

    upscaler.model = limited  # type: ignore[assignment]
    monkeypatch.setattr(
        "ristn_cli.engine.upscaler.release_memory",
        lambda backend: alive.append(sum(tensor() is not None for tensor in failed)),
    )
    gc.disable()
    try:
        if tile == 60:
            assert len(list(upscaler.upscale(noise(3, 70, 50)))) == 3
        else:
            with pytest.raises(OutOfMemory) as told:
                list(upscaler.upscale(noise(3, 70, 50)))
            assert told.value.__context__ is None  # nor does what is raised keep them
    finally:
        gc.enable()
    assert set(alive) == {0}
    assert len(alive) == len(failed)


def test_a_device_that_is_too_small_says_what_would_do(random_model: RISTN, monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = Upscaler(random_model, CPU, Tiling(tile=100))
    upscaler.model = runs_out_above(8, 1, upscaler.model, [])  # type: ignore[assignment]
    monkeypatch.setattr("ristn_cli.engine.upscaler.free_bytes", lambda device: 5 << 20)
    with pytest.raises(OutOfMemory, match=r"tiles of 32 pixels .* needs about \d+ MiB; 5 MiB are free.*bf16") as told:
        list(upscaler.upscale(noise(3, 70, 50)))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("error", "is_short"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), True),
        (NotImplementedError("conv is not implemented for the MPS device"), False),
        (RecursionError("too deep"), False),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_only_short_memory_is_told_as_such(error: Exception, is_short: bool) -> None:
    with pytest.raises(OutOfMemory if is_short else type(error), match=re.escape(str(error))), typed_memory_errors():
        raise error


@pytest.mark.parametrize("keep", [slice(0, 9), slice(2, 7), slice(0, 1), slice(3, 5)])
@pytest.mark.parametrize("context", [0, 1, 2])
def test_half_windows_keep_what_the_whole_one_did(keep: slice, context: int) -> None:
    window = Window(tuple(range(9)), keep)
    halves = split_window(window, context)
    if halves is None:
        assert keep == slice(0, 1)
        return
    first, second = halves
    assert first.frames[first.keep] + second.frames[second.keep] == window.frames[keep]
    assert second.keep.start == min(context, first.keep.stop)
    assert len(first.frames) - first.keep.stop == min(context, 9 - first.keep.stop)


def test_a_computation_can_be_stopped_before_any_layer(random_model: RISTN) -> None:
    upscaler = Upscaler(random_model, CPU)
    images = noise(2, 8, 8)
    calls: list[None] = []

    def check() -> None:
        calls.append(None)
        if len(calls) == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), stoppable(upscaler.model, check):
        list(upscaler.upscale(images))
    assert len(calls) == 7
    assert len(list(upscaler.upscale(images))) == 2
    assert len(calls) == 7
