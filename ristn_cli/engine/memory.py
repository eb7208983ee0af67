"""How much memory a window takes, and the tiling that fits. Arithmetic, save for asking the machine what is free."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ristn_cli.engine.allocator import has_tcache_disabled
from ristn_cli.engine.device import free_bytes
from ristn_cli.engine.tiles import plan_spans
from ristn_cli.model import SCALE, RISTNConfig
from ristn_cli.model.folded import can_fold

MIB = 1 << 20

PLANNED_SHARE = 0.5
"""Of the memory that is free when a job begins, what is planned with while no limit is given."""

SLOW = 1.25
"""Times the least time in USABLE_SHARE, from which on PLANNED_SHARE is too little."""

UNKNOWN_FREE = 6 << 30
"""Bytes that are taken to be free where nothing tells."""

NEAR_FASTEST = 1.02
"""Times the least time that fits: of the tilings within, the one that needs the least memory is taken."""

PROGRAM_BYTES = 400 * MIB
"""What a process takes on a processor before it reads the first frame: libraries, and the network's weights."""

FIRST_BYTES = 512 * MIB
"""What the finished images of the first and the last window of a shot may take, which keep more than others."""

LONGEST_WINDOW = 20
CONTEXT = 2
"""Frames, and of them those at each inner end that are read only."""

LARGEST_TILE = 512
SMALLEST_TILE = 32
"""LR pixels a side. Above the largest little is gained, below the smallest a tile is all overlap."""

TILE_STEP = 16
"""LR pixels between the sides that are tried."""

WINDOWS_AHEAD = 1
"""Windows that are read while another one is computed."""

IMAGES_AHEAD = 1
"""Finished images that wait for the encoder, besides the window they are of. More would not keep it busier."""

EVENTS_AHEAD = 4
"""Reports of the encoder that wait to be told."""

JOINED_SHARE = 1.1
SCATTERED_SHARE = 1.5
"""glibc's bytes per byte in use, measured on a processor. Where `restart_without_tcache` was called: 0.96 to 1.05 for
`ristn-lite`, `ristn` and `paper`. Elsewhere it varied from run to run, up to 1.46."""

USABLE_SHARE = 0.8
"""Of the memory that is free when a job begins, what it may take: the decoder and other programs need some, too."""

NEAR_SMALLEST = 1.25
"""Where nothing fits: times the least memory that may be taken, as the very smallest tiles are all overlap."""


MOST_TOLERANCE = 8
"""Levels: what differs by more is no noise of a good source."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """How much the network sees at once.

    Attributes:
        window: frames read together.
        context: frames at each inner end of a window that are read but not kept.
        tile: largest side of a tile in LR pixels, overlap included.
        overlap: LR pixels that a tile reads beyond its share, on each side.
        detect_cuts: windows end at scene cuts, so that no frame reads another shot.
        still_tolerance: levels of 8 bits by which a still block may differ and be computed once; 0 for equal ones only,
            None to compute all of every frame.
    """

    window: int = LONGEST_WINDOW
    context: int = CONTEXT
    tile: int = 288
    overlap: int = 8
    detect_cuts: bool = True
    still_tolerance: int | None = 0

    def __post_init__(self) -> None:
        if self.context < 0 or self.window <= 2 * self.context:
            raise ValueError(
                f"a window of {self.window} frames keeps nothing between {self.context} frames of context on each side"
            )
        if self.overlap < 0 or self.tile <= 2 * self.overlap:
            raise ValueError(f"a tile of {self.tile} pixels is all overlap with {self.overlap} pixels on each side")
        if self.still_tolerance is not None and not 0 <= self.still_tolerance <= MOST_TOLERANCE:
            raise ValueError(f"a tolerance of {self.still_tolerance} levels is not within 0 and {MOST_TOLERANCE}")


TRAINED_SHARE = 5
"""How many times as much memory a network takes in its trained form as in the folded one: 2.7 to 5.0 were measured."""


def allocator_share() -> float:
    """What this process's allocator holds for one byte in use."""
    return JOINED_SHARE if has_tcache_disabled() else SCATTERED_SHARE


def widest_channels(config: RISTNConfig, window: int) -> float:
    """Values per LR pixel and frame of a window that are in memory at once, where the network is at its widest.

    That is in the spatial component, or at the end of the last ConvLSTM layer: beside the spatial features and their
    activation there are the outputs of all layers that are still read, and for one frame what the layer reads, joined,
    its gates and its cells.
    """
    channels = config.base_channels << len(config.branch_one)
    spatial = 2 * channels + channels // 2  # input and output of the last stage, and a half at work in a bottleneck
    share = 1 if can_fold(config) else TRAINED_SHARE
    if config.lstm_layers == 0:
        return share * spatial
    width = 2 * config.growth
    outputs = width * (config.lstm_layers if config.pattern in ("dc", "rdc") else min(config.lstm_layers, 2))
    one_frame = channels + outputs + 5 * width
    return share * max(spatial, 2 * channels + outputs + one_frame / window)


