"""Encoded parts and everything else of the source into one file, by the ffmpeg program. Re-encodes no video.

    part 1, part 2, ... --packets, exact times--> pipe (fragmented MP4) --+
    source: audio, subtitles, fonts, covers ------------------------------+--> ffmpeg -c copy --> target
    its metadata and chapters, shifted and cut --> a small text file -----+

The parts go through a pipe, so that no second copy of the video is ever on the disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import chain
from pathlib import Path

import ffmpeg
from av.format import ContainerFormat, Flags

from ristn_cli.own_files import open_new
from ristn_cli.video.codecs import CODECS
from ristn_cli.video.formats import file_url
from ristn_cli.video.muxing.audio_times import drops_hidden_sound
from ristn_cli.video.muxing.parts import PartLayout, read_layout
from ristn_cli.video.muxing.prepared import Clip, Prepared, cut_input, format_seconds, prepare_streams
from ristn_cli.video.muxing.program import QUIET, as_word, compile_command, run_ffmpeg
from ristn_cli.video.muxing.stream_plan import CONTAINERS, Container, StreamPlan, check_mux, container_of
from ristn_cli.video.muxing.tags import extract_covers, format_tags
from ristn_cli.video.reading.source import FREE_RUNNING_FORMATS, open_input
from ristn_cli.video.reading.streams import as_fraction
from ristn_cli.video.types import StreamInfo, VideoError, VideoInfo

MATROSKA_MUXERS = ("matroska", "webm")
STDOUT = Path("-")
# Channel layouts that an encoder takes; audio of another is brought to the one that is most like it.
LAYOUTS = {
    "libopus": "mono|stereo|3.0|quad|5.0|5.1|6.1|7.1",
    "aac": "mono|stereo|2.1|3.0|3.0(back)|3.1|4.0|4.1|quad|quad(side)|5.0|5.0(side)|5.1|5.1(side)|6.0|6.1|7.0|7.1|"
    "7.1(wide)|octagonal",
}

LONGEST_TITLE = 1000
"""Characters of a stream's title, which is an argument of ffmpeg."""


def join_and_mux(
    parts: Sequence[Path],
    source: VideoInfo,
    target: str | Path,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    with_audio: bool = True,
    with_subtitles: bool = True,
    drop_unsupported: bool = False,
    codec: str | None = None,
    rate: Fraction | None = None,
    plan: Sequence[StreamPlan] | None = None,
) -> None:
    """Write `target`: the frames of `parts` in order, and every other stream of `source` by `plan`.

    `plan` is what `try_mux` gives; without it that of `check_mux`, by the choices `with_audio` to `codec`.

    Parts hold absolute times on the source's clock, as FrameWriter writes them. Untrimmed, the output keeps that clock
    (a transport stream's is moved to zero), so that streams which start late stay late. With `start` or `end`, seconds
    after the first frame, `start` becomes zero and the other streams are cut to whole packets, subtitles to those that
    begin in the range, chapters exactly. `codec` is the parts' own when not given, `rate`, of frames a
    second, the source's. Raises VideoError for parts that
    are missing, disagree or are out of order, for streams the container cannot hold, and with the last lines of
    ffmpeg's messages when it fails; then `target` is removed.
    """
    target = Path(target)
    if not parts:
        raise VideoError(f"{target}: there are no parts to join; expected at least one")
    rate = rate or source.rate
    layout = layout_for(target, parts, rate)
    if plan is None:
        plan = check_mux(
            source,
            target,
            codec=codec or layout.codec,
            with_audio=with_audio,
            with_subtitles=with_subtitles,
            drop_unsupported=drop_unsupported,
        )
    mux_clip(parts, source, target, plan, clip_of(source, target, plan, start, end), layout, rate)


