"""Jobs as tests run them: progress from an iterator, everything else by functions that are called."""

import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.checks import OutputStream, check_job
from ristn_cli.job.events import Planned, Warned, Warnings
from ristn_cli.job.forecast import plan_job
from ristn_cli.job.job import Job
from ristn_cli.job.manifest import Manifest
from ristn_cli.job.options import RunOptions, UpscaleOptions
from ristn_cli.job.parts import PartMaker
from ristn_cli.job.plan import JobPlan
from ristn_cli.job.progress import Progress
from ristn_cli.job.run import upscale_video
from ristn_cli.spread.segments import Segment, plan_segments
from ristn_cli.video import InputStream, VideoInfo


def short(**options: Any) -> UpscaleOptions:
    """Options with parts of a window or two, so that a small clip has several."""
    return UpscaleOptions(**{"segment_frames": 4, **options})


class Asked(threading.Event):
    """An event that is set when a function says so."""

    def __init__(self, ask: Callable[[], bool]) -> None:
        super().__init__()
        self._ask = ask

    def is_set(self) -> bool:
        return self._ask()


def run_job(
    source: Path | InputStream,
    target: Path | OutputStream,
    upscaler: Upscaler,
    options: UpscaleOptions | None = None,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    on_plan: Callable[[JobPlan], None] = lambda plan: None,
    on_damage: Callable[[str], None] = lambda message: None,
    on_loss: Callable[[str], None] = lambda message: None,
    make_parts: PartMaker | None = None,
    **run: Any,
) -> Generator[Progress, None, None]:
    """`upscale_video`, of which only the progress is yielded; `run` are fields of RunOptions."""
    job = upscale_video(source, target, upscaler, options, RunOptions(stop=Asked(should_stop), **run), make_parts)
    try:
        for event in job:
            match event:
                case Planned(plan):
                    on_plan(plan)
                case Warned(message, is_damage=True):
                    on_damage(message)
                case Warned(message):
                    on_loss(message)
                case Progress():
                    yield event
    finally:
        job.close()


def plan_run(
    source: Path,
    target: Path,
    upscaler: Upscaler,
    options: UpscaleOptions | None = None,
    *,
    speedup: float | None = 1,
    **run: Any,
) -> JobPlan:
    """`plan_job`; `run` are fields of RunOptions."""
    return plan_job(source, target, upscaler, options, RunOptions(**run), speedup=speedup)


def make_job(source: Path | VideoInfo, target: Path, options: UpscaleOptions | None = None) -> Job:
    """A job that is settled, and not begun."""
    return check_job(source, target, options or UpscaleOptions(), RunOptions(overwrite=True, makes_folder=True))


def segments_of(source: Path, folder: Path, upscaler: Upscaler, options: UpscaleOptions) -> Iterator[Segment]:
    """The segments of a job whose parts lie in a folder."""
    job = make_job(source, folder / "planned.mkv", options)
    return plan_segments(job, Manifest(folder, {}), upscaler, Warnings())
