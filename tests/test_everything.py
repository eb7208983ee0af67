"""One file with everything for each container, through the whole program: nothing of it is lost, nothing drifts."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import pytest
import torch
from clips import CHAPTERS, make_clip, make_picture, make_sound, make_subtitles, make_tags, run_ffmpeg
from jobs import run_job

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.model import RISTN
from ristn_cli.video import probe, write_image

SOUND = {
    ".mkv": ["aac", "ac3", "flac", "libopus", "pcm_s16le"],
    ".mp4": ["aac", "ac3", "alac", "libmp3lame", "flac"],
    ".mov": ["aac", "ac3", "alac", "libmp3lame", "pcm_s24le"],
    ".webm": ["libopus", "libvorbis", "libopus", "libopus", "libvorbis"],
}
TEXT = {".mkv": ["subrip", "ass"], ".mp4": ["mov_text"], ".mov": ["mov_text"], ".webm": ["webvtt"]}
BITMAP = {".mkv": ["copy", "dvdsub"], ".mp4": ["dvdsub"], ".mov": [], ".webm": []}
LANGUAGES = ["eng", "fra", "jpn", "spa", "kor", "ita", "por"]
FRAMES = 20


def make_pgs(path: Path) -> Path:
    """Blu-ray subtitles by hand: a 16x8 block of one colour at 0.2 s, gone at 0.5 s."""

    def segment(seconds: float, kind: int, data: bytes) -> bytes:
        return b"PG" + struct.pack(">IIBH", round(90000 * seconds), 0, kind, len(data)) + data

    def composition(number: int, state: int, objects: bytes, count: int) -> bytes:
        return struct.pack(">HHBHBBBB", 64, 48, 0x10, number, state, 0, 0, count) + objects

    window = struct.pack(">BBHHHH", 1, 0, 10, 10, 16, 8)
    picture = (b"\x00\x90\x01" + b"\x00\x00") * 8  # 16 pixels of colour 1, end of line
    pixels = struct.pack(">HBB", 0, 0, 0xC0) + (len(picture) + 4).to_bytes(3, "big") + struct.pack(">HH", 16, 8)
    shown = [
        (0x16, composition(0, 0x80, struct.pack(">HBBHH", 0, 0, 0, 10, 10), 1)),
        (0x17, window),
        (0x14, bytes([0, 0, 1, 200, 128, 128, 255])),
        (0x15, pixels + picture),
        (0x80, b""),
    ]
    gone = [(0x16, composition(1, 0, b"", 0)), (0x17, window), (0x80, b"")]
    path.write_bytes(
        b"".join(segment(0.2, kind, data) for kind, data in shown)
        + b"".join(segment(0.5, kind, data) for kind, data in gone)
    )
    return path


def make_everything(folder: Path, suffix: str) -> Path:
    """A clip of 20 frames with five tracks of sound, text and bitmap subtitles, a font, a cover, chapters, titles."""
    codec = {"codec": "libvpx-vp9", "options": {"deadline": "realtime"}} if suffix == ".webm" else {}
    plain = make_clip(folder / f"plain{'.mkv' if suffix == '.webm' else suffix}", frames=FRAMES, **codec)  # type: ignore[arg-type]
    inputs: list[str | Path] = ["-i", plain]
    outputs: list[str | Path] = ["-map", "0:v", "-c", "copy"]
    for number, encoder in enumerate(SOUND[suffix]):
        inputs += ["-i", make_sound(folder / f"{number}.wav", 300 + 100 * number, FRAMES / 25)]
        outputs += ["-map", f"{number + 1}:a", f"-c:a:{number}", encoder]
        outputs += [f"-metadata:s:a:{number}", f"language={LANGUAGES[number]}"]
        outputs += [f"-metadata:s:a:{number}", f"title=track {number}"]
        outputs += [f"-disposition:a:{number}", ["default", "dub", "comment", "0", "0"][number]]
    count = len(SOUND[suffix]) + 1
    subtitles: list[tuple[Path, str]] = [(make_subtitles(folder / "text.srt"), name) for name in TEXT[suffix]]
    subtitles += [(make_pgs(folder / "bitmap.sup"), name) for name in BITMAP[suffix]]
    for number, (path, encoder) in enumerate(subtitles):
        inputs += ["-i", path]
        outputs += ["-map", f"{count}:s", f"-c:s:{number}", encoder]
        outputs += [f"-metadata:s:s:{number}", f"language={LANGUAGES[number + 1]}"]
        outputs += [f"-disposition:s:{number}", "forced" if number == 0 else "0"]
        count += 1
    if suffix == ".mp4":
        # A bitmap that ends with the file has no duration, which MP4 does not take from the ffmpeg program.
        outputs += [f"-bsf:s:{len(subtitles) - 1}", "setts=duration=27000"]
    inputs += ["-i", make_tags(folder / "tags.txt", "Everything", True)]
    outputs += ["-map_metadata", str(count), "-map_chapters", str(count)]
    if suffix in (".mkv", ".mp4"):
        write_image(folder / "cover.png", make_picture(3, 32, 32))
    if suffix == ".mp4":
        inputs += ["-i", folder / "cover.png"]
        outputs += ["-map", f"{count + 1}:v", "-disposition:v:1", "attached_pic"]
    if suffix == ".mkv":
        (folder / "letters.ttf").write_bytes(bytes(range(256)) * 8)
        number = len(SOUND[suffix]) + len(subtitles) + 1
        outputs += ["-attach", folder / "letters.ttf", f"-metadata:s:{number}", "mimetype=font/ttf"]
        outputs += ["-attach", folder / "cover.png", f"-metadata:s:{number + 1}", "mimetype=image/png"]
    if suffix != ".mkv" and suffix != ".webm":
        outputs += ["-movie_timescale", "90000"]
    clip = folder / f"in{suffix}"
    run_ffmpeg(*inputs, *outputs, clip)
    return clip


def read_streams(path: Path) -> list[tuple[str, str, str | None, str | None, tuple[str, ...]]]:
    """Kind, codec, language, title and dispositions of every stream but the video and what is no stream of media."""
    return [
        (stream.kind, stream.codec, stream.language, stream.title, stream.dispositions)
        for stream in probe(path).streams[1:]
        if stream.kind != "data" and not stream.is_cover
    ]


def read_packets(path: Path, index: int) -> list[tuple[Fraction, bytes]]:
    """Time and content of the packets of a stream; MP4 fills gaps between texts with empty ones."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams[index]) if packet.size]
        packets = [packet for packet in packets if bytes(packet) != b"\x00\x00"]
        return [((packet.pts or 0) * packet.time_base, bytes(packet)) for packet in packets]