def mux_clip(
    parts: Sequence[Path],
    source: VideoInfo,
    target: Path,
    plan: Sequence[StreamPlan],
    clip: Clip,
    layout: PartLayout,
    rate: Fraction,
) -> None:
    """The mux of `join_and_mux`, by a plan and a clip that are settled."""
    container = container_of(target)
    # Beside the target: what a killed process leaves goes with the job's folder.
    with tempfile.TemporaryDirectory(prefix="ristn-mux-", dir=target.parent) as scratch:
        tags = Path(scratch) / "tags.txt"
        tags.write_text(format_tags(source, clip.zero, clip.until), encoding="utf-8")
        # Matroska keeps covers as attachments, and ffmpeg would write them as video.
        covers = extract_covers(source, plan, Path(scratch)) if container.holds_attachments else {}
        is_matroska = container.muxer in MATROSKA_MUXERS
        prepared = prepare_streams(source, plan, clip, Path(scratch), is_matroska=is_matroska, is_pipe=False)
        command = _command(source, target, container, plan, layout, rate, tags, covers, prepared, clip)
        open_new(target).close()  # ffmpeg would follow a link of this name
        try:
            run_ffmpeg(command, parts, layout, target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def layout_for(target: Path, parts: Sequence[Path], rate: Fraction) -> PartLayout:
    """What `parts` have in common, for the container of `target`."""
    return replace(read_layout(parts, rate), adds_intervals=container_of(target).muxer in ("mp4", "mov"))


def clip_of(
    source: VideoInfo, target: Path, plan: Sequence[StreamPlan], start: Fraction | None, end: Fraction | None
) -> Clip:
    """The clip from `start` to `end`, seconds after the first frame; the whole source when both are None."""
    if start is None and end is None:
        return Clip(_clock_zero(source), None, False, drops_hidden_sound(source, target, plan))
    return Clip(source.start_time + (start or 0), None if end is None else source.start_time + end, True)


def stream_mux(
    parts: Iterable[Path],
    source: VideoInfo,
    sink: int,
    *,
    codec: str,
    rate: Fraction,
    plan: Sequence[StreamPlan],
    start: Fraction | None = None,
    end: Fraction | None = None,
) -> None:
    """What `join_and_mux` does, into the open file `sink` as Matroska, while the parts are still in the making.

    `parts` may wait for the next; each was read when the one after it is asked for. Raises VideoError like
    `join_and_mux`, also when whoever reads from `sink` stopped doing so.
    """
    coming = iter(parts)
    first = next(coming)
    container = CONTAINERS[".mkv"]
    # How deep later parts are reordered cannot be looked up; the codec's own depth covers them all.
    depth = CODECS[codec].reorder_depth
    layout = replace(read_layout([first], rate), reorder_depth=depth, adds_intervals=False)
    clip = clip_of(source, Path("-.mkv"), plan, start, end)
    with tempfile.TemporaryDirectory(prefix="ristn-mux-") as scratch:
        tags = Path(scratch) / "tags.txt"
        tags.write_text(format_tags(source, clip.zero, clip.until), encoding="utf-8")
        covers = extract_covers(source, plan, Path(scratch))
        prepared = prepare_streams(source, plan, clip, Path(scratch), is_matroska=True, is_pipe=True)
        command = _command(source, STDOUT, container, plan, layout, rate, tags, covers, prepared, clip)
        run_ffmpeg(command, chain([first], coming), layout, Path("standard output"), sink)


def _clock_zero(source: VideoInfo) -> Fraction:
    """The source time that becomes 0 in an untrimmed output, on the video's own grid."""
    names = source.container.split(",")
    if not any(name in FREE_RUNNING_FORMATS for name in names):
        return Fraction(0)
    return source.origin // source.time_base * source.time_base


def _command(
    source: VideoInfo,
    target: Path,
    container: Container,
    plan: Sequence[StreamPlan],
    layout: PartLayout,
    rate: Fraction,
    tags: Path,
    covers: dict[int, tuple[Path, str]],
    prepared: Prepared,
    clip: Clip,
) -> list[str]:
    """The ffmpeg command: the parts, the tags, the source; one map an output stream, in the source's order.

    Without -copyts ffmpeg moves each input's earliest time to zero; -itsoffset says where it belongs instead.
    """
    begin = layout.first_pts * layout.time_base - clip.zero
    parts_input = ffmpeg.input("pipe:0", f=layout.pipe_format, itsoffset=format_seconds(begin))
    tags_input = ffmpeg.input(as_word(file_url(tags)), f="ffmetadata")
    source_input = cut_input(source.path, source.origin, clip)
    video = next(entry.stream for entry in plan if entry.action == "upscale")
    # ffmpeg-python lists only inputs that something is mapped from; an absent stream is mapped to bring in the tags.
    maps = [parts_input["v:0"], tags_input["999?"]]
    output = {"c": "copy", "map_metadata": "1", "map_chapters": "1", "map_metadata:s:0": "1:s:0"}
    output["disposition:0"] = "+".join(video.dispositions) or "0"
    # With a copy this only states the rate; ffmpeg's own guess falls for the first decoding intervals.
    output["r:0"] = str(rate)
    if clip.drops_before:
        output["copypriorss"] = "0"  # else packets from before the cut come along, and Matroska moves all to hold them
    inputs = ["pipe:0", file_url(tags)]
    position = 0
    extra = _language_tag(video, 0, container)
    for entry in plan:
        if entry.action not in ("copy", "convert") or entry.stream.index in {*covers, *prepared.empty}:
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
        output[f"map_metadata:s:{position}"] = f"{inputs.index(name)}:s:{index}"
        dispositions = [*entry.stream.dispositions, *(["attached_pic"] if entry.stream.is_cover else [])]
        output[f"disposition:{position}"] = "+".join(dispositions) or "0"
        if entry.stream.title is not None:
            output[f"metadata:s:{position}"] = f"title={entry.stream.title[:LONGEST_TITLE]}"
        extra += _language_tag(entry.stream, position, container)
        if entry.action == "convert":
            output[f"c:{position}"] = entry.codec
            if entry.stream.kind == "audio":
                # What cannot be decoded is passed over, as in the video; else ffmpeg would end with an error.
                output["max_error_rate"] = "1"
                if entry.codec in LAYOUTS:
                    output[f"filter:{position}"] = f"aformat=channel_layouts={LAYOUTS[entry.codec]}"
    output["f"] = container.muxer
    if container.muxer in ("mp4", "mov"):
        # The movie's clock holds the edit lists; its default of milliseconds would round a late start.
        output["movie_timescale"] = output["video_track_timescale"] = str(layout.time_base.denominator)
        if layout.codec == "hevc":
            output["tag:0"] = "hvc1"  # Apple's players insist on it
    url = "pipe:1" if target == STDOUT else file_url(target)
    stream = ffmpeg.output(*maps, as_word(url), **output)
    stream = stream.global_args(*QUIET).overwrite_output()
    command = compile_command(stream)
    assert [command[k + 1] for k, word in enumerate(command) if word == "-i"] == inputs
    for number, (path, mime_type) in enumerate(covers.values(), start=position + 1):
        extra += ["-attach", file_url(path), f"-metadata:s:{number}", f"mimetype={mime_type}"]
    at = len(command) - 1 - command[::-1].index(url)
    return [*command[:at], *extra, *command[at:], *_hold_clock(source, inputs)]


def _hold_clock(source: VideoInfo, inputs: Sequence[str]) -> list[str]:
    """An output of nothing, for the stream of the source that begins first.

    Of a transport or program stream ffmpeg takes the clock to begin with the first stream that is used. The video is
    not: audio that begins after it would be moved to its beginning.
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
    """The option for the language of the output stream at `position`, where the container has another code for it."""
    language = container.languages.get(stream.language or "")
    return [] if language is None else [f"-metadata:s:{position}", f"language={language}"]
