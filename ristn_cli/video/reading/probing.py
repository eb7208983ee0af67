"""Probe an input: a video, a still image, a folder or pattern of numbered images, or standard input."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.colors import default_conversion, depth_of, has_alpha_channel, read_color_names
from ristn_cli.video.convert import RgbReader
from ristn_cli.video.filters import strips
from ristn_cli.video.reading.boxes import describe_encryption, find_encrypted_tracks
from ristn_cli.video.reading.layout import AspectReader
from ristn_cli.video.reading.scan_header import read_scan
from ristn_cli.video.reading.sidedata import read_captions, read_dynamic_hdr, read_mastering, read_orientation
from ristn_cli.video.reading.source import STILL_FORMATS, check_size, list_images, open_input, undecodable
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
    MAX_PLAUSIBLE_RATE,
    Chapter,
    Color,
    FieldOrder,
    StreamInfo,
    VideoError,
    VideoInfo,
)

DEFAULT_RATE = Fraction(25)
# FFmpeg's AVFieldOrder: the field that is displayed first, in either coding order.
STATED_ORDERS: dict[int, FieldOrder] = {2: "top", 3: "bottom", 4: "bottom", 5: "top"}
# Tags of protected ASF and WMV files, in lower case.
PROTECTION_TAGS = frozenset({"encryption", "asf_protection_type"})


def probe(
    source: str | Path | InputStream, *, rate: Fraction | None = None, video_stream: int | None = None
) -> VideoInfo:
    """Describe a file or stream by its headers and its first decoded frame.

    Args:
        source: a file, a folder or pattern of images, or standard input.
        rate: frame rate of a folder of images or a still image (default: that of the header, else 25). Ignored for
            videos.
        video_stream: number of the video stream, from 0; None for the main video rather than a still image or cover.

    Raises:
        VideoError: the source is missing, empty, not a video or encrypted, or has no such video stream, no decoder for
            it, or no frame that decodes.
    """
    if isinstance(source, InputStream):
        return replace(_probe_one(source, rate, video_stream), stream=source)
    path = Path(source)
    images = list_images(path)
    if not images:
        return _probe_file(path, rate, video_stream)
    info = _probe_file(images[0], rate, video_stream)
    return _replace_for_images(info, path, images, len(images) / info.rate)


def _probe_file(path: Path, rate: Fraction | None, video_stream: int | None) -> VideoInfo:
    scan = read_scan(path) if path.is_file() else None
    info = _probe_one(path, rate or (None if scan is None else scan.rate), video_stream)
    if scan is None:
        return info
    metadata = dict(info.metadata) | ({} if scan.timecode is None else {"timecode": scan.timecode})
    if not scan.is_curved:
        return replace(info, scan=scan, metadata=metadata)
    # Output formats other than DPX and EXR receive video.
    color = replace(info.color, primaries="bt709", transfer="bt709")
    return replace(info, scan=scan, metadata=metadata, bit_depth=16, color=color)


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
    """Return encrypted streams: index to scheme name. Raises VideoError if the whole file is encrypted."""
    name = container.format.name
    if name.startswith("asf") and any(tag.lower() in PROTECTION_TAGS for tag in container.metadata):
        raise VideoError(
            f"{source}: is encrypted (Windows Media DRM), and ristn cannot decrypt it; use an unencrypted copy"
        )
    if name.startswith("mov") and isinstance(source, Path) and source.is_file():
        return find_encrypted_tracks(source)
    # FFmpeg sets this tag for an encrypted track of Matroska or WebM.
    return {stream.index: "WebM" for stream in container.streams if "enc_key_id" in stream.metadata}


def _check_decoder(container: InputContainer, source: Path | InputStream, choice: VideoChoice) -> None:
    if has_decoder(choice.stream):
        return
    names, videos = codec_names(container), list(container.streams.video)
    codec = names[choice.stream.index]
    others = f", or choose another stream with --video-stream: {list_videos(videos, names)}" if len(videos) > 1 else ""
    raise VideoError(
        f"{source}: FFmpeg has no decoder for its video (stream {choice.stream.index}, codec '{codec}'); "
        f"convert it with another program first{others}"
    )


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
    """Return the first frame that can be decoded. `unreadable` lists the demux errors so far."""
    # Single-threaded, because `read_color_names` captures FFmpeg's log: a decoder thread that logs meanwhile waits for
    # the interpreter lock, and closing the decoder waits for the thread with that lock.
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
    raise VideoError(f"{source}: no frames in the video stream; the file is damaged or the recording was not finished")


def _is_animated_webp(source: Path | InputStream) -> bool:
    """Return whether the header marks an animated WebP. False for a stream, which cannot be read again."""
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
    # AVI counts empty chunks, which only extend a frame, as frames.
    counted = 0 if container.format.name == "avi" else stream.frames
    is_plausible = nominal <= MAX_PLAUSIBLE_RATE
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
        stated_order=STATED_ORDERS.get(stream.codec_context.field_order),
        video_index=stream.index,
        streams=tuple(streams),
        chapters=tuple(
            Chapter(chapter["start"] * base, chapter["end"] * base, plain_tags(chapter["metadata"]))
            for chapter in container.chapters()
            if (base := as_fraction(chapter["time_base"])) is not None
        ),
        metadata=plain_tags(container.metadata),
        frame_aspect_ratio=AspectReader().read(frame),
        has_captions=read_captions(frame) is not None,
        dynamic_hdr=read_dynamic_hdr(frame),
    )


def _upright_size(frame: VideoFrame, is_transposed: bool) -> tuple[int, int]:
    return (frame.height, frame.width) if is_transposed else (frame.width, frame.height)


def _describe_color(frame: VideoFrame, lines: int) -> Color:
    names = read_color_names(frame)
    default_matrix, default_range = default_conversion(frame, lines)
    return Color(**names, default_matrix=default_matrix, default_range=default_range)


def describe_again(info: VideoInfo, frame: VideoFrame, pixel_aspect: Fraction) -> VideoInfo:
    """Return `info` with size, pixel format and colours of another frame.

    `pixel_aspect` is that of the upright frame. No other decoder may run threads meanwhile: see `_first_frame`.
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
    """Return FFmpeg's guessed frame rate, or the average rate if only that is plausible."""
    rates = [
        rate for rate in map(as_fraction, (stream.guessed_rate, stream.average_rate)) if rate is not None and rate > 0
    ]
    plausible = [rate for rate in rates if rate <= MAX_PLAUSIBLE_RATE]
    return next(iter([*plausible, *rates]), DEFAULT_RATE)


def _stated_end(container: InputContainer, stream: VideoStream, start: Fraction) -> Fraction | None:
    """Return the end of the video by its track header (MP4, MOV) or track tag (Matroska), on the source's clock."""
    time_base = as_fraction(stream.time_base)
    if container.format.name.startswith("mov") and stream.duration and time_base:
        return start + stream.duration * time_base
    tag = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if container.format.name.startswith("matroska") and tag is not None:
        return 3600 * int(tag[1]) + 60 * int(tag[2]) + Fraction(tag[3])
    return None


def _shows_alpha(frame: VideoFrame, stream: VideoStream, color: Color, source: Path | InputStream) -> bool:
    """Return whether the first frame is not fully opaque, or the stream stores alpha separately."""
    if stream.metadata.get("alpha_mode") == "1":
        return True
    is_cmyk = stream.codec_context.name == "mjpeg"  # its K component looks like an alpha channel
    if is_cmyk or not has_alpha_channel(frame.format):
        return False
    reader = RgbReader(color, path=source)
    try:
        for strip in strips(frame):
            reader.to_rgb(strip)
    except VideoError:
        return True
    return False
