"""Clips with known pixels, made on the spot by PyAV and the ffmpeg program, for every test that needs a video."""

from __future__ import annotations

import json
import struct
import subprocess
import wave
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import imageio_ffmpeg
import numpy as np
from av.video.frame import VideoFrame

from ristn_cli.job.checks import job_folder

SAMPLE_RATE = 48000

CHAPTERS = ((Fraction(0), Fraction(1, 2), "first half"), (Fraction(1, 2), Fraction(1), "second half"))
SUBTITLES = ((Fraction(1, 10), Fraction(3, 10), "one"), (Fraction(6, 10), Fraction(8, 10), "two"))


def stop_after(target: Path, parts: int = 1) -> Callable[[], bool]:
    """For `should_stop`: true once a run into `target` has finished as many parts more than there are now."""
    manifest = job_folder(target) / "manifest.json"

    def count() -> int:
        return len(json.loads(manifest.read_text(encoding="utf-8"))["parts"]) if manifest.exists() else 0

    wanted = count() + parts
    return lambda: count() >= wanted


def run_ffmpeg(*arguments: str | Path) -> None:
    """Run the ffmpeg program that imageio-ffmpeg carries; its messages become the failure."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y"]
    done = subprocess.run([*command, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def make_picture(index: int, width: int, height: int) -> np.ndarray:
    """Frame `index` of every clip: (H, W, 3) uint8, smooth, so that 4:2:0 keeps it, its mean brightness growing with
    `index` (3 a frame, up to 16 frames), brighter to the right in red and to the bottom in blue."""
    x = np.linspace(0, 60, width)[None, :]
    y = np.linspace(0, 60, height)[:, None]
    base = 60 + 3 * (index % 16)
    planes = np.broadcast_arrays(base + x + 0 * y, base + 0 * x + 0 * y + 20, base + 0 * x + y)
    return np.stack(planes, axis=-1).round().astype(np.uint8)


def make_clip(
    path: Path,
    *,
    frames: int = 10,
    width: int = 64,
    height: int = 48,
    rate: Fraction | int = Fraction(25),
    times: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    sample_aspect_ratio: Fraction = Fraction(1),
    audio_tracks: int = 0,
    audio_codec: str = "aac",
    audio_delay: Fraction = Fraction(0),
    subtitles: bool = False,
    subtitle_codec: str | None = None,
    chapters: bool = False,
    title: str | None = None,
    rotation: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """A clip of `make_picture` frames at `path`, whose suffix names the container; returns `path`.

    The video is encoded by PyAV at nearly no loss with keyframes every 5 and B-frames between; `times` are
    presentation times in `time_base` for variable rates. Audio track k is a sine of 440 (k + 1) Hz in the languages
    eng, deu, ... as long as the video, `audio_delay` late; `subtitles` are `SUBTITLES` in French, forced; `chapters`
    are `CHAPTERS`. The ffmpeg program adds them by stream copy, and `rotation` (degrees clockwise) as a display matrix.
    """
    rate = Fraction(rate)
    time_base = time_base or 1 / rate
    ticks = list(times) if times is not None else [round(k / rate / time_base) for k in range(frames)]
    plain = path.with_name(f"{path.stem}.video{'.mkv' if path.suffix in ('.mkv', '.webm') else '.mp4'}")
    encode_clip(plain, ticks, width, height, rate, time_base, codec, pixel_format, sample_aspect_ratio, options or {})
    inputs: list[str | Path] = []
    if rotation:
        inputs += ["-display_rotation:v:0", str(-rotation)]
    inputs += ["-itsoffset", f"{float(ticks[0] * time_base):.6f}", "-i", plain]
    outputs: list[str | Path] = ["-map", "0:v", "-c", "copy", "-movie_timescale", "90000"]
    if path.suffix == ".mkv":
        outputs = outputs[:4]
    count = 1
    seconds = (ticks[-1] - ticks[0]) * time_base + 1 / rate
    for track in range(audio_tracks):
        sound = make_sound(path.with_name(f"{path.stem}.{track}.wav"), 440 * (track + 1), float(seconds))
        inputs += ["-itsoffset", f"{float(audio_delay):.6f}", "-i", sound]
        language = ("eng", "deu", "spa")[track % 3]
        outputs += ["-map", f"{count}:a", f"-c:a:{track}", audio_codec]
        outputs += [f"-metadata:s:a:{track}", f"language={language}", f"-metadata:s:a:{track}", f"title=track {track}"]
        outputs += [f"-disposition:a:{track}", "default" if track == 0 else "comment"]
        count += 1
    if subtitles:
        inputs += ["-i", make_subtitles(path.with_suffix(".srt"))]
        outputs += ["-map", f"{count}:s", "-c:s", subtitle_codec or ("mov_text" if path.suffix == ".mp4" else "subrip")]
        outputs += ["-metadata:s:s:0", "language=fra", "-disposition:s:0", "forced"]
        count += 1
    if chapters or title:
        inputs += ["-i", make_tags(path.with_suffix(".tags"), title, chapters)]
        outputs += ["-map_metadata", str(count), "-map_chapters", str(count)]
    run_ffmpeg(*inputs, *outputs, path)
    return path


def encode_clip(
    path: Path,
    ticks: Sequence[int],
    width: int,
    height: int,
    rate: Fraction,
    time_base: Fraction,
    codec: str,
    pixel_format: str,
    sample_aspect_ratio: Fraction,
    options: dict[str, str],
) -> None:
    """One video stream by PyAV: frame k at `ticks[k]`, the last as long as 1 / rate."""
    quality = {"libx264": {"crf": "4", "bf": "2", "g": "5", "preset": "veryfast"}}.get(codec, {})
    quality |= {"libx265": {"crf": "4", "preset": "ultrafast", "x265-params": "log-level=none"}}.get(codec, {})
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={**quality, **options})
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.codec_context.sample_aspect_ratio = sample_aspect_ratio
        stream.time_base = stream.codec_context.time_base = time_base
        gaps = [after - before for before, after in pairwise(ticks)]
        durations = dict(zip(ticks, [*gaps, round(1 / rate / time_base)], strict=True))
        for index, tick in enumerate([*ticks, None]):
            frame = None
            if tick is not None:
                frame = VideoFrame.from_ndarray(make_picture(index, width, height), format="rgb24")
                frame = frame.reformat(format=pixel_format, dst_colorspace="ITU601", dst_color_range="MPEG")
                frame.pts, frame.time_base = tick, time_base
            for packet in stream.encode(frame):
                packet.duration = durations[packet.pts]
                container.mux(packet)


def join_packets(path: Path, *clips: Path) -> Path:
    """The packets of clips of one codec, one clip after another on one clock, as one stream: `path`, which is returned.

    The codec must have its size in its packets, as MPEG-2, H.264 from a `.ts`, VP8 and VP9 do.
    """
    clock, begin, stream = Fraction(1, 90000), Fraction(0), None
    with av.open(str(path), "w") as container:
        for clip in clips:
            with av.open(str(clip)) as source:
                template = source.streams.video[0]
                stream = stream or container.add_stream_from_template(template)
                packets = [packet for packet in source.demux(template) if packet.size]
                shift = begin - min(packet.pts for packet in packets) * packets[0].time_base
                for packet in packets:
                    base = packet.time_base
                    begin = max(begin, (packet.pts + packet.duration) * base + shift)  # end of what is shown last
                    packet.pts = round((packet.pts * base + shift) / clock)
                    packet.dts = round((packet.dts * base + shift) / clock)
                    packet.duration = round(packet.duration * base / clock)
                    packet.time_base, packet.stream = clock, stream
                    container.mux(packet)
    return path


def make_sound(path: Path, frequency: float, seconds: float) -> Path:
    """A mono sine as 16-bit WAV."""
    count = round(seconds * SAMPLE_RATE)
    wave_form = (8000 * np.sin(2 * np.pi * frequency * np.arange(count) / SAMPLE_RATE)).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(wave_form.tobytes())
    return path


def make_subtitles(path: Path) -> Path:
    """`SUBTITLES` as SubRip."""
    blocks = []
    for number, (begin, finish, text) in enumerate(SUBTITLES, start=1):
        span = " --> ".join(f"00:00:{float(time):06.3f}".replace(".", ",") for time in (begin, finish))
        blocks.append(f"{number}\n{span}\n{text}\n")
    path.write_text("\n".join(blocks), encoding="utf-8")
    return path


def make_tags(path: Path, title: str | None, chapters: bool) -> Path:
    """A title and `CHAPTERS` in FFmpeg's metadata form."""
    lines = [";FFMETADATA1", *([f"title={title}"] if title else [])]
    for begin, finish, name in CHAPTERS if chapters else ():
        lines += [
            "[CHAPTER]",
            "TIMEBASE=1/1000",
            f"START={int(begin * 1000)}",
            f"END={int(finish * 1000)}",
            f"title={name}",
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def encode_planes(
    path: Path, planes: Sequence[np.ndarray], pixel_format: str, *, matrix: str, range_: str, frames: int = 1
) -> Path:
    """Exact YUV code values, losslessly, as tagged H.264 (8 bits) or FFV1 (deeper): planes are Y, Cb, Cr.

    8 bits: libx264 at qp 0; above: FFV1 in MP4, whose container keeps the tags.
    """
    height, width = planes[0].shape
    is_deep = planes[0].dtype != np.uint8
    tags = {"colorspace": matrix, "color_range": range_, "color_primaries": "bt709", "color_trc": "bt709"}
    options = tags if is_deep else {**tags, "qp": "0", "chroma_sample_location": "left"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1" if is_deep else "libx264", rate=Fraction(25), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        for index in range(frames):
            frame = VideoFrame(width, height, pixel_format)
            for plane, values in zip(frame.planes, planes, strict=True):
                memory = np.frombuffer(plane, values.dtype).reshape(plane.height, -1)
                memory[:, : values.shape[1]] = values
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def packet_times(path: Path, index: int) -> list[tuple[Fraction, Fraction]]:
    """Presentation time and duration in seconds of a stream's packets, in file order, by demuxing."""
    with av.open(str(path)) as container:
        stream = container.streams[index]
        packets = [packet for packet in container.demux(stream) if packet.size]
        return [(packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base) for packet in packets]


def has_box(path: Path, name: bytes) -> bool:
    """True when an MP4 holds a box of this name anywhere (a plausible size stands before it)."""
    data = path.read_bytes()
    at = data.find(name)
    while at >= 4:
        if 8 <= struct.unpack(">I", data[at - 4 : at])[0] <= len(data):
            return True
        at = data.find(name, at + 1)
    return False


def make_flv(path: Path, change: Callable[[int, int, int], tuple[int, int]], **options: Any) -> Path:
    """`make_clip` as FLV with other video times: of packet k, decoding and composition time in ms become `change`'s."""
    plain = make_clip(path.with_suffix(".mp4"), **options)
    run_ffmpeg("-i", plain, "-c", "copy", path)
    data = bytearray(path.read_bytes())
    at, count = 13, 0  # behind the file header; a tag is its header of 11 bytes, the data, and its size in 4 bytes
    while at + 11 < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        if data[at] == 9 and data[at + 12] == 1:  # video, and no parameter sets
            time = int.from_bytes(bytes([data[at + 7], *data[at + 4 : at + 7]]), "big")
            time, composition = change(count, time, int.from_bytes(data[at + 13 : at + 16], "big", signed=True))
            data[at + 4 : at + 8] = bytes([*time.to_bytes(4, "big")[1:], time >> 24])
            data[at + 13 : at + 16] = composition.to_bytes(3, "big", signed=True)
            count += 1
        at += 11 + size + 4
    path.write_bytes(data)
    return path


def make_reordered_flv(path: Path, **options: Any) -> Path:
    """An FLV without composition times from its second group of pictures on: B-frames seem to go back in time."""
    return make_flv(path, lambda index, time, composition: (time, composition if index < 5 else 0), **options)


def rewrite_entries(path: Path, entries: dict[bytes, bytes]) -> Path:
    """Other names for sample entries of an MP4 or MOV, in place.

    `esds` goes, which would tell the codec all the same, and text gets a handler by which FFmpeg lists it as subtitles.
    """
    data = bytearray(path.read_bytes())
    for handler in (b"sbtl", b"text"):
        data = data.replace(b"\0\0\0\0mhlr" + handler, b"\0\0\0\0mhlrsubp")
        data = data.replace(b"\0\0\0\0\0\0\0\0" + handler, b"\0\0\0\0\0\0\0\0subp")
    at = data.find(b"stsd")
    while at >= 0:
        name = bytes(data[at + 16 : at + 20])
        if name in entries:
            data[at + 16 : at + 20] = entries[name]
            end = at - 4 + int.from_bytes(data[at - 4 : at], "big")
            data[at:end] = data[at:end].replace(b"esds", b"skip")
        at = data.find(b"stsd", at + 4)
    path.write_bytes(data)
    return path
