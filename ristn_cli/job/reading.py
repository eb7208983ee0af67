"""The frames and windows of a job, from its start or from any border. Both give the same windows."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.job.border import Border
from ristn_cli.job.job import Job
from ristn_cli.job.repeats import Run, join_repeats
from ristn_cli.video import Frame, ReadOptions, read_frames

log = logging.getLogger("ristn.job")


def read_source(
    job: Job,
    begins: Border | None = None,
    *,
    max_frames: int | None = None,
    report: Callable[[str], None] | None = None,
    reports_change: bool = True,
) -> Iterator[Frame]:
    """Yield the frames of the source from a border on.

    Args:
        job: the job.
        begins: border to start at; None for the start of the job.
        max_frames: largest number of frames; None for that of the job.
        report: called with one line for each concealed error.
        reports_change: log changes of the frame format. False if another reader logs them.
    """
    options = job.options
    if max_frames is None and options.max_frames is not None:
        max_frames = options.max_frames
        if begins is not None:
            max_frames -= begins.frames - begins.context - begins.repeats
    wanted = ReadOptions(
        start=options.start,
        end=options.end,
        max_frames=max_frames,
        deinterlace=options.deinterlace,
        drop_alpha=options.drop_alpha,
        carry_alpha=job.output.encoder.has_alpha,
        drop_captions="captions" in options.leave_out,
        strict=options.strict,
    )
    since, clock = (None, None) if begins is None else (begins.time, begins.clock)
    others: dict[str, Any] = {} if reports_change else {"on_change": lambda message: None}
    frames = read_frames(job.source, wanted, since=since, clock=clock, on_damage=report, **others)
    return _tell_of_captions(job, frames) if job.may_lose_captions and reports_change else frames


def _tell_of_captions(job: Job, frames: Iterator[Frame]) -> Iterator[Frame]:
    """The frames; the first with captions is reported, as standard input can be searched for them in no other way."""
    is_told = False
    for frame in frames:
        if frame.captions is not None and not is_told:
            is_told = True
            time = float(frame.time - job.source.start_time)
            log.warning(
                f"{job.source.path}: has closed captions from {time:.2f} s on, which are lost: {job.medium[0]} cannot "
                "carry them; use --codec h264, hevc or av1, or name a file"
            )
        yield frame
        del frame  # frees its memory while the next one is read


def source_windows(
    job: Job,
    begins: Border | None,
    upscaler: Upscaler,
    report: Callable[[str], None] | None = None,
    *,
    reports_change: bool = True,
) -> Iterator[Window[Run]]:
    """Yield the windows of a job from a border on. They are those of a run from the start."""
    frames = read_source(job, begins, report=report, reports_change=reports_change)
    return upscaler.windows(
        join_repeats(frames), lambda run: run[0].image, continued=begins.context if begins is not None else 0
    )
