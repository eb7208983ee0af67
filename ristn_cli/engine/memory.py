"""Estimates the memory of a window of given size. Arithmetic only."""

import math
from dataclasses import dataclass

from ristn_cli.engine.allocator import has_tcache_disabled
from ristn_cli.engine.tiles import plan_spans
from ristn_cli.model import SCALE, RISTNConfig
from ristn_cli.model.folded import can_fold

MIB = 1 << 20

PROGRAM_BYTES = 400 * MIB
"""Memory of a process on a CPU before the first frame: libraries and weights."""

FIRST_BYTES = 512 * MIB
"""Largest memory of the finished images of a shot's first and last window, which keep more frames than others."""

LONGEST_WINDOW = 20

CONTEXT = 2
"""Longest window in frames, and frames at each inner end that are not kept."""

SMALLEST_TILE = 32
"""LR pixels per side. Larger tiles gain little, smaller tiles are mostly overlap."""

WINDOWS_AHEAD = 1
"""Windows to read while another one is computed."""

IMAGES_AHEAD = 1
"""Finished images that wait for the encoder, besides their window. More would not make it faster."""

EVENTS_AHEAD = 4
"""Events of the encoder that wait to be yielded."""

JOINED_SHARE = 1.1

SCATTERED_SHARE = 1.5
"""Bytes that glibc holds per byte in use on a CPU. Measured: 0.96 to 1.05 after `restart_without_tcache` for
`ristn-lite`, `ristn` and `paper`; up to 1.46, varying between runs, without it."""

MOST_TOLERANCE = 8
"""Levels. A larger difference is not noise of a good source."""


@dataclass(frozen=True, kw_only=True)
class Tiling:
    """The size of windows and tiles.

    Attributes:
        window: frames per window.
        context: frames at each inner end of a window that are not kept.
        tile: largest side of a tile in LR pixels, including its overlap.
        overlap: extra LR pixels on each side of a tile.
        detect_cuts: end windows at scene cuts, so that no frame reads another shot.
        still_tolerance: levels of 8 bits by which a still block may differ; 0 for equal blocks only, None to compute
            all of every frame.
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
                f"a window of {self.window} frames is too short for {self.context} frames of context on each side"
            )
        if self.overlap < 0 or self.tile <= 2 * self.overlap:
            raise ValueError(
                f"a tile of {self.tile} pixels is too small for an overlap of {self.overlap} pixels on each side"
            )
        if self.still_tolerance is not None and not 0 <= self.still_tolerance <= MOST_TOLERANCE:
            raise ValueError(f"still_tolerance is {self.still_tolerance} levels, expected 0 to {MOST_TOLERANCE}")


TRAINED_SHARE = 5
"""Memory of a network in its trained form, relative to its folded form; measured: 2.7 to 5.0."""


def allocator_share() -> float:
    """Return the bytes that this process's allocator holds per byte in use."""
    return JOINED_SHARE if has_tcache_disabled() else SCATTERED_SHARE


def widest_channels(config: RISTNConfig, window: int) -> float:
    """Return the largest number of values per LR pixel and frame that are in memory at once.

    This maximum is in the spatial component, or at the end of the last ConvLSTM layer. There, memory holds the spatial
    features and their activation, the outputs of all layers that are still read, and for one frame the joined input
    (unless there is one layer, which reads one tensor), gates and cells of the layer.
    """
    channels = config.base_channels << len(config.branch_one)
    spatial = 2 * channels + channels // 2  # input and output of the last stage, and half as many in a bottleneck
    share = 1 if can_fold(config) else TRAINED_SHARE
    if config.lstm_layers == 0:
        return share * spatial
    width = 2 * config.growth
    outputs = width * (config.lstm_layers if config.pattern in ("dc", "rdc") else min(config.lstm_layers, 2))
    joined = channels + outputs if config.lstm_layers > 1 else 0
    one_frame = joined + 5 * width
    return share * max(spatial, 2 * channels + outputs + one_frame / window)


