"""Opening what the user names, and probing it: a video, a still, a folder or pattern of numbered images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO, cast

import av
from av.container import InputContainer
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.convert import (
    LOG_LOCK,
    RgbReader,
    default_conversion,
    depth_of,
    has_alpha_channel,
    read_color_names,
    strips,
)
from ristn_cli.video.formats import IMAGE_OPTIONS, READ_OPTIONS, describe_script, file_url
from ristn_cli.video.limits import decoder_options, pixel_limit, too_large
from ristn_cli.video.reading.boxes import describe_encryption, explain_unreadable, find_encrypted_tracks
from ristn_cli.video.reading.layout import AspectReader
from ristn_cli.video.reading.sidedata import read_mastering, read_orientation
from ristn_cli.video.reading.standard_input import InputStream
from ristn_cli.video.reading.streams import (
    VideoChoice,
    as_fraction,
    choose_video_stream,
    codec_names,
    describe_streams,
    has_decoder,
    is_attached_picture,
    list_videos,
    plain_tags,
)
from ristn_cli.video.reading.timestamps import first_time, keep_timestamps
from ristn_cli.video.types import (
    HIGHEST_PLAUSIBLE_RATE,
    Chapter,
    Color,
    StreamInfo,
    VideoError,
    VideoInfo,
)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
DEFAULT_RATE = Fraction(25)
# Formats whose clock starts anywhere; every other container's clock starts at its own zero.
FREE_RUNNING_FORMATS = ("mpegts", "mpeg", "mpegtsraw")
# Formats whose frames have the same times after a seek; program and elementary streams derive theirs on the way.
SEEKABLE_FORMATS = frozenset({"mov", "matroska", "mpegts", "avi", "flv"})
# FFmpeg's reader of raw frames.
RAW_FORMAT = "rawvideo"
STILL_FORMATS = ("_pipe", "image2")
# Tags of a protected ASF or WMV, in lower case.
PROTECTION_TAGS = frozenset({"encryption", "asf_protection_type"})


@contextmanager
def open_input(source: Path | InputStream, *, is_own: bool = False) -> Iterator[InputContainer]:
    """The container in a file or stream, open for reading. Raises VideoError, in one line, for what cannot be opened.

    Its decoders refuse pictures beyond `pixel_limit`, unless the file `is_own`: one that this program wrote. Within,
    FFmpeg's errors become VideoErrors that name the file. What interrupts reading a stream is raised at the end.
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
        if isinstance(source, InputStream):
            source.check_interrupted()


def _check_file(path: Path) -> None:
    if not path.exists():
        if path.is_symlink():
            raise VideoError(f"{path}: is a link that leads to no file; name the file itself")
        raise VideoError(f"{path}: no such file or directory; check the name")
    if path.is_dir():
        raise VideoError(
            f"{path}: is a directory without numbered images ({', '.join(IMAGE_SUFFIXES)}); name a video file"
        )
    if path.is_file() and path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty (0 bytes); copy or download it again")


def _open_container(source: Path | InputStream, limits: dict[str, str]) -> InputContainer:
    """Tags that are not UTF-8 must not fail: PyAV up to 18 has to be told so, PyAV 19 has no such argument."""
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
    """The error of a file of which FFmpeg cannot read or decode something; it says what is known, and no more."""
    return VideoError(
        f"{source}: FFmpeg cannot read or decode {what} ({_reason(error)}): the file is damaged, or uses a feature, "
        "compression or protection that FFmpeg does not support; copy it again, or convert it with another program"
    )


def seek_before(container: InputContainer, stream: Stream, target: Fraction) -> bool:
    """Go to a keyframe at or before `target`, in seconds; False where frames would not have the same times after it."""
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
            return f"raw frames of {source.raw} are not possible ({_reason(error)}); check --raw-size and --raw-format"
    elif (explanation := _explain_file(source, error)) is not None:
        return explanation
    if isinstance(error, av.error.EOFError):
        return "no frames in the video stream: the file ends after its header; it was never finished"
    reason = _reason(error)
    return f"is not a video that FFmpeg can read ({reason}); expected a video file, an image, or a folder of images"


def _explain_file(path: Path, error: Exception) -> str | None:
    if isinstance(error, PermissionError):
        return "permission denied; make the file readable"
    # A pipe has been read, and opening it again would wait for ever.
    if path.is_file() and (script := describe_script(path)) is not None:
        return f"is {script}; ristn does not open the files that it names: name a video file"
    return explain_unreadable(path) if path.is_file() else None


