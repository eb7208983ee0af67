"""Write a single image or numbered images, in parts that are resumed like those of a video.

A part is an uncompressed ZIP archive of finished images and their times. It is complete or missing, and its SHA-256
reveals damage. At the end, the images are extracted unchanged.
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
MAX_LISTED = 8
"""Maximum number of files that a warning lists."""

log = logging.getLogger("ristn.video")


def is_image_target(target: Path) -> bool:
    """Return whether `target` names an image, or numbered images such as `%05d.png`, rather than a video."""
    return target.suffix.lower() in WRITABLE_IMAGES


def is_numbered(target: Path) -> bool:
    """Return whether `target` is a pattern of numbered images, such as `out/%05d.png`, rather than a single one."""
    return is_image_target(target) and NUMBER.search(target.name) is not None


def existing_images(target: Path, most: int | None = None) -> list[Path]:
    """Return existing images of a pattern by number, from 1 to `most` if it is given.

    Only names that `image_name` returns count: `7.png` does not match `%05d.png`.
    """
    found = NUMBER.search(target.name)
    if found is None or not target.parent.is_dir():
        return []
    before, after = (re.escape(text) for text in (target.name[: found.start()], target.name[found.end() :]))
    # On some systems, names that differ only in case are the same file. There the name in the right case also exists.
    form = re.compile(f"{before}([0-9]+){after}", re.IGNORECASE)
    matches = (form.fullmatch(path.name) for path in target.parent.iterdir())
    numbers = sorted({int(match[1]) for match in matches if match is not None})
    paths = (target.parent / image_name(target, number) for number in numbers if 0 < number <= (most or number))
    return [path for path in paths if os.path.lexists(path)]


class ImagesWriter:
    """Writes frames as images to one archive at `path`, which appears only after `close` has succeeded.

    Frames have the shape's `frame_size`. They and their alpha channel are resampled to its size. `suffix` is one of
    `WRITABLE_IMAGES`; DPX and EXR need an encoder in `scans`. As a context manager, it removes the file on exceptions.
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
        """Encode one frame. Raises VideoError if it has another size, or if encoding or writing fails."""
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
            # ZipInfo sets a fixed date, so that equal frames give equal files.
            self._archive.writestr(zipfile.ZipInfo(f"{self.frames_written:08}{self._suffix}"), data)
        except OSError as error:
            raise self._failed(error) from error
        duration = None if frame.duration is None else str(frame.duration)
        self._times.append((str(frame.time), duration))
        self.frames_written += 1

    def close(self) -> None:
        """Finish and rename the archive. Raises VideoError on failure, and then leaves no file."""
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
        """Stop, and remove the unfinished file. Safe to call at any time."""
        if self._archive is not None:
            try:
                self._archive.close()
            except OSError:
                # The disk is full. Without this, the archive's finalizer would close it again and fail again.
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
    """Time of an image on the source's clock, and its duration, both in seconds."""

    time: Fraction
    duration: Fraction | None


def join_images(
    parts: Sequence[Path], target: Path, folder: Path, *, rate: Fraction, time_base: Fraction
) -> tuple[ImageTimes, ...]:
    """Extract the images of all parts to `folder`, with the names of `target`, numbered from 1. Returns their times.

    If frame times differ from a constant `rate`, within the resolution of `time_base`, numbered images get a
    `timestamps.txt` in the format of mkvmerge: one line per image, in milliseconds after the first one. Raises
    VideoError if a part cannot be read, or `target` is a single image and there are several.
    """
    folder.mkdir(exist_ok=True)
    times: list[ImageTimes] = []
    for path in parts:
        try:
            with zipfile.ZipFile(path) as archive:
                if any(item.compress_type != zipfile.ZIP_STORED for item in archive.infolist()):
                    raise MalformedError("it is compressed; expected uncompressed entries")
                rows = build(list[tuple[Fraction, Fraction | None]], parse_json(archive.read(TIMES_NAME).decode()))
                names = [name for name in archive.namelist() if name != TIMES_NAME]
                if (times and not is_numbered(target)) or (len(names) > 1 and not is_numbered(target)):
                    raise single_image_error(target)
                for name, (time, duration) in zip(names, rows, strict=True):
                    check_interruption()
                    times.append(ImageTimes(time, duration))
                    _write_durably(folder / image_name(target, len(times)), archive.read(name))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise VideoError(f"{target}: cannot extract the images of {path} ({error}); run again") from error
    if is_numbered(target) and not is_even([entry.time for entry in times], rate, time_base):
        write_text(folder / SIDECAR_NAME, format_times([entry.time for entry in times]))
    return tuple(times)


def _write_durably(path: Path, data: bytes) -> None:
    """Write a file and flush it to disk, so that it is complete after a power failure."""
    with open_new(path) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def image_name(target: Path, number: int) -> str:
    """Return the name of image `number` (from 1) of a pattern; the name itself for a single image."""
    return NUMBER.sub(lambda found: f"{number:0{int(found[1] or 0)}}", target.name, count=1)


def single_image_error(target: Path) -> VideoError:
    numbered = f"{target.stem}_%05d{target.suffix}"
    return VideoError(f"{target}: is one image, but the input has more frames; use {numbered}, or --max-frames 1")


def is_even(times: Sequence[Fraction], rate: Fraction, time_base: Fraction) -> bool:
    """Return whether times match a constant rate, to `time_base` or to 1 ms, the resolution of most containers."""
    return all(
        abs(time - times[0] - index / rate) <= max(time_base, Fraction(1, 1000)) for index, time in enumerate(times)
    )


def format_times(times: Sequence[Fraction]) -> str:
    """Format times in milliseconds after the first one, as mkvmerge's `--timestamps` option reads them."""
    return "\n".join(["# timestamp format v2", *(f"{float(1000 * (time - times[0])):.6f}" for time in times)]) + "\n"


def verify_images(folder: Path, target: Path, *, frames: int, width: int, height: int) -> None:
    """Check the finished images: their number, all sizes by header, and that the first and last one decode.

    Raises VideoError for the first mismatch.
    """
    found = sum(1 for path in folder.iterdir() if path.name != SIDECAR_NAME)
    if found != frames:
        raise VideoError(f"{target}: the finished images fail their check: found {found}, expected {frames}")
    for number in range(1, frames + 1):
        check_interruption()
        path = folder / image_name(target, number)
        with open_input(path, is_own=True) as container:
            stream = main_video_stream(container, path)
            size = (stream.codec_context.width, stream.codec_context.height)
            if size != (width, height):
                raise VideoError(
                    f"{path}: the finished image fails its check: found {size[0]}x{size[1]}, expected {width}x{height}"
                )
            if number in (1, frames) and not any(True for _ in container.decode(stream)):
                raise VideoError(f"{path}: the finished image does not decode; run again")


def publish_images(folder: Path, target: Path, *, overwrite: bool) -> None:
    """Move the finished images from `folder` to their final places.

    Images with higher numbers, such as those of a longer earlier run, remain, and one warning lists them. Without
    `overwrite`, raises FileExistsError if a different file has one of the names.
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
        shown = left if len(left) <= MAX_LISTED else [*left[: MAX_LISTED - 2], "...", left[-1]]
        log.warning(
            f"{target}: kept {len(left)} other files that this run did not write: {', '.join(shown)}"
            if len(left) > 1
            else f"{target}: kept another file that this run did not write: {left[0]}"
        )
