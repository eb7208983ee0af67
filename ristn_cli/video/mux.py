"""Encoded parts and everything else of the source into one file, by the ffmpeg program. Re-encodes no video.

    part 1, part 2, ... --packets, exact times--> pipe (fragmented MP4) --+
    source: audio, subtitles, fonts, covers ------------------------------+--> ffmpeg -c copy --> target
    its metadata and chapters, shifted and cut --> a small text file -----+

The parts go through a pipe, so that no second copy of the video is ever on the disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import ffmpeg
import numpy as np

from ristn_cli.video.codecs import CODECS, DEFAULT_CRF, part_suffix
from ristn_cli.video.info import Frame, StreamInfo, VideoError, VideoInfo
from ristn_cli.video.parts import PartLayout, read_layout
from ristn_cli.video.plan import CONTAINERS, Container, StreamPlan, check_mux, container_of
from ristn_cli.video.program import QUIET, as_word, compile_command, run_apart, run_ffmpeg
from ristn_cli.video.source import FREE_RUNNING_FORMATS, file_url, open_input
from ristn_cli.video.tags import extract_covers, format_tags
from ristn_cli.video.verify import check_stream_list, drops_hidden_sound
from ristn_cli.video.writer import FrameWriter

MICROSECOND = Fraction(1, 1_000_000)
TRIED_SECONDS = Fraction(10)
STDOUT = Path("-")


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
) -> None:
    """Write `target`: the frames of `parts` in order, and every other stream of `source` by the plan of `check_mux`.

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
    container = container_of(target)
    rate = rate or source.rate
    layout = replace(read_layout(parts, rate), adds_intervals=container.muxer in ("mp4", "mov"))
    plan = check_mux(
        source,
        target,
        codec=codec or layout.codec,
        with_audio=with_audio,
        with_subtitles=with_subtitles,
        drop_unsupported=drop_unsupported,
    )
    is_trimmed = start is not None or end is not None
    zero = source.start_time + (start or 0) if is_trimmed else _clock_zero(source)
    until = None if end is None else source.start_time + end
    # Beside the target: what a killed process leaves goes with the job's folder.
    with tempfile.TemporaryDirectory(prefix="ristn-mux-", dir=target.parent) as scratch:
        tags = Path(scratch) / "tags.txt"
        tags.write_text(format_tags(source, zero, until), encoding="utf-8")
        # Matroska keeps covers as attachments, and ffmpeg would write them as video.
        covers = extract_covers(source, plan, Path(scratch)) if container.holds_attachments else {}
        hides = not is_trimmed and drops_hidden_sound(source, target, plan)
        clip = _Clip(zero, until, is_trimmed, hides)
        others = _cut_subtitles(source, plan, clip, Path(scratch)) if clip.drops_before else {}
        if clip.drops_before and not container.holds_attachments:
            # The cut would drop the only packet of a still.
            stills = [entry for entry in plan if entry.stream.is_still]
            for index, (path, _) in extract_covers(source, stills, Path(scratch)).items():
                others[index] = (path, ffmpeg.input(as_word(str(path)))["0"])
        command = _command(source, target, container, plan, layout, rate, tags, covers, others, clip)
        try:
            run_ffmpeg(command, parts, layout, target)
        except BaseException:
            target.unlink(missing_ok=True)
            raise


