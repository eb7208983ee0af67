"""Describes a finished output, and the command that compares it with its source."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ristn_cli.cli.effects import STREAM
from ristn_cli.cli.terminal import format_seconds

if TYPE_CHECKING:
    from ristn_cli.job.options import UpscaleOptions
    from ristn_cli.job.plan import JobPlan
    from ristn_cli.job.progress import Progress
    from ristn_cli.video import VideoInfo


def describe_made(target: Path, plan: JobPlan | None, done: Progress) -> str:
    """Return frames, frame size, file size and time of a finished output."""
    from ristn_cli.job.plan import format_bytes

    words = f"{done.frames} frame{'' if done.frames == 1 else 's'}"
    if plan is not None:
        words += f" of {plan.width}x{plan.height}"
    size = size_of(target, done.frames)
    if size is not None:
        words += f", {format_bytes(size)}"
    words += f", in {format_seconds(done.elapsed_seconds)} ({done.mean_frames_per_second:.2f} fps"
    if done.resumed_frames:
        words += f", after {done.resumed_frames} frames of earlier runs"
    return f"{words})"


def size_of(target: Path, frames: int) -> int | None:
    """Return the bytes of an output, or of all its images; None for a stream."""
    from ristn_cli.video import existing_images, is_numbered

    if target == STREAM:
        return None
    files = existing_images(target, frames) if is_numbered(target) else [target]
    try:
        return sum(path.stat().st_size for path in files)
    except OSError:
        return None  # another program removed it after the job was finished


def comparison_command(
    source: Path,
    target: Path,
    options: UpscaleOptions,
    probe: Callable[[Path], VideoInfo],
    plan: JobPlan | None,
) -> str | None:
    """Return the command line that compares an output with its source; None if `ristn compare` cannot.

    It cannot read streams, choose another video stream than the default, or match another aspect ratio.
    """
    from ristn_cli.comparison.alignment import common_size
    from ristn_cli.job.ranges import settle_range
    from ristn_cli.video import VideoError

    if plan is None or STREAM in (source, target) or options.video_stream is not None:
        return None
    try:
        found = probe(source)
        start = settle_range(found, replace(options, end=None, end_position=None)).start
        common_size([(found.width, found.height), (plan.width, plan.height)])
    except (VideoError, ValueError):
        return None
    words = ["ristn", "compare", *(_as_argument(path) for path in (source, target))]
    if start:
        if found.is_image_sequence and options.image_rate is not None:
            return None  # `compare` assumes 25 fps
        words += ["--offset", _as_time(start)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _as_argument(path: Path) -> str:
    """Return a path that is never parsed as an option."""
    return f"{os.curdir}{os.sep}{path}" if str(path).startswith("-") else str(path)


def _as_time(seconds: Fraction) -> str:
    """Format seconds as a decimal number if that is exact."""
    decimal = f"{float(seconds):g}"
    return decimal if Fraction(decimal) == seconds else str(seconds)
