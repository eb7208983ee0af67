"""Detect interlaced frames that are not flagged, and deinterlace with bwdif."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import Literal

import av
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.filters import Chain
from ristn_cli.video.reading.source import open_input
from ristn_cli.video.reading.streams import as_fraction, read_packets
from ristn_cli.video.types import FieldOrder, VideoInfo

Deinterlace = Literal["auto", "ivtc", "field", "frame", "off"]
PARITIES = {"top": "tff", "bottom": "bff"}
# Number of sampled positions, spread over the video, and of consecutive frames at each.
SAMPLES = 4
SAMPLE_FRAMES = 30
# Threshold of idet for one field order over the other. With its default of 1.04, fine patterns in moving graphics, such
# as FFmpeg's testsrc2, look interlaced. Most moving frames of interlaced video exceed this one.
IDET = "intl_thres=1.2"
# Smallest number of combed frames, and smallest share among those that idet classifies. In telecined film, two of five
# frames are combed.
MIN_COMBED = 6
MIN_COMBED_SHARE = 0.3
# Smallest share of combed frames with the same field order. Patterns that only look combed have either order.
SAME_ORDER_SHARE = 0.9


def find_fields(info: VideoInfo, *, is_interlaced: bool = False) -> VideoInfo:
    """Return `info` with `is_interlaced` set if a frame is flagged, else with `field_order` set if frames are combed.

    FFmpeg's idet examines up to SAMPLES x SAMPLE_FRAMES frames. Flags take precedence: with flags, `field_order` stays
    None. The argument `is_interlaced` means that all frames are known to be interlaced. Then flags are ignored and only
    the field order is detected; it stays None if that fails.
    """
    if info.is_image_sequence or info.is_still:
        return info
    counts: Counter[str] = Counter()
    seen: set[int] = set()
    is_flagged = False  # set by frames only: containers may be wrong
    samples = SAMPLES if info.duration is not None else 1
    for index in range(samples):
        has_times = True
        since = Fraction(index, samples) * (info.duration or 0)
        for time, kind, flag in _sample(info, since, SAMPLES * SAMPLE_FRAMES // samples):
            is_flagged |= flag
            if time in seen:
                break  # the seek found the same key frame again
            if time is not None:
                seen.add(time)
            has_times &= time is not None
            counts[kind] += 1
        if is_flagged and not is_interlaced:
            return replace(info, is_interlaced=True)
        if not has_times:
            break  # without times, samples could overlap
    return replace(info, is_interlaced=info.is_interlaced or is_flagged, field_order=_order_of(counts, is_interlaced))


def _order_of(counts: Counter[str], is_interlaced: bool) -> FieldOrder | None:
    """Return the field order by idet's counts; None if the video is not interlaced, or the order is unclear."""
    combed = counts["tff"] + counts["bff"]
    is_combed = combed >= max(MIN_COMBED, MIN_COMBED_SHARE * (combed + counts["progressive"]))
    if combed < 1 or not (is_combed or is_interlaced):
        return None
    if max(counts["tff"], counts["bff"]) < SAME_ORDER_SHARE * combed:
        return None
    return "top" if counts["tff"] > counts["bff"] else "bottom"


def _sample(info: VideoInfo, since: Fraction, max_frames: int) -> Iterator[tuple[int | None, str, bool]]:
    """Yield for up to `max_frames` consecutive frames: time in ticks, idet's class, whether the frame is flagged."""
    chain: Chain | None = None
    size = (0, 0)
    for frame in islice(decodable_frames(info, since), max_frames):
        if chain is None:
            # Delete the frames' own tags, because PyAV fails for tags that are not UTF-8.
            filters = [("metadata", "mode=delete"), ("idet", IDET)]
            chain = Chain(frame, filters, as_fraction(frame.time_base) or Fraction(1, 1000))
            size = (frame.width, frame.height)
        if (frame.width, frame.height) != size:
            return
        is_flagged = frame.interlaced_frame
        chain.push(frame)
        while (judged := chain.pull()) is not None:
            yield judged.pts, judged.metadata.get("lavfi.idet.single.current_frame", "undetermined"), is_flagged


def decodable_frames(info: VideoInfo, since: Fraction) -> Iterator[VideoFrame]:
    """Yield frames from about `since` seconds after the first one; none if the file cannot be sought.

    Decoding errors are skipped, because they are reported when the video is read.
    """
    with open_input(info.path) as container:
        stream = container.streams[info.video_index]
        assert isinstance(stream, VideoStream)
        stream.thread_type = "AUTO"
        if since:
            # An inexact position is enough, so a seek also works in formats whose times change after it.
            try:
                container.seek(int((info.start_time + since) * av.time_base), backward=True)
            except av.error.FFmpegError:
                return
        for packet in read_packets(container, stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            yield from frames


class Deinterlacer:
    """Deinterlaces selected frames with bwdif, and passes the others through.

    A deinterlaced frame depends only on its two neighbours in the stream, so the result is the same wherever reading
    begins, if it begins at least one frame before. bwdif keeps a state after the first interlaced frame, so each run of
    interlaced frames gets a new filter. It also receives the frame before the run and the frame after it.

    Args:
        mode: which frames to deinterlace: see `ReadOptions`.
        field_order: the first field of a video that is interlaced without flags.
        only_flagged: use the frames' flags even if `field_order` is given.
    """

    def __init__(self, mode: Deinterlace, field_order: FieldOrder | None, *, only_flagged: bool = False) -> None:
        parity = "auto" if field_order is None else PARITIES[field_order]
        self._options = f"mode={'send_field' if mode == 'field' else 'send_frame'}:parity={parity}:deint=all"
        self._is_off = mode == "off"
        self._takes_all = mode != "auto" or (field_order is not None and not only_flagged)
        self._before: VideoFrame | None = None
        self._chain: Chain | None = None
        self._is_alone = True

    def push(self, frame: VideoFrame | None) -> list[VideoFrame]:
        """Add the next frame, or None at the end. Returns the frames that are ready, in order."""
        if self._is_off:
            return [] if frame is None else [frame]
        if frame is None:
            # From a single frame, bwdif cannot derive the time of the second field, and gives both fields the same
            # time.
            return self._end()[: 1 if self._is_alone else None]
        ready: list[VideoFrame] = []
        if self._before is not None and layout_of(frame) != layout_of(self._before):
            ready += self._end()
            self._before = None
        self._is_alone = self._before is None
        is_taken = self._takes_all or frame.interlaced_frame
        if is_taken and self._chain is None:
            chain = Chain(frame, [("bwdif", self._options)], as_fraction(frame.time_base) or Fraction(1, 1000))
            if self._before is not None:
                chain.push(self._before)
            chain.push(frame)
            if self._before is not None:
                _drain(chain)  # drop the frame before the run
            self._chain = chain
        elif self._chain is not None:
            self._chain.push(frame)
            ready += _drain(self._chain)
        if not is_taken:
            self._chain = None
            ready.append(frame)
        self._before = frame
        return ready

    def _end(self) -> list[VideoFrame]:
        """Return the last frames of the current run, if there is one."""
        chain, self._chain = self._chain, None
        if chain is None:
            return []
        chain.push(None)
        return _drain(chain)


def layout_of(frame: VideoFrame) -> tuple[object, ...]:
    return frame.format.name, frame.width, frame.height


def _drain(chain: Chain) -> list[VideoFrame]:
    ready: list[VideoFrame] = []
    while (frame := chain.pull()) is not None:
        ready.append(frame)
    return ready
