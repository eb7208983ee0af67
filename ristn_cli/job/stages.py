"""The stages of a job, each an iterator over the one before: windows of the source, images at 4x, encoded parts.

An item depends only on the items it is made from, so stages in threads give the same result as stages in turn.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction

from ristn_cli.engine.allocator import stop_openmp_threads
from ristn_cli.engine.memory import EVENTS_AHEAD, IMAGES_AHEAD, WINDOWS_AHEAD
from ristn_cli.engine.transfer import Arrival
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.job.border import Border
from ristn_cli.job.events import Warnings
from ristn_cli.job.manifest import Cut, Part
from ristn_cli.job.pipeline import Pipeline
from ristn_cli.job.repeats import Run
from ristn_cli.video import Frame, FrameWriter, ImagesWriter
from ristn_cli.weights import file_sha256


@dataclass(frozen=True)
class Made:
    """A frame at 4x, and the border after it if it is the last of its window."""

    frame: Frame
    border: Border | None


@dataclass(frozen=True)
class Written:
    """Number of frames encoded in the current part."""

    frames: int


@dataclass(frozen=True)
class PartWriting:
    """How parts are written.

    Attributes:
        open_part: opens the encoder of the next part.
        length: a part ends after the window in which it reaches this number of frames.
        finish: prepares each frame for the encoder.
    """

    open_part: Callable[[], FrameWriter | ImagesWriter]
    length: int
    finish: Callable[[Frame], Frame]


def staged_parts(
    pipeline: Pipeline, windows: Iterator[tuple[Window[Run], Border]], upscaler: Upscaler, writing: PartWriting
) -> Iterator[Written | Part]:
    """Run all stages at the same time, from windows to encoded parts."""
    made = staged_frames(pipeline, windows, upscaler, writing.finish)
    return pipeline.ahead(encoded_parts(made, writing), EVENTS_AHEAD, name="encode")


def staged_frames(
    pipeline: Pipeline,
    windows: Iterator[tuple[Window[Run], Border]],
    upscaler: Upscaler,
    finish: Callable[[Frame], Frame],
) -> Iterator[Made]:
    """Run all stages except the encoder at the same time. `finish` prepares each frame."""
    if upscaler.backend.device.type == "cpu":
        stop_openmp_threads()  # the thread of the stage "upscale" starts its own
    read = pipeline.ahead(windows, WINDOWS_AHEAD, name="read")
    launched = pipeline.ahead(launched_windows(read, upscaler), 1, name="upscale")
    return pipeline.ahead(made_frames(launched, upscaler, finish), IMAGES_AHEAD, name="download")


def bordered_windows(
    windows: Iterator[Window[Run]], begins: Border | None, rate: Fraction, warnings: Warnings
) -> Iterator[tuple[Window[Run], Border]]:
    """Yield each window with the border after it, which requires reading the next window.

    Args:
        windows: windows of one stream from a border on.
        begins: that border; None for the start of a job.
        rate: nominal frame rate, for a last frame of unknown duration.
        warnings: records whether the source is damaged.
    """
    frames = 0 if begins is None else begins.frames
    window = next(windows, None)
    while window is not None:
        following = next(windows, None)
        kept = window.frames[window.keep]
        frames += sum(map(len, kept))
        last = kept[-1][-1]
        after = following or Window((kept[-1],), slice(1, None))  # at the end of the stream, no frame is left to keep
        reread = after.frames[: after.keep.start]
        border = Border(
            time=after.frames[0][0].time,
            context=len(reread),
            repeats=sum(map(len, reread)) - len(reread),
            clock=after.frames[0][0].clock,
            frames=frames,
            end_time=last.time + (last.duration or 1 / rate),
            is_damaged=warnings.is_damaged,
            is_last=following is None,
        )
        yield window, border
        window = following


def launched_windows(
    windows: Iterator[tuple[Window[Run], Border]], upscaler: Upscaler
) -> Iterator[tuple[tuple[Run, ...], Arrival, Border | None]]:
    """Yield the kept frames of each window, or of a piece of it, with their images on the way from the device.

    The last piece of a window comes with its border.
    """
    for window, border in windows:
        images = Window(tuple(run[0].image for run in window.frames), window.keep)
        left = window.frames[window.keep]
        for arrival in upscaler.launch_window(images):
            runs, left = left[: len(arrival.images)], left[len(arrival.images) :]
            yield runs, arrival, None if left else border
            del arrival  # otherwise it would stay in memory while the next one is computed


def made_frames(
    launched: Iterator[tuple[tuple[Run, ...], Arrival, Border | None]],
    upscaler: Upscaler,
    finish: Callable[[Frame], Frame],
) -> Iterator[Made]:
    """Yield the kept frames at 4x, including repeats, each with its own timestamp and passed to `finish`."""
    for runs, arrival, border in launched:
        images = upscaler.collect(arrival)
        del arrival
        for number, run in enumerate(runs, start=1):
            image = images.pop(0)
            for repeat, source in enumerate(run, start=1):
                is_last = number == len(runs) and repeat == len(run)
                frame = replace(source, image=image, is_damaged=False, clock=None)
                yield Made(finish(frame), border if is_last else None)
                del frame
            del image


def encoded_parts(frames: Iterator[Made], writing: PartWriting) -> Iterator[Written | Part]:
    """Encode frames of one stream, whose last frame has a border. Yield `Written` after each frame."""
    made = next(frames, None)
    while made is not None:
        border: Border | None = None
        cuts: list[Cut] = []
        with writing.open_part() as writer:
            while made is not None:
                writer.write(made.frame)
                border = made.border
                del made  # otherwise it would stay in memory during the wait
                yield Written(writer.frames_written)
                if border is not None and (border.is_last or writer.frames_written >= writing.length):
                    break
                if border is not None and border.context == 0:
                    cuts.append(Cut(frame=writer.frames_written, time=border.time))
                made = next(frames, None)
        assert border is not None
        path = writer.path
        yield Part(file=path.name, frames=writer.frames_written, sha256=file_sha256(path), border=border, cuts=cuts)
        made = None if border.is_last else next(frames, None)