def most_kept(tiling: Tiling, *, width: int, height: int, image_bytes: int = 1) -> int:
    """Frames that are finished together at most.

    The first and the last window of a shot keep context that others would only read. Where images are so large that
    this would count, such a window is computed in halves.
    """
    within = FIRST_BYTES // (width * height * 3 * SCALE**2 * image_bytes)
    return min(tiling.window, max(tiling.window - 2 * tiling.context, within))


def window_bytes(
    config: RISTNConfig, tiling: Tiling, *, width: int, height: int, value_bytes: int, image_bytes: int = 1
) -> int:
    """Memory that one window of `width` x `height` frames takes at most, the network's own tensors included.

    Args:
        config: the network.
        tiling: windows and tiles.
        width: of a frame, in LR pixels.
        height: of a frame.
        value_bytes: of a value on the device: 2 in half precision, else 4.
        image_bytes: of a value of an image: 1 for uint8, 2 for uint16.
    """
    kept = most_kept(tiling, width=width, height=height, image_bytes=image_bytes)
    across = plan_spans(width, tiling.tile, tiling.overlap)[0].size
    down = plan_spans(height, tiling.tile, tiling.overlap)[0].size
    network = across * down * tiling.window * widest_channels(config, tiling.window) * value_bytes
    tile = across * down * kept * SCALE**2 * 3 * 4 * 2  # float32, and its weighted copy, when the network has done
    carried = kept * SCALE * min(2 * tiling.overlap, height) * SCALE * width * 3 * 4 * 2
    images = width * height * 3 * image_bytes * (tiling.window + kept * SCALE**2)
    return math.ceil(allocator_share() * (max(network, tile) + carried) + images)


def queue_bytes(tiling: Tiling, *, width: int, height: int, image_bytes: int = 1) -> int:
    """Memory that images take which wait for a window, or for the encoder, while another window is computed."""
    read = WINDOWS_AHEAD * tiling.window + tiling.window - 2 * tiling.context  # and what the one after those adds
    finished = most_kept(tiling, width=width, height=height, image_bytes=image_bytes) + IMAGES_AHEAD
    return width * height * 3 * image_bytes * (read + finished * SCALE**2)


def plan_bytes(tiling: Tiling, *, width: int, height: int, image_bytes: int = 1) -> int:
    """Memory of the frames that the plan of the segments holds: a window and the one behind it."""
    return width * height * 3 * image_bytes * 2 * tiling.window


def needed_bytes(
    config: RISTNConfig,
    tiling: Tiling,
    *,
    width: int,
    height: int,
    value_bytes: int,
    image_bytes: int = 1,
    workers: int = 1,
) -> int:
    """Memory that a worker takes: a window, what waits meanwhile, and its share of the frames that the plan holds.

    Arguments as of `window_bytes`; without several `workers` nothing is planned ahead.
    """
    size = {"width": width, "height": height, "image_bytes": image_bytes}
    shared = plan_bytes(tiling, **size) // workers if workers > 1 else 0
    return window_bytes(config, tiling, value_bytes=value_bytes, **size) + queue_bytes(tiling, **size) + shared


def relative_time(tiling: Tiling, *, width: int, height: int) -> float:
    """Time of a finished frame, in units of what reading a frame takes without overlaps, or finishing one.

    Both take about the same; what overlaps, in time and space, is computed again.
    """
    rows, columns = (plan_spans(size, tiling.tile, tiling.overlap) for size in (height, width))
    computed = len(rows) * rows[0].size * len(columns) * columns[0].size
    return computed / (width * height) * (tiling.window / (tiling.window - 2 * tiling.context) + 1)


