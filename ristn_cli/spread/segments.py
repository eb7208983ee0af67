"""A job cut into segments that any device can compute by itself: the parts of a run on one device, and the same frames.

A segment is known by where its first window begins to read, and what of that earlier windows have kept. To find where
that is takes decoding, and no network.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ristn_cli.engine.upscaler import Upscaler, stoppable
from ristn_cli.engine.windows import Window
from ristn_cli.job.job import open_writer
from ristn_cli.job.manifest import Manifest, Part
from ristn_cli.job.pipeline import Pipeline
from ristn_cli.job.plan import UpscaleOptions, part_length
from ristn_cli.job.reading import Place, place_behind, source_windows
from ristn_cli.job.repeats import Run
from ristn_cli.job.shape import choose_shape
from ristn_cli.job.stages import Border, Written, bordered_windows, staged_parts
from ristn_cli.video import VideoError, VideoInfo


class SegmentError(VideoError):
    """A segment read again was not what was planned: the source reads differently here or now."""


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of frames that becomes one part.

    Attributes:
        number: of its part, from 1.
        frames: that it keeps.
        begins: where its first window begins; None at the start of the job.
        ends: the border behind its last window.
    """

    number: int
    frames: int
    begins: Place | None
    ends: Border

    def is_made_by(self, part: Part) -> bool:
        """Whether `part`, finished by an earlier run, is this segment's."""
        found = part.frames, part.next_time, part.next_context, part.next_repeats, part.next_clock, part.end_time
        ends = self.ends
        return found == (
            self.frames,
            ends.next_time,
            ends.next_context,
            ends.next_repeats,
            ends.next_clock,
            ends.end_time,
        )


def count_kept(window: Window[Run]) -> int:
    """Frames that a window keeps, repeats included."""
    return sum(map(len, window.frames[window.keep]))


def plan_segments(
    manifest: Manifest,
    info: VideoInfo,
    upscaler: Upscaler,
    options: UpscaleOptions,
    on_damage: Callable[[str], None] = lambda message: None,
) -> Iterator[Segment]:
    """The segments behind the manifest's parts, each as soon as it is known, with the borders that `write_parts` finds.

    One pass over the source, decoding only; it holds a window of frames.
    """
    if options.max_frames is not None and manifest.frames >= options.max_frames:
        return
    was_damaged = False

    def note_damage(message: str) -> None:
        nonlocal was_damaged
        was_damaged = True
        on_damage(message)

    begins = place_behind(manifest)
    number, before, frames = len(manifest.parts) + 1, manifest.frames, 0
    length = part_length(info, options)
    windows = source_windows(begins, info, upscaler, options, note_damage)
    for window, border in bordered_windows(windows, choose_shape(info, options).rate, lambda: was_damaged):
        frames += count_kept(window)
        if frames >= length or border.is_last:
            yield Segment(number=number, frames=frames, begins=begins, ends=border)
            number, before, frames = number + 1, before + frames, 0
            begins = Place(
                time=border.next_time,
                context=border.next_context,
                repeats=border.next_repeats,
                clock=border.next_clock,
                frames=before,
            )


def windows_of(segment: Segment, windows: Iterator[Window[Run]], path: Path) -> Iterator[Window[Run]]:
    """The windows that keep a segment's frames, and no more. Raises SegmentError when they do not end where it does."""
    frames = 0
    while frames < segment.frames:
        window = next(windows, None)
        if window is None:
            break
        frames += count_kept(window)
        if frames <= segment.frames:
            yield window
    if frames != segment.frames:
        raise SegmentError(
            f"{path}: segment {segment.number} was planned with {segment.frames} frames and has {frames} when read "
            "again; upscale this file on one device (without --ray)"
        )


def compute_segment(
    segment: Segment,
    info: VideoInfo,
    upscaler: Upscaler,
    options: UpscaleOptions,
    path: Path,
    *,
    tell: Callable[[int], None] = lambda frames: None,
    beat: Callable[[], None] = lambda: None,
) -> Part:
    """Upscale and encode a segment into the file `path`; reading, network and encoding run at the same time.

    Args:
        segment: of a plan for the same source, options, window and context.
        info: the source, wherever its file is here.
        upscaler: the engine.
        options: of the job.
        path: the part to write.
        tell: told how many of its frames are encoded.
        beat: called before every layer of the network and every packet of the source, by any thread: a sign of life;
            what it raises ends the work.

    Raises:
        SegmentError: the source reads differently from when it was planned.
        VideoError, OutOfMemory, DeviceError: as in `upscale_video`.
    """
    pipeline = Pipeline(beat)
    with stoppable(upscaler.model, pipeline.check), pipeline:
        # The plan reports what changes on the way: it reads the whole source.
        source = source_windows(segment.begins, info, upscaler, options, reports_change=False)
        windows, rate = windows_of(segment, source, info.path), choose_shape(info, options).rate
        events = staged_parts(
            pipeline, windows, rate, upscaler, lambda number: open_writer(path, info, options), segment.frames
        )
        for event in events:
            if isinstance(event, Written):
                tell(event.frames)
                continue
            if event.part.frames != segment.frames or not event.is_last:
                raise SegmentError(f"{info.path}: segment {segment.number} came out with {event.part.frames} frames")
            # Its last border knows nothing of what comes behind: the plan does.
            ends = segment.ends
            return replace(
                event.part,
                next_time=ends.next_time,
                next_context=ends.next_context,
                next_repeats=ends.next_repeats,
                next_clock=ends.next_clock,
                end_time=ends.end_time,
                is_damaged=ends.is_damaged,
            )
    raise SegmentError(f"{info.path}: segment {segment.number} has no frames; upscale this file on one device")
