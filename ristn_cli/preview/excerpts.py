"""Short excerpts of a video, cropped, and upscaled as in a job."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from ristn_cli.comparison.alignment import Crop
from ristn_cli.engine.scenes import SceneDetector
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window, WindowCutter
from ristn_cli.job.job import Job
from ristn_cli.job.reading import read_source
from ristn_cli.job.repeats import Run, join_repeats
from ristn_cli.model import SCALE
from ristn_cli.preview.moments import Moment, starting_at
from ristn_cli.video import Image, VideoError

CONTEXT = 4
"""Frames before and after the shown ones. Most frames of a job have more context, those at the ends of windows have
two."""

MARGIN = 16
"""Source pixels around a crop that are upscaled but not shown, twice the overlap of a job's tiles."""


@dataclass(frozen=True)
class Piece:
    """A crop with its margin, and the times of the consecutive frames that repeat it.

    Times are in seconds after the first frame of the video.
    """

    image: Image
    times: tuple[Fraction, ...]
    seconds: Fraction
    begins_scene: bool


@dataclass(frozen=True)
class Excerpt:
    """Consecutive pieces. Those in the range `shown` are shown, the others are context.

    `still` is the index of the moment's piece. `margins` is the crop within a piece.
    """

    moment: Moment
    pieces: tuple[Piece, ...]
    shown: range
    still: int
    margins: Crop

    @property
    def is_clip(self) -> bool:
        """Whether the shown pieces are more than one."""
        return len(self.shown) > 1

    @property
    def durations(self) -> list[float]:
        """Duration of each shown piece in seconds."""
        return [float(self.pieces[k].seconds) for k in self.shown]

    @property
    def sources(self) -> list[Image]:
        """The shown crops of the source."""
        return [self.cut(self.pieces[k].image) for k in self.shown]

    def cut(self, image: Image, scale: int = 1) -> Image:
        """Return a piece, at `scale` times its size, without its margin."""
        x, y, width, height = (scale * value for value in self.margins)
        return image[y : y + height, x : x + width]


@dataclass(frozen=True)
class Upscaled:
    """The shown crops of an excerpt at 4x, and the time of the network.

    `units` are the seconds per pixel and per frame read or kept, of each window except the first, which warms up.
    """

    images: list[Image]
    units: list[float]


def read_excerpt(job: Job, moment: Moment, *, seconds: Fraction | None = None) -> Excerpt:
    """Read a moment's frame with its context, or `seconds` of its scene.

    Raises:
        VideoError: it cannot be read, or the source has changed.
    """
    info = job.source
    length = seconds or Fraction(0)
    within = _with_margin(moment.crop, info.width, info.height)
    lead = (CONTEXT + 2) / info.rate + length
    pieces: list[Piece] = []
    after = 0
    for piece in _read_pieces(starting_at(job, moment.time - lead), within):
        pieces.append(piece)
        after += piece.times[0] > moment.time + length
        if after > CONTEXT:
            break
    still = next((k for k, piece in enumerate(pieces) if moment.time in piece.times), None)
    if still is None:
        raise VideoError(f"{info.path}: the frame at {float(moment.time):.3f} s cannot be read a second time")
    shown = range(still, still + 1) if seconds is None else _choose_shown(pieces, still, seconds)
    first, last = max(0, shown.start - CONTEXT), min(len(pieces), shown.stop + CONTEXT)
    crop = moment.crop
    margins = Crop(crop.x - within.x, crop.y - within.y, crop.width, crop.height)
    moved = range(shown.start - first, shown.stop - first)
    return Excerpt(moment, tuple(pieces[first:last]), moved, still - first, margins)


def upscale_excerpt(excerpt: Excerpt, upscaler: Upscaler) -> Upscaled:
    """Upscale the crops with the windows of a job. Windows that show nothing are skipped."""
    images: list[Image] = []
    units: list[float] = []
    for numbers, kept in _plan_windows(excerpt, upscaler):
        pieces = [excerpt.pieces[k].image for k in numbers]
        began = time.perf_counter()
        made = upscaler.upscale_window(Window(tuple(pieces), kept))
        took = time.perf_counter() - began
        height, width = pieces[0].shape[:2]
        units.append(took / (width * height * (len(pieces) + len(made))))
        images += [excerpt.cut(image, SCALE).copy() for image in made]
    return Upscaled(images, units[1:])


def _with_margin(crop: Crop, width: int, height: int) -> Crop:
    left, top = max(0, crop.x - MARGIN), max(0, crop.y - MARGIN)
    right, bottom = min(width, crop.x + crop.width + MARGIN), min(height, crop.y + crop.height + MARGIN)
    return Crop(left, top, right - left, bottom - top)


def _read_pieces(job: Job, within: Crop) -> Iterator[Piece]:
    """Yield the crop of every run of a job, with the scene cuts that the job finds in whole frames."""
    detector = SceneDetector()
    waiting: Run | None = None  # needs the next one

    def cut(run: Run, begins_scene: bool) -> Piece:
        rows, columns = slice(within.y, within.y + within.height), slice(within.x, within.x + within.width)
        times = tuple(frame.time - job.source.start_time for frame in run)
        seconds = sum((frame.duration or 1 / job.source.rate for frame in run), Fraction(0))
        return Piece(run[0].image[rows, columns].copy(), times, seconds, begins_scene)

    for run in join_repeats(read_source(job, reports_change=False)):
        is_new = detector.push(run[0].image)
        if waiting is not None:
            yield cut(waiting, is_new)
        waiting = run
    if waiting is not None:
        yield cut(waiting, detector.push(None))


def _choose_shown(pieces: list[Piece], still: int, seconds: Fraction) -> range:
    """Return pieces of the scene of `still` that last for `seconds`, starting at it, or earlier if the scene ends
    soon.
    """
    first = next((k for k in range(still, 0, -1) if pieces[k].begins_scene), 0)
    end = next((k for k in range(still + 1, len(pieces)) if pieces[k].begins_scene), len(pieces))
    begin = still
    while begin > first and sum(piece.seconds for piece in pieces[begin:end]) < seconds:
        begin -= 1
    stop = begin + 1
    while stop < end and pieces[stop].times[0] < pieces[begin].times[0] + seconds:
        stop += 1
    return range(begin, max(stop, still + 1))


def _plan_windows(excerpt: Excerpt, upscaler: Upscaler) -> Iterator[tuple[list[int], slice]]:
    """Yield the indices of the pieces of each window, and which of them to keep."""
    tiling = upscaler.tiling
    cutter: WindowCutter[int] = WindowCutter(tiling.window, tiling.context, continued=0)
    detects = tiling.detect_cuts and tiling.context > 0
    windows: list[Window[int]] = []
    for k, piece in enumerate(excerpt.pieces):
        windows += cutter.push(k, begins_scene=detects and k > 0 and piece.begins_scene)
    for window in (*windows, *cutter.finish()):
        numbers = list(window.frames)
        wanted = [at for at in range(len(numbers))[window.keep] if numbers[at] in excerpt.shown]
        if wanted:
            yield numbers, slice(wanted[0], wanted[-1] + 1)
