"""`ristn info`, and the description of streams and plans as text and JSON."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ristn_cli.cli.arguments import DebugOption, VideoStreamOption
from ristn_cli.cli.effects import Given
from ristn_cli.cli.terminal import format_seconds, reported_errors, show

if TYPE_CHECKING:
    from ristn_cli.job.plan import JobPlan
    from ristn_cli.video import Scan, StreamInfo, StreamPlan, VideoInfo

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def info(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="Video, image, or folder of numbered images.")],
    video_stream: VideoStreamOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show the content of a video: frame size, frame rate, colour, streams, chapters."""
    with reported_errors(debug):
        from ristn_cli.video import find_captions, find_fields, find_telecine, has_variable_rate, probe

        found = probe(source, video_stream=video_stream)
        if found.is_image_sequence:
            Given.of(context).refuse("numbered images have a single video stream", "video_stream")
        found = find_captions(find_telecine(find_fields(found)))
        is_variable = has_variable_rate(found)
        if as_json:
            write_json(asdict(found) | {"is_variable_rate": is_variable})
            return
        for line in describe_source(found, is_variable):
            show(line)


def write_json(value: Any) -> None:
    """Write one JSON object to stdout, with fractions as numbers."""

    def plain(item: Any) -> Any:
        if isinstance(item, Fraction):
            return float(item)
        return asdict(item) if is_dataclass(item) and not isinstance(item, type) else str(item)

    sys.stdout.write(json.dumps(value, default=plain, allow_nan=False) + "\n")


def describe_source(found: VideoInfo, is_variable: bool | None) -> Iterator[str]:
    """Yield the lines that describe a source."""
    duration = None if found.duration is None else float(found.duration)
    count = "unknown" if found.frame_count is None else f"about {found.frame_count}"
    yield f"{found.path}: {found.container}, {format_seconds(duration)}, frames: {count}"
    kind = {None: "", True: ", variable", False: ", constant"}[is_variable]
    shape = "" if found.sample_aspect_ratio == 1 else f", pixel aspect ratio {found.sample_aspect_ratio}"
    turn = f", rotated by {found.rotation} degrees" if found.rotation else ""
    scan = ", interlaced" if found.is_interlaced else ""
    if found.field_order is not None:
        scan = f", interlaced without flags, {found.field_order} field first"
    alpha = ", with alpha channel" if found.has_alpha else ""
    yield f"picture: {found.width}x{found.height} as shown{shape}{turn}{scan}{alpha}"
    yield f"rate: {float(found.rate):.6g} frames per second ({found.rate}){kind}"
    if found.telecine is not None:
        share = "" if found.telecine.share == 1 else f" in about {float(found.telecine.share):.0%} of the moving frames"
        yield (
            f"telecine: film at {float(found.rate * 4 / 5):.6g} frames per second{share}, "
            f"{found.telecine.field_order} field first"
        )
    color = found.color
    hdr = ", HDR" if color.is_hdr else ""
    tags = f"matrix {color.matrix}, range {color.range}, primaries {color.primaries}, transfer {color.transfer}"
    bits = found.bit_depth if found.scan is None else found.scan.bit_depth
    yield f"colour: {bits} bit {found.pixel_format}, {tags}, chroma {color.chroma_location}{hdr}"
    if found.dynamic_hdr:
        yield f"dynamic HDR metadata: {', '.join(found.dynamic_hdr)}"
    if found.has_captions:
        yield "closed captions: in the pictures (CEA-608, CEA-708)"
    if found.scan is not None:
        yield f"film scan: {describe_scan(found.scan)}"
    for stream in found.streams:
        yield f"stream {describe_stream(stream)}"
    yield from describe_taken(found.streams, found.video_index)
    for number, chapter in enumerate(found.chapters, start=1):
        title = chapter.metadata.get("title", "")
        yield f"chapter {number}: {format_seconds(float(chapter.start))} {title}".rstrip()


def describe_scan(scan: Scan) -> str:
    """Describe a scan, for example `10 bits per sample, logarithmic, timecode 01:00:00:00`."""
    transfer = {"log": "logarithmic", "linear": "scene-linear", "display": "video"}[scan.transfer]
    timecode = "" if scan.timecode is None else f", timecode {scan.timecode}"
    return f"{scan.bit_depth} bits per sample, {transfer}{timecode}"


