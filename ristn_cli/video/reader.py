"""Frames of a video, one after another, each at the source's own time. Knows nothing of writing."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import islice
from pathlib import Path
from typing import cast

import av
import numpy as np
from av.codec.context import CodecContext
from av.codec.hwaccel import HWAccel
from av.container import InputContainer
from av.video.codeccontext import VideoCodecContext
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.convert import RgbReader, has_alpha_channel
from ristn_cli.video.hardware import (
    Decoder,
    HardwareDamage,
    HardwareError,
    as_software,
    open_nvdec,
    prepare_nvdec,
    why_not_nvdec,
)
from ristn_cli.video.images import read_image, read_image_with_alpha
from ristn_cli.video.info import Frame, Image, VideoError, VideoInfo
from ristn_cli.video.interlace import Deinterlace, deinterlaced
from ristn_cli.video.interruption import check_interruption
from ristn_cli.video.layout import Layout, LayoutReader, Matcher, layout_of_images, layout_of_video
from ristn_cli.video.sidedata import turn_upright
from ristn_cli.video.source import describe_again, open_input, probe, seek_before, undecodable
from ristn_cli.video.streams import as_fraction, read_packets

log = logging.getLogger("ristn.video")

# A stream that ends this much before the end its header states is reported as cut short.
MISSING_END_SECONDS = Fraction(1, 10)
# A clock that goes back by more is another one: to hold its frames back would press them into a moment.
NEW_CLOCK_SECONDS = 1


# FFmpeg's own decoders pass over the second picture that WebM keeps its transparency in.
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}


@dataclass
class _Damage:
    """Counts what could not be decoded; raises at the first when strict."""

    path: Path
    strict: bool
    report: Callable[[str], None] | None
    count: int = field(default=0)

    def add(self, what: str) -> None:
        self.count += 1
        message = f"{self.path}: {what}"
        if self.strict:
            raise VideoError(f"{message}; read without --strict to conceal it and go on")
        if self.report is not None:
            self.report(message)


class _HeadDamage:
    """Damage of frames that may be read again from further back: counted once it is settled that they are not."""

    def __init__(self, damage: _Damage | HardwareDamage) -> None:
        self._damage = damage
        self._waiting: list[str] | None = []

    def add(self, what: str) -> None:
        if self._waiting is None:
            self._damage.add(what)
        else:
            self._waiting.append(what)

    def settle(self) -> None:
        waiting, self._waiting = self._waiting or [], None
        for what in waiting:
            self._damage.add(what)


def read_frames(
    source: str | Path | VideoInfo,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    max_frames: int | None = None,
    deinterlace: Deinterlace = "auto",
    drop_alpha: bool = False,
    carry_alpha: bool = False,
    strict: bool = False,
    decoder: Decoder = "software",
    on_damage: Callable[[str], None] | None = None,
    on_change: Callable[[str], None] = log.warning,
) -> Iterator[Frame]:
    """Frames in display order, upright, RGB, with strictly growing times on the source's clock.

    `start` and `end` are seconds after the video's first frame: the first frame given is the first with time >= start,
    the last the last with time < end. A frame's duration is the gap to its successor (cut at `end`). `deinterlace`:
    `auto` runs bwdif on frames flagged as interlaced, and on all when the source's `field_order` is known; `frame` on
    all, `field` on all at twice the rate, `off` never.
    Packets that cannot be decoded are skipped and concealed pictures marked, each reported to `on_damage` in one line;
    `strict` raises instead. `carry_alpha` gives frames their transparency, `drop_alpha` gives it up. Frames that differ
    from what `source` says in size, shape on screen, bit depth or colours are scaled and converted, and the first of
    them is reported to `on_change` in one line; `strict` raises instead. Raises VideoError when nothing can be read,
    and when a picture has transparency and neither is said.
    `decoder`: `auto` tries NVDEC where it decodes exactly, `nvdec` raises VideoError when it gives no first frame.
    After that software goes on with the next frame wherever NVDEC fails, which a line of the log says.
    """
    info = source if isinstance(source, VideoInfo) else probe(source)
    if info.has_alpha and not (drop_alpha or carry_alpha):
        raise VideoError(
            f"{info.path}: the video has transparency ({info.pixel_format}), which the output would lose; "
            "drop the alpha channel explicitly (--drop-alpha) to go on without it"
        )
    damage = _Damage(info.path, strict, on_damage)
    first = info.start_time + (start or 0)
    last = None if end is None else info.start_time + end
    if info.is_image_sequence or (info.is_still and info.path.is_file()):  # a pipe may hold many
        matcher = Matcher(info, layout_of_images(info), strict, on_change)
        frames = _image_frames(info, first, last, drop_alpha, carry_alpha, damage, matcher)
    else:
        matcher = Matcher(info, layout_of_video(info), strict, on_change)
        frames = _video_frames(info, first, last, deinterlace, drop_alpha, carry_alpha, damage, decoder, matcher)
    try:
        yield from islice(frames, max_frames)
    except av.error.FFmpegError as error:  # of a conversion or of deinterlacing: those of decoding are damage
        raise undecodable(info.path, error, "a picture") from error


def decoded_times(info: VideoInfo, start: Fraction | None = None) -> Iterator[Fraction]:
    """Times of the frames that a decoder gives from `start` on, in seconds on the source's clock.

    Unlike the times of packets they leave out what is not shown by itself: hidden frames, second fields, packets that
    repeat a picture. Errors of decoding are passed over, as `read_frames` does without `strict`.
    """
    first = info.start_time + (start or 0)
    damage = _Damage(info.path, False, None)
    for time, _ in _monotonic(_decoded_from(info, first, damage, False), info, damage):
        if time >= first:
            yield time


def describe_from(info: VideoInfo, start: Fraction | None) -> VideoInfo:
    """The same, with the picture of the first frame from `start` seconds on, which all later ones are made like.

    Raises VideoError when it cannot be read.
    """
    if not start or (info.is_still and not info.is_image_sequence):
        return info
    first = info.start_time + start
    if info.is_image_sequence:
        later = (path for index, path in enumerate(info.images) if index / info.rate >= first)
        found = next(later, None)
        if found is None:
            return info
        image = probe(found)
        names = ("width", "height", "sample_aspect_ratio", "bit_depth", "pixel_format", "color", "has_alpha")
        return replace(info, **{name: getattr(image, name) for name in names})
    damage = _Damage(info.path, False, None)
    frames = _decoded_from(info, first, damage, False)
    frame = next((frame for time, frame in _monotonic(frames, info, damage) if time >= first), None)
    frames.close()
    if frame is None:
        return info
    layout = LayoutReader(info).read(frame)
    return info if layout == layout_of_video(info) else describe_again(info, frame, layout.pixel_aspect)


def may_be_transparent(info: VideoInfo) -> bool:
    """Whether the source has an alpha channel, used or not."""
    return info.has_alpha or has_alpha_channel(VideoFormat(info.pixel_format))


def find_transparency(
    info: VideoInfo,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    max_frames: int | None = None,
) -> bool:
    """Whether any picture of the range is not wholly opaque.

    Only a video with an alpha channel whose first picture is opaque has to be looked through for that.
    """
    if info.has_alpha or not may_be_transparent(info):
        return info.has_alpha
    frames = read_frames(
        info,
        start=start,
        end=end,
        max_frames=max_frames,
        deinterlace="off",
        carry_alpha=True,
        on_change=lambda message: None,
    )
    return any(
        frame.alpha is not None and int(frame.alpha.min()) < int(np.iinfo(frame.alpha.dtype).max) for frame in frames
    )


def _image_frames(
    info: VideoInfo,
    first: Fraction,
    last: Fraction | None,
    drop_alpha: bool,
    carry_alpha: bool,
    damage: _Damage,
    matcher: Matcher,
) -> Iterator[Frame]:
    for index, path in enumerate(info.images or (info.path,)):
        check_interruption()
        time = index / info.rate
        if time < first:
            continue
        if last is not None and time >= last:
            return
        alpha: Image | None = None
        report = partial(_add_of_image, damage, path)
        if carry_alpha and not drop_alpha:
            image, alpha = read_image_with_alpha(path, on_damage=report)
        else:
            image = read_image(path, drop_alpha=drop_alpha, on_damage=report)
        image, alpha = matcher.match(image, alpha, layout_of_images(info, image), time, path)
        yield Frame(image, time, 1 / info.rate, alpha=alpha)


def _add_of_image(damage: _Damage, path: Path, what: str) -> None:
    damage.add(what if path == damage.path else f"{path.name}: {what}")


def _video_frames(
    info: VideoInfo,
    first: Fraction,
    last: Fraction | None,
    deinterlace: Deinterlace,
    drop_alpha: bool,
    carry_alpha: bool,
    damage: _Damage,
    decoder: Decoder,
    matcher: Matcher,
) -> Iterator[Frame]:
    """Decode, deinterlace, cut to [first, last), convert; a frame is held back until its successor's time is known."""
    reader = RgbReader(info.color, path=info.path, drop_alpha=drop_alpha)
    decoded = _decoded_by(decoder, info, first, damage, carry_alpha)
    decoded = deinterlaced(_with_layout(decoded, info), deinterlace, info.field_order)
    finish = partial(_finish, info, reader, matcher, damage, carry_alpha and not drop_alpha)
    shown = replace(info, rate=2 * info.rate) if deinterlace == "field" else info
    held: tuple[Fraction, VideoFrame] | None = None
    for time, frame in _monotonic(decoded, shown, damage):
        if held is not None:
            yield finish(held, time if last is None else min(time, last))
        if last is not None and time >= last:
            return
        held = (time, frame) if time >= first else None
    if held is None:
        return
    time, frame = held
    natural = time + _own_duration(frame, shown)
    if info.end_time is not None:
        # The track's end is exact; a frame's own duration is a decoding interval and may be another frame's.
        missing = info.end_time - natural
        if missing > MISSING_END_SECONDS + 2 / info.rate:
            damage.add(f"ends {float(missing):.2f} s before the end its header states; the file is cut short")
        elif natural + missing > time:
            natural += missing
    yield finish(held, natural if last is None else min(natural, last))


