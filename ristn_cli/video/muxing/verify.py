"""Verify a finished file independently, against the source and the frames that the job wrote."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import av
from av.video.stream import VideoStream

from ristn_cli.video.colors import has_alpha_channel
from ristn_cli.video.muxing.audio_times import check_audio_times
from ristn_cli.video.muxing.output import Output
from ristn_cli.video.muxing.stream_plan import CAPTIONS, CONTAINERS, StreamPlan
from ristn_cli.video.reading.reader import decoded_times
from ristn_cli.video.reading.source import open_input
from ristn_cli.video.reading.streams import (
    as_fraction,
    codec_names,
    is_attached_picture,
    main_video_stream,
    read_packets,
)
from ristn_cli.video.types import CheckError, VideoError, VideoInfo

# More frames than any codec reorders: a heap of this size sorts presentation times.
REORDER_WINDOW = 32
# Matroska and WebM store whole milliseconds. Source and target may each be off by half of one.
MILLISECOND = Fraction(1, 1000)
# Number of frames that decide between a variable and a constant frame rate.
RATE_FRAMES = 500
# Codec names of encoders with another name.
ENCODED_AS = {"libopus": "opus", "srt": "subrip", "ssa": "ass"}
# Codecs that share a code in MP4 and MOV, by the name that FFmpeg reads.
MP4_NAMES = {"mp2": "mp3", "mp1": "mp3"}


def verify(target: str | Path, output: Output, frames: int, *, check_times: bool = True) -> None:
    """Read `target` and check frames, size, timestamps, duration and streams, and that start and end decode.

    Args:
        target: the finished file.
        output: the expected output.
        frames: number of frames that the job wrote.
        check_times: compare all frame times with the source's packets. Must be off if frames were lost to damage, or if
            the source cannot be read again.

    Raises:
        VideoError: the first mismatch, with found and expected values.
    """
    target = Path(target)
    source, shape = output.source, output.shape
    with open_input(target, is_own=True) as container:
        stream = main_video_stream(container, target)
        found_size = (stream.codec_context.width, stream.codec_context.height)
        if found_size != (shape.width, shape.height):
            raise CheckError.mismatch(
                target, "frame size", f"{found_size[0]}x{found_size[1]}", f"{shape.width}x{shape.height}"
            )
        index = stream.index
        kinds = Counter(str(other.type) for other in container.streams)
        covers = sum(bool(other.disposition & other.disposition.attached_pic) for other in container.streams.video)
    wanted = _range_of(source_times(source), output) if check_times else None
    compare = partial(_compare_film_times, frame=1 / source.rate) if shape.is_film else _compare_times
    try:
        times = compare(target, index, wanted, may_be_fields=source.is_interlaced)
    except CheckError:
        if source.is_image_sequence:
            raise
        # A packet may contain no separate frame, which only decoding shows. If a frame starts before the range, its
        # second field may be within it.
        decoded = decoded_times(source, output.start, lead=2 / source.rate)
        times = compare(target, index, _range_of(decoded, output))
    first, last, longest = times.first, times.last, times.longest
    if times.count != frames:
        raise CheckError.mismatch(target, "number of frames", str(times.count), str(frames))
    if check_times and source.duration is not None and source.container.startswith("mov"):
        until = source.duration if output.end is None else min(source.duration, output.end)
        # Headers may state less than timestamps show; usually by less than the longest frame.
        _check_duration(target, max(until - (output.start or 0), last - first), max(longest, 1 / source.rate))
    _check_streams(target, kinds, covers, output.streams, output.is_trimmed)
    check_stream_list(target, output.streams, is_trimmed=output.is_trimmed)
    if check_times and not output.is_trimmed:
        check_audio_times(target, source, output.streams, max(longest, 1 / source.rate))
    _check_decodes(target, last, output.encoder.has_alpha)


@dataclass(frozen=True)
class _Times:
    """Times of a video stream: number of frames, first and last time, and longest gap."""

    count: int
    first: Fraction
    last: Fraction
    longest: Fraction


def _compare_times(
    target: Path, index: int, wanted: Iterator[Fraction] | None, *, may_be_fields: bool = False
) -> _Times:
    """Compare the time of every frame, relative to the first, with `wanted`.

    `may_be_fields` skips times in `wanted` of second fields, which have no separate frame. Raises VideoError for the
    first mismatch.
    """
    count, first, last, longest = 0, Fraction(0), Fraction(0), Fraction(0)
    for found in presentation_times(target, index):
        if count == 0:
            first = last = found
        longest = max(longest, found - last)
        count += 1
        if wanted is not None:
            expected = next(wanted, None)
            if may_be_fields and expected is not None and found - first - expected > _tolerance(target):
                expected = next(wanted, expected)
            if expected is None:
                raise CheckError.mismatch(target, "number of frames", f"{count} or more", str(count - 1))
            _check_time(target, count, found - first, expected)
        last = found
    if wanted is not None and len(list(islice(wanted, 2))) > may_be_fields:
        raise CheckError.mismatch(target, "number of frames", str(count), "more")
    return _Times(count, first, last, longest)


def _compare_film_times(
    target: Path, index: int, wanted: Iterator[Fraction] | None, *, frame: Fraction, may_be_fields: bool = False
) -> _Times:
    """Compare the times of film, where frames are moved and repeated ones dropped, with `wanted`.

    Each frame must be within `frame` seconds, the duration of a source frame, of a source time. Of two consecutive
    source times, at least one must have a frame.
    """
    if wanted is None:
        return _compare_times(target, index, None)
    most_passed = 4 if may_be_fields else 2  # source times per frame
    own: Fraction | None = None
    ahead = next(wanted, None)
    first: Fraction | None = None
    for count, time in enumerate(presentation_times(target, index), start=1):
        first = time if first is None else first
        found, passed = time - first, 0
        while ahead is not None and (passed == 0 or own is None or abs(ahead - found) < abs(own - found)):
            own, ahead, passed = ahead, next(wanted, None), passed + 1
        if own is None or passed == 0:
            raise CheckError.mismatch(target, "number of frames", f"{count} or more", str(count - 1))
        if passed > most_passed:
            raise CheckError.mismatch(target, f"number of frames before frame {count}", "too few", "more")
        if abs(found - own) > frame:
            _check_time(target, count, found, own)
    if len(list(islice(wanted, most_passed))) >= most_passed:
        raise CheckError.mismatch(target, "number of frames", str(count), "more")
    return _compare_times(target, index, None)


def has_variable_rate(info: VideoInfo) -> bool | None:
    """Return whether the first frames are unevenly spaced, beyond the clock's resolution; None for too few frames."""
    if info.is_image_sequence:
        return False
    times = list(islice(source_times(info), RATE_FRAMES))
    gaps = [after - before for before, after in pairwise(times)]
    if len(gaps) < 2:
        return None
    return max(gaps) - min(gaps) > max(info.time_base, MILLISECOND)