def describe_stream(stream: StreamInfo) -> str:
    """Describe a stream, for example `1: audio aac, eng, "commentary", default`."""
    if stream.index < 0:
        return "closed captions in the pictures"
    name = stream.title or stream.file_name
    language = None if stream.language == "und" else stream.language  # undetermined
    words = [
        None if stream.has_decoder else "no decoder",
        "encrypted" if stream.is_encrypted else None,
        language,
        f'"{name}"' if name else None,
        "cover" if stream.is_cover else None,
        *stream.dispositions,
    ]
    return ", ".join([f"{stream.index}: {stream.kind} {stream.codec}", *(word for word in words if word)])


def describe_taken(streams: Sequence[StreamInfo], index: int) -> Iterator[str]:
    """Yield a line that names the upscaled one of several video streams; nothing for one video stream."""
    videos = [stream for stream in streams if stream.kind == "video"]
    if any(stream.index != index and (stream.is_still or not stream.is_cover) for stream in videos):
        number = [stream.index for stream in videos].index(index)
        yield (
            f"{len(videos)} video streams: number {number}, counted from 0, is upscaled (stream {index} of the file); "
            "use --video-stream N to choose another"
        )


def describe_taken_of(plan: JobPlan) -> Iterator[str]:
    """Yield the line of `describe_taken` for a plan."""
    index = next(entry.stream.index for entry in plan.streams if entry.action == "upscale")
    return describe_taken([entry.stream for entry in plan.streams], index)


def describe_losses(streams: Sequence[StreamPlan]) -> Iterator[str]:
    """Yield a line per reason with the streams that are dropped although the user did not ask for it."""
    losses: dict[str, list[str]] = {}
    for entry in streams:
        if entry.is_loss:
            losses.setdefault(entry.reason, []).append(describe_entry(entry))
    for reason, names in losses.items():
        yield f"dropped: {'; '.join(names)} ({reason})"


def describe_entry(entry: StreamPlan) -> str:
    """A stream, or the closed captions, of which a line tells what becomes."""
    name = describe_stream(entry.stream)
    return name if entry.stream.index < 0 else f"stream {name}"


def describe_conversions(plan: JobPlan) -> Iterator[str]:
    """Yield a line per codec with the audio streams that are converted to it, and one for converted captions."""
    converted: dict[str, list[str]] = {}
    for entry in plan.streams:
        if entry.action == "convert" and entry.stream.index < 0:
            yield f"{describe_entry(entry)}: {describe_action(entry, plan)}"
        if entry.action == "convert" and entry.stream.kind == "audio":
            converted.setdefault(entry.codec, []).append(f"stream {describe_stream(entry.stream)}")
    for codec, names in converted.items():
        yield f"converted to {codec}, because the output cannot hold the source's codec: {'; '.join(names)}"