def most_kept(tiling: Tiling, *, width: int, height: int, image_bytes: int = 1) -> int:
    """Return the largest number of frames that are finished together.

    The first and last window of a shot also keep frames that are context elsewhere. If images are so large that this
    matters, such a window is computed in halves.
    """
    within = FIRST_BYTES // (width * height * 3 * SCALE**2 * image_bytes)
    return min(tiling.window, max(tiling.window - 2 * tiling.context, within))


def window_bytes(
    config: RISTNConfig, tiling: Tiling, *, width: int, height: int, value_bytes: int, image_bytes: int = 1
) -> int:
    """Return the most memory of one window of `width` x `height` frames, including the network's tensors.

    Args:
        config: configuration of the network.
        tiling: windows and tiles.
        width: width of a frame in LR pixels.
        height: height of a frame in LR pixels.
        value_bytes: bytes per value on the device: 2 in half precision, else 4.
        image_bytes: bytes per value of an image: 1 for uint8, 2 for uint16.
    """
    kept = most_kept(tiling, width=width, height=height, image_bytes=image_bytes)
    across = plan_spans(width, tiling.tile, tiling.overlap)[0].size
    down = plan_spans(height, tiling.tile, tiling.overlap)[0].size
    network = across * down * tiling.window * widest_channels(config, tiling.window) * value_bytes
    tile = across * down * kept * SCALE**2 * 3 * 4 * 2  # float32, and its weighted copy, after the network
    carried = kept * SCALE * min(2 * tiling.overlap, height) * SCALE * width * 3 * 4 * 2
    images = width * height * 3 * image_bytes * (tiling.window + kept * SCALE**2)
    return math.ceil(allocator_share() * (max(network, tile) + carried) + images)


def queue_bytes(tiling: Tiling, *, width: int, height: int, image_bytes: int = 1) -> int:
    """Return the memory of images that wait for a window or for the encoder while another window is computed."""
    read = WINDOWS_AHEAD * tiling.window + tiling.window - 2 * tiling.context  # and the new frames of the following one
    finished = most_kept(tiling, width=width, height=height, image_bytes=image_bytes) + IMAGES_AHEAD
    return width * height * 3 * image_bytes * (read + finished * SCALE**2)


def plan_bytes(tiling: Tiling, *, width: int, height: int, image_bytes: int = 1) -> int:
    """Return the memory of the frames that the plan of segments holds: two windows."""
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
    """Return the memory of a worker: a window, waiting images, and its share of the frames that the plan of segments
    holds.

    For the arguments see `window_bytes`. The plan of segments exists only with several `workers`.
    """
    size = {"width": width, "height": height, "image_bytes": image_bytes}
    shared = plan_bytes(tiling, **size) // workers if workers > 1 else 0
    return window_bytes(config, tiling, value_bytes=value_bytes, **size) + queue_bytes(tiling, **size) + shared


def shrink(tiling: Tiling) -> Tiling | None:
    """Return the next smaller tiling: tiles of 3/4 of the side, then windows that keep half the frames; None at the
    end.
    """
    if tiling.tile > SMALLEST_TILE:
        tile = max(SMALLEST_TILE, tiling.tile * 3 // 4)
        return replace_tile(tiling, tile)
    kept = tiling.window - 2 * tiling.context
    return None if kept == 1 else Tiling(**(vars(tiling) | {"window": kept // 2 + 2 * tiling.context}))


def replace_tile(tiling: Tiling, tile: int) -> Tiling:
    """Return `tiling` with another tile side, and an overlap of at most a quarter of it."""
    return Tiling(**(vars(tiling) | {"tile": tile, "overlap": min(tiling.overlap, (tile - 1) // 4)}))


def count_tiles(width: int, height: int, tiling: Tiling) -> int:
    """Return the number of tiles of a frame of `width` x `height` LR pixels."""
    return len(plan_spans(width, tiling.tile, tiling.overlap)) * len(plan_spans(height, tiling.tile, tiling.overlap))
