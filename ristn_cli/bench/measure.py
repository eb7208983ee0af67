"""One network, size and precision, measured in this process, from the network alone to a whole file."""

import copy
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch

from ristn_cli.bench.arithmetic import count_arithmetic
from ristn_cli.bench.machine import convolution_rate, copy_rate, matrix_rate, synchronize
from ristn_cli.bench.memory import device_memory_bytes, peak_memory_bytes
from ristn_cli.bench.networks import open_network
from ristn_cli.bench.profile import profile_operators
from ristn_cli.bench.report import STAGES, Case, EndToEnd, Limits, Reference, summarize
from ristn_cli.bench.scene import make_scene
from ristn_cli.bench.stages import StageClock, time_reading, time_writing
from ristn_cli.inference.device import Backend, choose_backend
from ristn_cli.inference.execution import CompileName
from ristn_cli.inference.job import upscale_video
from ristn_cli.inference.memory import AutoTiling
from ristn_cli.inference.plan import UpscaleOptions, count_tiles
from ristn_cli.inference.preflight import examine
from ristn_cli.inference.reading import source_windows
from ristn_cli.inference.tiles import plan_spans
from ristn_cli.inference.upscaler import Upscaler
from ristn_cli.inference.windows import Window
from ristn_cli.model import RISTN, SCALE
from ristn_cli.video import (
    CODECS,
    Color,
    Frame,
    FrameWriter,
    VideoInfo,
    choose_codec,
    encoder_bytes,
    probe,
    read_frames,
)
from ristn_cli.video.steps import scale_bicubic

RATE = Fraction(25)
CLIP_CRF = 12
TARGET_CRF = 17
REFERENCE_WINDOW = 5
HELD_BYTES = 1 << 28
"""Finished images that are kept to time the encoder with."""

CLIP_SHARE = 0.3
"""Of the time that may be used, for the clip end to end; as much again goes to the network alone on it."""

SHORTEST_CLIP = 4

MOST_TURNS = 3
"""Of end to end and the network alone; they end sooner with the time for them."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to measure.

    Attributes:
        network: as `open_network` takes it.
        width: of the synthetic frames, in LR pixels; 0 with a `source`.
        height: of the same.
        source: a video to measure with; None makes a scene.
        device: as `choose_backend` takes it.
        precision: the same.
        window: frames read together; None for the planner's choice.
        tile: largest side of a tile; None for the planner's choice.
        memory_bytes: as of `AutoTiling`.
        compilation: as `Upscaler` takes it.
        threads: of PyTorch; None leaves them.
        frames: of the clip; None takes two windows, or what the time allows.
        preset: of the encoder.
        seconds: what to spend at most, about; one of each measurement is made in any case.
        network_only: leave out all that reads and writes files.
        with_reference: measure the straightforward module, too.
        with_profile: and the operators.
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
    with_profile: bool = False


def measure_case(request: Request, folder: Path) -> Case:
    """Measure; files are made in `folder`.

    Raises:
        BenchError: there is no such network.
        DeviceError: no such device or precision.
        OutOfMemory: the smallest tile is too large.
        VideoError: the source cannot be read.
    """
    began = time.monotonic()
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    network = open_network(request.network)
    backend = choose_backend(request.device, request.precision)
    source = None if request.source is None else probe(request.source)
    width, height = (request.width, request.height) if source is None else (source.width, source.height)
    automatic = AutoTiling(window=request.window, tile=request.tile, memory_bytes=request.memory_bytes)
    is_deep = source is not None and source.bit_depth > 8
    encoder = CODECS[choose_codec(None, 16 if is_deep else 8)].encoder
    sizes = {"width": SCALE * width, "height": SCALE * height}
    held = 0 if request.network_only else encoder_bytes(encoder, preset=request.preset, is_deep=is_deep, **sizes)
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
    info, finished = source, list[np.ndarray]()
    if not request.network_only:
        most = 2 * tiling.window - 2 * tiling.context
        fitting = max(SHORTEST_CLIP, int(CLIP_SHARE * request.seconds / expected))
        frames = request.frames or min(most, fitting)
        if info is None:
            info = probe(write_scene(folder / "scene.mp4", width, height, frames))
        end_to_end, finished, peaks = measure_end_to_end(
            upscaler, info, frames, folder, request.preset, 2 * CLIP_SHARE * request.seconds
        )
    images = steady_images(source, width, height, tiling.window)
    full = len(images) == tiling.window
    keep = slice(tiling.context, tiling.window - tiling.context) if full else slice(0, len(images))
    window = Window(images, keep)
    kept = len(range(len(images))[keep])
    reference = prepare_reference(network.model, backend, images) if request.with_reference else None
    upscaler.record(window)
    took, around, matrix, reference_took = list[float](), list[float](), list[float](), list[float]()
    parts: list[dict[str, float]] = []
    while not took or time.monotonic() - began + took[-1] * kept < request.seconds:
        matrix.append(matrix_rate(backend))
        whole, clocked, seconds = time_window(upscaler, clock, window)
        peaks = peaks or read_peaks(backend)
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
            stages |= time_reading(info, end_to_end.frames)
            bicubic = time_bicubic(info, end_to_end.frames, folder, request.preset)
        writing = time_writing(finished, info, folder, request.preset)
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
        profile=profile_operators(lambda: upscaler.upscale_window(window), backend) if request.with_profile else None,
    )


Peaks = tuple[int | None, int | None]
"""Memory that the process held at most up to then, and of it what PyTorch did on the device."""


def read_peaks(backend: Backend) -> Peaks:
    """The peaks up to now."""
    return peak_memory_bytes(), device_memory_bytes(backend)


def time_window(
    upscaler: Upscaler, clock: StageClock, window: Window[np.ndarray]
) -> tuple[float, float, dict[str, float]]:
    """Seconds of a window as it runs, of one whose parts are clocked, and of these parts.

    One window is both, unless the network is recorded: a recording has no parts.
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
    """Compute one tile of a window, so that kernels and memory are there; about how many seconds a frame will take."""
    tiling = upscaler.tiling
    rows = plan_spans(height, tiling.tile, tiling.overlap)
    columns = plan_spans(width, tiling.tile, tiling.overlap)
    images = tuple(make_scene(columns[0].size, rows[0].size, tiling.window))
    _, _, seconds = time_window(upscaler, clock, Window(images, slice(tiling.context, tiling.context + 1)))
    kept = tiling.window - 2 * tiling.context
    once = seconds["reconstruction"] + (seconds["spatial"] + seconds["temporal"]) / kept
    return len(rows) * len(columns) * once


