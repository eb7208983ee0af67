"""Images as the output: a still, or numbered images in a folder, through parts that are resumed like a video's.

A part is one file, a ZIP archive of finished images (stored, not compressed again) with their times: it is there whole
or not at all, and its SHA-256 tells of any damage. At the end the images are taken out of the parts as they are.
"""

from __future__ import annotations

import filecmp
import json
import logging
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

from ristn_cli.own_files import give_name, open_new, write_text
from ristn_cli.typed import MalformedError, build, parse_json
from ristn_cli.video.interruption import check_interruption
from ristn_cli.video.reading.source import open_input
from ristn_cli.video.reading.streams import main_video_stream
from ristn_cli.video.resample import ALPHA_FLAGS, Resampler
from ristn_cli.video.types import Frame, VideoError
from ristn_cli.video.writing.image_file import WRITABLE_IMAGES, encode_image
from ristn_cli.video.writing.renditions import ScanEncoder
from ristn_cli.video.writing.settings import OutputShape

PART_SUFFIX = ".zip"
TIMES_NAME = "times.json"
SIDECAR_NAME = "timestamps.txt"
NUMBER = re.compile(r"%0?(\d*)d")
MOST_NAMED = 8
"""Files that a warning names one by one."""

log = logging.getLogger("ristn.video")


def is_image_target(target: Path) -> bool:
    """Whether `target` names an image, or by a number such as `%05d` many, rather than a video."""
    return target.suffix.lower() in WRITABLE_IMAGES


def is_numbered(target: Path) -> bool:
    """Whether `target` is a pattern of numbered images, such as `out/%05d.png`, rather than a single one."""
    return is_image_target(target) and NUMBER.search(target.name) is not None


def existing_images(target: Path, most: int | None = None) -> list[Path]:
    """The images of a pattern that exist already, in the order of their numbers, from 1 to `most` if that is given.

    Only names that `image_name` gives count: `7.png` is none of `%05d.png`.
    """
    found = NUMBER.search(target.name)
    if found is None or not target.parent.is_dir():
        return []
    before, after = (re.escape(text) for text in (target.name[: found.start()], target.name[found.end() :]))
    # Names that differ in case alone are one file on some systems; there the name in the right case exists, too.
    form = re.compile(f"{before}([0-9]+){after}", re.IGNORECASE)
    matches = (form.fullmatch(path.name) for path in target.parent.iterdir())
    numbers = sorted({int(match[1]) for match in matches if match is not None})
    paths = (target.parent / image_name(target, number) for number in numbers if 0 < number <= (most or number))
    return [path for path in paths if os.path.lexists(path)]


class ImagesWriter:
    """Frames as images in one archive at `path`, which appears only when `close` has succeeded.

    Frames are of the shape's `frame_size` and resampled to its size, transparency too. `suffix` is one of
    `WRITABLE_IMAGES`; for DPX and EXR it takes `scans` that encodes them. As a context manager, an exception removes
    what was written.
    """

    def __init__(self, path: Path, shape: OutputShape, suffix: str, scans: ScanEncoder | None = None) -> None:
        self.path = path
        self.frames_written = 0
        self._shape = (*shape.given_size[::-1], 3)
        self._resampler = Resampler(shape.width, shape.height)
        self._alpha_resampler = Resampler(shape.width, shape.height, ALPHA_FLAGS)
        self._suffix = suffix
        self._scans = scans
        self._times: list[tuple[str, str | None]] = []
        self._unfinished = path.with_name(f"{path.stem}.unfinished{path.suffix}")
        self._archive: zipfile.ZipFile | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def write(self, frame: Frame) -> None:
        """Encode one frame. Raises VideoError when it has another size, or cannot be encoded or written."""
        if frame.image.shape != self._shape:
            raise VideoError(f"{self.path}: got a frame of shape {frame.image.shape}, expected {self._shape}")
        alpha = None if frame.alpha is None else self._alpha_resampler.apply(frame.alpha)
        image = self._resampler.apply(frame.image)
        if self._scans is None:
            data = encode_image(image, self._suffix, alpha)
        else:
            data = self._scans.encode(image, alpha, frame.timecode)
        try:
            if self._archive is None:
                open_new(self._unfinished).close()
                self._archive = zipfile.ZipFile(self._unfinished, "w", zipfile.ZIP_STORED)
            # The same date for all: parts of equal frames are equal files.
            self._archive.writestr(zipfile.ZipInfo(f"{self.frames_written:08}{self._suffix}"), data)
        except OSError as error:
            raise self._failed(error) from error
        duration = None if frame.duration is None else str(frame.duration)
        self._times.append((str(frame.time), duration))
        self.frames_written += 1

    def close(self) -> None:
        """Finish the archive and give it its name. Raises VideoError; then nothing is left behind."""
        if self._archive is None:
            raise VideoError(f"{self.path}: no frames were written; expected at least one")
        try:
            self._archive.writestr(zipfile.ZipInfo(TIMES_NAME), json.dumps(self._times))
            self._archive.close()
            self._unfinished.replace(self.path)
        except OSError as error:
            self.discard()
            raise self._failed(error) from error

    def discard(self) -> None:
        """Stop and remove what was written; safe to call at any time."""
        if self._archive is not None:
            try:
                self._archive.close()
            except OSError:
                # The disk is full: closing again, as the archive's own finaliser does, would only fail again.
                if self._archive.fp is not None:
                    self._archive.fp = None
        self._unfinished.unlink(missing_ok=True)

    def _failed(self, error: OSError) -> VideoError:
        reason = error.strerror or str(error)
        return VideoError(
            f"{self.path}: writing failed after {self.frames_written} frames ({reason}); check the free disk space"
        )


