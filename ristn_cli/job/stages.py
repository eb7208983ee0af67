"""The stages of a job, each an iterator over the one before: windows of the source, images at 4x, encoded parts.

Frames and parts are those of the stages run one after another, because each depends on nothing but the items it reads.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ristn_cli.engine.allocator import release_team
from ristn_cli.engine.memory import EVENTS_AHEAD, IMAGES_AHEAD, WINDOWS_AHEAD
from ristn_cli.engine.transfer import Arrival
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.job.manifest import Part
from ristn_cli.job.pipeline import Pipeline
from ristn_cli.job.repeats import Run
from ristn_cli.video import Clock, Frame, FrameWriter, ImagesWriter
from ristn_cli.weights import file_sha256


@dataclass(frozen=True, kw_only=True)
class Border:
    """The end of a window, where a part may end. Times, context and clock are as in `Part`."""

    next_time: Fraction
    next_context: int
    next_repeats: int
    next_clock: Clock | None = None
    end_time: Fraction
    is_damaged: bool
    is_last: bool


@dataclass(frozen=True)
class Made:
    """A frame at 4x, with the border behind it when it is the last of its window."""

    frame: Frame
    border: Border | None


@dataclass(frozen=True)
class Written:
    """`frames` of part number `part` are encoded."""

    part: int
    frames: int


@dataclass(frozen=True)
class Finished:
    """A part is whole; `is_last` when the source has ended with it."""

    part: Part
    is_last: bool


def staged_parts(
    pipeline: Pipeline,
    windows: Iterator[Window[Run]],
    rate: Fraction,
    upscaler: Upscaler,
    open_part: Callable[[int], FrameWriter | ImagesWriter],
    length: int,
    *,
    finished: int = 0,
    is_damaged: Callable[[], bool] = lambda: False,
) -> Iterator[Written | Finished]:
    """All stages, running at the same time: windows of a stream to encoded parts. Arguments as of the stages."""
    made = staged_frames(pipeline, bordered_windows(windows, rate, is_damaged), upscaler)
    parts = encoded_parts(made, open_part, length, finished=finished)
    return pipeline.ahead(parts, EVENTS_AHEAD, name="encode")


def staged_frames(
    pipeline: Pipeline,
    windows: Iterator[tuple[Window[Run], Border | None]],
    upscaler: Upscaler,
) -> Iterator[Made]:
    """All stages but the encoder, running at the same time as whoever takes the frames."""
    if upscaler.backend.device.type == "cpu":
        release_team()  # the stage "upscale" has its own
    read = pipeline.ahead(windows, WINDOWS_AHEAD, name="read")
    launched = pipeline.ahead(launched_windows(read, upscaler), 1, name="upscale")
    return pipeline.ahead(made_frames(launched, upscaler), IMAGES_AHEAD, name="download")


def bordered_windows(
    windows: Iterator[Window[Run]], rate: Fraction, is_damaged: Callable[[], bool]
) -> Iterator[tuple[Window[Run], Border]]:
    """Each window with its border, which takes reading the one behind it.

    Args:
        windows: of one stream.
        rate: nominal frames a second, for a last frame of unknown duration.
        is_damaged: whether the source was found damaged so far.
    """
    window = next(windows, None)
    while window is not None:
        following = next(windows, None)
        last_run = window.frames[window.keep][-1]
        begins = following or Window((last_run,), slice(1, None))  # at the end of the stream nothing is left to keep
        again = begins.frames[: begins.keep.start]
        yield (
            window,
            Border(
                next_time=begins.frames[0][0].time,
                next_context=len(again),
                next_repeats=sum(map(len, again)) - len(again),
                next_clock=begins.frames[0][0].clock,
                end_time=last_run[-1].time + (last_run[-1].duration or 1 / rate),
                is_damaged=is_damaged(),
                is_last=following is None,
            ),
        )
        window = following


def launched_windows(
    windows: Iterator[tuple[Window[Run], Border | None]], upscaler: Upscaler
) -> Iterator[tuple[tuple[Run, ...], Arrival, Border | None]]:
    """The kept frames of each window, or those of a piece of it, and their images on the way from the device.

    With the last of a window comes its border.
    """
    for window, border in windows:
        images = Window(tuple(run[0].image for run in window.frames), window.keep)
        left = window.frames[window.keep]
        for arrival in upscaler.launch_window(images):
            runs, left = left[: len(arrival.images)], left[len(arrival.images) :]
            yield runs, arrival, None if left else border
            del arrival  # or it would be held while the next one is computed


def made_frames(
    launched: Iterator[tuple[tuple[Run, ...], Arrival, Border | None]], upscaler: Upscaler
) -> Iterator[Made]:
    """The kept frames at 4x, repeats included, each with its own timestamp."""
    for runs, arrival, border in launched:
        images = upscaler.collect(arrival)
        del arrival
        for number, run in enumerate(runs, start=1):
            image = images.pop(0)
            for repeat, source in enumerate(run, start=1):
                is_last = number == len(runs) and repeat == len(run)
                yield Made(Frame(image, source.time, source.duration, alpha=source.alpha), border if is_last else None)
            del image


def encoded_parts(
    frames: Iterator[Made],
    open_part: Callable[[int], FrameWriter | ImagesWriter],
    length: int,
    *,
    finished: int = 0,
) -> Iterator[Written | Finished]:
    """Encode frames into parts that end with the window in which they reach `length` frames.

    Args:
        frames: of one stream, the last with a border behind it.
        open_part: the encoder of the part of a number, from 1.
        length: frames of a part, at least, but for the last.
        finished: parts that are there already.

    Yields:
        `Written` behind each frame, `Finished` behind each part.
    """
    number = finished
    made = next(frames, None)
    while made is not None:
        number += 1
        border: Border | None = None
        with open_part(number) as writer:
            while made is not None:
                writer.write(made.frame)
                border = made.border
                del made  # or it would be held while the next one is awaited
                yield Written(number, writer.frames_written)
                if border is not None and (border.is_last or writer.frames_written >= length):
                    break
                made = next(frames, None)
        assert border is not None
        yield Finished(describe_part(writer.path, writer.frames_written, border), border.is_last)
        made = None if border.is_last else next(frames, None)


def describe_part(path: Path, frames: int, border: Border) -> Part:
    """The record of a finished part that ends at `border`."""
    return Part(
        file=path.name,
        frames=frames,
        next_time=border.next_time,
        next_context=border.next_context,
        next_repeats=border.next_repeats,
        next_clock=border.next_clock,
        end_time=border.end_time,
        sha256=file_sha256(path),
        is_damaged=border.is_damaged,
    )