def read_end(path: Path, index: int) -> Fraction:
    """Where the last packet of a stream ends."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(container.streams[index]) if packet.size]
        return max((packet.pts + (packet.duration or 0)) * packet.time_base for packet in packets)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov", ".webm"])
def test_nothing_is_lost(tiny_model: RISTN, tmp_path: Path, suffix: str) -> None:
    source = make_everything(tmp_path, suffix)
    target = tmp_path / f"out{suffix}"
    upscaler = Upscaler(tiny_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=10, context=2))
    codec = "av1" if suffix == ".webm" else "h264"
    list(run_job(source, target, upscaler, UpscaleOptions(codec=codec, preset="ultrafast")))
    before, after = probe(source), probe(target)
    assert read_streams(target) == read_streams(source)
    assert [stream.codec for stream in after.streams if stream.kind == "audio"] == [
        {"libopus": "opus", "libvorbis": "vorbis", "libmp3lame": "mp3"}.get(name, name) for name in SOUND[suffix]
    ]
    assert [(c.start, c.end, c.metadata["title"]) for c in after.chapters] == list(CHAPTERS)
    assert after.metadata["title"] == "Everything"
    frame = Fraction(1, 25)
    durations = (before.duration, after.duration)
    assert None not in durations
    assert abs(durations[1] - durations[0]) < frame / 2  # type: ignore[operator]
    kept = [(a, b) for a, b in zip(before.streams, after.streams, strict=False) if a.kind in ("audio", "subtitle")]
    assert len(kept) >= 6
    for theirs, ours in kept:
        expected, found = read_packets(source, theirs.index), read_packets(target, ours.index)
        assert [data for _, data in found] == [data for _, data in expected]
        grain = Fraction(1, 1000)
        assert all(abs(a[0] - b[0]) <= grain for a, b in zip(found, expected, strict=True))
        if theirs.kind == "audio":
            assert abs(read_end(target, ours.index) - read_end(source, theirs.index)) < frame
    covers = [[stream.index for stream in info.streams if stream.is_cover] for info in (before, after)]
    assert len(covers[0]) == len(covers[1]) == (suffix in (".mkv", ".mp4"))
    for ours, theirs in zip(covers[1], covers[0], strict=True):
        assert read_packets(target, ours)[0][1] == read_packets(source, theirs)[0][1]
    if suffix == ".mkv":
        with av.open(str(target)) as container:
            (font,) = [stream for stream in container.streams if stream.type == "attachment"]
            assert (font.name, font.data) == ("letters.ttf", (tmp_path / "letters.ttf").read_bytes())
