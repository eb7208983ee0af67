"""What a resumed job keeps of its first run: windows, tiles, and the length of its parts."""

import contextlib
import math
from dataclasses import asdict, replace

from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.job import SHORTEST_PART, Job
from ristn_cli.job.manifest import read_identity

PARTS_PER_WORKER = 8
"""With fewer parts, workers wait for the last ones; see docs/scaling.md."""


def settle_parts(job: Job, workers: int, *, restart: bool) -> Job:
    """Return the job with parts short enough to keep `workers` busy, unless the user chose their length.

    A resumed job keeps the length of its first run, with any number of workers.
    """
    options = job.options
    if options.segment_frames is not None:
        return job
    earlier = "" if restart or not job.is_resumable else str(read_identity(job.folder).get("segment_frames", ""))
    if earlier:
        length = int(earlier) if earlier.isdigit() else None
    else:
        frames = job.frames if workers > 1 else None
        length = None if frames is None else max(SHORTEST_PART, math.ceil(frames / (workers * PARTS_PER_WORKER)))
        if length is not None and length >= job.part_frames:
            length = None
    return job if length is None else replace(job, options=replace(options, segment_frames=length))


def settle_tiling(job: Job, upscaler: Upscaler, *, restart: bool) -> None:
    """Choose windows and tiles that fit, except for those that the user chose. A resumed job keeps those of its first
    run.
    """
    info = job.source
    image_bytes = info.value_bytes
    upscaler.fit(info.width, info.height, image_bytes=image_bytes, encoder_bytes=job.encoder_bytes)
    if upscaler.auto_tiling is None or restart or not job.is_resumable:
        return
    chosen = asdict(upscaler.tiling)
    asked = {"window", "context"} if upscaler.auto_tiling.window else set()
    asked |= {"tile", "overlap"} if upscaler.auto_tiling.tile else set()
    earlier = read_identity(job.folder)
    kept = {
        name: earlier.get(name, chosen[name]) for name in ("window", "context", "tile", "overlap") if name not in asked
    }
    with contextlib.suppress(ValueError, TypeError):  # `Manifest.load` reports it
        upscaler.tiling = Tiling(**(chosen | kept))