def describe_plan(plan: JobPlan) -> Iterator[str]:
    """Yield the lines that describe a plan."""
    from ristn_cli.job.plan import format_bytes

    for entry in plan.streams:
        yield f"{describe_entry(entry)}: {describe_action(entry, plan)}"
    yield from describe_taken_of(plan)
    frames = "unknown" if plan.frames is None else f"about {plan.frames}"
    rate = f"{float(plan.rate):.6g} frames per second"
    pixels = "" if plan.sample_aspect_ratio == 1 else f" (pixel aspect ratio {plan.sample_aspect_ratio})"
    yield f"output: {plan.width}x{plan.height}{pixels}, {rate}, {plan.encoder}, frames: {frames}"
    if plan.is_resampled:
        yield "size: resampled from 4x with Lanczos"
    if plan.has_alpha:
        yield "alpha channel: kept; resampled with bicubic interpolation, without the network"
    yield from describe_telecine(plan)
    if plan.deinterlaced not in ("none", "film"):
        what = {"flagged": "flagged frames", "all": "every frame", "field": "every field to a frame"}
        order = "" if plan.field_order is None else f", detected {plan.field_order} field first"
        yield f"interlaced: deinterlaced with bwdif, {what[plan.deinterlaced]}{order}"
    if (lost := describe_dynamic_hdr(plan)) is not None:
        yield f"dynamic HDR: {lost}"
    if plan.grain is not None:
        yield f"grain: removed grain is put back, with a standard deviation of up to {255 * plan.grain:.1f} of 255"
    if plan.resumed_frames:
        yield f"resumes an unfinished run after {plan.resumed_frames} frames"
    counts = {"windows": plan.windows, "parts": plan.parts, "tiles per window": plan.tiles}
    amounts = ", ".join(f"{name}: {'unknown' if count is None else count}" for name, count in counts.items())
    yield f"work: {amounts}, {plan.window_frames} frames per window, {plan.precision} on {plan.device}"
    windows, held = format_bytes(plan.memory_bytes), format_bytes(plan.encoder_bytes)
    yield f"memory: about {windows} for windows, {held} for {plan.encoder}, besides the program"
    if plan.faster is not None:
        memory, share = plan.faster
        limit = math.ceil(memory / 2**30 * 10) / 10
        yield f"more memory: --memory-limit {limit:g}GiB reduces the time of the network to {share:.2f}"
    needed = "unknown" if plan.needed_bytes is None else f"at most about {format_bytes(plan.needed_bytes)}"
    yield f"disk: needs {needed}, free: {format_bytes(plan.free_bytes)}"
    if plan.seconds is not None:
        time = "less than a second" if plan.seconds < 1 else f"about {format_seconds(plan.seconds)}"
        yield f"time: {time} for the network, from its speed here and the motion"


def describe_dynamic_hdr(plan: JobPlan) -> str | None:
    """What to warn of where HDR metadata is lost; None where it is not."""
    if not plan.dynamic_hdr:
        return None
    return (
        f"{' and '.join(plan.dynamic_hdr)} metadata is not kept: it changes from frame to frame, and encoders write "
        "static HDR metadata and colour tags only"
    )


def describe_telecine(plan: JobPlan) -> Iterator[str]:
    """Yield a line about telecine if it was found or asked for."""
    film = plan.telecine
    if plan.deinterlaced == "film" and film is None:
        yield "telecine: none found; repeated frames are dropped, combed frames are deinterlaced with bwdif"
    elif film is not None:
        share = "film" if film.share == 1 else f"film in about {float(film.share):.0%} of the moving frames"
        what = "frames are deinterlaced, because most are not film; use --deinterlace ivtc to undo telecine"
        if plan.deinterlaced == "film":
            what = (
                "fields are matched, repeated frames are dropped, remaining combed frames are deinterlaced with bwdif"
            )
        yield f"telecine: {share}, {film.field_order} field first; {what}"


def describe_shortage(plan: JobPlan) -> str | None:
    """Return a warning if there may be too little memory, else None."""
    if plan.room_bytes is None or plan.memory_bytes <= plan.room_bytes:
        return None
    from ristn_cli.engine.memory import PROGRAM_BYTES
    from ristn_cli.job.plan import format_bytes

    missing = format_bytes((plan.memory_bytes - plan.room_bytes) * plan.workers)
    held = (plan.memory_bytes, plan.encoder_bytes, PROGRAM_BYTES)
    windows, encoder, program = (format_bytes(size) for size in held)
    each, fewer = (f"of each of {plan.workers} workers ", "fewer workers, ") if plan.workers > 1 else ("", "")
    return (
        f"{missing} of memory may be missing: windows {each}need about {windows}, {plan.encoder} {encoder}, "
        f"the program {program}; use {fewer}a smaller output (--size), another --codec or a faster --preset"
    )


def describe_action(entry: StreamPlan, plan: JobPlan) -> str:
    """Describe the plan of a stream; for the video its size."""
    if entry.action == "convert" and entry.stream.index < 0:
        return f"convert to {entry.codec} subtitles, as the codec cannot carry them: CEA-608 text of one field (CC1)"
    return f"upscale to {plan.width}x{plan.height} {entry.codec}" if entry.action == "upscale" else str(entry)
