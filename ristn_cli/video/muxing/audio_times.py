"""Compare the position of audio relative to the video between a finished file and its source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream

from ristn_cli.video.muxing.stream_plan import CONTAINERS, StreamPlan
from ristn_cli.video.reading.source import open_input
from ristn_cli.video.reading.streams import as_fraction, has_decoder, main_video_stream, read_packets
from ristn_cli.video.types import CheckError, VideoInfo


def check_audio_times(
    target: Path,
    source: VideoInfo,
    plan: tuple[StreamPlan, ...],
    tolerance: Fraction,
    *,
    until: Fraction | None = None,
) -> None:
    """Check that audio tracks start and end, relative to the first frame, within `tolerance` seconds of the source.

    A converted track may additionally be off by a packet of both encoders. With `until`, on the source's clock, only
    the starts of tracks before that time are compared. Raises VideoError for the first mismatch.
    """
    audio = [entry for entry in plan if entry.stream.kind == "audio" and entry.action in ("copy", "convert")]
    if not audio:
        return
    with open_input(target) as container:
        video = main_video_stream(container, target).index
        indices = [stream.index for stream in container.streams.audio]
    if len(indices) != len(audio):
        return  # another check reports missing streams
    zero = _spans(target, video, [video])[0]
    since = Fraction(0) if drops_hidden_audio(source, target, plan) else None
    spans = _spans(source.path, source.video_index, [entry.stream.index for entry in audio], since, until)
    found = _spans(target, video, indices)
    for number, (entry, ours, theirs) in enumerate(zip(audio, found, spans, strict=True), start=1):
        if ours is None or theirs is None or zero is None:
            continue
        begins_at = zero.first
        allowed = tolerance if entry.action == "copy" else tolerance + ours.length + theirs.length
        ends = ("begin",) if until is not None else ("begin", "end")
        # The output starts with the first frame that decodes. Earlier packets are not shown.
        now = {"begin": ours.first - begins_at, "end": ours.last - begins_at}
        fault = _find_shift(now, theirs, source.start_time, ends, allowed)
        if fault is not None and entry.action == "convert":
            decoded = _decoded_span(source.path, entry.stream.index, until)
            fault = fault if decoded is None else _find_shift(now, decoded, source.start_time, ends, allowed)
        if fault is not None:
            end, before = fault
            found_time, expected = f"{float(now[end]):.3f} s", f"{float(before):.3f} s"
            raise CheckError.mismatch(target, f"{end} of audio stream {number}", found_time, expected)


def _find_shift(
    now: Mapping[str, Fraction], span: _Span, start: Fraction, ends: Sequence[str], allowed: Fraction
) -> tuple[str, Fraction] | None:
    """Return the end of a track that is `allowed` seconds or more from that of `span`, and its expected time."""
    before = {"begin": span.first - start, "end": span.last - start}
    return next(((end, before[end]) for end in ends if abs(now[end] - before[end]) >= allowed), None)


def drops_hidden_audio(source: VideoInfo, target: Path, plan: Sequence[StreamPlan]) -> bool:
    """Return whether audio before zero is dropped: an edit list of the source hides it, and the target has none.

    Only if more than one packet of a copied track is hidden, as in files cut without encoding. One packet primes a
    decoder.
    """
    if not source.container.startswith("mov") or CONTAINERS[target.suffix.lower()].muxer in ("mp4", "mov"):
        return False
    for entry in plan:
        if entry.stream.kind == "audio" and entry.action == "copy":
            with open_input(source.path) as container:
                packets = (
                    packet for packet in read_packets(container, container.streams[entry.stream.index]) if packet.size
                )
                if all(packet.is_discard for packet in islice(packets, 2)):
                    return True
    return False


@dataclass(frozen=True)
class _Span:
    """Extent of a stream: times of the first and last packet in seconds, number of packets, longest duration."""

    first: Fraction
    last: Fraction
    count: int = 1
    longest: Fraction = Fraction(0)

    @property
    def length(self) -> Fraction:
        """Duration of a packet: the longest one, or the mean if the container states none."""
        return self.longest or (self.last - self.first) / max(1, self.count - 1)

    def extend(self, time: Fraction, duration: Fraction) -> _Span:
        return _Span(min(self.first, time), max(self.last, time), self.count + 1, max(self.longest, duration))


def _spans(
    path: Path, video: int, indices: list[int], since: Fraction | None = None, until: Fraction | None = None
) -> list[_Span | None]:
    """Return the span of each stream on the file's own clock; None for an empty stream.

    Ignores packets before `since`, and stops at a video packet after `until`.
    """
    spans: dict[int, _Span] = {}
    with open_input(path) as container:
        for packet in read_packets(container, [container.streams[index] for index in sorted({video, *indices})]):
            base = as_fraction(packet.time_base)
            if not packet.size or packet.is_discard or packet.pts is None or base is None:
                continue
            time = packet.pts * base
            if until is not None and packet.stream.index == video and time > until:
                break
            if packet.stream.index == video or since is None or time >= since:
                length = (packet.duration or 0) * base
                known = spans.get(packet.stream.index)
                spans[packet.stream.index] = (
                    _Span(time, time, longest=length) if known is None else known.extend(time, length)
                )
    return [spans.get(index) for index in indices]


def _decoded_span(path: Path, index: int, until: Fraction | None) -> _Span | None:
    """Return the span of the decoded frames of an audio stream. Decoding errors are skipped."""
    span: _Span | None = None
    with open_input(path) as container:
        stream = container.streams[index]
        if not has_decoder(stream):
            return None
        assert isinstance(stream, AudioStream)
        for packet in read_packets(container, stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                continue
            for frame in frames:
                base = as_fraction(frame.time_base)
                if not isinstance(frame, AudioFrame) or frame.pts is None or base is None or not frame.sample_rate:
                    continue
                time, length = frame.pts * base, Fraction(frame.samples, frame.sample_rate)
                span = _Span(time, time, longest=length) if span is None else span.extend(time, length)
            if until is not None and span is not None and span.last > until:
                break
    return span