def stream_mux(
    parts: Iterable[Path],
    source: VideoInfo,
    sink: int,
    *,
    codec: str,
    rate: Fraction,
    start: Fraction | None = None,
    end: Fraction | None = None,
    with_audio: bool = True,
    with_subtitles: bool = True,
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
    plan = check_mux(source, "-.mkv", codec=codec, with_audio=with_audio, with_subtitles=with_subtitles)
    is_trimmed = start is not None or end is not None
    zero = source.start_time + (start or 0) if is_trimmed else _clock_zero(source)
    until = None if end is None else source.start_time + end
    clip = _Clip(zero, until, is_trimmed, not is_trimmed and drops_hidden_sound(source, Path("-.mkv"), plan))
    with tempfile.TemporaryDirectory(prefix="ristn-mux-") as scratch:
        tags = Path(scratch) / "tags.txt"
        tags.write_text(format_tags(source, zero, clip.until), encoding="utf-8")
        covers = extract_covers(source, plan, Path(scratch))
        others = _cut_subtitles(source, plan, clip, Path(scratch)) if clip.drops_before else {}
        others |= _describe_sound(source, plan, clip, Path(scratch))
        command = _command(source, STDOUT, container, plan, layout, rate, tags, covers, others, clip)
        run_ffmpeg(command, chain([first], coming), layout, Path("standard output"), sink)


def try_mux(
    source: VideoInfo,
    target: str | Path,
    *,
    width: int,
    height: int,
    sample_aspect_ratio: Fraction | None = None,
    codec: str | None = None,
    crf: float = DEFAULT_CRF,
    preset: str = "medium",
    pixel_format: str | None = None,
    encoder_options: Mapping[str, str] | None = None,
    has_alpha: bool = False,
    with_audio: bool = True,
    with_subtitles: bool = True,
    drop_unsupported: bool = False,
) -> None:
    """Do the whole job with one black frame and the first seconds of the other streams, and throw it away.

    It finds out before any frame is computed what no table knows: an encoder that is missing, has no hardware here or
    refuses size or options, and a mux that fails. Raises VideoError as `FrameWriter` and `join_and_mux` do.
    """
    image = np.zeros((height, width, 3), np.uint16 if source.bit_depth > 8 else np.uint8)
    with tempfile.TemporaryDirectory(prefix="ristn-try-") as scratch:
        part = Path(scratch) / f"part{part_suffix(codec)}"
        with FrameWriter(
            part,
            width=width,
            height=height,
            rate=source.rate,
            time_base=source.time_base,
            color=source.color,
            sample_aspect_ratio=sample_aspect_ratio or source.sample_aspect_ratio,
            codec=codec,
            crf=crf,
            preset=preset,
            pixel_format=pixel_format,
            encoder_options=encoder_options,
            mastering=source.mastering,
            has_alpha=has_alpha,
        ) as writer:
            writer.write(Frame(image, source.start_time))
        join_and_mux(
            [part],
            source,
            Path(scratch) / f"tried{Path(target).suffix}",
            end=TRIED_SECONDS,
            with_audio=with_audio,
            with_subtitles=with_subtitles,
            drop_unsupported=drop_unsupported,
        )
        plan = check_mux(
            source,
            target,
            codec=codec,
            with_audio=with_audio,
            with_subtitles=with_subtitles,
            drop_unsupported=drop_unsupported,
        )
        check_stream_list(Path(scratch) / f"tried{Path(target).suffix}", plan, is_trimmed=True)


def _clock_zero(source: VideoInfo) -> Fraction:
    """The source time that becomes 0 in an untrimmed output, on the video's own grid."""
    names = source.container.split(",")
    if not any(name in FREE_RUNNING_FORMATS for name in names):
        return Fraction(0)
    return source.origin // source.time_base * source.time_base


@dataclass(frozen=True)
class _Clip:
    """The source time that becomes zero, the source time to stop at, and whether anything is cut off at all.

    `hides_before` tells that packets from before zero are there, and not to be shown: an edit list of the source says
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


def _command(
    source: VideoInfo,
    target: Path,
    container: Container,
    plan: Sequence[StreamPlan],
    layout: PartLayout,
    rate: Fraction,
    tags: Path,
    covers: dict[int, tuple[Path, str]],
    others: dict[int, tuple[Path, Any]],
    clip: _Clip,
) -> list[str]:
    """The ffmpeg command: the parts, the tags, the source; one map an output stream, in the source's order.

    `others` are streams that come from files of their own, already cut: by their index there, the file, and its stream
    as an input.

    Without -copyts ffmpeg moves each input's earliest time to zero; -itsoffset says where it belongs instead.
    """
    begin = layout.first_pts * layout.time_base - clip.zero
    parts_input = ffmpeg.input("pipe:0", f=layout.pipe_format, itsoffset=_seconds(begin))
    tags_input = ffmpeg.input(as_word(str(tags)), f="ffmetadata")
    source_input = _cut_input(file_url(source.path), source.origin, clip)
    video = next(entry.stream for entry in plan if entry.action == "upscale")
    # ffmpeg-python lists only inputs that something is mapped from; an absent stream is mapped to bring in the tags.
    maps = [parts_input["v:0"], tags_input["999?"]]
    output = {"c": "copy", "map_metadata": "1", "map_chapters": "1", "map_metadata:s:0": "1:s:0"}
    output["disposition:0"] = "+".join(video.dispositions) or "0"
    # With a copy this only states the rate; ffmpeg's own guess falls for the first decoding intervals.
    output["r:0"] = str(rate)
    if clip.drops_before:
        output["copypriorss"] = "0"  # else packets from before the cut come along, and Matroska moves all to hold them
    inputs = ["pipe:0", str(tags)]
    position = 0
    extra = _language_tag(video, 0, container)
    for entry in plan:
        if entry.action not in ("copy", "convert") or entry.stream.index in covers:
            continue
        position += 1
        if entry.stream.index in others:
            path, stream_input = others[entry.stream.index]
            maps.append(stream_input)
            name, index = str(path), 0
        else:
            maps.append(source_input[str(entry.stream.index)])
            name, index = file_url(source.path), entry.stream.index
        if name not in inputs:
            inputs.append(name)
        output[f"map_metadata:s:{position}"] = f"{inputs.index(name)}:s:{index}"
        dispositions = [*entry.stream.dispositions, *(["attached_pic"] if entry.stream.is_cover else [])]
        output[f"disposition:{position}"] = "+".join(dispositions) or "0"
        if entry.stream.title is not None:
            output[f"metadata:s:{position}"] = f"title={entry.stream.title}"
        extra += _language_tag(entry.stream, position, container)
        if entry.action == "convert":
            output[f"c:{position}"] = entry.codec
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
        extra += ["-attach", str(path), f"-metadata:s:{number}", f"mimetype={mime_type}"]
    at = len(command) - 1 - command[::-1].index(url)
    return [*command[:at], *extra, *command[at:]]


def _language_tag(stream: StreamInfo, position: int, container: Container) -> list[str]:
    """The option for the language of the output stream at `position`, where the container has another code for it."""
    language = container.languages.get(stream.language or "")
    return [] if language is None else [f"-metadata:s:{position}", f"language={language}"]


def _cut_input(name: str, origin: Fraction, clip: _Clip) -> Any:
    """A file as an input of ffmpeg, its clock moved so that the clip's zero is 0, and cut when trimmed.

    `origin` is the file's own zero.
    """
    if not clip.drops_before:
        return ffmpeg.input(as_word(name), itsoffset=_seconds(origin - clip.zero))
    options = {"ss": _seconds(clip.zero), "seek_timestamp": "1"}
    if clip.until is not None:
        options["t"] = _seconds(clip.until - clip.zero)
    return ffmpeg.input(as_word(name), **options)


def _cut_subtitles(
    source: VideoInfo, plan: Sequence[StreamPlan], clip: _Clip, folder: Path
) -> dict[int, tuple[Path, Any]]:
    """Text subtitles to be converted, cut in a pass of their own; as `others` of `_command`.

    ffmpeg drops converted events from before the cut only by an option that would drop B-frames of the video too.
    """
    cut: dict[int, tuple[Path, Any]] = {}
    for entry in plan:
        if entry.action != "convert" or entry.stream.kind != "subtitle":
            continue
        path = folder / f"subtitles-{entry.stream.index}.mks"
        stream = _cut_input(file_url(source.path), source.origin, clip)[str(entry.stream.index)]
        output = ffmpeg.output(
            stream, as_word(str(path)), **{"c:s": "subrip", "ss": "0", "f": "matroska", "map_chapters": "-1"}
        )
        run_apart(output, f"{source.path}: the subtitle stream {entry.stream.index} cannot be converted")
        # Where ffmpeg says that it starts.
        cut[entry.stream.index] = (path, ffmpeg.input(as_word(str(path)), itsoffset=_seconds(_origin(path)))["0"])
    return cut


def _describe_sound(
    source: VideoInfo, plan: Sequence[StreamPlan], clip: _Clip, folder: Path
) -> dict[int, tuple[Path, Any]]:
    """Sound that tells only in its packets what it is, each stream copied into a file that says it at its beginning.

    Such is AAC in a transport stream. Matroska must know before its first packet, unless it can go back in its file.
    """
    described: dict[int, tuple[Path, Any]] = {}
    for entry in plan:
        if entry.stream.kind != "audio" or entry.action != "copy" or entry.stream.codec != "aac":
            continue
        with open_input(source.path) as container:
            if container.streams[entry.stream.index].codec_context.extradata:
                continue
        path = folder / f"sound-{entry.stream.index}.mka"
        stream = ffmpeg.input(as_word(file_url(source.path)), copyts=None)[str(entry.stream.index)]
        output = ffmpeg.output(stream, as_word(str(path)), c="copy", f="matroska", map_chapters="-1")
        run_apart(output, f"{source.path}: the sound of stream {entry.stream.index} cannot be copied")
        described[entry.stream.index] = (path, _cut_input(str(path), _origin(path), clip)["0"])
    return described


def _origin(path: Path) -> Fraction:
    """Where a file's clock begins."""
    with open_input(path) as container:
        return Fraction(container.start_time or 0, av.time_base)


def _seconds(time: Fraction) -> str:
    """Seconds as ffmpeg takes them, to its own grain, the microsecond."""
    return f"{float(round(time / MICROSECOND) * MICROSECOND):.6f}"
