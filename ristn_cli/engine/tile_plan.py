"""Plans the tiles of one window: their positions, and the frames that each tile reads and finishes.

Consecutive frames between which a tile does not change are a run. The network reads some frames of a run, finishes one,
and all frames of the run share the result. The frame is divided into strips, and each strip into tiles, so that few
tiles contain motion. If everything moves, the tiles are the equal ones of `plan_spans`.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ristn_cli.engine.bars import Picture
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.still import BLOCK, MOST_FRAMES, Changes
from ristn_cli.engine.tiles import Span, plan_spans
from ristn_cli.engine.windows import Window

READ_EVERY = 5
"""In a still run, the network reads the first frame and every fifth."""

TILE_OVERHEAD = 2000
"""Cost of a tile beside its own pixels, in LR pixels per frame. Measured 430 with one thread, and 1100 to 1450 with two
for tiles up to 64x64; more threads share a small tile worse."""

WORTH = 0.95
"""Tiles follow the content if they cost less than this share of the equal squares."""

LEAST_SHARE = 16
"""Smallest side of a tile without its overlap, in LR pixels."""

MOST_CUTS = 40
"""Most positions along an axis at which tiles may be cut."""

Masks = NDArray[np.uint64]

Grid = list[tuple[Span, tuple[Span, ...]]]
"""The rows of each strip, and the columns of its tiles."""


@dataclass(frozen=True)
class Frames:
    """What a tile does with the frames of its window.

    Attributes:
        read: frames that the network reads, in order.
        finished: frames that it finishes, as indices into `read`.
        shared: for each kept frame, the index in `finished` of its result.
    """

    read: Sequence[int]
    finished: Sequence[int]
    shared: Sequence[int]


@dataclass(frozen=True)
class Strip:
    """Tiles side by side over the whole width: their rows, and the columns and frames of each."""

    row: Span
    columns: tuple[Span, ...]
    frames: tuple[Frames, ...]


def tiles_cost(strips: Sequence[Strip]) -> int:
    """Return the cost of tiles: LR pixels read and finished, plus the overhead."""
    return sum(
        (strip.row.size * column.size + TILE_OVERHEAD) * (len(frames.read) + len(frames.finished))
        for strip in strips
        for column, frames in zip(strip.columns, strip.frames, strict=True)
    )


def plan_frames(count: int, keep: slice, mask: int = -1) -> Frames:
    """Return the frames that a tile reads and finishes in a window of `count` frames that keeps `keep`.

    Bits of `mask` mark the frames that differ from the previous one.
    """
    starts = [index for index in range(count) if index == 0 or mask >> index & 1]
    read = sorted({*starts, *range(0, count, READ_EVERY)})
    kept = range(count)[keep]
    finished, shared = list[int](), list[int]()
    for start, stop in zip(starts, [*starts[1:], count], strict=True):
        showing = len(range(max(start, kept.start), min(stop, kept.stop)))
        if showing:
            shared += [len(finished)] * showing
            places = [place for place, index in enumerate(read) if start <= index < stop]
            finished.append(places[len(places) // 2])
    return Frames(read, finished, shared)


def pad_frames(frames: Frames, count: int, keep: slice) -> Frames:
    """Return `frames` with more frames, so that few different numbers of frames are read, and all are finished.

    A network is recorded for each combination of both numbers.
    """
    for size in (math.ceil(count / 4), math.ceil(count / 2)):
        if len(frames.read) <= size:
            others = [index for index in range(count) if index not in frames.read]
            read = sorted([*frames.read, *others[: size - len(frames.read)]])
            places = [read.index(frames.read[place]) for place in frames.finished]
            return Frames(read, range(size), [places[index] for index in frames.shared])
    return plan_frames(count, keep)


class TilePlanner:
    """Finds the tiles of least cost for the content of a window.

    Args:
        tiling: limits of a tile. No tile has more pixels than tiles of whole frames, so no window needs more memory.
        window: frames, and which of them are kept.
        picture: rows and columns to divide into tiles.
        changes: changes of each block; None to compute all of every frame.
    """

    def __init__(
        self, tiling: Tiling, window: Window[np.ndarray], picture: Picture, changes: Changes | None = None
    ) -> None:
        self.width, self.height, self.overlap = picture.columns.size, picture.rows.size, tiling.overlap
        self.count, self.keep = len(window.frames), window.keep
        self.masks = None if changes is None else changes.masks
        height, width, _ = window.frames[0].shape
        self.most_pixels = tile_pixels(equal_squares(width, height, tiling.tile, tiling.overlap))
        tile = tiling.tile
        while tile_pixels(squares := equal_squares(self.width, self.height, tile, self.overlap)) > self.most_pixels:
            tile -= 1  # few steps: cropped frames are divided into fewer tiles of more pixels
        self.squares = squares
        kept = range(self.count)[self.keep]
        self.always_read = np.uint64(sum(1 << index for index in range(0, min(self.count, MOST_FRAMES), READ_EVERY)))
        self.starts_kept = np.uint64(sum(1 << index for index in range(kept.start + 1, min(kept.stop, MOST_FRAMES))))

    def plan(self, *, follows_content: bool = True) -> list[Strip]:
        """Return the tiles. Without `follows_content`, they are equal, and few different numbers of frames are read."""
        grid = self.squares
        if self.masks is None:
            everything = plan_frames(self.count, self.keep)
            return [Strip(row, columns, (everything,) * len(columns)) for row, columns in grid]
        if follows_content:
            cost = self.cost(grid, self.masks)
            if self.least_cost(self.masks) < WORTH * cost:
                following = self.follow_content(self.masks)
                if following is not None and self.cost(following, self.masks) < WORTH * cost:
                    grid = following
        strips = []
        for row, columns in grid:
            frames = [plan_frames(self.count, self.keep, join(self.masks, row, column)) for column in columns]
            if not follows_content:
                frames = [pad_frames(each, self.count, self.keep) for each in frames]
            strips.append(Strip(row, columns, tuple(frames)))
        return strips

    def count_frames(self, masks: Masks) -> NDArray[np.int64]:
        """Return the number of frames that tiles read plus that they finish, for the joined masks of their blocks."""
        return count_bits(masks | self.always_read) + count_bits(masks & self.starts_kept) + 1

    def cost(self, grid: Grid, masks: Masks) -> float:
        """Return the cost of a grid: LR pixels read and finished, plus the overhead."""
        tiles = [(row.size * column.size + TILE_OVERHEAD, join(masks, row, column)) for row, column in tiles_of(grid)]
        pixels, of_tiles = zip(*tiles, strict=True)
        return float(np.dot(pixels, self.count_frames(np.array(of_tiles, np.uint64))))

    def near(self, masks: Masks) -> Masks:
        """Return the masks of each block joined with those within the overlap of a tile around it."""
        reach = self.overlap // BLOCK
        views = np.lib.stride_tricks.sliding_window_view(np.pad(masks, reach), (2 * reach + 1, 2 * reach + 1))
        joined: Masks = np.bitwise_or.reduce(views, axis=(2, 3))
        return joined

    def least_cost(self, masks: Masks) -> float:
        """Return a lower bound of the cost of any tiles: one tile per block, without overhead."""
        near = self.near(masks)
        down, across = (np.diff([*range(0, size, BLOCK), size]) for size in (self.height, self.width))
        return float((np.outer(down, across) * self.count_frames(near)).sum())

    def follow_content(self, masks: Masks) -> Grid | None:
        """Return the tiles of least cost with cuts where changes begin or end; None if the smallest have too many
        pixels.
        """
        costs_of_blocks = self.count_frames(self.near(masks))
        least = max(LEAST_SHARE, 2 * self.overlap)  # tiles may overlap only their neighbours
        rows = cut_places(costs_of_blocks, self.height, least)
        columns = cut_places(costs_of_blocks.T, self.width, least)
        pairs = [(first, last) for first in range(len(rows) - 1) for last in range(first + 1, len(rows))]
        spans = [self.span(rows, *pair, self.height) for pair in pairs]
        heights = np.array([span.size for span in spans])
        costs, sources = self.cut_strips(join_rows(masks, spans), heights, columns)
        best, chosen = [0.0], [0]
        for last in range(1, len(rows)):
            ending = [index for index, pair in enumerate(pairs) if pair[1] == last]
            chosen.append(min(ending, key=lambda index: best[pairs[index][0]] + costs[index]))
            best.append(best[pairs[chosen[-1]][0]] + costs[chosen[-1]])
        if best[-1] == math.inf:
            return None
        grid: Grid = []
        last = len(rows) - 1
        while last:
            index = chosen[last]
            places = [len(columns) - 1]
            while places[-1]:
                places.append(int(sources[index, places[-1]]))
            ends = zip(places[1:], places, strict=False)
            grid.append((spans[index], tuple(self.span(columns, *pair, self.width) for pair in ends)[::-1]))
            last = pairs[index][0]
        return grid[::-1]

    def span(self, places: Sequence[int], first: int, last: int, length: int) -> Span:
        """Return the pixels between two positions, with the overlap."""
        return Span(max(0, places[first] - self.overlap), min(length, places[last] + self.overlap))

    def cut_strips(
        self, masks: Masks, heights: NDArray[np.int64], columns: Sequence[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the least cost (S,) of S strips, and for each end of a tile its start as an index: (S, positions).

        Args:
            masks: (S, blocks across), joined over the rows of each strip.
            heights: (S,) rows of each strip.
            columns: positions at which tiles may be cut.
        """
        best = np.full((len(heights), len(columns)), np.inf)
        sources = np.zeros(best.shape, np.int64)
        best[:, 0] = 0
        for first in range(len(columns) - 1):
            spans = [self.span(columns, first, last, self.width) for last in range(first + 1, len(columns))]
            begin = spans[0].start // BLOCK
            across = np.bitwise_or.accumulate(masks[:, begin:], axis=1)
            of_tiles = across[:, [-(-span.stop // BLOCK) - 1 - begin for span in spans]]
            pixels = heights[:, None] * np.array([span.size for span in spans])
            cost = best[:, first, None] + (pixels + TILE_OVERHEAD) * self.count_frames(of_tiles)
            better = (pixels <= self.most_pixels) & (cost < best[:, first + 1 :])
            best[:, first + 1 :][better] = cost[better]
            sources[:, first + 1 :][better] = first
        return best[:, -1], sources


def equal_squares(width: int, height: int, tile: int, overlap: int) -> Grid:
    """Return the tiles of `plan_spans` along both axes."""
    columns = plan_spans(width, tile, overlap)
    return [(row, columns) for row in plan_spans(height, tile, overlap)]


def tile_pixels(squares: Grid) -> int:
    """Return the LR pixels of each of equal tiles."""
    row, columns = squares[0]
    return row.size * columns[0].size


def tiles_of(grid: Grid) -> Iterator[tuple[Span, Span]]:
    """Yield rows and columns of each tile."""
    return ((row, column) for row, columns in grid for column in columns)


def join(masks: Masks, row: Span, column: Span) -> int:
    """Return the joined masks of a tile's blocks."""
    blocks = masks[row.start // BLOCK : -(-row.stop // BLOCK), column.start // BLOCK : -(-column.stop // BLOCK)]
    return int(np.bitwise_or.reduce(blocks, axis=None))


def join_rows(masks: Masks, spans: Sequence[Span]) -> Masks:
    """Return the masks joined over the rows of each span: (spans, blocks across)."""
    return np.stack(
        [np.bitwise_or.reduce(masks[span.start // BLOCK : -(-span.stop // BLOCK)], axis=0) for span in spans]
    )


def cut_places(costs: NDArray[np.int64], length: int, least: int) -> list[int]:
    """Return the positions at which the first axis may be cut, including its ends: where the costs of blocks differ
    most.

    Args:
        costs: cost of each block.
        length: length of the axis in LR pixels.
        least: fewest LR pixels between two positions.
    """
    differences = np.abs(np.diff(costs, axis=0)).sum(axis=1)
    places = [0, length]
    for index in np.argsort(-differences, kind="stable"):
        place = BLOCK * (int(index) + 1)
        if len(places) <= MOST_CUTS and all(abs(place - other) >= least for other in places):
            places.append(place)
    return sorted(places)


@cache
def bits_of_words() -> NDArray[np.uint8]:
    """Return the number of bits of each 16-bit number."""
    bits = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8))
    counts: NDArray[np.uint8] = bits.reshape(-1, 16).sum(axis=1, dtype=np.uint8)
    return counts


def count_bits(masks: Masks) -> NDArray[np.int64]:
    """Return the number of bits of each mask. NumPy 1 has no `np.bitwise_count`."""
    words = np.ascontiguousarray(masks).view(np.uint16).reshape(*masks.shape, 4)
    result: NDArray[np.int64] = bits_of_words()[words].sum(axis=-1, dtype=np.int64)
    return result
