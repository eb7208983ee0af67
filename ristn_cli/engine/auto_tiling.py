"""Chooses the fastest windows and tiles that fit into the memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from ristn_cli.engine.device import free_bytes
from ristn_cli.engine.memory import (
    CONTEXT,
    LONGEST_WINDOW,
    PROGRAM_BYTES,
    SMALLEST_TILE,
    Tiling,
    needed_bytes,
    replace_tile,
)
from ristn_cli.engine.tiles import plan_spans
from ristn_cli.model import RISTNConfig

PLANNED_SHARE = 0.5
"""Share of the free memory to plan with if there is no limit."""

SLOW = 1.25
"""If PLANNED_SHARE makes the job slower than USABLE_SHARE by this factor, USABLE_SHARE is used."""

UNKNOWN_FREE = 6 << 30
"""Assumed free bytes if the system does not report them."""

NEAR_FASTEST = 1.02
"""Of the tilings within this factor of the least time, the one with the least memory is chosen."""

LARGEST_TILE = 512

TILE_STEP = 16
"""Step of the tile sides to try, in LR pixels."""

USABLE_SHARE = 0.8
"""Share of the free memory that a job may use. The decoder and other program_bytes need the rest."""

NEAR_SMALLEST = 1.25
"""If nothing fits, tilings within this factor of the least memory are allowed, because the smallest tiles are mostly
overlap."""


def relative_time(tiling: Tiling, *, width: int, height: int) -> float:
    """Return the time per finished frame. The unit is the time to read a frame without overlaps, which is about that
    to finish it.

    Overlaps in time and space are computed again.
    """
    rows, columns = (plan_spans(size, tiling.tile, tiling.overlap) for size in (height, width))
    computed = len(rows) * rows[0].size * len(columns) * columns[0].size
    return computed / (width * height) * (tiling.window / (tiling.window - 2 * tiling.context) + 1)


@dataclass(frozen=True, kw_only=True)
class AutoTiling:
    """Chooses windows and tiles by frame size and memory, unless they are given.

    Attributes:
        window: frames per window; None to choose.
        tile: largest side of a tile in LR pixels; None to choose.
        detect_cuts: see `Tiling`.
        still_tolerance: see `Tiling`.
        memory_bytes: limit of the whole program on a machine, with encoders; on a GPU, limit of the windows in GPU
            memory. None for a share of the free memory.
        workers: number of workers that share the memory, each with its windows and encoder.
        other_bytes: memory within `memory_bytes` for other processes of the program on the machine.
        free_bytes: free memory of each worker; None to ask this machine.
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
        """Return the memory of a worker's windows besides its encoder, within the limit, else within `share` of the
        free memory.

        It may be negative. It is None without a limit if the free memory is unknown.
        """
        encoder_share = 0 if device.type == "cuda" else encoder_bytes
        if self.memory_bytes is not None:
            program_bytes = 0 if device.type == "cuda" else PROGRAM_BYTES + self.other_bytes
            return (self.memory_bytes - program_bytes) // self.workers - encoder_share
        free = self.free_bytes
        if free is None and (found := free_bytes(device)) is not None:
            free = found // self.workers
        return None if free is None else math.floor(share * free) - encoder_share

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
        """Return the tiling for frames of `width` x `height` LR pixels. For the arguments see `window_bytes`.

        Chooses the fastest tiling that fits into the limit together with an encoder of `encoder_bytes`. Without a
        limit, it must fit into PLANNED_SHARE of the free memory, or into USABLE_SHARE if that is faster by more than
        the factor SLOW. If none fits, chooses one of the smallest, which the device may still refuse.
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
        fastest_usable, planned = chosen[0], chosen[-1]
        return (fastest_usable if planned.time > SLOW * fastest_usable.time else planned).tiling

    def more_memory(self, tiling: Tiling, config: RISTNConfig, **sizes: int) -> "Candidate | None":
        """Return the fastest tiling of all, with its time as a share of that of `tiling`; None if it is not faster.

        `sizes` are those of `candidates`.
        """
        best = fastest(self.candidates(config, **sizes))
        share = best.time / relative_time(tiling, width=sizes["width"], height=sizes["height"])
        return replace(best, time=share) if share < 1 / NEAR_FASTEST else None

    def candidates(
        self, config: RISTNConfig, *, width: int, height: int, value_bytes: int, image_bytes: int = 1
    ) -> list["Candidate"]:
        """Return all tilings to choose from. For the arguments see `window_bytes`."""
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
    """A tiling with its `relative_time` and its memory in bytes."""

    time: float
    bytes: int
    tiling: Tiling


def fastest(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the least memory within NEAR_FASTEST of the least time."""
    within = NEAR_FASTEST * min(each.time for each in candidates)
    return min((each for each in candidates if each.time <= within), key=lambda each: (each.bytes, each.time))