@dataclass(frozen=True, kw_only=True)
class AutoTiling:
    """A tiling that the size of the frames and the memory decide, save for what is given.

    Attributes:
        window: frames read together; None for what the memory allows.
        tile: largest side of a tile in LR pixels; None for what the memory allows.
        detect_cuts: as in `Tiling`.
        still_tolerance: as in `Tiling`.
        memory_bytes: on a processor what the whole program may take on a machine, encoders included, on a GPU what
            windows may of the GPU's own memory; None for a share of what is free.
        workers: how many workers share that memory, each with windows and an encoder of its own.
        other_bytes: of `memory_bytes`, what other processes of the program take on the machine: they share it, too.
        free_bytes: what is free for each worker where it computes; None to ask this machine.
    """

    window: int | None = None
    tile: int | None = None
    detect_cuts: bool = True
    still_tolerance: int | None = 0
    memory_bytes: int | None = None
    workers: int = 1
    other_bytes: int = 0
    free_bytes: int | None = None

    def room(self, device: torch.device, encoder_bytes: int, share: float = USABLE_SHARE) -> int | None:
        """What windows of a worker may take beside its encoder of as many bytes, by the limit or else by what is free.

        It may be negative; None when nothing tells what is free. Without a limit it is a `share` of what is free.
        """
        beside = 0 if device.type == "cuda" else encoder_bytes
        if self.memory_bytes is not None:
            programs = 0 if device.type == "cuda" else PROGRAM_BYTES + self.other_bytes
            return (self.memory_bytes - programs) // self.workers - beside
        free = self.free_bytes
        if free is None and (found := free_bytes(device)) is not None:
            free = found // self.workers
        return None if free is None else math.floor(share * free) - beside

    def fit(
        self,
        config: RISTNConfig,
        device: torch.device,
        *,
        width: int,
        height: int,
        value_bytes: int,
        image_bytes: int = 1,
        encoder_bytes: int = 0,
    ) -> Tiling:
        """The tiling for frames of `width` x `height` LR pixels; arguments as of `window_bytes`.

        It is the fastest of those that fit beside an encoder of `encoder_bytes` into the limit, or else into
        PLANNED_SHARE of what is free, unless that is SLOW beside the fastest in USABLE_SHARE. Where none fits it is
        one of the smallest: the device has the last word.
        """
        candidates = self.candidates(
            config, width=width, height=height, value_bytes=value_bytes, image_bytes=image_bytes
        )
        chosen: list[Candidate] = []
        for share in (USABLE_SHARE, PLANNED_SHARE):
            limit = self.room(device, encoder_bytes, share)
            limit = math.floor(share * UNKNOWN_FREE) if limit is None else limit
            fitting = [each for each in candidates if each.bytes <= limit]
            if not fitting:
                break
            candidates = fitting
            chosen.append(fastest(fitting))
        if not chosen:
            least = min(each.bytes for each in candidates)
            return fastest([each for each in candidates if each.bytes <= NEAR_SMALLEST * least]).tiling
        bold, prudent = chosen[0], chosen[-1]
        return (bold if prudent.time > SLOW * bold.time else prudent).tiling

    def more_memory(self, tiling: Tiling, config: RISTNConfig, **sizes: int) -> "Candidate | None":
        """The fastest tiling of all, and its share of the time that `tiling` takes; None unless it is faster.

        `sizes` are those of `candidates`.
        """
        best = fastest(self.candidates(config, **sizes))
        share = best.time / relative_time(tiling, width=sizes["width"], height=sizes["height"])
        return replace(best, time=share) if share < 1 / NEAR_FASTEST else None

    def candidates(
        self, config: RISTNConfig, *, width: int, height: int, value_bytes: int, image_bytes: int = 1
    ) -> list["Candidate"]:
        """All tilings that may be chosen; arguments as of `window_bytes`."""
        size = {"width": width, "height": height}
        found = []
        for window in [self.window] if self.window else range(LONGEST_WINDOW, 2 * CONTEXT, -1):
            plain = Tiling(
                window=window,
                context=min(CONTEXT, (window - 1) // 2),
                detect_cuts=self.detect_cuts,
                still_tolerance=self.still_tolerance,
            )
            for tile in [self.tile] if self.tile else range(LARGEST_TILE, SMALLEST_TILE - 1, -TILE_STEP):
                tiling = replace_tile(plain, tile)
                needed = needed_bytes(
                    config, tiling, value_bytes=value_bytes, image_bytes=image_bytes, workers=self.workers, **size
                )
                found.append(Candidate(relative_time(tiling, **size), needed, tiling))
        return found


@dataclass(frozen=True)
class Candidate:
    """A tiling, its `relative_time`, and the memory that it needs in bytes."""

    time: float
    bytes: int
    tiling: Tiling


def fastest(candidates: Sequence[Candidate]) -> Candidate:
    """Of those within NEAR_FASTEST of the least time, the one that needs the least memory."""
    within = NEAR_FASTEST * min(each.time for each in candidates)
    return min((each for each in candidates if each.time <= within), key=lambda each: (each.bytes, each.time))


def shrink(tiling: Tiling) -> Tiling | None:
    """The next smaller tiling: a tile of three quarters, then half of the frames that are kept; None after that."""
    if tiling.tile > SMALLEST_TILE:
        tile = max(SMALLEST_TILE, tiling.tile * 3 // 4)
        return replace_tile(tiling, tile)
    kept = tiling.window - 2 * tiling.context
    return None if kept == 1 else Tiling(**(vars(tiling) | {"window": kept // 2 + 2 * tiling.context}))


def replace_tile(tiling: Tiling, tile: int) -> Tiling:
    """`tiling` with another tile, and no more overlap than half of it holds."""
    return Tiling(**(vars(tiling) | {"tile": tile, "overlap": min(tiling.overlap, (tile - 1) // 4)}))


def count_tiles(width: int, height: int, tiling: Tiling) -> int:
    """How many tiles a frame of `width` x `height` LR pixels is cut into."""
    return len(plan_spans(width, tiling.tile, tiling.overlap)) * len(plan_spans(height, tiling.tile, tiling.overlap))
