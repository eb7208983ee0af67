"""Chooses moments of a video that are worth showing: sharp, not black or fading, each of another scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from ristn_cli.comparison.alignment import Crop, detail, find_place
from ristn_cli.engine.scenes import CUT_SCORE, difference
from ristn_cli.job.checks import no_frames
from ristn_cli.job.job import Job
from ristn_cli.job.reading import read_source
from ristn_cli.video import Frame, Image, VideoError, can_be_sought, presentation_times, to_eight_bits

MOMENTS = 4
LOOKS = 3
"""Candidates per moment. The best one is chosen."""

LOOK_FRAMES = 6
"""Frames per candidate. A difference between the first and the last shows a fade."""

PLACE = (160, 120)
"""Width and height of a moment's crop in source pixels."""

UNSEEKABLE_SECONDS = Fraction(60)
"""Length of the part that is examined if the video is not seekable, because everything before a moment must be
decoded."""

DARK = 50
"""Levels of 255. If 98 % of a frame are darker, it is black."""

FLAT = 6
"""Levels of 255. A frame with a smaller standard deviation shows nothing."""

FADE = 0.05
"""If the standard deviation changes by a larger share within a candidate, it is fading or near a cut."""

UNSUITABLE = 1e-3
"""Factor for the detail of black, flat or fading frames, which are only chosen if there are no others."""


@dataclass(frozen=True)
class Moment:
    """A frame to show: its `time` in seconds after the first frame, the whole `image`, and the crop."""

    time: Fraction
    image: Image
    crop: Crop


def choose_moments(
    job: Job, *, times: Sequence[Fraction] = (), crop: Crop | None = None, on_look: Callable[[], None] = lambda: None
) -> list[Moment]:
    """Return the moments at `times`, or up to `MOMENTS` chosen ones, in order of time.

    Args:
        job: specifies how to read the video.
        times: seconds after the first frame; the first frame at or after each is taken.
        crop: crop of every moment; None for the most detailed one of size `PLACE`.
        on_look: called after each candidate.

    Raises:
        VideoError: the video cannot be read, has no frames, or ends before one of the times, or the crop is outside.
    """
    info = job.source
    if crop is not None and not _lies_within(crop, info.width, info.height):
        raise VideoError(
            f"{info.path}: --crop {','.join(map(str, crop))} (x,y,width,height) is not within its "
            f"{info.width}x{info.height} pixels"
        )
    frames = [_frame_at(job, time, on_look) for time in sorted(times)] if times else list(_choose(job, on_look))
    found = {frame.time: frame for frame in frames}  # two times may give the same frame
    return [
        Moment(frame.time - info.start_time, frame.image, crop or find_place(to_eight_bits(frame.image), *PLACE))
        for frame in found.values()
    ]


def starting_at(job: Job, time: Fraction) -> Job:
    """Return the same job with its start `time` seconds after the first frame."""
    return replace(job, options=replace(job.options, start=max(time, Fraction(0))))


def video_seconds(job: Job) -> Fraction:
    """Return the duration of the video, from its header, else from its packets."""
    info = job.source
    if info.is_image_sequence:
        return len(info.images) / info.rate
    if info.duration:
        return info.duration
    if info.frame_count and info.has_plausible_rate:
        return info.frame_count / info.rate
    last = info.start_time
    for time in presentation_times(info.path, info.video_index):
        last = max(last, time)
    return last - info.start_time + 1 / info.rate


def _lies_within(crop: Crop, width: int, height: int) -> bool:
    return min(crop.width, crop.height) > 0 and crop.x + crop.width <= width and crop.y + crop.height <= height


def _frame_at(job: Job, time: Fraction, on_look: Callable[[], None]) -> Frame:
    frame = next(_read_at(job, time, 1), None)
    if frame is None:
        raise VideoError(
            f"{job.source.path}: --at {float(time):g} s is after its last frame; the duration is about "
            f"{float(video_seconds(job)):.1f} s"
        )
    on_look()
    return frame


def _read_at(job: Job, time: Fraction, count: int) -> Iterator[Frame]:
    return read_source(starting_at(job, time), max_frames=count, reports_change=False)


def _choose(job: Job, on_look: Callable[[], None]) -> Iterator[Frame]:
    """Yield the best frame of each of `MOMENTS` equal stretches, of another scene than earlier ones if possible."""
    seconds = video_seconds(job)
    if not can_be_sought(job.source):
        seconds = min(seconds, UNSEEKABLE_SECONDS)
    chosen: list[Frame] = []
    for stretch in range(MOMENTS):
        looks: list[tuple[float, Frame]] = []
        for look in range(LOOKS):
            at = seconds * (LOOKS * stretch + look + Fraction(1, 2)) / (LOOKS * MOMENTS)
            frames = list(_read_at(job, at, LOOK_FRAMES))
            on_look()
            if frames and all(frames[0].time != other.time for other in chosen):
                looks.append((rate_look(frames), frames[0]))
        looks.sort(key=lambda look: -look[0])
        others = [frame for _, frame in looks if all(_is_apart(frame, other) for other in chosen)]
        if looks:
            chosen.append((others or [looks[0][1]])[0])
    if not chosen:
        first = next(_read_at(job, Fraction(0), 1), None)  # the duration in the header may be far too long
        if first is None:
            raise no_frames(job.source)
        chosen.append(first)
    yield from chosen


def _is_apart(frame: Frame, other: Frame) -> bool:
    return difference(frame.image, other.image) >= CUT_SCORE


def rate_look(frames: Sequence[Frame]) -> float:
    """Rate the first of some consecutive frames by its detail; low if it is black, fading or damaged."""
    first, last = (to_eight_bits(frame.image) for frame in (frames[0], frames[-1]))
    contrast, later = (float(image[..., 1].std()) for image in (first, last))
    is_black = float(np.percentile(first[..., 1], 98)) < DARK or contrast < FLAT
    is_fading = abs(later - contrast) > FADE * max(contrast, later)
    is_damaged = frames[0].is_damaged
    return detail(first) * (UNSUITABLE if is_black or is_fading or is_damaged else 1)