def _own_duration(frame: VideoFrame, info: VideoInfo) -> Fraction:
    base = as_fraction(frame.time_base)
    if not (info.is_still or info.has_decoding_times_only) and frame.duration and base is not None:
        return frame.duration * base
    return 1 / info.rate


def _with_layout(frames: Iterator[VideoFrame], info: VideoInfo) -> Iterator[VideoFrame]:
    """Frames that carry their layout through filters, which may give them another pixel format."""
    layouts = LayoutReader(info)
    for frame in frames:
        frame.opaque = [layouts.read(frame)]  # an object of its own: PyAV forgets it with the first frame that has it
        yield frame


def _finish(
    info: VideoInfo,
    reader: RgbReader,
    matcher: Matcher,
    damage: _Damage,
    with_alpha: bool,
    held: tuple[Fraction, VideoFrame],
    until: Fraction,
) -> Frame:
    time, frame = held
    if frame.is_corrupt:
        damage.add(f"the picture at {float(time - info.start_time):.3f} s is damaged and was concealed")
    image, alpha = reader.to_rgba(frame) if with_alpha else (reader.to_rgb(frame), None)
    image, alpha = matcher.match(
        _upright(image, info),
        None if alpha is None else _upright(alpha, info),
        cast("list[Layout]", frame.opaque)[0],
        time,
    )
    return Frame(image, time, until - time, frame.is_corrupt, alpha)


