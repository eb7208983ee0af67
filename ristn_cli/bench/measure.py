"""Measures one network, size and precision in this process, for the network alone and for a whole file.

Imports PyAV only if a file is read or written.
"""

import copy
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ristn_cli.bench.arithmetic import count_arithmetic
from ristn_cli.bench.machine import convolution_rate, copy_rate, matrix_rate, synchronize
from ristn_cli.bench.networks import open_network
from ristn_cli.bench.peak_memory import read_peaks
from ristn_cli.bench.results import STAGES, Case, Limits, Reference, summarize
from ristn_cli.bench.scene import make_scene
from ristn_cli.bench.stage_times import StageClock
from ristn_cli.engine.auto_tiling import AutoTiling
from ristn_cli.engine.compilation import CompileName
from ristn_cli.engine.device import Backend, choose_backend
from ristn_cli.engine.memory import count_tiles
from ristn_cli.engine.tiles import plan_spans
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.model import RISTN

REFERENCE_WINDOW = 5
CLIP_SHARE = 0.3
"""Share of the allowed time for the end-to-end clip; the network alone on that clip gets the same."""

SHORTEST_CLIP = 4


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to measure.

    Attributes:
        network: see `open_network`.
        width: width of the synthetic frames in LR pixels; 0 with a `source`.
        height: height of the synthetic frames in LR pixels; 0 with a `source`.
        source: a video to measure with; None for a synthetic scene.
        device: see `choose_backend`.
        precision: see `choose_backend`.
        window: frames per window; None to choose automatically.
        tile: largest side of a tile; None to choose automatically.
        memory_bytes: see `AutoTiling`.
        compilation: see `Upscaler`.
        threads: number of PyTorch threads; None for PyTorch's default.
        frames: length of the clip; None for two windows, or fewer if time is short.
        preset: preset of the encoder.
        seconds: approximate time limit. Each measurement runs at least once.
        network_only: skip everything that reads or writes files.
        with_reference: also measure the plain module.
    """

    network: str
    width: int
    height: int
    source: str | None = None
    device: str = "auto"
    precision: str = "auto"
    window: int | None = None
    tile: int | None = None
    memory_bytes: int | None = None
    compilation: CompileName = "auto"
    threads: int | None = None
    frames: int | None = None
    preset: str = "veryfast"
    seconds: float = 60
    network_only: bool = False
    with_reference: bool = False


def measure_case(request: Request, folder: Path) -> Case:
    """Measure a case. Temporary files are written to `folder`.

    Raises:
        BenchError: the network is unknown.
        DeviceError: the device or precision is not available.
        OutOfMemory: the smallest tile does not fit.
        VideoError: the source cannot be read.
    """
    began = time.monotonic()
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    network = open_network(request.network)
    backend = choose_backend(request.device, request.precision)
    source = None
    if request.source is not None:
        from ristn_cli.video import probe

        source = probe(request.source)
    width, height = (request.width, request.height) if source is None else (source.width, source.height)
    # All of every frame is computed, so that figures of two sources can be compared.
    automatic = AutoTiling(
        window=request.window, tile=request.tile, memory_bytes=request.memory_bytes, still_tolerance=None
    )
    is_deep = source is not None and source.bit_depth > 8
    held = 0
    if not request.network_only:
        from ristn_cli.bench import end_to_end as clip

        held = clip.held_bytes(width, height, request.preset, is_deep=is_deep)
    tiling = automatic.fit(
        network.model.config,
        backend.device,
        width=width,
        height=height,
        value_bytes=backend.dtype.itemsize,
        image_bytes=2 if is_deep else 1,
        encoder_bytes=held,
    )
    upscaler = Upscaler(network.model, backend, tiling, compilation=request.compilation)
    clock = StageClock(upscaler.model, backend)
    stages: dict[str, float | None] = dict.fromkeys(STAGES)
    expected = warm_up(upscaler, clock, width, height)

    end_to_end, bicubic, peaks = None, None, None
    info, finished = None, list[np.ndarray]()
    if not request.network_only:
        most = 2 * tiling.window - 2 * tiling.context
        fitting = max(SHORTEST_CLIP, int(CLIP_SHARE * request.seconds / expected))
        frames = request.frames or min(most, fitting)
        info = source or clip.open_scene(folder / "scene.mp4", width, height, frames)
        end_to_end, finished, peaks = clip.measure_end_to_end(
            upscaler, info, frames, folder, request.preset, 2 * CLIP_SHARE * request.seconds
        )
    if source is None:
        images = tuple(make_scene(width, height, tiling.window))
    else:
        from ristn_cli.bench.end_to_end import first_images

        images = first_images(source, tiling.window)
    full = len(images) == tiling.window
    keep = slice(tiling.context, tiling.window - tiling.context) if full else slice(0, len(images))
    window = Window(images, keep)
    kept = len(range(len(images))[keep])
    reference = prepare_reference(network.model, backend, images) if request.with_reference else None
    upscaler.record(window)
    took, around, matrix, reference_took = list[float](), list[float](), list[float](), list[float]()
    parts: list[dict[str, float]] = []
    while not took or time.monotonic() - began + took[-1] * kept < request.seconds:
        whole, clocked, seconds = time_window(upscaler, clock, window)
        peaks = peaks or read_peaks(backend)
        matrix.append(matrix_rate(backend))
        took.append(whole / kept)
        parts.append({name: value / kept for name, value in seconds.items()})
        around.append((clocked - sum(seconds.values())) / kept)
        if reference is not None:
            reference_took.append(reference())
    assert peaks is not None
    timing = summarize(took)
    for name in ("spatial", "temporal", "reconstruction"):
        stages[name] = summarize([part[name] for part in parts]).median
    outside = summarize(around).median
    stages["convert_out"] = outside
    if info is not None and end_to_end is not None:
        if not info.is_image_sequence:
            stages |= clip.time_reading(info, end_to_end.frames)
            bicubic = clip.time_bicubic(info, end_to_end.frames, folder, request.preset)
        writing = clip.time_writing(finished, info, folder, request.preset)
        stages |= {"convert_out": outside + writing["convert_out"], "encode": writing["encode"]}
    limits = Limits(
        matrix_flops_per_second=summarize(matrix).median,
        convolution_flops_per_second=convolution_rate(backend),
        copy_bytes_per_second=copy_rate(backend),
    )
    arithmetic = count_arithmetic(network.model, tiling, width, height, frames=len(images), kept=kept)
    limit = timing.median * limits.matrix_flops_per_second
    return Case(
        model=network.name,
        weights=network.weights,
        parameters=network.model.count_parameters(),
        width=width,
        height=height,
        precision=backend.precision,
        window=len(images),
        context=tiling.context if full else 0,
        tile=tiling.tile,
        overlap=tiling.overlap,
        tiles=count_tiles(width, height, tiling),
        network=timing,
        frames_per_second=timing.frames_per_second,
        stages=stages,
        arithmetic=arithmetic,
        limits=limits,
        network_share=arithmetic.network_flops / limit,
        executed_share=arithmetic.executed_flops / limit,
        end_to_end=end_to_end,
        peak_memory_bytes=peaks[0],
        device_memory_bytes=peaks[1],
        bicubic_seconds_per_frame=bicubic,
        reference=None if reference is None else describe_reference(reference_took, timing.median),
    )


def time_window(
    upscaler: Upscaler, clock: StageClock, window: Window[np.ndarray]
) -> tuple[float, float, dict[str, float]]:
    """Return the seconds of a window, of a window with timed stages, and of each stage.

    One window gives all three, unless the network is recorded as a CUDA graph, which has no stages.
    """
    synchronize(upscaler.backend)
    whole: float | None = None
    recorded = upscaler.recorded
    if recorded is not None:
        began = time.perf_counter()
        upscaler.upscale_window(window)
        whole = time.perf_counter() - began
        upscaler.recorded = None
    try:
        began = time.perf_counter()
        with clock.attached() as seconds:
            upscaler.upscale_window(window)
        clocked = time.perf_counter() - began
    finally:
        upscaler.recorded = recorded
    return clocked if whole is None else whole, clocked, seconds


def warm_up(upscaler: Upscaler, clock: StageClock, width: int, height: int) -> float:
    """Compute one tile of a window to load kernels and memory; return the estimated seconds per frame."""
    tiling = upscaler.tiling
    rows = plan_spans(height, tiling.tile, tiling.overlap)
    columns = plan_spans(width, tiling.tile, tiling.overlap)
    images = tuple(make_scene(columns[0].size, rows[0].size, tiling.window))
    _, _, seconds = time_window(upscaler, clock, Window(images, slice(tiling.context, tiling.context + 1)))
    kept = tiling.window - 2 * tiling.context
    once = seconds["reconstruction"] + (seconds["spatial"] + seconds["temporal"]) / kept
    return len(rows) * len(columns) * once


def prepare_reference(model: RISTN, backend: Backend, images: tuple[np.ndarray, ...]) -> Callable[[], float]:
    """Return a function that runs the trained form for one whole frame and returns the seconds. A first run is not
    timed.
    """
    trained = copy.deepcopy(model).to(backend.device, torch.float32).eval()
    repeated = itertools.islice(itertools.cycle(images), REFERENCE_WINDOW)
    middle = slice(REFERENCE_WINDOW // 2, REFERENCE_WINDOW // 2 + 1)
    peak = np.iinfo(images[0].dtype).max
    frames = np.stack(tuple(repeated))

    @torch.inference_mode()
    def run(crop: int | None = None) -> float:
        began = time.perf_counter()
        lr = torch.from_numpy(frames[:, :crop, :crop]).to(backend.device).permute(0, 3, 1, 2).float() / peak
        sr = trained(lr[None].contiguous(), middle)
        sr.clamp_(0, 1).mul_(peak).round_().to(torch.uint8 if peak == 255 else torch.int32).cpu()
        return time.perf_counter() - began

    run(64)
    return run


def describe_reference(took: list[float], engine: float) -> Reference:
    """Return the reference's time and its ratio to the engine's seconds per frame."""
    timing = summarize(took)
    return Reference(window=REFERENCE_WINDOW, seconds_per_frame=timing, ratio=engine / timing.median)
