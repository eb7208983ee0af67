"""Opens images or videos of one scene, matches their frames by time, and reads them. Does not know output formats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from ristn_cli.comparison.alignment import choose_times, common_size, distinct_labels, nearest_index
from ristn_cli.video import (
    Image,
    ReadOptions,
    VideoError,
    VideoInfo,
    decoded_times,
    presentation_times,
    probe,
    read_frames,
    to_eight_bits,
)

SEEK_SECONDS = Fraction(2)
"""Frames further apart than this are sought; closer ones are decoded in sequence."""


@dataclass(frozen=True)
class Source:
    """One input. `times` are its frames' times on the comparison's clock, `native` on its own clock."""

    info: VideoInfo
    label: str
    times: tuple[Fraction, ...]
    native: tuple[Fraction, ...]

    @property
    def is_still(self) -> bool:
        """Whether the source is a single image, which is shown at all times."""
        return len(self.native) == 1

    def shows(self, time: Fraction) -> bool:
        """Return whether the source covers a time, with a tolerance of one frame for rounding."""
        frame = 1 / self.info.rate
        return self.is_still or self.times[0] - frame < time < self.times[-1] + frame


@dataclass(frozen=True)
class Moment:
    """A time of the comparison in seconds, and the nearest frame of each source."""

    time: Fraction
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Comparison:
    """Sources of one scene. `width` and `height` are those of the largest; the reference determines the times."""

    sources: tuple[Source, ...]
    reference: int
    width: int
    height: int

    @property
    def is_still(self) -> bool:
        return all(source.is_still for source in self.sources)

    def moments(
        self,
        *,
        start: Fraction | None = None,
        end: Fraction | None = None,
        every: int | None = None,
        most: int | None = None,
    ) -> list[Moment]:
        """Return frames of the reference that all sources cover, chosen by `choose_times`. Raises VideoError if there
        are none.
        """
        shared = [
            time for time in self.sources[self.reference].times if all(source.shows(time) for source in self.sources)
        ]
        if not shared:
            names = ", ".join(str(source.info.path) for source in self.sources)
            raise VideoError(
                f"{names}: do not overlap in time; give the start of the others within the first with --offset"
            )
        chosen = choose_times(shared, start=start, end=end, every=every, most=most)
        if not chosen:
            found = f"{float(shared[0]):g} s to {float(shared[-1]):g} s"
            raise VideoError(f"no frames between --start and --end; the inputs overlap from {found}")
        return [Moment(time, tuple(nearest_index(source.times, time) for source in self.sources)) for time in chosen]

    def read(self, moments: Sequence[Moment]) -> Iterator[tuple[Image, ...]]:
        """Yield the images of all sources for each moment: uint8 (H, W, 3), each in its own size."""
        readers = [read_numbers(source, [m.frames[k] for m in moments]) for k, source in enumerate(self.sources)]
        yield from zip(*readers, strict=True)


def open_comparison(paths: Sequence[Path], *, labels: Sequence[str] = (), offset: Fraction | None = None) -> Comparison:
    """Probe two or more videos, stills or folders of images.

    The reference is the first video, or else the first folder of images. Times count from the first frame of each
    video. With `offset`, all other sources start at the first frame of the first source at or after that time in
    seconds, as if they were cut there. Images of a folder have no times: beside a video, they get the times of its
    frames in turn. Raises VideoError if a source cannot be read, or if aspect ratios differ.
    """
    infos = [probe(path) for path in paths]
    names = [*labels, *distinct_labels(paths)[len(labels) :]]
    natives = [frame_times(info) for info in infos]
    moving = [index for index, native in enumerate(natives) if len(native) > 1]
    timed = [index for index in moving if not infos[index].is_image_sequence]
    shifts = [Fraction(0), *[_start_of_others(natives[0], offset)] * (len(infos) - 1)]
    reference = (timed or moving or [0])[0]
    clock = [time - natives[reference][0] + shifts[reference] for time in natives[reference]]
    sources = []
    for index, (info, native) in enumerate(zip(infos, natives, strict=True)):
        times = tuple(time - native[0] + shifts[index] for time in native)
        if timed and info.is_image_sequence and len(native) > 1:
            times = tuple(time for time in clock if time >= shifts[index])[: len(native)]
            if not times:
                raise VideoError(f"{info.path}: --offset is after the last frame of {infos[reference].path}")
        sources.append(Source(info, names[index], times, native[: len(times)]))
    try:
        width, height = common_size([(info.width, info.height) for info in infos])
    except ValueError as error:
        found = ", ".join(f"{info.path} is {info.width}x{info.height}" for info in infos)
        raise VideoError(f"{found}: expected the same aspect ratio; crop the inputs to the same shape") from error
    return Comparison(tuple(sources), reference, width, height)


def _start_of_others(first: Sequence[Fraction], offset: Fraction | None) -> Fraction:
    """Return the time of the first source at which the other sources start."""
    wanted = offset or Fraction(0)
    return next((time - first[0] for time in first if time - first[0] >= wanted), wanted)


def frame_times(info: VideoInfo) -> tuple[Fraction, ...]:
    """Return the times of all frames on the source's own clock, from its packets if possible, else by decoding."""
    if info.is_image_sequence:
        return tuple(index / info.rate for index in range(len(info.images)))
    if info.is_still:
        return (info.start_time,)
    if info.has_decoding_times_only:
        return tuple(decoded_times(info))
    # Frames before the first one that decodes are not shown.
    times = tuple(time for time in presentation_times(info.path, info.video_index) if time >= info.start_time)
    return times or (info.start_time,)


def read_numbers(source: Source, numbers: Sequence[int]) -> Iterator[Image]:
    """Yield the frames with these numbers, which are in ascending order; a repeated number repeats the image.

    Raises VideoError if a frame does not decode.
    """
    position = 0
    while position < len(numbers):
        stop = position + 1
        while stop < len(numbers) and source.native[numbers[stop]] - source.native[numbers[stop - 1]] <= SEEK_SECONDS:
            stop += 1
        yield from _read_run(source, numbers[position:stop])
        position = stop


def _read_run(source: Source, numbers: Sequence[int]) -> Iterator[Image]:
    info, native = source.info, source.native

    def earliest(number: int) -> Fraction:
        # Half a frame earlier, because a decoder's timestamp may differ slightly from the packet's.
        return (native[number - 1] + native[number]) / 2 if number else info.start_time

    start = earliest(numbers[0]) - info.start_time
    frames = read_frames(info, ReadOptions(start=start, drop_alpha=True), on_change=lambda message: None)
    shown: Image | None = None
    previous = -1
    for number in numbers:
        if number != previous:
            frame = next((frame for frame in frames if frame.time >= earliest(number)), None)
            if frame is None:
                at = float(native[number] - info.start_time)
                raise VideoError(f"{info.path}: the frame at {at:.3f} s does not decode; use --end to stop before it")
            shown, previous = to_eight_bits(frame.image), number
        assert shown is not None
        yield shown