def _upright(image: Image, info: VideoInfo) -> Image:
    return turn_upright(image, info.transposed, info.flipped_x, info.flipped_y)


def _decoded_by(
    decoder: Decoder, info: VideoInfo, first: Fraction, damage: _Damage, with_alpha: bool
) -> Iterator[VideoFrame]:
    """Frames by hardware as long as it gives what software would, then by software from the next frame on."""
    last: VideoFrame | None = None
    if decoder != "software":
        try:
            reason = why_not_nvdec(info, with_alpha=with_alpha, strict=damage.strict)
            if reason is not None:
                raise HardwareError(reason)
            for frame in as_software(_decoded_from(info, first, HardwareDamage(), False, open_nvdec()), info):
                last = frame
                yield frame
            if last is not None:
                return
            raise HardwareError("it gave no picture")
        except (HardwareError, av.error.FFmpegError) as error:
            if last is None and decoder == "nvdec":
                raise VideoError(f"{info.path}: NVDEC cannot decode it ({error}); use --decoder auto") from error
            where = "" if last is None else f" after {float(_time_of(last)):.3f} s"
            log.warning("%s: decoded in software%s, not by NVDEC: %s", info.path, where, error)
    if last is None:
        yield from _decoded_from(info, first, damage, with_alpha)
        return
    frames = _decoded_from(info, max(first, _time_of(last)), damage, with_alpha)
    if not any(frame.pts is not None and frame.pts == last.pts for frame in frames):
        raise VideoError(
            f"{info.path}: the picture at {float(_time_of(last)):.3f} s, the last by NVDEC, was not found again in "
            "software; the same command with --decoder software goes on"
        )
    yield from frames


def _time_of(frame: VideoFrame) -> Fraction:
    base = as_fraction(frame.time_base)
    assert frame.pts is not None and base is not None  # `as_software` gives no others
    return frame.pts * base