def list_images(path: Path) -> tuple[Path, ...]:
    """The images of a folder, or of a pattern such as `shot_%04d.png`, in the order of the last number in their names.

    Empty when `path` is neither. Raises VideoError for a folder or pattern without a single image.
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


def probe(
    source: str | Path | InputStream, *, rate: Fraction | None = None, video_stream: int | None = None
) -> VideoInfo:
    """What is in a file or stream, from its headers and its first decoded frame.

    `rate` sets the frame rate of a folder of images or of a still (25 by default); a video keeps its own.
    `video_stream` counts video streams from 0; None for the film rather than a still or a cover. Raises VideoError for
    what is missing, empty, not a video, encrypted, without such a video stream, without a decoder for it, or without a
    single frame.
    """
    if isinstance(source, InputStream):
        return replace(_probe_one(source, rate, video_stream), stream=source)
    path = Path(source)
    images = list_images(path)
    if not images:
        return _probe_one(path, rate, video_stream)
    info = _probe_one(images[0], rate, video_stream)
    return _replace_for_images(info, path, images, len(images) / info.rate)


def _probe_one(source: Path | InputStream, rate: Fraction | None, video_stream: int | None) -> VideoInfo:
    with open_input(source) as container:
        keep_timestamps(container)
        errors: list[av.error.FFmpegError] = []
        encrypted = _find_encrypted(container, source)
        choice = choose_video_stream(container, source, video_stream, errors.append)
        if choice.stream.index in encrypted:
            raise VideoError(f"{source}: {describe_encryption([encrypted[choice.stream.index]])}")
        _check_decoder(container, source, choice)
        check_size(source, choice.stream)
        frame = _first_frame(choice, source, errors)
        streams = describe_streams(container, choice.covers, encrypted)
        return _describe(source, container, choice.stream, streams, frame, rate)


def _find_encrypted(container: InputContainer, source: Path | InputStream) -> dict[int, str]:
    """Encrypted streams by index, with the name of the scheme. Raises VideoError for a file that is protected whole."""
    name = container.format.name
    if name.startswith("asf") and any(tag.lower() in PROTECTION_TAGS for tag in container.metadata):
        raise VideoError(
            f"{source}: is protected by DRM (Windows Media), and ristn cannot decrypt it; use a copy without"
        )
    if name.startswith("mov") and isinstance(source, Path) and source.is_file():
        return find_encrypted_tracks(source)
    # FFmpeg's own tag for a track of Matroska or WebM that holds encrypted frames.
    return {stream.index: "WebM" for stream in container.streams if "enc_key_id" in stream.metadata}


def _check_decoder(container: InputContainer, source: Path | InputStream, choice: VideoChoice) -> None:
    if has_decoder(choice.stream):
        return
    names, videos = codec_names(container), list(container.streams.video)
    codec = names[choice.stream.index]
    others = f", or choose another stream with --video-stream: {list_videos(videos, names)}" if len(videos) > 1 else ""
    raise VideoError(
        f"{source}: FFmpeg has no decoder for its video (stream {choice.stream.index}, codec '{codec}'); "
        f"convert it first with a program that can{others}"
    )


def check_size(source: Path | InputStream, stream: VideoStream) -> None:
    """Refuse a video stream whose header states a picture beyond `pixel_limit`, before anything is decoded.

    Raises:
        VideoError: it does.
    """
    context = stream.codec_context
    size = (context.width, context.height)
    if not all(size) and isinstance(source, Path) and source.is_file():
        size = _refused_size(source) or size
    if size[0] * size[1] > pixel_limit():
        raise too_large(source, *size)


def _refused_size(path: Path) -> tuple[int, int] | None:
    """The size for which FFmpeg refused a picture while it looked for the streams; it tells its log alone."""
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


def _replace_for_images(info: VideoInfo, path: Path, images: tuple[Path, ...], seconds: Fraction) -> VideoInfo:
    return replace(
        info,
        path=path,
        container="images",
        images=images,
        duration=seconds,
        frame_count=len(images),
        time_base=1 / info.rate,
        start_time=Fraction(0),
        origin=Fraction(0),
        end_time=None,
    )


def _first_frame(choice: VideoChoice, source: Path | InputStream, unreadable: list[av.error.FFmpegError]) -> VideoFrame:
    """The first frame that can be decoded; `unreadable` holds the errors of reading so far."""
    # No threads: `read_color_names` listens to FFmpeg's log, and a decoder thread that logs meanwhile waits for the
    # interpreter lock, which is held by whoever closes the decoder and waits for the thread.
    choice.stream.codec_context.thread_count = 1
    errors: list[av.error.FFmpegError] = []
    for packet in choice.packets:
        try:
            for frame in packet.decode():
                return frame
        except av.error.FFmpegError as error:
            errors.append(error)
    if errors and _is_animated_webp(source):
        raise VideoError(f"{source}: is an animated WebP, which FFmpeg cannot read; convert it to APNG or GIF first")
    if errors:
        raise undecodable(
            source, errors[-1], "its only packet" if len(errors) == 1 else f"any of {len(errors)} packets"
        )
    if unreadable:
        raise undecodable(source, unreadable[-1])
    raise VideoError(f"{source}: no frames in the video stream; the file is damaged or was never finished")


def _is_animated_webp(source: Path | InputStream) -> bool:
    """By the flags of its header; False for a stream, which cannot be read again."""
    if not isinstance(source, Path) or not source.is_file():
        return False
    with source.open("rb") as file:
        head = file.read(21)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and bool(head[20] & 2)


def _describe(
    source: Path | InputStream,
    container: InputContainer,
    stream: VideoStream,
    streams: Sequence[StreamInfo],
    frame: VideoFrame,
    rate: Fraction | None,
) -> VideoInfo:
    swap, flip_x, flip_y, rotation = read_orientation(frame)
    width, height = _upright_size(frame, swap)
    aspect = as_fraction(stream.sample_aspect_ratio) or Fraction(1)
    aspect = aspect if aspect > 0 else Fraction(1)
    time_base = as_fraction(stream.time_base)
    is_still = container.format.name.endswith(STILL_FORMATS)
    nominal = rate or DEFAULT_RATE if is_still else _nominal_rate(stream)
    color = _describe_color(frame, height)
    start = Fraction(0) if is_still else first_time(frame)
    end = None if is_still or is_attached_picture(stream) else _stated_end(container, stream, start)
    duration = stream.duration * time_base if stream.duration and time_base else None
    if duration is None and end is not None:
        duration = end - start
    if duration is None and container.duration:
        duration = Fraction(container.duration, av.time_base)
    # AVI counts empty chunks, which only pass the time, as frames.
    counted = 0 if container.format.name == "avi" else stream.frames
    is_plausible = nominal <= HIGHEST_PLAUSIBLE_RATE
    count = counted or (round(duration * nominal) if duration and is_plausible else None)
    return VideoInfo(
        path=Path(str(source)),
        container=container.format.name,
        codec=stream.codec_context.codec.canonical_name,
        width=width,
        height=height,
        sample_aspect_ratio=1 / aspect if swap else aspect,
        rate=nominal,
        time_base=1 / nominal if is_still or time_base is None else time_base,
        start_time=start,
        origin=Fraction(container.start_time or 0, av.time_base),
        duration=1 / nominal if is_still else duration,
        end_time=end,
        frame_count=1 if is_still else count,
        is_still=is_still,
        bit_depth=min(16, depth_of(frame.format)),
        pixel_format=frame.format.name,
        color=color,
        mastering=read_mastering(frame),
        rotation=rotation,
        transposed=swap,
        flipped_x=flip_x,
        flipped_y=flip_y,
        has_alpha=_shows_alpha(frame, stream, color, source),
        is_interlaced=frame.interlaced_frame or stream.codec_context.field_order > 1,
        video_index=stream.index,
        streams=tuple(streams),
        chapters=tuple(
            Chapter(chapter["start"] * base, chapter["end"] * base, plain_tags(chapter["metadata"]))
            for chapter in container.chapters()
            if (base := as_fraction(chapter["time_base"])) is not None
        ),
        metadata=plain_tags(container.metadata),
        frame_aspect_ratio=AspectReader().read(frame),
    )


def _upright_size(frame: VideoFrame, is_transposed: bool) -> tuple[int, int]:
    return (frame.height, frame.width) if is_transposed else (frame.width, frame.height)


def _describe_color(frame: VideoFrame, lines: int) -> Color:
    names = read_color_names(frame)
    default_matrix, default_range = default_conversion(frame, lines)
    return Color(**names, default_matrix=default_matrix, default_range=default_range)


def describe_again(info: VideoInfo, frame: VideoFrame, pixel_aspect: Fraction) -> VideoInfo:
    """A video with the picture of another frame than its first: size, pixel format, colours.

    `pixel_aspect` is of the upright frame. No other decoder may have threads at work: see `_first_frame`.
    """
    width, height = _upright_size(frame, info.transposed)
    return replace(
        info,
        width=width,
        height=height,
        sample_aspect_ratio=pixel_aspect,
        frame_aspect_ratio=AspectReader().read(frame),
        bit_depth=min(16, depth_of(frame.format)),
        pixel_format=frame.format.name,
        color=_describe_color(frame, height),
        mastering=read_mastering(frame),
    )


def _nominal_rate(stream: VideoStream) -> Fraction:
    """FFmpeg's guess, or where that is implausible the average; the guess all the same where both are."""
    rates = [
        rate for rate in map(as_fraction, (stream.guessed_rate, stream.average_rate)) if rate is not None and rate > 0
    ]
    plausible = [rate for rate in rates if rate <= HIGHEST_PLAUSIBLE_RATE]
    return next(iter([*plausible, *rates]), DEFAULT_RATE)


def _stated_end(container: InputContainer, stream: VideoStream, start: Fraction) -> Fraction | None:
    """Where the video ends by its own track header (MP4, MOV) or track tag (Matroska), on the source's clock."""
    time_base = as_fraction(stream.time_base)
    if container.format.name.startswith("mov") and stream.duration and time_base:
        return start + stream.duration * time_base
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if container.format.name.startswith("matroska") and tag is not None:
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + Fraction(tag[3])
    return None


def _shows_alpha(frame: VideoFrame, stream: VideoStream, color: Color, source: Path | InputStream) -> bool:
    """True when the first picture is not wholly opaque, or the stream carries its alpha beside the picture."""
    if stream.metadata.get("alpha_mode") == "1":
        return True
    is_cmyk = stream.codec_context.name == "mjpeg"  # its black looks like an alpha channel
    if is_cmyk or not has_alpha_channel(frame.format):
        return False
    reader = RgbReader(color, path=source)
    try:
        for strip in strips(frame):
            reader.to_rgb(strip)
    except VideoError:
        return True
    return False
