"""Open an input: a file, the images of a folder or pattern, or standard input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, cast

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.stream import VideoStream

from ristn_cli.video.filters import LOG_LOCK
from ristn_cli.video.formats import IMAGE_OPTIONS, READ_OPTIONS, describe_script, file_url
from ristn_cli.video.limits import decoder_options, pixel_limit, too_large
from ristn_cli.video.reading.boxes import explain_unreadable
from ristn_cli.video.reading.standard_input import InputStream
from ristn_cli.video.reading.streams import (
    as_fraction,
    has_decoder,
)
from ristn_cli.video.types import VideoError, VideoInfo

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dpx", ".exr")
# Formats whose clock starts at an arbitrary time. The clocks of others start at zero.
FREE_RUNNING_FORMATS = ("mpegts", "mpeg", "mpegtsraw")
# Formats whose frames have the same times after a seek. Program and elementary streams derive times while reading.
SEEKABLE_FORMATS = frozenset({"mov", "matroska", "mpegts", "avi", "flv"})
RAW_FORMAT = "rawvideo"
STILL_FORMATS = ("_pipe", "image2")


@contextmanager
def open_input(source: Path | InputStream, *, is_own: bool = False) -> Iterator[InputContainer]:
    """Open a file or stream for reading. Raises VideoError, in one line, if it cannot be opened.

    Decoders refuse frames beyond `pixel_limit`, unless `is_own`: ristn wrote the file. Within the context, FFmpeg
    errors become VideoErrors that name the file. An interruption while reading a stream is raised at the end.
    """
    limits = {} if is_own else decoder_options()
    if isinstance(source, InputStream):
        source.rewind()
    else:
        _check_file(source)
    try:
        try:
            container = _open_container(source, limits)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise VideoError(f"{source}: {_explain_unreadable(source, error)}") from error
        for stream in container.streams.video:
            if has_decoder(stream):
                stream.codec_context.options = dict(limits)
        with container:
            try:
                yield container
            except av.error.FFmpegError as error:
                raise undecodable(source, error) from error
            finally:
                for stream in container.streams.video:
                    if has_decoder(stream):  # see LOG_LOCK: PyAV frees a decoder with the interpreter lock
                        stream.codec_context.flush_buffers()
    finally:
        if isinstance(source, InputStream):
            source.check_interrupted()


def _check_file(path: Path) -> None:
    if not path.exists():
        if path.is_symlink():
            raise VideoError(f"{path}: is a broken link; use the path of the file itself")
        raise VideoError(f"{path}: no such file or directory; check the path")
    if path.is_dir():
        raise VideoError(
            f"{path}: is a folder without images ({', '.join(IMAGE_SUFFIXES)}); expected a video file or a folder of "
            "images"
        )
    if path.is_file() and path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty (0 bytes); copy or download it again")


def _open_container(source: Path | InputStream, limits: dict[str, str]) -> InputContainer:
    """Open a container. PyAV up to 18 needs an argument to accept tags that are not UTF-8; PyAV 19 does not have it."""
    options = READ_OPTIONS | IMAGE_OPTIONS | limits
    raw = source.raw if isinstance(source, InputStream) else None
    if raw is not None:
        options |= raw.options | {"format_whitelist": RAW_FORMAT}
    file = cast("IO[bytes]", source) if isinstance(source, InputStream) else file_url(source)
    kind = None if raw is None else RAW_FORMAT
    try:
        return av.open(file, "r", kind, options=options, metadata_errors="replace")
    except TypeError:
        return av.open(file, "r", kind, options=options)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def undecodable(source: object, error: Exception, what: str = "it") -> VideoError:
    """Return the error for a file of which FFmpeg cannot read or decode something."""
    return VideoError(
        f"{source}: FFmpeg cannot read or decode {what} ({_reason(error)}): the file is damaged, or uses a feature, "
        "compression or protection that FFmpeg does not support; copy it again, or convert it with another program"
    )


def can_be_sought(info: VideoInfo) -> bool:
    """Return whether a frame can be reached without decoding all frames before it."""
    if info.is_image_sequence or info.is_still:
        return True
    return not (info.has_decoding_times_only or SEEKABLE_FORMATS.isdisjoint(info.container.split(",")))


def seek_before(container: InputContainer, stream: Stream, target: Fraction) -> bool:
    """Seek to a key frame at or before `target`, in seconds. Returns False if frame times would differ after a seek."""
    time_base = as_fraction(stream.time_base)
    if time_base is None or SEEKABLE_FORMATS.isdisjoint(container.format.name.split(",")):
        return False
    try:
        container.seek(int(target / time_base), stream=stream, backward=True)
    except av.error.FFmpegError:
        return False
    return True


def _explain_unreadable(source: Path | InputStream, error: Exception) -> str:
    if isinstance(source, InputStream):
        if source.raw is not None:
            return f"cannot read raw frames of {source.raw} ({_reason(error)}); check --raw"
    elif (explanation := _explain_file(source, error)) is not None:
        return explanation
    if isinstance(error, av.error.EOFError):
        return "no frames in the video stream: the file ends after its header; the recording was not finished"
    reason = _reason(error)
    return f"is not a video that FFmpeg can read ({reason}); expected a video file, an image, or a folder of images"


def _explain_file(path: Path, error: Exception) -> str | None:
    if isinstance(error, PermissionError):
        return "permission denied; make the file readable"
    # A pipe cannot be read again: opening it would block.
    if path.is_file() and (script := describe_script(path)) is not None:
        return f"is {script}; ristn does not open the files that it refers to; use a video file"
    return explain_unreadable(path) if path.is_file() else None


def list_images(path: Path) -> tuple[Path, ...]:
    """Return the images of a folder, or of a pattern such as `shot_%04d.png`, sorted by the last number in their names.

    Returns an empty tuple if `path` is neither. Raises VideoError for a folder or pattern without images.
    """
    if path.is_dir():
        candidates = [entry for entry in path.iterdir() if entry.suffix.lower() in IMAGE_SUFFIXES and entry.is_file()]
    elif re.search(r"%\d*d", path.name) and not path.exists():
        pattern = re.compile(re.sub(r"%\\?\d*d", r"\\d+", re.escape(path.name)))
        parent = path.parent
        candidates = [entry for entry in parent.iterdir() if pattern.fullmatch(entry.name)] if parent.is_dir() else []
    else:
        return ()
    if not candidates:
        raise VideoError(f"{path}: has no images; expected numbered files ending in {', '.join(IMAGE_SUFFIXES)}")
    return tuple(sorted(candidates, key=_image_order))


def _image_order(path: Path) -> tuple[int, str]:
    numbers = re.findall(r"\d+", path.stem)
    return (int(numbers[-1]) if numbers else -1, path.name)


def check_size(source: Path | InputStream, stream: VideoStream) -> None:
    """Refuse a video stream whose header states a frame beyond `pixel_limit`, before decoding.

    Raises:
        VideoError: the frame is too large.
    """
    context = stream.codec_context
    size = (context.width, context.height)
    if not all(size) and isinstance(source, Path) and source.is_file():
        size = _refused_size(source) or size
    if size[0] * size[1] > pixel_limit():
        raise too_large(source, *size)


def _refused_size(path: Path) -> tuple[int, int] | None:
    """Return the frame size that FFmpeg refused while probing. It appears only in FFmpeg's log."""
    with LOG_LOCK:
        level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
        av.logging.set_level(av.logging.ERROR)
        av.logging.set_skip_repeated(False)
        try:
            with av.logging.Capture() as records:
                _open_container(path, decoder_options()).close()
        except (av.error.FFmpegError, OSError, ValueError):
            return None
        finally:
            av.logging.set_level(level)
            av.logging.set_skip_repeated(skips)
    found = re.search(r"Picture size (\d+)x(\d+) exceeds", "".join(message for _, _, message in records))
    return None if found is None else (int(found[1]), int(found[2]))
