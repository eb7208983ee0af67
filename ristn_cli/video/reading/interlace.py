"""Interlaced pictures: whether there are any that no flag tells of, and bwdif, which makes whole frames of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import islice
from typing import Literal

import av
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.filters import Chain
from ristn_cli.video.reading.source import open_input
from ristn_cli.video.reading.streams import as_fraction, read_packets
from ristn_cli.video.types import FieldOrder, VideoInfo

Deinterlace = Literal["auto", "ivtc", "field", "frame", "off"]
PARITIES = {"top": "tff", "bottom": "bff"}
# Pictures looked at: as many runs, spread over the video, of as many frames.
SAMPLES = 4
SAMPLE_FRAMES = 30
# How much more one order of the fields must comb than the other. idet's own 1.04 takes fine patterns in moving graphics
# for fields (FFmpeg's testsrc2, say); real interlaced video passes this in most frames that move.
IDET = "intl_thres=1.2"
# As many combed pictures, and such a share of those that idet is sure of, are no accident. Film that was telecined onto
# interlaced video combs in two of five.
LEAST_COMBED = 6
LEAST_COMBED_SHARE = 0.3
# Of the combed ones, as many have the same field first: patterns that merely look combed have either.
SAME_ORDER_SHARE = 0.9


def find_fields(info: VideoInfo, *, is_interlaced: bool = False) -> VideoInfo:
    """The same with what its pictures tell: `is_interlaced` when one is flagged so, else `field_order` when they comb.

    FFmpeg's idet looks at up to SAMPLES x SAMPLE_FRAMES pictures. Where any of these is flagged as interlaced the flags
    are trusted, and `field_order` stays None. The argument `is_interlaced` says that all pictures are known to be,
    whatever flags say: only the order is asked for, and stays None when it cannot be told.
    """
    if info.is_image_sequence or info.is_still:
        return info
    counts: Counter[str] = Counter()
    seen: set[int] = set()
    is_flagged = False  # a container may say so of pictures that do not
    samples = SAMPLES if info.duration is not None else 1
    for index in range(samples):
        has_times = True
        since = Fraction(index, samples) * (info.duration or 0)
        for time, kind, flag in _look(info, since, SAMPLES * SAMPLE_FRAMES // samples):
            is_flagged |= flag
            if time in seen:
                break  # the same keyframe as before
            if time is not None:
                seen.add(time)
            has_times &= time is not None
            counts[kind] += 1
        if is_flagged and not is_interlaced:
            return replace(info, is_interlaced=True)
        if not has_times:
            break  # nothing tells whether another run is of other pictures
    return replace(info, is_interlaced=info.is_interlaced or is_flagged, field_order=_judge(counts, is_interlaced))


def _judge(counts: Counter[str], is_interlaced: bool) -> FieldOrder | None:
    """The field order that idet's verdicts amount to."""
    combed = counts["tff"] + counts["bff"]
    is_combed = combed >= max(LEAST_COMBED, LEAST_COMBED_SHARE * (combed + counts["progressive"]))
    if combed < 1 or not (is_combed or is_interlaced):
        return None
    if max(counts["tff"], counts["bff"]) < SAME_ORDER_SHARE * combed:
        return None
    return "top" if counts["tff"] > counts["bff"] else "bottom"


def _look(info: VideoInfo, since: Fraction, most: int) -> Iterator[tuple[int | None, str, bool]]:
    """Time in ticks of up to `most` pictures in a row, what idet takes each for, and whether it is flagged."""
    with open_input(info.path) as container:
        stream = container.streams[info.video_index]
        assert isinstance(stream, VideoStream)
        stream.thread_type = "AUTO"
        if since:
            # Anywhere thereabouts will do, so formats whose times do not survive a seek can be looked at too.
            try:
                container.seek(int((info.start_time + since) * av.time_base), backward=True)
            except av.error.FFmpegError:
                return
        chain: Chain | None = None
        size = (0, 0)
        for frame in islice(decodable(container, stream), most):
            if chain is None:
                # Tags of the source's own frames go: PyAV fails for one that is not UTF-8.
                filters = [("metadata", "mode=delete"), ("idet", IDET)]
                chain = Chain(frame, filters, as_fraction(frame.time_base) or Fraction(1, 1000))
                size = (frame.width, frame.height)
            if (frame.width, frame.height) != size:
                return
            is_flagged = frame.interlaced_frame
            chain.push(frame)
            while (judged := chain.pull()) is not None:
                yield judged.pts, judged.metadata.get("lavfi.idet.single.current_frame", "undetermined"), is_flagged


def decodable(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Frames of what can be decoded; damage is for whoever reads the video in earnest."""
    for packet in read_packets(container, stream):
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            continue
        yield from frames


class Deinterlacer:
    """Puts bwdif's frames in place of those that are to be deinterlaced, and gives the others as they came.

    It is fed frame by frame. A frame of bwdif's depends on its two neighbours in the stream, whether these are
    interlaced or not, and on nothing else: so it is the same wherever reading began, as long as that was a frame
    before. bwdif itself remembers whether it has seen an interlaced frame, so each run of them gets a filter of its
    own, begun with the frame before the run and ended with the one behind it.

    Args:
        mode: which frames are deinterlaced: see `read_frames`.
        field_order: the field that comes first, of a video that is interlaced against its flags.
        only_flagged: frames are interlaced by their flags all the same.
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
        """Add the next frame, or None for the end. Returns the frames that are ready, in their order."""
        if self._is_off:
            return [] if frame is None else [frame]
        if frame is None:
            # Without a second frame nothing tells bwdif when the second field is, and it gives both the same time.
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
                _drain(chain)  # the frame before the run, which is a neighbour only
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
        """The last frames of a run, if there is one."""
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
