"""Write streams to separate files if the final mux cannot read them directly from the source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import ffmpeg

from ristn_cli.video.formats import file_url
from ristn_cli.video.muxing.program import as_word, read_file, run_apart
from ristn_cli.video.muxing.stream_plan import CAPTIONS, StreamPlan
from ristn_cli.video.muxing.tags import extract_covers
from ristn_cli.video.reading.captions import format_subrip, read_caption_text
from ristn_cli.video.reading.source import open_input, seek_before
from ristn_cli.video.reading.streams import as_fraction, has_decoder, read_packets
from ristn_cli.video.types import VideoError, VideoInfo

MICROSECOND = Fraction(1, 1_000_000)
# Seconds that are also read before and after a clip, which is cut exactly later.
CLIP_MARGIN = Fraction(1)
# Containers whose packets may contain another codec configuration than the header.
REDESCRIBING_FORMATS = ("flv", "mov")


@dataclass(frozen=True)
class Clip:
    """Part of the source: the source times that become zero and at which it ends, and whether the source is cut.

    `hides_before` means that an edit list of the source hides packets before zero, and that the target has no edit
    list.
    """

    zero: Fraction
    until: Fraction | None
    is_trimmed: bool
    hides_before: bool = False

    @property
    def drops_before(self) -> bool:
        return self.is_trimmed or self.hides_before


@dataclass(frozen=True)
class Prepared:
    """Prepared files: source stream index to the file and its stream as an ffmpeg input.

    `empty` are streams without packets in the clip, which cannot be written to a file.
    """

    files: dict[int, tuple[Path, Any]]
    empty: frozenset[int] = frozenset()


def prepare_streams(
    source: VideoInfo, plan: Sequence[StreamPlan], clip: Clip, folder: Path, *, is_matroska: bool, is_pipe: bool
) -> Prepared:
    """Write the streams that need it to files in `folder`. Raises VideoError if ffmpeg fails."""
    files: dict[int, tuple[Path, Any]] = {}
    empty: set[int] = set()
    if clip.drops_before and not is_matroska:
        # Cutting would drop the only packet of a still image.
        stills = [entry for entry in plan if entry.stream.is_still]
        for index, (path, _) in extract_covers(source, stills, folder).items():
            files[index] = (path, read_file(path)["0"])
    for entry in plan:
        index = entry.stream.index
        is_captions = index == CAPTIONS.index
        if entry.action == "convert" and entry.stream.kind == "subtitle" and (clip.drops_before or is_captions):
            cut = _write_captions if is_captions else _cut_subtitles
            subtitles = cut(source, index, clip, folder)
            if subtitles is None:
                empty.add(index)
            else:
                files[index] = subtitles
        elif is_matroska and entry.stream.codec == "aac" and entry.action == "copy":
            if is_pipe and not _has_description(source, index):
                files[index] = _copy_audio(source, index, clip, folder / f"audio-{index}.mka", "matroska")
            elif not is_pipe and _is_redescribed(source, index, clip):
                files[index] = _copy_audio(source, index, clip, folder / f"audio-{index}.nut", "nut")
    return Prepared(files, frozenset(empty))


def cut_input(path: Path, origin: Fraction, clip: Clip) -> Any:
    """Return a file as an ffmpeg input, with the clip's zero moved to 0, and cut to the clip.

    `origin` is the start time that the file states.
    """
    options: dict[str, str] = {}
    if clip.drops_before:
        options = {"ss": format_seconds(clip.zero), "seek_timestamp": "1"}
        begin = clip.zero
    else:
        options = {"itsoffset": format_seconds(origin - clip.zero)}
        begin = origin
    if clip.until is not None:
        options["t"] = format_seconds(max(clip.until - begin, MICROSECOND))
    return read_file(path, **options)


def _cut_subtitles(source: VideoInfo, index: int, clip: Clip, folder: Path) -> tuple[Path, Any] | None:
    """Convert and cut text subtitles in a separate pass. Returns None if the clip has no events.

    In a single pass, the ffmpeg option that drops converted events before the cut would also drop B-frames of the
    video.
    """
    path = folder / f"subtitles-{index}.mks"
    stream = cut_input(source.path, source.origin, clip)[str(index)]
    output = ffmpeg.output(
        stream, as_word(file_url(path)), **{"c:s": "subrip", "ss": "0", "f": "matroska", "map_chapters": "-1"}
    )
    run_apart(output, f"{source.path}: the subtitle stream {index} cannot be converted")
    try:
        begin = _origin(path)  # the start time in the file
    except VideoError:  # FFmpeg cannot open Matroska without packets
        return None
    return path, read_file(path, itsoffset=format_seconds(begin))["0"]


def _write_captions(source: VideoInfo, _: int, clip: Clip, folder: Path) -> tuple[Path, Any] | None:
    """The text of closed captions, as subtitles; None when the clip shows none."""
    begin = max(clip.zero, source.start_time)
    captions = list(read_caption_text(source, begin, clip.until, folder / "captions.bin"))
    if not captions:
        return None
    path = folder / "captions.srt"
    path.write_text(format_subrip(captions, clip.zero), encoding="utf-8")
    return path, ffmpeg.input(as_word(file_url(path)), f="srt")["0"]


def _has_description(source: VideoInfo, index: int) -> bool:
    """Return whether the header has the codec configuration of AAC. In a transport stream, only packets have it.

    Matroska needs it before the first packet, unless it can seek back in its file.
    """
    with open_input(source.path) as container:
        stream = container.streams[index]
        return has_decoder(stream) and bool(stream.codec_context.extradata)


def _is_redescribed(source: VideoInfo, index: int, clip: Clip) -> bool:
    """Return whether AAC has a codec configuration in the header and another in a packet of the clip, as in FLV.

    FFmpeg's Matroska muxer would then write beyond the space that it reserved, which corrupts the list of streams.
    """
    if not source.container.startswith(REDESCRIBING_FORMATS):
        return False
    with open_input(source.path) as container:
        stream = container.streams[index]
        begin = _reading_begin(source, clip)
        if begin is not None:
            seek_before(container, stream, source.origin + begin)
        for packet in read_packets(container, stream):
            if packet.has_sidedata("new_extradata"):
                return True
            time_base = as_fraction(stream.time_base)
            if clip.until is None or packet.dts is None or time_base is None:
                continue
            if packet.dts * time_base > clip.until + CLIP_MARGIN:
                return False
    return False


def _reading_begin(source: VideoInfo, clip: Clip) -> Fraction | None:
    """Return the seek position for a clip, in seconds after the source's start; None to read from the start.

    FFmpeg seeks slightly before that, and in FLV a seek before the start ends seconds after it.
    """
    begin = clip.zero - source.origin - CLIP_MARGIN
    return begin if clip.drops_before and begin >= 1 else None


def _copy_audio(source: VideoInfo, index: int, clip: Clip, path: Path, muxer: str) -> tuple[Path, Any]:
    """Copy audio, cut to slightly more than the clip, to a file with the codec configuration only in its header.

    Seek options of ffmpeg count from the source's start.
    """
    options: dict[str, str | None] = {"copyts": None}
    begin = _reading_begin(source, clip)
    if begin is not None:
        options["ss"] = format_seconds(begin)
    if clip.until is not None:
        options["t"] = format_seconds(max(clip.until - source.origin + CLIP_MARGIN - (begin or 0), CLIP_MARGIN))
    stream = read_file(source.path, **options)[str(index)]
    output = ffmpeg.output(stream, as_word(file_url(path)), c="copy", f=muxer, map_chapters="-1")
    run_apart(output, f"{source.path}: the audio stream {index} cannot be copied")
    return path, cut_input(path, _origin(path), clip)["0"]


def _origin(path: Path) -> Fraction:
    """Return the start time that a file states."""
    with open_input(path) as container:
        return Fraction(container.start_time or 0, av.time_base)


def format_seconds(time: Fraction) -> str:
    """Format seconds for ffmpeg, rounded to its resolution of 1 us."""
    return f"{float(round(time / MICROSECOND) * MICROSECOND):.6f}"