def source_times(info: VideoInfo) -> Iterator[Fraction]:
    """Yield presentation times of a source's frames in display order, in seconds, without decoding."""
    if info.is_image_sequence:
        yield from (index / info.rate for index in range(len(info.images)))
        return
    times = presentation_times(info.path, info.video_index, by_decoding=info.has_decoding_times_only)
    delay: Fraction | None = None
    for time in times:
        if delay is None:
            delay = info.start_time - time if info.has_decoding_times_only else Fraction(0)
        yield time + delay


def presentation_times(path: Path, index: int, *, by_decoding: bool = False) -> Iterator[Fraction]:
    """Yield presentation times of a video stream's packets in display order, in seconds, without decoding.

    `by_decoding` yields decoding times instead, if there are no presentation times. They have the same gaps.
    """
    heap: list[int] = []
    with open_input(path) as container:
        stream = container.streams[index]
        base = as_fraction(stream.time_base) or Fraction(1)
        for packet in read_packets(container, stream):  # reading frames skipped the same errors
            if not packet.size or packet.is_discard:
                continue
            time = packet.dts if by_decoding or packet.pts is None else packet.pts
            if time is None:
                continue
            heapq.heappush(heap, time)
            if len(heap) > REORDER_WINDOW:
                yield heapq.heappop(heap) * base
        while heap:
            yield heapq.heappop(heap) * base


def _range_of(times: Iterator[Fraction], output: Output) -> Iterator[Fraction]:
    """Yield the times of the source's frames, or fields, in the range, relative to the first of them."""
    source, start, end = output.source, output.start or Fraction(0), output.end
    if output.shape.has_field_rate:
        times = _field_times(times, source.rate)
    zero: Fraction | None = None
    for time in times:
        since = time - source.start_time
        if since < start:
            continue
        if end is not None and since >= end:
            return
        zero = time if zero is None else zero
        yield time - zero


def _field_times(times: Iterator[Fraction], rate: Fraction) -> Iterator[Fraction]:
    """Yield each time, and the middle between it and the next. The last frame has the duration of the previous one."""
    before, gap = next(times, None), 1 / rate
    if before is None:
        return
    for time in times:
        gap = time - before
        yield from (before, before + gap / 2)
        before = time
    yield from (before, before + gap / 2)


def _tolerance(target: Path) -> Fraction:
    """Return the rounding error of times in the container, in seconds."""
    return MILLISECOND if target.suffix.lower() in (".mkv", ".webm") else Fraction(1, 1_000_000)


def _check_time(target: Path, number: int, found: Fraction, expected: Fraction) -> None:
    if abs(found - expected) > _tolerance(target):
        raise CheckError.mismatch(
            target, f"time of frame {number}", f"{float(found):.6f} s", f"{float(expected):.6f} s"
        )


