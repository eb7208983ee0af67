"""Streams that cannot go from the source into the final mux as they are: each is written to a file of its own first."""

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
# Seconds on both sides of a clip that are read as well: it is cut exactly later.
CLIP_MARGIN = Fraction(1)
# Containers whose packets may bring another description of their stream than the header has.
REDESCRIBING_FORMATS = ("flv", "mov")


@dataclass(frozen=True)
class Clip:
    """The source time that becomes zero, the source time to stop at, and whether anything is cut off at all.

    `hides_before` is true when packets from before zero exist but must not be shown: an edit list of the source says
    so, and the target has none.
    """

    zero: Fraction
    until: Fraction | None
    is_trimmed: bool
    hides_before: bool = False

    @property
    def drops_before(self) -> bool:
        """Whether packets from before zero are left out."""
        return self.is_trimmed or self.hides_before


@dataclass(frozen=True)
class Prepared:
    """Streams as files of their own, by their index in the source: the file, and its stream as an input of ffmpeg.

    `empty` are streams without a packet in the clip, of which no file can be made.
    """

    files: dict[int, tuple[Path, Any]]
    empty: frozenset[int] = frozenset()


def prepare_streams(
    source: VideoInfo, plan: Sequence[StreamPlan], clip: Clip, folder: Path, *, is_matroska: bool, is_pipe: bool
) -> Prepared:
    """Write to `folder` what the mux of `plan` needs as files. Raises VideoError when ffmpeg fails."""
    files: dict[int, tuple[Path, Any]] = {}
    empty: set[int] = set()
    if clip.drops_before and not is_matroska:
        # The cut would drop the only packet of a still.
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
    """A file as an input of ffmpeg, its clock moved so that the clip's zero is 0, and cut at the clip's ends.

    `origin` is the file's own zero.
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
    """Text subtitles to be converted, cut in a pass of their own; None when the clip has no event of them.

    ffmpeg drops converted events from before the cut only by an option that would drop B-frames of the video too.
    """
    path = folder / f"subtitles-{index}.mks"
    stream = cut_input(source.path, source.origin, clip)[str(index)]
    output = ffmpeg.output(
        stream, as_word(file_url(path)), **{"c:s": "subrip", "ss": "0", "f": "matroska", "map_chapters": "-1"}
    )
    run_apart(output, f"{source.path}: the subtitle stream {index} cannot be converted")
    try:
        begin = _origin(path)  # where ffmpeg says that it starts
    except VideoError:  # FFmpeg does not open a Matroska file without a single packet
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
    """False for AAC that describes itself only in its packets, as in a transport stream.

    Matroska must know before its first packet, unless it can go back in its file.
    """
    with open_input(source.path) as container:
        stream = container.streams[index]
        return has_decoder(stream) and bool(stream.codec_context.extradata)


def _is_redescribed(source: VideoInfo, index: int, clip: Clip) -> bool:
    """True for AAC described in the header and in the clip again by a packet, as FLV may have it.

    The Matroska muxer of FFmpeg then writes beyond the space that it left for the description: the streams are listed
    twice, with other codecs.
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
    """Seconds after the source's beginning at which to seek for a clip; None to read from the beginning.

    FFmpeg seeks a little before that, and in FLV a time before the first lands seconds after it.
    """
    begin = clip.zero - source.origin - CLIP_MARGIN
    return begin if clip.drops_before and begin >= 1 else None


def _copy_audio(source: VideoInfo, index: int, clip: Clip, path: Path, muxer: str) -> tuple[Path, Any]:
    """An audio stream copied to a file that describes it in its header, and nowhere else; not much more than the clip.

    The options count from the beginning of the source.
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
    """Where a file's clock begins."""
    with open_input(path) as container:
        return Fraction(container.start_time or 0, av.time_base)


def format_seconds(time: Fraction) -> str:
    """Seconds as ffmpeg takes them, to its own grain, the microsecond."""
    return f"{float(round(time / MICROSECOND) * MICROSECOND):.6f}"
