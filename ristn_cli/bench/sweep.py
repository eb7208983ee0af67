"""The fastest precision, tile and window of a network on this machine, by trying.

A smaller tile or a longer window changes the result slightly, so only such are tried as the engine may choose by
itself: windows no longer than its longest, whose cost in PSNR is known, and tiles whose borders cannot be seen.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from ristn_cli.bench.networks import Network
from ristn_cli.bench.results import Setting
from ristn_cli.bench.scene import make_scene
from ristn_cli.engine.defaults import MachineDefault, config_digest, device_name
from ristn_cli.engine.device import Backend, choose_backend, has_bfloat16_instructions
from ristn_cli.engine.memory import LONGEST_WINDOW, AutoTiling, Tiling, replace_tile
from ristn_cli.engine.tiles import Span, plan_spans
from ristn_cli.engine.upscaler import OutOfMemory, Upscaler
from ristn_cli.engine.windows import Window

SMALLEST = 96
TILES = (SMALLEST, 128, 192, 288, 384, 512)
WINDOWS = (5, 8, 12, 16, LONGEST_WINDOW)

PRECISIONS = {"cpu": ("bf16", "fp32"), "cuda": ("fp16", "bf16", "fp32"), "mps": ("fp16", "fp32")}
"""Of those a device can compute in without emulation."""

GAIN = 0.03
"""What another setting than the engine's own has to gain: less is noise."""

Measure = Callable[[Network, Backend, Tiling, int, int], float | None]


@dataclass(frozen=True)
class Sweep:
    """What was tried, in that order, and which backend and tiling won."""

    settings: list[Setting]
    backend: Backend
    tiling: Tiling


def measure_tiling(network: Network, backend: Backend, tiling: Tiling, width: int, height: int) -> float | None:
    """Seconds a frame of `width` x `height`, from one tile of one window; None when memory is too short for it."""
    upscaler = Upscaler(network.model, backend, tiling)
    rows, columns = spans(tiling, width, height)
    images = tuple(make_scene(columns[0].size, rows[0].size, tiling.window))
    first, last = tiling.context, tiling.window - tiling.context
    try:
        upscaler.upscale_window(Window(images, slice(first, first + 1)))  # what is loaded at first use
        window = Window(images, slice(first, last))
        upscaler.record(window)
        began = time.perf_counter()
        upscaler.upscale_window(window)
    except OutOfMemory:
        return None
    seconds = (time.perf_counter() - began) * len(rows) * len(columns) / (last - first)
    return None if upscaler.tiling != tiling else seconds


def spans(tiling: Tiling, width: int, height: int) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """Rows and columns of the tiles of a frame."""
    return plan_spans(height, tiling.tile, tiling.overlap), plan_spans(width, tiling.tile, tiling.overlap)


def sweep(
    network: Network,
    backends: list[Backend],
    size: tuple[int, int],
    *,
    seconds: float,
    tell: Callable[[str], None] = lambda message: None,
    measure: Measure = measure_tiling,
) -> Sweep:
    """Try precisions with the engine's own tiling, then tiles in the fastest one, then windows with the fastest tile.

    Args:
        network: what to measure.
        backends: the device in each precision to try; the first is the engine's own choice.
        size: width and height of a frame in LR pixels.
        seconds: stop trying after as many; the engine's own setting is measured in any case.
        tell: told of each setting that was measured.
        measure: seconds a frame of a setting.
    """
    width, height = size
    own = AutoTiling().fit(
        network.model.config,
        backends[0].device,
        width=width,
        height=height,
        value_bytes=backends[0].dtype.itemsize,
    )
    began = time.monotonic()
    tried: dict[tuple[Backend, int, tuple[int, int]], tuple[Tiling, float | None]] = {}

    def attempt(backend: Backend, tiling: Tiling) -> None:
        rows, columns = spans(tiling, width, height)
        key = backend, tiling.window, (rows[0].size, columns[0].size)  # larger tiles may cut a frame no differently
        if key in tried or (tried and time.monotonic() - began > seconds):
            return
        found = measure(network, backend, tiling, width, height)
        tried[key] = (tiling, found)
        speed = "needs more memory than there is" if found is None else f"{found:.3f} s a frame"
        tell(f"{backend.precision}, tiles of {tiling.tile}, windows of {tiling.window}: {speed}")

    def fastest() -> tuple[Backend, Tiling]:
        measured = [(took, key[0], tiling) for key, (tiling, took) in tried.items() if took is not None]
        if not measured:
            return backends[0], own
        best = min(took for took, _, _ in measured)
        # The first that is as fast as the fastest: what is nearest to the engine's own is tried first.
        return next((backend, tiling) for took, backend, tiling in measured if took <= best * (1 + GAIN))

    def is_confirmed(winner: tuple[Backend, Tiling], engine: tuple[Backend, Tiling]) -> bool:
        """Whether it wins once more, right after the engine's own: a machine may have changed its speed on the way."""
        before, after = (measure(network, backend, tiling, width, height) for backend, tiling in (engine, winner))
        return before is None or (after is not None and after * (1 + GAIN) < before)

    for backend in backends:
        attempt(backend, own)
    backend, _ = fastest()
    for tile in sorted(TILES, key=lambda tile: abs(tile - own.tile)):
        attempt(backend, replace_tile(own, tile))
    _, tiling = fastest()
    for window in sorted(WINDOWS, reverse=True):
        if window <= own.window:
            attempt(backend, replace(tiling, window=window))
    winner = fastest()
    if winner != (backends[0], own) and not is_confirmed(winner, (backends[0], own)):
        winner = backends[0], own
    settings = [
        Setting(
            model=network.name,
            width=width,
            height=height,
            precision=key[0].precision,
            window=tiling.window,
            tile=tiling.tile,
            seconds_per_frame=took,
            is_default=(key[0], tiling) == (backends[0], own),
            is_best=(key[0], tiling) == winner,
        )
        for key, (tiling, took) in tried.items()
    ]
    return Sweep(settings, *winner)


def sweep_backends(device: str, precisions: list[str] | None) -> list[Backend]:
    """The device in each precision to try, what `auto` means first.

    Raises:
        DeviceError: the device is not there, or cannot compute in a precision that was asked for.
    """
    own = choose_backend(device)
    if precisions is not None:
        return list(dict.fromkeys(choose_backend(device, name) for name in precisions))
    names = ("fp32",) if own.device.type == "cpu" and not has_bfloat16_instructions() else PRECISIONS[own.device.type]
    return list(dict.fromkeys((own, *(choose_backend(device, name) for name in names))))


def as_default(found: Sweep, network: Network) -> MachineDefault:
    """What a sweep found, to be kept for this machine."""
    return MachineDefault(
        network=config_digest(network.model.config),
        device=device_name(found.backend.device),
        precision=found.backend.precision,
        window=found.tiling.window,
        tile=found.tiling.tile,
    )
