"""Describes a finished job for archives: files with SHA-256, weights, options, versions and cuts."""

from __future__ import annotations

import platform
from dataclasses import asdict
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.checks import NOT_IDENTIFYING
from ristn_cli.job.events import Completed
from ristn_cli.job.options import plain_text
from ristn_cli.job.ranges import find_timecode, timecode_at
from ristn_cli.video import VideoInfo, existing_images, is_numbered, library_versions
from ristn_cli.weights import DIAL, ModelChoice, file_sha256, find_weights

FORMAT = 1
"""Version of the report's format."""


def describe_versions() -> dict[str, str]:
    """Return the versions of all software that computes or encodes."""
    return {
        "ristn": version("ristn"),
        "torch": version("torch"),
        "av": version("av"),
        **library_versions(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def describe_weights(choice: ModelChoice, upscaler: Upscaler) -> dict[str, Any]:
    """Describe the network of a job: its weights, and how it was computed.

    `tensors` is the SHA-256 of the tensors alone, independent of files. `detail` is the share of the weights
    `interpolated with`.
    """
    return {
        **_describe_weights(choice.name),
        "detail": choice.detail,
        "interpolated with": _describe_weights(DIAL[1]) if choice.detail else None,
        "tensors": upscaler.fingerprint,
        "device": str(upscaler.backend.device),
        "precision": upscaler.backend.precision,
        **asdict(upscaler.tiling),
    }


def _describe_weights(name: str) -> dict[str, str]:
    path = find_weights(name)
    return {"name": name, "file": str(path.absolute()), "sha256": file_sha256(path)}


def describe_completed(done: Completed) -> dict[str, Any]:
    """Describe a finished job. Reads its input and output again for their SHA-256.

    Times are seconds after the first frame of the source, as exact fractions in text. `cuts` are the output frames,
    counted from 0, that begin a scene.

    Raises:
        OSError: the input or the output cannot be read.
    """
    job, plan, source = done.job, done.plan, done.job.source
    frames = sum(part.frames for part in done.parts)
    return {
        "input": _describe_source(source),
        "output": {
            "files": _describe_files(existing_images(job.target, frames) if is_numbered(job.target) else [job.target]),
            "frames": frames,
            "width": plan.width,
            "height": plan.height,
            "rate": str(plan.rate),
            "encoder": plan.encoder,
        },
        "options": {
            name: plain_text(value) if isinstance(value, float | Fraction) else value
            for name, value in asdict(job.options).items()
            if name not in NOT_IDENTIFYING
        },
        "interlaced": {
            "treated": plan.deinterlaced,
            "field order": plan.field_order if plan.telecine is None else plan.telecine.field_order,
            "film": None if plan.telecine is None else float(plan.telecine.share),
        },
        "range": _describe_range(done),
        "cuts": _find_cuts(done),
        "streams": [
            {
                "index": entry.stream.index,
                "kind": entry.stream.kind,
                "codec": entry.stream.codec,
                "action": entry.action,
                "becomes": None if entry.action == "drop" else entry.codec,
                "reason": entry.reason or None,
            }
            for entry in plan.streams
        ],
    }


def _describe_source(source: VideoInfo) -> dict[str, Any]:
    timecode = find_timecode(source)
    return {
        "files": [] if source.stream is not None else _describe_files(source.images or [source.path]),
        "codec": source.codec,
        "width": source.width,
        "height": source.height,
        "rate": str(source.rate),
        "pixel format": source.pixel_format,
        "timecode": None if timecode is None else str(timecode),
    }


def _describe_files(paths: list[Path] | tuple[Path, ...]) -> list[dict[str, Any]]:
    return [{"file": str(path.absolute()), "bytes": path.stat().st_size, "sha256": file_sha256(path)} for path in paths]


def _describe_range(done: Completed) -> dict[str, str]:
    """Return the times from the first frame to the end of the last one, with the timecodes of the source."""
    source, options = done.job.source, done.job.options
    begin = options.start or Fraction(0)
    end = done.parts[-1].border.end_time - source.start_time
    times = {"start": str(begin), "end": str(end)}
    if source.is_still or not source.has_plausible_rate:
        return times
    return times | {"start timecode": str(timecode_at(source, begin)), "end timecode": str(timecode_at(source, end))}


def _find_cuts(done: Completed) -> list[dict[str, Any]]:
    """Return the scene cuts, in frames of the output and times of the source."""
    cuts: list[dict[str, Any]] = []
    before = 0
    for part in done.parts:
        cuts += [_describe_cut(done, before + cut.frame, cut.time) for cut in part.cuts]
        before += part.frames
        if not part.border.is_last and part.border.context == 0:
            cuts.append(_describe_cut(done, before, part.border.time))
    return cuts if done.finds_cuts else []


def _describe_cut(done: Completed, frame: int, time: Fraction) -> dict[str, Any]:
    return {"frame": frame, "time": str(time - done.job.source.start_time)}
