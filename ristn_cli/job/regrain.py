"""Measures the grain that the network removes, before the first frame. A resumed job keeps the first measurement."""

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.job.job import Job
from ristn_cli.job.manifest import read_identity
from ristn_cli.job.options import expected_end
from ristn_cli.job.reading import read_source
from ristn_cli.model import SCALE
from ristn_cli.typed import MalformedError, build
from ristn_cli.video import Frame, Grain, GrainMaker, GrainMeter, VideoError, grain_planes

log = logging.getLogger("ristn.job")

GRAIN_KEY = "grain put back"
"""Name of the grain in a job's manifest."""
PLACES, PLACE_FRAMES = 8, 4
"""Number of places in the source to measure, and frames of each. A source of unknown length is measured at its
start."""
RAMP = np.linspace(0.04, 0.96, 96)
"""Brightness of the columns of a test image that shows what the network does to grain."""
RAMP_ROWS, RAMP_FRAMES, RAMP_STEPS = 48, 5, 8
UNIT_SIZE = 640, 640
"""Size of a grain field at 4x, to measure its standard deviation."""
EDGE = 4
"""LR pixels at the edges of the test image that are ignored."""
LEAST_MISSING = 0.05
"""Share of the power below which missing grain cannot be measured."""


def settle_grain(job: Job, upscaler: Upscaler, *, restart: bool) -> Job:
    """Return the job with the grain to add. A resumed job keeps the grain of its first run.

    Raises:
        VideoError: the source cannot be read.
    """
    if not job.options.grain:
        return job
    if not restart and job.is_resumable:
        kept = read_identity(job.folder).get(GRAIN_KEY)
        with contextlib.suppress(MalformedError, ValueError):  # `Manifest.load` reports it
            if kept is not None:
                return replace(job, grain=build(Grain, kept))
    found = measure_source(job)
    if found is None:
        log.warning(f"{job.source.path}: contains no grain that can be distinguished from texture; --grain adds none")
        return job
    missing = find_missing(found, upscaler, job.options.grain)
    if missing.is_nothing:
        log.warning(f"{job.source.path}: the network keeps all of its grain; --grain adds none")
        return job
    return replace(job, grain=missing)


def measure_source(job: Job) -> Grain | None:
    """Measure the grain of a job's source at several places of its range. Return None without grain."""
    begin = job.options.start or Fraction(0)
    end = expected_end(job.source, job.options) or job.source.duration
    places = [begin] if end is None or end <= begin else [begin + (end - begin) * k / PLACES for k in range(PLACES)]
    meter = GrainMeter()
    for place in dict.fromkeys(places):
        with contextlib.suppress(VideoError):  # the job will report damage
            for image, following in different_pairs(read_place(job, place, PLACES * PLACE_FRAMES // len(places))):
                meter.add(image, following)
    return meter.read()


def read_place(job: Job, place: Fraction, count: int) -> Iterator[Frame]:
    """Yield `count` frames of the source from the time `place`."""
    there = replace(job, options=replace(job.options, start=place, max_frames=None, strict=False))
    return read_source(there, max_frames=count, report=lambda message: None, reports_change=False)


def different_pairs(frames: Iterator[Frame]) -> Iterator[tuple[NDArray[Any], NDArray[Any] | None]]:
    """Yield every other image with the next image that differs from it; a single image with None."""
    first = next(frames, None)
    is_alone = True
    while first is not None:
        following = next((frame for frame in frames if not np.array_equal(frame.image, first.image)), None)
        if following is not None or is_alone:
            yield first.image, None if following is None else following.image
        is_alone = False
        first = None if following is None else next(frames, None)


def find_missing(grain: Grain, upscaler: Upscaler, share: float) -> Grain:
    """Return the grain to add so that a result has the grain of its source.

    Upscales a smooth test image with and without this grain. The difference is the grain that the network keeps.

    Args:
        grain: grain of the source.
        upscaler: the engine.
        share: share of the missing grain's standard deviation to add, in [0, 1].
    """
    smooth = np.broadcast_to((RAMP * 65535).astype(np.uint16)[:, None], (RAMP_ROWS, len(RAMP), 3))
    smooth = np.ascontiguousarray(smooth)
    count = min(RAMP_FRAMES, upscaler.tiling.window)
    given = [GrainMaker(grain, 1).apply(smooth, number) for number in range(count)]
    clean = upscaler.upscale_window(Window((smooth,), slice(0, 1)))[0]
    left = upscaler.upscale_window(Window(tuple(given), slice(0, count)))
    kept_power = powers(left, clean, EDGE * SCALE)
    given_power = powers(given, smooth, EDGE)
    share_left = np.divide(kept_power, given_power, out=np.ones_like(kept_power), where=given_power > 0)
    steps = np.linspace(RAMP[EDGE], RAMP[-EDGE - 1], RAMP_STEPS)
    strength = []
    for plane, profile in enumerate(grain.strength):
        places = (np.arange(len(profile)) + 0.5) / len(profile)
        missing = np.clip(1 - np.interp(places, steps, share_left[plane]), 0, 1)
        missing[missing < LEAST_MISSING] = 0
        unit = float(GrainMaker(grain, SCALE).field(plane, 0, *UNIT_SIZE).std())
        added = np.array(profile) * np.sqrt(missing) * (share / unit)
        strength.append(tuple(round(float(value), 5) for value in added))
    return replace(grain, strength=tuple(strength))


def powers(images: list[NDArray[Any]], clean: NDArray[Any], edge: int) -> NDArray[np.float64]:
    """Return the variance of images minus a clean one, per plane and from left to right: (3, RAMP_STEPS)."""
    inner = slice(edge, -edge)
    more = np.stack([(grain_planes(image) - grain_planes(clean))[:, inner, inner] for image in images], axis=1)
    steps = np.array_split(more.astype(np.float64), RAMP_STEPS, axis=3)
    return np.stack([step.var(axis=(1, 2, 3)) for step in steps], axis=1)
