"""What the whole video would cost: hours and bytes, as ranges, from what was measured on excerpts."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ristn_cli.engine.tiles import plan_spans
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.forecast import measure_window
from ristn_cli.job.job import Job
from ristn_cli.job.plan import count_windows
from ristn_cli.job.reading import read_source
from ristn_cli.preview.moments import Moment, starting_at
from ristn_cli.video import (
    Compression,
    Frame,
    FrameWriter,
    Image,
    OutputShape,
    encode_image,
    encode_images,
    part_suffix,
    presentation_times,
    to_eight_bits,
)

COMPARED_FRAMES = 8
"""Of every moment, encoded whole and cut to its place: how much more the whole pictures take."""

SCENE_SECONDS = 5
"""A scene of a film lasts about as long. It begins with a key frame, which has far more bytes than the others."""

SIZE_SHARE = 0.4
"""By how much, as a share, an estimated size may be wrong at least."""

MOST_WRONG = 0.8


@dataclass(frozen=True)
class Span:
    """A figure that most likely lies between two."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What the encoder of a job made of a few places, and how long that took.

    Attributes:
        key_bytes: of a key frame, such as the first of a video and of a scene.
        other_bytes: of any other frame.
        seconds_per_pixel: of one frame.
    """

    key_bytes: float
    other_bytes: float
    seconds_per_pixel: float


def count_frames(job: Job) -> int:
    """Frames of the output: by the source's header, else by its packets."""
    if job.frames is not None:
        return job.frames
    info = job.source
    return max(1, sum(time >= info.start_time for time in presentation_times(info.path, info.video_index)))


def encode_places(job: Job, images: Sequence[Image]) -> Encoded:
    """Consecutive upscaled places, (H, W, 3) of one size that 4:2:0 can have, by the encoder of a job."""
    height, width = images[0].shape[:2]
    began = time.perf_counter()
    if job.output.images is not None:
        images = images[:COMPARED_FRAMES]
        first = later = float(statistics.mean(len(encode_image(image, job.output.images)) for image in images))
        took = time.perf_counter() - began
    else:
        with tempfile.TemporaryDirectory(prefix="ristn-preview-") as folder:
            whole = _encode(job, images, Path(folder))
            took = time.perf_counter() - began
            first = whole if len(images) == 1 else _encode(job, images[:1], Path(folder))
        later = first if len(images) == 1 else max(0, whole - first) / (len(images) - 1)
    return Encoded(key_bytes=first, other_bytes=later, seconds_per_pixel=took / (len(images) * height * width))


def _encode(job: Job, images: Sequence[Image], folder: Path) -> int:
    """Bytes of a file of some frames."""
    height, width = images[0].shape[:2]
    step = 1 / job.output.shape.rate
    shape = OutputShape(width=width, height=height, rate=job.output.shape.rate, time_base=step)
    settings = job.output.encoder
    path = folder / f"places{part_suffix(settings.codec)}"
    with FrameWriter(path, shape, settings) as writer:
        for number, image in enumerate(images):
            alpha = image[..., 0] if settings.has_alpha else None
            writer.write(Frame(image, number * step, step, alpha=alpha))
    return path.stat().st_size


def compare_places(job: Job, moments: Sequence[Moment]) -> list[float]:
    """How many times the bytes of the first moment's place the whole pictures of every moment take.

    All at the size of the source, which is quick.
    """
    place_bytes = 0
    found = []
    for moment in moments:
        frames = read_source(starting_at(job, moment.time), max_frames=COMPARED_FRAMES, reports_change=False)
        wholes = [to_eight_bits(frame.image) for frame in frames]
        if not place_bytes:
            x, y, width, height = moment.crop
            place_bytes = _count_bytes(job, [whole[y : y + height, x : x + width] for whole in wholes])
        found.append(_count_bytes(job, wholes) / place_bytes)
    return found


def _count_bytes(job: Job, images: Sequence[Image]) -> int:
    if job.output.images is not None:
        return len(encode_image(images[0], job.output.images))
    strength = min(51, round(job.options.crf))
    return sum(map(len, encode_images(images, Compression(strength=strength, preset="veryfast")).packets))


def estimate_bytes(job: Job, encoded: Encoded, shares: Sequence[float]) -> Span:
    """The size of the video in the output, without its sound; `shares` are of `compare_places`."""
    share = statistics.mean(shares)
    spread = 2 * statistics.stdev(shares) / len(shares) ** 0.5 / share if len(shares) > 1 else 0.0
    wrong = min(MOST_WRONG, max(SIZE_SHARE, spread))
    frames = count_frames(job)
    keys = min(frames, max(1.0, frames / float(job.output.shape.rate * SCENE_SECONDS)))
    likely = share * (keys * encoded.key_bytes + (frames - keys) * encoded.other_bytes)
    return Span(likely * (1 - wrong), likely * (1 + wrong))


def estimate_seconds(
    job: Job, upscaler: Upscaler, units: Sequence[float], encoded: Encoded, *, distinct: float
) -> Span:
    """How long a job takes on this device: by windows of excerpts, by one of its own, and by its encoder.

    Args:
        job: the whole one.
        upscaler: its engine, whose windows and tiles are chosen.
        units: as of `Upscaled`.
        encoded: what its encoder made of places.
        distinct: share of the frames that differ from the one before; others are not computed again.
    """
    info, shape, tiling, frames = job.source, job.output.shape, upscaler.tiling, count_frames(job)
    rows, columns = (plan_spans(size, tiling.tile, tiling.overlap) for size in (info.height, info.width))
    pixels = len(rows) * rows[0].size * len(columns) * columns[0].size
    window = min(tiling.window, frames)
    kept = window if frames <= tiling.window else window - 2 * tiling.context
    windows = count_windows(frames, tiling)
    measured = [unit * pixels * (window + kept) for unit in units]
    measured.append(measure_window(job, upscaler))
    low, high = windows * min(measured) * distinct, windows * max(measured)
    encoding = encoded.seconds_per_pixel * shape.width * shape.height * frames
    if upscaler.backend.device.type == "cpu":  # the encoder takes its share of the cores
        return Span(low + encoding, high + encoding)
    return Span(max(low, encoding), max(high, encoding))


def describe_seconds(span: Span) -> str:
    """`about 40 s`, `2 h 10 min to 3 h`."""
    low, high = _describe_duration(span.low), _describe_duration(span.high)
    return f"about {high}" if low == high else f"{low} to {high}"


def _describe_duration(seconds: float) -> str:
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60) if seconds < 3600 else 10 * round(seconds / 600)
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    return f"{hours} h {rest} min" if rest and hours < 10 else f"{hours + (rest >= 30)} h"


def describe_bytes(span: Span) -> str:
    """`0.8 to 1.9 GB`."""
    unit, name = next(((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if span.high >= unit), (1e3, "kB"))
    low, high = (
        f"{value / unit:.2g}" if value / unit < 10 else f"{value / unit:.0f}" for value in (span.low, span.high)
    )
    return f"about {high} {name}" if low == high else f"{low} to {high} {name}"
