"""The stages of a job, each an iterator over the one before: windows of the source, images at 4x, encoded parts.

Frames and parts are those of the stages run one after another, because each depends on nothing but the items it reads.
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
    """A frame at 4x, with the border behind it when it is the last of its window."""

    frame: Frame
    border: Border | None


@dataclass(frozen=True)
class Written:
    """As many frames of the part at work are encoded."""

    frames: int


@dataclass(frozen=True)
class PartWriting:
    """How parts are written: `open_part` opens the encoder of the next one, and it ends with the window in which it
    reaches `length` frames. Each frame goes through `finish` before."""

    open_part: Callable[[], FrameWriter | ImagesWriter]
    length: int
    finish: Callable[[Frame], Frame]


def staged_parts(
    pipeline: Pipeline, windows: Iterator[tuple[Window[Run], Border]], upscaler: Upscaler, writing: PartWriting
) -> Iterator[Written | Part]:
    """All stages, running at the same time: windows of a stream to encoded parts."""
    made = staged_frames(pipeline, windows, upscaler, writing.finish)
    return pipeline.ahead(encoded_parts(made, writing), EVENTS_AHEAD, name="encode")


def staged_frames(
    pipeline: Pipeline,
    windows: Iterator[tuple[Window[Run], Border]],
    upscaler: Upscaler,
    finish: Callable[[Frame], Frame],
) -> Iterator[Made]:
    """All stages but the encoder, running at the same time as whoever takes the frames, which `finish` has changed."""
    if upscaler.backend.device.type == "cpu":
        stop_openmp_threads()  # the stage "upscale" has its own
    read = pipeline.ahead(windows, WINDOWS_AHEAD, name="read")
    launched = pipeline.ahead(launched_windows(read, upscaler), 1, name="upscale")
    return pipeline.ahead(made_frames(launched, upscaler, finish), IMAGES_AHEAD, name="download")


def bordered_windows(
    windows: Iterator[Window[Run]], begins: Border | None, rate: Fraction, warnings: Warnings
) -> Iterator[tuple[Window[Run], Border]]:
    """Each window with the border behind it, which takes reading the next one.

    Args:
        windows: of one stream, from a border on.
        begins: that border; None for the start of a job.
        rate: nominal frames a second, for a last frame of unknown duration.
        warnings: tells whether the source was found damaged so far.
    """
    frames = 0 if begins is None else begins.frames
    window = next(windows, None)
    while window is not None:
        following = next(windows, None)
        kept = window.frames[window.keep]
        frames += sum(map(len, kept))
        last = kept[-1][-1]
        behind = following or Window((kept[-1],), slice(1, None))  # at the end of the stream nothing is left to keep
        again = behind.frames[: behind.keep.start]
        border = Border(
            time=behind.frames[0][0].time,
            context=len(again),
            repeats=sum(map(len, again)) - len(again),
            clock=behind.frames[0][0].clock,
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
    launched: Iterator[tuple[tuple[Run, ...], Arrival, Border | None]],
    upscaler: Upscaler,
    finish: Callable[[Frame], Frame],
) -> Iterator[Made]:
    """The kept frames at 4x, repeats included, each with its own timestamp and finished by itself."""
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
    """Encode frames of one stream, the last with a border behind it; `Written` behind each frame."""
    made = next(frames, None)
    while made is not None:
        border: Border | None = None
        cuts: list[Cut] = []
        with writing.open_part() as writer:
            while made is not None:
                writer.write(made.frame)
                border = made.border
                del made  # or it would be held while the next one is awaited
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
