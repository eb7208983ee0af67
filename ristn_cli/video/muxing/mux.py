"""Mux encoded parts and all other streams of the source with the ffmpeg program. Does not encode video.

    part 1, part 2, ... --packets, exact times--> pipe (fragmented MP4) --+
    source: audio, subtitles, fonts, covers ------------------------------+--> ffmpeg -c copy --> target
    its metadata and chapters, shifted and cut --> a small text file -----+

The pipe avoids a second copy of the video on disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import ffmpeg
from av.format import ContainerFormat, Flags

from ristn_cli.own_files import open_new
from ristn_cli.video.codecs import CODECS
from ristn_cli.video.formats import file_url
from ristn_cli.video.muxing.audio_times import drops_hidden_audio
from ristn_cli.video.muxing.joining import PartLayout, read_layout
from ristn_cli.video.muxing.output import Output
from ristn_cli.video.muxing.prepared import Clip, Prepared, cut_input, format_seconds, prepare_streams
from ristn_cli.video.muxing.program import QUIET, as_word, compile_command, run_ffmpeg
from ristn_cli.video.muxing.stream_plan import Container, container_of
from ristn_cli.video.muxing.tags import extract_covers, format_tags
from ristn_cli.video.reading.source import FREE_RUNNING_FORMATS, open_input
from ristn_cli.video.reading.streams import as_fraction
from ristn_cli.video.types import StreamInfo, VideoError, VideoInfo

MATROSKA_MUXERS = ("matroska", "webm")
MATROSKA_STREAM = Path("-.mkv")
"""Represents standard output; its suffix selects the container."""
# Channel layouts that encoders support. Other layouts are converted to the most similar one.
LAYOUTS = {
    "libopus": "mono|stereo|3.0|quad|5.0|5.1|6.1|7.1",
    "aac": "mono|stereo|2.1|3.0|3.0(back)|3.1|4.0|4.1|quad|quad(side)|5.0|5.0(side)|5.1|5.1(side)|6.0|6.1|7.0|7.1|"
    "7.1(wide)|octagonal",
}

MAX_TITLE = 1000
"""Maximum length of a stream's title, which is an ffmpeg argument, in characters."""


def join_and_mux(parts: Sequence[Path], output: Output, target: str | Path) -> None:
    """Write the frames of `parts` in order, and every other stream as planned, to the file `target`.

    Parts contain absolute times on the source's clock, as FrameWriter writes them. Without a trim, the file keeps that
    clock, so that streams with a late start keep it; a transport stream's clock is moved to zero. With a trim, the
    start of the range becomes zero. Other streams are cut to whole packets, subtitles to those that start in the range,
    chapters exactly.

    Raises VideoError if parts are missing, out of order or differ in format, if the container does not support a
    stream, or if ffmpeg fails. Then `target` is removed.
    """
    target = Path(target)
    if not parts:
        raise VideoError(f"{target}: no parts to join; expected at least one")
    mux_clip(parts, output, target, clip_of(output, target))