def write_scene(path: Path, width: int, height: int, frames: int) -> Path:
    """The synthetic scene as H.264 of high quality."""
    clip = FrameWriter(
        path,
        width=width,
        height=height,
        rate=RATE,
        time_base=1 / RATE,
        color=Color(),
        crf=CLIP_CRF,
        preset="veryfast",
    )
    with clip:
        for index, image in enumerate(make_scene(width, height, frames)):
            clip.write(Frame(image, index / RATE, 1 / RATE))
    return path


def steady_images(source: VideoInfo | None, width: int, height: int, count: int) -> tuple[np.ndarray, ...]:
    """Images of one window: of the source, as many as it has, or of the scene."""
    if source is None:
        return tuple(make_scene(width, height, count))
    return tuple(frame.image for frame in read_frames(source, max_frames=count, drop_alpha=True))


def measure_end_to_end(
    upscaler: Upscaler, info: VideoInfo, frames: int, folder: Path, preset: str, seconds: float
) -> tuple[EndToEnd, list[np.ndarray], Peaks]:
    """A clip through `upscale_video` and the network alone on the same windows, in turns.

    And some finished images; and the peaks of the first turn, before these were held.

    Args:
        upscaler: the engine.
        info: the source.
        frames: of it to upscale.
        folder: for the output.
        preset: of the encoder.
        seconds: for turns after the first.
    """
    options = UpscaleOptions(
        max_frames=frames, preset=preset, crf=TARGET_CRF, with_audio=False, with_subtitles=False, drop_alpha=True
    )
    source = examine(info, options)
    took, alone, total = list[float](), list[float](), list[float]()
    held: list[np.ndarray] = []
    peaks: Peaks | None = None
    count = 0
    while not took or (len(took) < MOST_TURNS and (len(took) + 1) * (total[0] + alone[0] * count) < seconds):
        planned: list[float] = []
        began = time.perf_counter()
        job = upscale_video(
            info.path,
            folder / "upscaled.mkv",
            upscaler,
            options,
            overwrite=True,
            disk_check=False,
            on_plan=lambda _, planned=planned: planned.append(time.perf_counter()),  # type: ignore[misc]
        )
        *_, last = job
        total.append(time.perf_counter() - began)
        peaks = peaks or read_peaks(upscaler.backend)
        count = last.frames
        # Not what progress tells: the encoder still holds frames when the last one is handed to it.
        took.append((time.perf_counter() - planned[0]) / count)
        network = 0.0
        for window in source_windows(None, source, upscaler, options):
            images = Window(tuple(run[0].image for run in window.frames), window.keep)
            start = time.perf_counter()
            made = upscaler.upscale_window(images)
            network += time.perf_counter() - start
            held += made[: max(0 if held else 1, HELD_BYTES // made[0].nbytes - len(held))]
            del made
        alone.append(network / count)
    whole, part = summarize(took).median, summarize(alone).median
    found = EndToEnd(
        frames=count,
        seconds_per_frame=whole,
        network_seconds_per_frame=part,
        ratio=whole / part,
        total_seconds=summarize(total).median,
        preset=preset,
    )
    assert peaks is not None
    return found, held, peaks


def time_bicubic(info: VideoInfo, frames: int, folder: Path, preset: str) -> float:
    """Seconds a frame of ffmpeg alone: the faster of two runs, its start counted."""
    took = []
    for _ in range(2):
        began = time.perf_counter()
        scale_bicubic(
            info.path,
            folder / "bicubic.mkv",
            width=SCALE * info.width,
            height=SCALE * info.height,
            frames=frames,
            crf=TARGET_CRF,
            preset=preset,
        )
        took.append((time.perf_counter() - began) / frames)
    return min(took)


def prepare_reference(model: RISTN, backend: Backend, images: tuple[np.ndarray, ...]) -> Callable[[], float]:
    """What runs the trained form for one frame of whole size, and tells the seconds; the first run is not counted."""
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
    """The reference's figures beside the engine's seconds a frame."""
    timing = summarize(took)
    return Reference(window=REFERENCE_WINDOW, seconds_per_frame=timing, ratio=engine / timing.median)
