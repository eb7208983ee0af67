"""Streams of an open container: their properties, the choice of the video stream, and packets. Decodes nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from typing import Any

import av
import av.logging
from av.codec.context import CodecContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from ristn_cli.video.filters import LOG_LOCK
from ristn_cli.video.interruption import check_interruption
from ristn_cli.video.types import StreamInfo, VideoError

# After this many consecutive demux errors, the rest of the file counts as unreadable.
MAX_CONSECUTIVE_ERRORS = 100
# Limits for reading several video streams to find still images, if the header has no frame counts.
MAX_COMPARED_PACKETS = 1000
MAX_COMPARED_BYTES = 64 * 2**20
COVER_CODECS = frozenset({"mjpeg", "png"})
DISPOSITION_NAMES = (
    "default",
    "dub",
    "original",
    "comment",
    "lyrics",
    "karaoke",
    "forced",
    "hearing_impaired",
    "visual_impaired",
    "clean_effects",
    "non_diegetic",
    "captions",
    "descriptions",
    "dependent",
)


def as_fraction(value: Any) -> Fraction | None:
    """Convert a rate, time base or aspect ratio of PyAV. None if unset, which PyAV represents as None, 0/1 or 1/0."""
    return Fraction(value.numerator, value.denominator) if value else None


def plain_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags as valid text: bytes that are not UTF-8 become replacement characters."""
    return {_plain(name): _plain(value) for name, value in tags.items()}


