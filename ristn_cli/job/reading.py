"""The windows of a job, from its start or from where an earlier run or another device left off: the same ones."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.job.checks import read_source
from ristn_cli.job.manifest import Manifest
from ristn_cli.job.plan import UpscaleOptions
from ristn_cli.job.repeats import Run, join_repeats
from ristn_cli.video import Clock, VideoInfo


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a window begins. Times are seconds on the source's clock.

    Attributes:
        time: of the first frame that the window reads.
        context: how many of its frames earlier windows keep, repeated ones counted once.
        repeats: how many more these are with their repeats.
        clock: of that frame; None for images.
        frames: frames before it that are kept by earlier windows.
    """

    time: Fraction
    context: int
    repeats: int
    clock: Clock | None = None
    frames: int


def place_behind(manifest: Manifest) -> Place | None:
    """Where the window behind the parts that are finished begins; None when there are none."""
    if not manifest.parts:
        return None
    last = manifest.parts[-1]
    return Place(
        time=last.next_time,
        context=last.next_context,
        repeats=last.next_repeats,
        clock=last.next_clock,
        frames=manifest.frames,
    )


def source_windows(
    begins: Place | None,
    info: VideoInfo,
    upscaler: Upscaler,
    options: UpscaleOptions,
    on_damage: Callable[[str], None] | None = None,
    *,
    reports_change: bool = True,
) -> Iterator[Window[Run]]:
    """The windows of a job from `begins` on, as a run that came there from the start would read them."""
    most = options.max_frames
    if begins is not None and most is not None:
        most -= begins.frames - begins.context - begins.repeats
    since, clock = (None, None) if begins is None else (begins.time, begins.clock)
    frames = read_source(
        info,
        options,
        since=since,
        clock=clock,
        max_frames=most,
        on_damage=on_damage,
        reports_change=reports_change,
    )
    return upscaler.windows(
        join_repeats(frames), lambda run: run[0].image, continued=begins.context if begins is not None else 0
    )