@dataclass(frozen=True)
class ImageTimes:
    """Seconds on the source's clock of an image, and until the next."""

    time: Fraction
    duration: Fraction | None


def join_images(
    parts: Sequence[Path], target: Path, folder: Path, *, rate: Fraction, time_base: Fraction
) -> tuple[ImageTimes, ...]:
    """Take the images out of the parts into `folder`, under the names that `target` gives them, numbered from 1.

    Where the frames do not come at `rate` a second, to the grain of `time_base`, `timestamps.txt` goes beside numbered
    images, in the form that mkvmerge reads: milliseconds from the first frame, a line each. Raises VideoError for parts
    that cannot be read, and when `target` is a single image and the parts hold several.
    """
    folder.mkdir(exist_ok=True)
    times: list[ImageTimes] = []
    for path in parts:
        try:
            with zipfile.ZipFile(path) as archive:
                if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                    raise MalformedError("it is compressed, which no part is")
                rows = build(list[tuple[Fraction, Fraction | None]], parse_json(archive.read(TIMES_NAME).decode()))
                names = [name for name in archive.namelist() if name != TIMES_NAME]
                if (times and not is_numbered(target)) or (len(names) > 1 and not is_numbered(target)):
                    raise single_image_error(target)
                for name, (time, duration) in zip(names, rows, strict=True):
                    check_interruption()
                    times.append(ImageTimes(time, duration))
                    _write_durably(folder / image_name(target, len(times)), archive.read(name))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise VideoError(f"{target}: cannot take the images out of {path} ({error}); run again") from error
    if is_numbered(target) and not is_even([entry.time for entry in times], rate, time_base):
        write_text(folder / SIDECAR_NAME, format_times([entry.time for entry in times]))
    return tuple(times)


def _write_durably(path: Path, data: bytes) -> None:
    """Write a file so that a power cut after it got its place leaves it whole."""
    with open_new(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def image_name(target: Path, number: int) -> str:
    """The name of image `number`, from 1, of a pattern; the name itself of a single image."""
    return NUMBER.sub(lambda found: f"{number:0{int(found[1] or 0)}}", target.name, count=1)


def single_image_error(target: Path) -> VideoError:
    """The error of several frames for one image."""
    numbered = f"{target.stem}_%05d{target.suffix}"
    return VideoError(f"{target}: is one image, and the input has more frames; name {numbered}, or use --max-frames 1")


def is_even(times: Sequence[Fraction], rate: Fraction, time_base: Fraction) -> bool:
    """Whether the nominal rate alone tells the times, to half the grain that most containers have, a millisecond."""
    return all(
        abs(time - times[0] - index / rate) <= max(time_base, Fraction(1, 1000)) for index, time in enumerate(times)
    )


def format_times(times: Sequence[Fraction]) -> str:
    """Times in milliseconds from the first, as mkvmerge's `--timestamps` reads them."""
    return "\n".join(["# timestamp format v2", *(f"{float(1000 * (time - times[0])):.6f}" for time in times)]) + "\n"


def verify_images(folder: Path, target: Path, *, frames: int, width: int, height: int) -> None:
    """Read the finished images anew: how many, every size by its header, and that the first and last decode.

    Raises VideoError for the first mismatch.
    """
    found = sum(1 for path in folder.iterdir() if path.name != SIDECAR_NAME)
    if found != frames:
        raise VideoError(f"{target}: the finished images fail their check: {found} are there, expected {frames}")
    for number in range(1, frames + 1):
        check_interruption()
        path = folder / image_name(target, number)
        with open_input(path, is_own=True) as container:
            stream = main_video_stream(container, path)
            size = (stream.codec_context.width, stream.codec_context.height)
            if size != (width, height):
                raise VideoError(
                    f"{path}: the finished image fails its check: is {size[0]}x{size[1]}, expected {width}x{height}"
                )
            if number in (1, frames) and not any(True for _ in container.decode(stream)):
                raise VideoError(f"{path}: the finished image does not decode; run again")


def publish_images(folder: Path, target: Path, *, overwrite: bool) -> None:
    """Give the finished images in `folder` their places.

    Images of the pattern with higher numbers, as a longer earlier run leaves them, stay. One warning names them.
    Raises FileExistsError, without `overwrite`, for another file that has a name; an equal one is of an earlier run.
    """
    names = sorted(path.name for path in folder.iterdir())
    for name in names:
        made, place = folder / name, target.parent / name
        is_there = place.is_file() and not place.is_symlink() and filecmp.cmp(made, place, shallow=False)
        give_name(made, place, overwrite=overwrite or is_there)
    if not is_numbered(target):
        return
    others = [*existing_images(target), target.parent / SIDECAR_NAME]
    left = [path.name for path in others if path.name not in names and os.path.lexists(path)]
    if left:
        shown = left if len(left) <= MOST_NAMED else [*left[: MOST_NAMED - 2], "...", left[-1]]
        log.warning(
            f"{target}: {len(left)} other files stay, which this run did not write: {', '.join(shown)}"
            if len(left) > 1
            else f"{target}: another file stays, which this run did not write: {left[0]}"
        )