def _decoded_from(
    info: VideoInfo,
    first: Fraction,
    damage: _Damage | HardwareDamage,
    with_alpha: bool,
    hwaccel: HWAccel | None = None,
) -> Generator[VideoFrame, None, None]:
    """Decoded frames from a keyframe before `first`, two frames before at least: tried further back until it is so.

    Two, because bwdif looks at the neighbours of a frame, and the frame shown at `first` may have begun before it.
    """
    back = 2 / info.rate
    while True:
        target = first - back
        with open_input(info.path, hwaccel) as container:
            stream = container.streams[info.video_index]
            assert isinstance(stream, VideoStream)
            stream.thread_type = "AUTO"
            if hwaccel is not None:
                prepare_nvdec(stream)
            sought = (
                target > info.start_time
                and not info.has_decoding_times_only  # which frame is shown when takes counting from the first
                and seek_before(container, stream, target)
            )
            head_damage = _HeadDamage(damage)
            frames = _decoded(info, container, stream, sought, first, head_damage, with_alpha)
            head = list(islice(frames, 3))
            if not sought or (len(head) == 3 and _lies_before(head[-1], first)):
                head_damage.settle()
                yield from head
                yield from frames
                return
        back = max(back * 4, Fraction(2))


def _lies_before(frame: VideoFrame, target: Fraction) -> bool:
    base = as_fraction(frame.time_base)
    return frame.pts is not None and base is not None and frame.pts * base <= target


def _decoded(
    info: VideoInfo,
    container: InputContainer,
    stream: VideoStream,
    sought: bool,
    first: Fraction,
    damage: _HeadDamage,
    with_alpha: bool,
) -> Iterator[VideoFrame]:
    """Frames as the decoder gives them; what fails at or after `first` is counted as damage and skipped."""
    decoder: VideoCodecContext | None = None
    if with_alpha and stream.metadata.get("alpha_mode") == "1" and stream.codec_context.name in ALPHA_DECODERS:
        decoder = cast(VideoCodecContext, CodecContext.create(ALPHA_DECODERS[stream.codec_context.name], "r"))
    awaits_keyframe = sought
    # Decoding times of packets whose pictures are still to come: pictures are shown in order, the next at the least.
    waiting: list[int] = []
    delay: int | None = None

    def report(error: av.error.FFmpegError) -> None:
        damage.add(f"has unreadable data ({error.strerror})")

    for packet in read_packets(container, stream, report):
        if awaits_keyframe and packet.size and not packet.is_keyframe:
            continue
        awaits_keyframe = False
        base = as_fraction(packet.time_base)
        if info.has_decoding_times_only and packet.size and packet.dts is not None and base is not None:
            if delay is None:
                delay = round(info.start_time / base) - packet.dts
            heapq.heappush(waiting, packet.dts)
        try:
            frames = packet.decode() if decoder is None else decoder.decode(packet if packet.size else None)
        except av.error.FFmpegError as error:
            time = None if packet.pts is None or base is None else packet.pts * base
            if packet.dts in waiting:
                waiting.remove(packet.dts)
                heapq.heapify(waiting)
            if time is None or time >= first:
                where = "" if time is None else f" at {float(time):.3f} s"
                damage.add(f"a video packet{where} cannot be decoded ({error.strerror})")
            continue
        for frame in frames:
            if waiting and delay is not None:
                frame.pts = heapq.heappop(waiting) + delay
            yield frame


def _monotonic(frames: Iterator[VideoFrame], info: VideoInfo, damage: _Damage) -> Iterator[tuple[Fraction, VideoFrame]]:
    """Give every frame a time later than its predecessor's: its own wherever it has one."""
    previous: Fraction | None = None
    for frame in frames:
        base = as_fraction(frame.time_base)
        if frame.pts is not None and base is not None:
            time = frame.pts * base
        else:
            time = info.start_time if previous is None else previous + 1 / info.rate
        if previous is not None and time < previous - NEW_CLOCK_SECONDS:
            raise VideoError(
                f"{info.path}: the clock goes back from {float(previous):.3f} s to {float(time):.3f} s: several "
                "recordings in one file; give it one clock first, as `ffmpeg -i IN -map 0 -c copy OUT.mkv` does"
            )
        if previous is not None and time <= previous:
            damage.add(f"a timestamp goes back from {float(previous):.3f} s to {float(time):.3f} s")
            time = previous + info.time_base
        previous = time
        yield time, frame