def mux_clip(parts: Sequence[Path], output: Output, target: Path, clip: Clip) -> None:
    """Mux as `join_and_mux` does, for any clip of the source."""
    layout = read_layout(parts, output.shape.rate)
    layout = replace(layout, adds_intervals=container_of(target).muxer in ("mp4", "mov"))
    # In the target's folder: if the process is killed, it is removed with the job's folder.
    with tempfile.TemporaryDirectory(prefix="ristn-mux-", dir=target.parent) as scratch:
        extras = _prepare_extras(output, container_of(target), clip, Path(scratch), is_pipe=False)
        command = _command(output, target, layout, clip, extras)
        open_new(target).close()  # ffmpeg would follow an existing link
        try:
            run_ffmpeg(command, parts, layout, target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def clip_of(output: Output, target: Path) -> Clip:
    """Return the clip of the source that an output contains."""
    source = output.source
    if not output.is_trimmed:
        return Clip(_clock_zero(source), None, False, drops_hidden_audio(source, target, output.streams))
    until = None if output.end is None else source.start_time + output.end
    return Clip(source.start_time + (output.start or 0), until, True)


def stream_mux(parts: Iterable[Path], output: Output, sink: int) -> None:
    """Mux as `join_and_mux` does, as Matroska into the open file `sink`, while parts are still being encoded.

    `parts` may block until the next part is finished. A part has been read when the next one is requested. Raises
    VideoError as `join_and_mux` does, and if the program that reads from `sink` closes it.
    """
    coming = iter(parts)
    first = next(coming)
    # The reordering of later parts is unknown; the codec's maximum covers them all.
    depth = CODECS[output.encoder.codec].reorder_depth
    layout = replace(read_layout([first], output.shape.rate), reorder_depth=depth, adds_intervals=False)
    clip = clip_of(output, MATROSKA_STREAM)
    with tempfile.TemporaryDirectory(prefix="ristn-mux-") as scratch:
        extras = _prepare_extras(output, container_of(MATROSKA_STREAM), clip, Path(scratch), is_pipe=True)
        command = _command(output, MATROSKA_STREAM, layout, clip, extras)
        run_ffmpeg(command, chain([first], coming), layout, Path("standard output"), sink)


@dataclass(frozen=True)
class _Extras:
    """Additional inputs of a mux: the file of tags, covers to attach, and prepared streams."""

    tags: Path
    covers: dict[int, tuple[Path, str]]
    prepared: Prepared


def _prepare_extras(output: Output, container: Container, clip: Clip, folder: Path, *, is_pipe: bool) -> _Extras:
    """Write the additional inputs to a folder. Raises VideoError if ffmpeg fails."""
    source, plan = output.source, output.streams
    tags = folder / "tags.txt"
    tags.write_text(format_tags(source, clip.zero, clip.until), encoding="utf-8")
    # Matroska stores covers as attachments, but ffmpeg would write them as video.
    covers = extract_covers(source, plan, folder) if container.holds_attachments else {}
    is_matroska = container.muxer in MATROSKA_MUXERS
    prepared = prepare_streams(source, plan, clip, folder, is_matroska=is_matroska, is_pipe=is_pipe)
    return _Extras(tags, covers, prepared)


def _clock_zero(source: VideoInfo) -> Fraction:
    """Return the source time that becomes 0 in an untrimmed output, as a multiple of the video's time base."""
    names = source.container.split(",")
    if not any(name in FREE_RUNNING_FORMATS for name in names):
        return Fraction(0)
    return source.origin // source.time_base * source.time_base


def _command(output: Output, target: Path, layout: PartLayout, clip: Clip, extras: _Extras) -> list[str]:
    """Return the ffmpeg command: inputs are parts, tags and source; one map for each output stream, in source order.

    Without -copyts, ffmpeg moves the earliest time of each input to zero. -itsoffset sets the correct start.
    """
    source, container, prepared = output.source, container_of(target), extras.prepared
    begin = layout.first_pts * layout.time_base - clip.zero
    parts_input = ffmpeg.input("pipe:0", f=layout.pipe_format, itsoffset=format_seconds(begin))
    tags_input = ffmpeg.input(as_word(file_url(extras.tags)), f="ffmetadata")
    source_input = cut_input(source.path, source.origin, clip)
    video = next(entry.stream for entry in output.streams if entry.action == "upscale")
    # ffmpeg-python lists only inputs with a map, so a stream that does not exist is mapped to include the tags.
    maps = [parts_input["v:0"], tags_input["999?"]]
    options = {"c": "copy", "map_metadata": "1", "map_chapters": "1", "map_metadata:s:0": "1:s:0"}
    options["disposition:0"] = "+".join(video.dispositions) or "0"
    # For a copied stream, this only sets the stated rate. ffmpeg's guess depends on the first decoding intervals.
    options["r:0"] = str(output.shape.rate)
    if clip.drops_before:
        options["copypriorss"] = "0"  # drop packets before the cut
    inputs = ["pipe:0", file_url(extras.tags)]
    position = 0
    extra = _language_tag(video, 0, container)
    for entry in output.streams:
        if entry.action not in ("copy", "convert") or entry.stream.index in {*extras.covers, *prepared.empty}:
            continue
        position += 1
        if entry.stream.index in prepared.files:
            path, stream_input = prepared.files[entry.stream.index]
            maps.append(stream_input)
            name, index = file_url(path), 0
        else:
            maps.append(source_input[str(entry.stream.index)])
            name, index = file_url(source.path), entry.stream.index
        if name not in inputs:
            inputs.append(name)
        options[f"map_metadata:s:{position}"] = f"{inputs.index(name)}:s:{index}"
        dispositions = [*entry.stream.dispositions, *(["attached_pic"] if entry.stream.is_cover else [])]
        options[f"disposition:{position}"] = "+".join(dispositions) or "0"
        if entry.stream.title is not None:
            options[f"metadata:s:{position}"] = f"title={entry.stream.title[:MAX_TITLE]}"
        extra += _language_tag(entry.stream, position, container)
        if entry.action == "convert":
            options[f"c:{position}"] = entry.codec
            if entry.stream.kind == "audio":
                # Skip decoding errors, as for the video. Otherwise ffmpeg would end with an error.
                options["max_error_rate"] = "1"
                if entry.codec in LAYOUTS:
                    options[f"filter:{position}"] = f"aformat=channel_layouts={LAYOUTS[entry.codec]}"
    options["f"] = container.muxer
    if container.muxer in ("mp4", "mov"):
        # Edit lists use the movie's time base. Its default of 1 ms would round a late start.
        options["movie_timescale"] = options["video_track_timescale"] = str(layout.time_base.denominator)
        if layout.codec == "hevc":
            options["tag:0"] = "hvc1"  # required by Apple's players
    url = "pipe:1" if target == MATROSKA_STREAM else file_url(target)
    stream = ffmpeg.output(*maps, as_word(url), **options)
    stream = stream.global_args(*QUIET).overwrite_output()
    command = compile_command(stream)
    assert [command[k + 1] for k, word in enumerate(command) if word == "-i"] == inputs
    for number, (path, mime_type) in enumerate(extras.covers.values(), start=position + 1):
        extra += ["-attach", file_url(path), f"-metadata:s:{number}", f"mimetype={mime_type}"]
    at = len(command) - 1 - command[::-1].index(url)
    return [*command[:at], *extra, *command[at:], *_hold_clock(source, inputs)]


def _hold_clock(source: VideoInfo, inputs: Sequence[str]) -> list[str]:
    """Return options for a null output of the source stream that starts first.

    For transport and program streams, ffmpeg starts the clock at the first stream that is used. The source's video is
    not used, so audio with a later start would be moved to the start of the video.
    """
    name = file_url(source.path)
    if name not in inputs:
        return []
    if Flags.ts_discont not in Flags(ContainerFormat(source.container.split(",")[0], "r").flags):
        return []
    with open_input(source.path) as container:
        bases = {stream.index: as_fraction(stream.time_base) for stream in container.streams}
        begins = {
            stream.index: stream.start_time * base
            for stream in container.streams
            if stream.start_time is not None and (base := bases[stream.index]) is not None
        }
    if not begins:
        return []
    first = min(begins, key=lambda index: begins[index])
    mapped = ["-map", f"{inputs.index(name)}:{first}", "-c", "copy", "-copy_unknown"]
    return [*mapped, "-frames", "1", "-f", "null", "-"]


def _language_tag(stream: StreamInfo, position: int, container: Container) -> list[str]:
    """Return the language option of the output stream at `position`, if the container needs another code."""
    language = container.languages.get(stream.language or "")
    return [] if language is None else [f"-metadata:s:{position}", f"language={language}"]