def _plain(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def read_packets(
    container: InputContainer,
    streams: Stream | Sequence[Stream],
    on_error: Callable[[av.error.FFmpegError], None] = lambda error: None,
) -> Iterator[Packet[Any]]:
    """Yield packets of the streams. Errors are reported to `on_error`, and reading continues after them.

    Stops after MAX_CONSECUTIVE_ERRORS consecutive errors. Checks for interruption (`interruptible`) before each packet.
    """
    wanted = [streams] if isinstance(streams, Stream) else list(streams)
    packets = container.demux(wanted)
    errors = 0
    while errors < MAX_CONSECUTIVE_ERRORS:
        check_interruption()
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.error.FFmpegError as error:
            errors += 1
            on_error(error)
            packets = container.demux(wanted)
            continue
        errors = 0
        yield packet


def has_decoder(stream: Stream) -> bool:
    """Return whether FFmpeg can decode the stream. Always false for attachments and data."""
    context: CodecContext | None = stream.codec_context  # PyAV's stubs omit None
    return context is not None


def codec_names(container: InputContainer) -> list[str]:
    """Return FFmpeg's codec name for each stream; the sample entry or `none` for a codec that FFmpeg does not know."""
    known = [stream.codec_context.codec.canonical_name if has_decoder(stream) else "" for stream in container.streams]
    if all(known):
        return known
    dumped = _dump_codec_names(container)
    return [name or dumped.get(index, "none") for index, name in enumerate(known)]


def _dump_codec_names(container: InputContainer) -> dict[int, str]:
    """Return codec names by stream index from FFmpeg's text dump: PyAV has no name for a codec without a decoder.

    `codec_tag` is not an alternative: it raises an error for a tag that is not text.
    """
    with LOG_LOCK:
        level = av.logging.get_level()
        av.logging.set_level(av.logging.INFO)
        try:
            text: str = container.dumps_format()  # type: ignore[attr-defined]
        except UnicodeDecodeError:  # tags that are not UTF-8, in older versions of PyAV
            return {}
        finally:
            av.logging.set_level(level)
    names: dict[int, str] = {}
    for line in re.finditer(r"^ *Stream #0:(\d+)[^\n]*?: [A-Z]\w*: (\w+)(?: \((\w{4}) / 0x)?", text, re.MULTILINE):
        tag = line[3] if line[2] == "none" else None
        names.setdefault(int(line[1]), tag or line[2])
    return names


def describe_streams(container: InputContainer, covers: Iterable[int], encrypted: Iterable[int]) -> list[StreamInfo]:
    """Describe all streams. `covers` and `encrypted` are stream indices; `covers` includes still images."""
    names = codec_names(container)
    covers, encrypted = frozenset(covers), frozenset(encrypted)
    return [
        _describe_stream(stream, name, stream.index in covers, stream.index in encrypted)
        for stream, name in zip(container.streams, names, strict=True)
    ]


def _describe_stream(stream: Stream, codec: str, is_cover: bool, is_encrypted: bool) -> StreamInfo:
    kind = stream.type if stream.type in ("video", "audio", "subtitle", "attachment") else "data"
    metadata = plain_tags(stream.metadata)
    return StreamInfo(
        index=stream.index,
        kind=kind,
        codec=codec,
        language=metadata.get("language"),
        title=metadata.get("title", metadata.get("name")),  # MP4 calls its tag `name`
        dispositions=tuple(
            name for name in DISPOSITION_NAMES if stream.disposition & getattr(stream.disposition, name)
        ),
        is_cover=is_cover,
        is_still=is_cover and isinstance(stream, VideoStream) and not is_attached_picture(stream),
        has_decoder=has_decoder(stream) or kind in ("attachment", "data"),
        is_encrypted=is_encrypted,
        file_name=metadata.get("filename"),
        mime_type=metadata.get("mimetype"),
        metadata=metadata,
    )


def is_attached_picture(stream: VideoStream) -> bool:
    """Return whether the container marks the stream as a cover or as thumbnails."""
    return bool(stream.disposition & (stream.disposition.attached_pic | stream.disposition.timed_thumbnails))


def main_video_stream(container: InputContainer, source: object) -> VideoStream:
    """Return the first video stream that is not a cover. For files by ristn. Raises VideoError if there is none."""
    streams = [stream for stream in container.streams.video if not is_attached_picture(stream)]
    if not streams:
        raise no_video(container, source)
    return streams[0]


def no_video(container: InputContainer, source: object) -> VideoError:
    """Return the error for a file without a video stream, or with covers only."""
    covers = [stream for stream in container.streams.video if is_attached_picture(stream)]
    kinds = sorted({str(stream.type) for stream in container.streams if stream not in covers})
    if covers:
        others = f" beside {', '.join(kinds)}" if kinds else ""
        return VideoError(
            f"{source}: has no video stream, only a cover image{others}; use a file with a video, "
            "or --video-stream 0 to upscale the cover"
        )
    return VideoError(
        f"{source}: has no video stream (found: {', '.join(kinds) or 'nothing'}); use a file with a video stream"
    )


@dataclass(frozen=True)
class VideoChoice:
    """The video stream to read, all its packets, and the indices of other streams that can be kept as covers."""

    stream: VideoStream
    packets: Iterator[Packet[VideoStream]]
    covers: frozenset[int]


def choose_video_stream(
    container: InputContainer,
    source: object,
    number: int | None,
    on_error: Callable[[av.error.FFmpegError], None],
) -> VideoChoice:
    """Return video stream `number`, from 0; for None the main video rather than a still image or a cover.

    Preferred, in this order, is a stream with more than one frame, a decoder, the default flag, a larger size, a lower
    index. If the header has no frame counts, the first packets are read to count frames. Raises VideoError if there is
    no such stream.
    """
    videos = list(container.streams.video)
    unmarked = [stream for stream in videos if not is_attached_picture(stream)]
    if number is not None and number >= len(videos):
        raise VideoError(
            f"{source}: has no video stream {number}; {list_videos(videos, codec_names(container))}; "
            "choose one of these with --video-stream"
        )
    if number is None and not unmarked:
        raise no_video(container, source)
    candidates = (
        unmarked if number is None else [stream for stream in videos if stream in unmarked or stream is videos[number]]
    )
    packets = read_packets(container, candidates, on_error)
    counts, read = _count_frames(candidates, packets)
    chosen = videos[number] if number is not None else max(candidates, key=lambda stream: _rank(stream, counts))
    names = codec_names(container)
    marked = {stream.index for stream in videos if is_attached_picture(stream)}
    stills = {
        stream.index for stream in candidates if counts[stream.index] == 1 and names[stream.index] in COVER_CODECS
    }
    own = (packet for packet in chain(read, packets) if packet.stream.index == chosen.index)
    return VideoChoice(chosen, own, frozenset((marked | stills) - {chosen.index}))


def _rank(stream: VideoStream, counts: Mapping[int, int]) -> tuple[int, ...]:
    context: Any = stream.codec_context
    pixels = 0 if context is None else context.width * context.height
    is_default = stream.disposition & stream.disposition.default
    return counts[stream.index] > 1, context is not None, bool(is_default), pixels


def _count_frames(
    streams: Sequence[VideoStream], packets: Iterator[Packet[Any]]
) -> tuple[dict[int, int], list[Packet[Any]]]:
    """Return the number of frames of each stream, at most 2, and the packets that were read to count them."""
    counts = {stream.index: min(2, stream.frames) for stream in streams}
    unknown = {index for index, count in counts.items() if count == 0} if len(streams) > 1 else set[int]()
    read: list[Packet[Any]] = []
    size = 0
    while unknown and len(read) < MAX_COMPARED_PACKETS and size < MAX_COMPARED_BYTES:
        packet = next(packets, None)
        if packet is None:
            break
        read.append(packet)
        size += packet.size
        index = packet.stream.index
        if packet.size and index in unknown:
            counts[index] += 1
            if counts[index] > 1:
                unknown.remove(index)
    return counts, read


def list_videos(videos: Sequence[VideoStream], names: Sequence[str]) -> str:
    """Describe video streams for a message: `it has 2: 0 (mjpeg 200x200), 1 (h264 160x120)`."""
    if not videos:
        return "it has none"
    words = []
    for number, stream in enumerate(videos):
        context: Any = stream.codec_context
        size = "" if context is None else f" {context.width}x{context.height}"
        words.append(f"{number} ({names[stream.index]}{size}{', a cover' if is_attached_picture(stream) else ''})")
    return f"it has {len(videos)}: {', '.join(words)}"