def _check_duration(target: Path, expected: Fraction, tolerance: Fraction) -> None:
    """Check the stated duration of the video track in MP4 and MOV. Others state only that of the whole file."""
    with open_input(target, is_own=True) as container:
        stream = main_video_stream(container, target)
        time_base = as_fraction(stream.time_base)
        if not container.format.name.startswith("mov") or not stream.duration or time_base is None:
            return
        stated = stream.duration * time_base
    if abs(stated - expected) > tolerance:
        raise CheckError.mismatch(target, "duration of the video", f"{float(stated):.3f} s", f"{float(expected):.3f} s")


def _check_streams(
    target: Path, kinds: Counter[str], covers: int, plan: tuple[StreamPlan, ...], is_trimmed: bool
) -> None:
    """Check the number of streams of each kind. A trimmed file may lack streams without packets in the range."""
    expected = Counter(entry.stream.kind for entry in plan if entry.action != "drop" and not entry.stream.is_cover)
    wanted_covers = sum(entry.stream.is_cover and entry.action == "copy" for entry in plan)
    found = Counter({kind: kinds[kind] for kind in ("video", "audio", "subtitle", "attachment")})
    found["video"] -= covers
    for kind in ("video", "audio", "subtitle", "attachment"):
        may_be_fewer = kind in _may_be_missing(plan, is_trimmed) and found[kind] < expected[kind]
        if found[kind] != expected[kind] and not may_be_fewer:
            raise CheckError.mismatch(target, f"number of {kind} streams", str(found[kind]), str(expected[kind]))
    if covers != wanted_covers:
        raise CheckError.mismatch(target, "number of cover images", str(covers), str(wanted_covers))


def _may_be_missing(plan: tuple[StreamPlan, ...], is_trimmed: bool) -> tuple[str, ...]:
    """Kinds of streams of which there may be fewer than planned: with nothing in a trim, or captions without text."""
    if is_trimmed:
        return ("audio", "subtitle")
    return ("subtitle",) if any(entry.stream.index == CAPTIONS.index for entry in plan) else ()


def check_stream_list(target: Path, plan: tuple[StreamPlan, ...], *, is_trimmed: bool) -> None:
    """Check codec and language of every stream beside the video, in order, without covers.

    If trimmed, streams may be missing. Raises VideoError for the first mismatch.
    """
    languages = CONTAINERS[target.suffix.lower()].languages
    has_shared_codes = CONTAINERS[target.suffix.lower()].muxer in ("mp4", "mov")
    has_own_codes = bool(languages)  # the container has its own, fewer codes
    with open_input(target, is_own=True) as container:
        main = main_video_stream(container, target)
        others = [
            (stream.type, name, stream.metadata.get("language"))
            for stream, name in zip(container.streams, codec_names(container), strict=True)
            if stream != main and not (isinstance(stream, VideoStream) and is_attached_picture(stream))
        ]
    planned = [entry for entry in plan if entry.action in ("copy", "convert") and not entry.stream.is_cover]
    for kind in ("video", "audio", "subtitle"):
        expected = [entry for entry in planned if entry.stream.kind == kind]
        found = [(codec, language) for found_kind, codec, language in others if found_kind == kind]
        if kind in _may_be_missing(plan, is_trimmed) and len(found) < len(expected):
            continue
        for number, (entry, (codec, language)) in enumerate(zip(expected, found, strict=True), start=1):
            wanted = ENCODED_AS.get(entry.codec, entry.codec)
            if has_shared_codes:
                codec, wanted = MP4_NAMES.get(codec, codec), MP4_NAMES.get(wanted, wanted)
            if codec != wanted:
                raise CheckError.mismatch(target, f"codec of {kind} stream {number}", codec, wanted)
            tag = entry.stream.language
            if tag is None or len(tag) != 3 or (has_own_codes and tag not in languages):
                continue  # not every container supports longer tags
            tag = languages.get(tag, tag)
            if (language or "und") != tag:
                raise CheckError.mismatch(target, f"language of {kind} stream {number}", str(language), tag)


def _check_decodes(target: Path, last: Fraction, has_alpha: bool) -> None:
    """Decode the first frame, and all frames from the last key frame to the end."""
    with open_input(target, is_own=True) as container:
        stream = main_video_stream(container, target)
        assert isinstance(stream, VideoStream)
        stream.thread_type = "AUTO"
        try:
            picture = next(container.decode(stream), None)
            if picture is None:
                raise VideoError(f"{target}: the finished file has no frame that can be decoded; run again")
            if has_alpha and not has_alpha_channel(picture.format):
                raise CheckError.mismatch(target, "pixel format", picture.format.name, "one with transparency")
            time_base = as_fraction(stream.time_base)
            assert time_base is not None
            container.seek(int(last / time_base), stream=stream, backward=True)
            if not any(not frame.is_corrupt for frame in container.decode(stream)):
                raise VideoError(f"{target}: the end of the finished file cannot be decoded; run again")
        except av.error.FFmpegError as error:
            raise VideoError(f"{target}: cannot decode the finished file ({error.strerror}); run again") from error
