"""Estimates time and file size of the whole video as ranges, from measurements on excerpts."""

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
"""Frames per moment that are encoded both whole and cropped, to compare their sizes."""

SCENE_SECONDS = 5
"""Assumed length of a scene. It begins with a key frame, which is far larger than other frames."""

SIZE_SHARE = 0.4
"""Smallest assumed error of an estimated size, as a share."""

MOST_WRONG = 0.8


@dataclass(frozen=True)
class Span:
    """A range that very likely contains a figure."""

    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Measurements of a job's encoder on a few crops.

    Attributes:
        key_bytes: bytes of a key frame.
        other_bytes: bytes of any other frame.
        seconds_per_pixel: time per pixel of a frame.
    """

    key_bytes: float
    other_bytes: float
    seconds_per_pixel: float


def count_frames(job: Job) -> int:
    """Return the number of output frames: from the source's header, else from its packets."""
    if job.frames is not None:
        return job.frames
    info = job.source
    return max(1, sum(time >= info.start_time for time in presentation_times(info.path, info.video_index)))


def encode_places(job: Job, images: Sequence[Image]) -> Encoded:
    """Encode consecutive upscaled crops (H, W, 3) with the encoder of a job. Width and height must suit 4:2:0."""
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
    """Return the bytes of a file with these frames."""
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
    """Return the bytes of whole frames of each moment, relative to those of the first moment's crop.

    All are encoded at the size of the source, which is fast.
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
    """Estimate the size of the video in the output, without audio. `shares` are from `compare_places`."""
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
    """Estimate the time of a job on this device, from windows of excerpts, a window of the job, and its encoder.

    Args:
        job: the whole job.
        upscaler: its engine, with its windows and tiles.
        units: see `Upscaled`.
        encoded: measurements of its encoder.
        distinct: share of the frames that differ from the previous one. Others are not computed.
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
    if upscaler.backend.device.type == "cpu":  # network and encoder share the cores
        return Span(low + encoding, high + encoding)
    return Span(max(low, encoding), max(high, encoding))


def describe_seconds(span: Span) -> str:
    """Format as `about 40 s` or `2 h 10 min to 3 h`."""
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
    """Format as `0.8 to 1.9 GB`."""
    unit, name = next(((unit, name) for unit, name in ((1e9, "GB"), (1e6, "MB")) if span.high >= unit), (1e3, "kB"))
    low, high = (
        f"{value / unit:.2g}" if value / unit < 10 else f"{value / unit:.0f}" for value in (span.low, span.high)
    )
    return f"about {high} {name}" if low == high else f"{low} to {high} {name}"
