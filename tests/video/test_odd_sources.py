"""Sources that were cut or joined without encoding, change on the way, or have names that are no text."""

import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from clips import make_clip, run_ffmpeg
from commands import in_process
from jobs import make_job, run_job

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.model import RISTN
from ristn_cli.video import ReadOptions, VideoError, probe, read_frames

FAST = UpscaleOptions(preset="ultrafast")
PICTURES = ["-f", "lavfi", "-i", "testsrc2=s=32x24:r=25:d=4"]
SOUND = ["-f", "lavfi", "-i", "sine=440:d=4"]


@pytest.fixture
def upscaler(tiny_model: RISTN) -> Upscaler:
    return Upscaler(tiny_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=5))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Four seconds with sound, a keyframe every two."""
    path = tmp_path / "in.mp4"
    run_ffmpeg(*PICTURES, *SOUND, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "50", "-c:a", "aac", path)
    return path


def shown(path: Path) -> dict[str, tuple[float, float]]:
    """Times of the first and the last packet of each kind that is shown, from the first frame on."""
    spans: dict[str, tuple[float, float]] = {}
    with av.open(str(path)) as container:
        for packet in container.demux():
            if packet.size and packet.pts is not None and not packet.is_discard:
                time = float(packet.pts * packet.time_base)
                first, last = spans.get(packet.stream.type, (time, time))
                spans[packet.stream.type] = min(first, time), max(last, time)
    zero = spans["video"][0]
    return {kind: (first - zero, last - zero) for kind, (first, last) in spans.items()}


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_what_a_lossless_cut_hides_stays_hidden(upscaler: Upscaler, tmp_path: Path, suffix: str) -> None:
    """Half a second of sound from before the cut is in the file, and only an edit list says that it is not shown.

    A frame is shorter than a packet of sound, and AC-3 begins some packets before what is heard.
    """
    clip = tmp_path / "in.mp4"
    fast = ["-f", "lavfi", "-i", "testsrc2=s=32x24:r=60:d=4"]
    coding = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "120", "-c:a:0", "aac", "-c:a:1", "ac3"]
    words = tmp_path / "words.srt"  # one begins before the cut and lasts beyond it
    words.write_text("1\n00:00:00,500 --> 00:00:02,800\nfirst\n\n2\n00:00:03,000 --> 00:00:03,600\nsecond\n")
    maps = ["-map", "0", "-map", "1", "-map", "2", "-map", "3"]
    run_ffmpeg(*fast, *SOUND, *SOUND, "-i", words, *maps, *coding, "-c:s", "mov_text", clip)
    source, target = tmp_path / "cut.mp4", tmp_path / f"out{suffix}"
    run_ffmpeg("-ss", "2.5", "-i", clip, "-map", "0", "-c", "copy", source)
    with av.open(str(source)) as container:
        assert sum(packet.is_discard for packet in container.demux(container.streams.audio[0])) > 10
    list(run_job(source, target, upscaler, FAST))
    with av.open(str(target)) as container:
        assert float(next(container.decode(video=0)).time) < 0.1  # nor do words from before the cut move all else
        assert len(container.streams.subtitles) == 1
    for kind, (first, last) in shown(source).items():
        if kind == "subtitle":
            continue  # MKV takes it as another kind, and only what begins behind the cut
        assert shown(target)[kind] == (pytest.approx(first, abs=0.1), pytest.approx(last, abs=0.002))


def test_a_clock_that_jumps_ahead_does_so_for_the_sound_too(upscaler: Upscaler, clip: Path, tmp_path: Path) -> None:
    """By more than ffmpeg takes for a jump rather than an error."""
    parts = [tmp_path / "first.ts", tmp_path / "second.ts"]
    for part, offset in zip(parts, (0, 20), strict=True):
        run_ffmpeg("-i", clip, "-t", "1", "-c", "copy", "-output_ts_offset", str(offset), part)
    source, target = tmp_path / "in.ts", tmp_path / "out.mkv"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    list(run_job(source, target, upscaler, FAST))
    expected = shown(source)
    assert expected["audio"][1] > 20
    assert shown(target)["audio"] == pytest.approx(expected["audio"], abs=0.002)
    assert shown(target)["video"] == pytest.approx(expected["video"], abs=0.002)


def test_a_clock_that_begins_anew_is_told_of(clip: Path, tmp_path: Path) -> None:
    parts = [tmp_path / "first.ts", tmp_path / "second.ts"]
    for part, offset in zip(parts, (20, 0), strict=True):
        run_ffmpeg("-i", clip, "-t", "1", "-c", "copy", "-output_ts_offset", str(offset), part)
    source = tmp_path / "in.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(VideoError, match=r"timestamps go back from 22.* several recordings"):
        list(read_frames(source))
    run_ffmpeg("-i", source, "-map", "0", "-c", "copy", tmp_path / "told.mkv")  # what the message says
    assert len(list(read_frames(tmp_path / "told.mkv"))) == len(list(read_frames(parts[0]))) * 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("start", ["0", "0.6"])
def test_sound_that_says_in_its_packets_what_it_is_goes_to_standard_output(
    clip: Path, tiny_weights: Path, tmp_path: Path, start: str
) -> None:
    source, expected, target = tmp_path / "in.ts", tmp_path / "expected.mkv", tmp_path / "out.mkv"
    run_ffmpeg("-i", clip, "-t", "2", "-c", "copy", source)
    trim = [] if start == "0" else ["--start", start]
    common = [
        "upscale",
        str(source),
        "--model",
        str(tiny_weights),
        "--preset",
        "ultrafast",
        "--precision",
        "fp32",
        *trim,
    ]
    assert in_process(*common, expected)[0] == 0
    command = [sys.executable, "-m", "ristn_cli", *common, "-", "--format", "mkv"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr.decode()
    target.write_bytes(done.stdout)
    for kind, span in shown(expected).items():
        assert shown(target)[kind] == pytest.approx(span, abs=0.003)
    with av.open(str(target)) as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) > 44100


@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10le"])
@pytest.mark.parametrize(("matrix", "range_"), [("bt709", "tv"), ("smpte170m", "pc")])
def test_colours_are_those_of_each_frame(tmp_path: Path, matrix: str, range_: str, pixels: str) -> None:
    """One colour in other codes from the tenth frame on."""
    names = {"bt709": "bt709", "smpte170m": "bt601"}
    raw = b""
    for number, (tags, codes) in enumerate([("smpte170m", "tv"), (matrix, range_)]):
        filters = (
            f"format=gbrp,scale=out_color_matrix={names[tags]}:out_range={codes},format={pixels},"
            f"setparams=colorspace={tags}:range={codes}"
        )
        part = tmp_path / f"{number}.h264"
        run_ffmpeg(
            "-f", "lavfi", "-i", "color=0xC06030:s=32x24:r=25:d=0.4", "-vf", filters,
            "-c:v", "libx264", "-qp", "1", "-bf", "0", part,
        )  # fmt: skip
        raw += part.read_bytes()
    (tmp_path / "joined.h264").write_bytes(raw)
    run_ffmpeg("-framerate", "25", "-i", tmp_path / "joined.h264", "-c", "copy", tmp_path / "in.mp4")
    frames = [frame.image for frame in read_frames(tmp_path / "in.mp4")]
    assert len(frames) == 20
    unit = 1 if frames[0].dtype == np.uint8 else 257
    np.testing.assert_allclose(frames[0][12, 16] / unit, [0xC0, 0x60, 0x30], atol=3.5)
    np.testing.assert_allclose(frames[-1][12, 16] / unit, frames[0][12, 16] / unit, atol=2.5)


def test_a_depth_that_changes_is_told_of(tmp_path: Path) -> None:
    raw = b""
    for pixels in ("yuv420p", "yuv420p10le"):
        part = tmp_path / f"{pixels}.h264"
        run_ffmpeg(*PICTURES, "-t", "0.2", "-vf", f"format={pixels}", "-c:v", "libx264", "-bf", "0", part)
        raw += part.read_bytes()
    (tmp_path / "joined.h264").write_bytes(raw)
    run_ffmpeg("-framerate", "25", "-i", tmp_path / "joined.h264", "-c", "copy", tmp_path / "in.mkv")
    with pytest.raises(VideoError, match=r"from yuv420p to yuv420p10le at 0\.20 s; split the job there"):
        list(read_frames(tmp_path / "in.mkv", ReadOptions(strict=True)))


def test_a_shape_of_pixels_that_changes_is_told_of(tmp_path: Path) -> None:
    """As where television goes from 4:3 to 16:9; both halves by themselves can be read."""
    raw = b""
    for number, shape in enumerate(("8/9", "32/27")):
        part = tmp_path / f"{number}.ts"
        offset = ["-output_ts_offset", str(number)]
        run_ffmpeg(
            *PICTURES,
            "-t",
            "1",
            "-vf",
            f"scale=96:64,setsar={shape}",
            "-c:v",
            "mpeg2video",
            *offset,
            "-f",
            "mpegts",
            part,
        )
        raw += part.read_bytes()
        assert len(list(read_frames(part))) == 25
    (tmp_path / "in.ts").write_bytes(raw)
    told: list[str] = []
    list(read_frames(tmp_path / "in.ts", on_change=told.append))
    (line,) = told
    assert re.search(r"from 96x64 \(4:3\) to 96x64 \(16:9\) at (0\.9|1\.0)\d s; such frames are scaled", line)
    assert len(list(read_frames(tmp_path / "in.ts", ReadOptions(end=Fraction(9, 10), strict=True)))) >= 22


@pytest.mark.parametrize(("start", "expected"), [(None, "01:00:00:00"), (Fraction(1), None)])
def test_a_timecode_is_kept_as_long_as_it_is_true(
    upscaler: Upscaler, tmp_path: Path, start: Fraction | None, expected: str | None
) -> None:
    source, target = tmp_path / "in.mov", tmp_path / "out.mov"
    run_ffmpeg(*PICTURES, "-t", "1.2", "-timecode", "01:00:00:00", "-c:v", "libx264", source)
    list(run_job(source, target, upscaler, UpscaleOptions(preset="ultrafast", start=start)))
    with av.open(str(target)) as container:
        assert container.streams.video[0].metadata.get("timecode") == expected


def test_without_reordering_each_frame_is_as_long_as_it_is(upscaler: Upscaler, tmp_path: Path) -> None:
    """In the file itself, not by an edit list: people join files and take them apart."""
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    make_clip(source, times=[0, 1000, 1520], time_base=Fraction(1, 1000))
    list(run_job(source, target, upscaler, FAST))
    *_, last = read_frames(source)
    with av.open(str(target)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [packet.pts * packet.time_base for packet in packets] == [0, 1, Fraction(152, 100)]
        assert [packet.duration * packet.time_base for packet in packets] == [1, Fraction(52, 100), last.duration]


@pytest.mark.parametrize("hold", [3, 8, 17, 20, 22, 24])
def test_a_hold_lasts_as_long_as_it_does_in_matroska(upscaler: Upscaler, tmp_path: Path, hold: int) -> None:
    """Wherever it lies among pictures that are reordered; 25 of them, and a minute before one."""
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    times = [40 * index + (60_000 if index >= hold else 0) for index in range(25)]
    make_clip(source, times=times, time_base=Fraction(1, 1000))
    list(run_job(source, target, upscaler, UpscaleOptions()))
    assert [frame.time for frame in read_frames(target)] == [Fraction(time, 1000) for time in times]
    with av.open(str(target)) as container:
        assert container.duration == pytest.approx(61e6, abs=1.2e5)
    run_ffmpeg("-i", target, "-c", "copy", tmp_path / "again.mkv")
    with av.open(str(tmp_path / "again.mkv")) as container:
        assert container.duration == pytest.approx(61e6, abs=1.2e5)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_names_need_not_be_text(upscaler: Upscaler, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"d\xe9")
    folder.mkdir()
    source, target = folder / os.fsdecode(b"caf\xe9.mp4"), folder / os.fsdecode(b"out\xff.mkv")
    clip.rename(source)
    options = UpscaleOptions(preset="ultrafast", start=Fraction(1, 2), max_frames=4)
    list(run_job(source, target, upscaler, options))
    assert len(list(read_frames(target))) == 4
    assert [stream.kind for stream in probe(target).streams] == ["video", "audio"]


def test_a_matrix_that_is_not_linear_is_refused_by_its_name(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    run_ffmpeg(
        *PICTURES, "-t", "0.2", "-vf", "format=yuv444p,setparams=colorspace=ycgco", "-c:v", "libx264",
        "-colorspace", "ycgco", source,
    )  # fmt: skip
    with pytest.raises(VideoError, match="the colour matrix ycgco is not supported"):
        make_job(source, tmp_path / "out.mkv", FAST)


def test_an_animated_webp_is_called_so(tmp_path: Path) -> None:
    run_ffmpeg(*PICTURES, "-c:v", "libwebp_anim", tmp_path / "in.webp")
    with pytest.raises(VideoError, match="is an animated WebP, which FFmpeg cannot read"):
        probe(tmp_path / "in.webp")


def test_a_closed_standard_output_is_wrong_usage(
    clip: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed:
        stdin, stdout = sys.stdin, None

    monkeypatch.setattr(sys.modules["ristn_cli.cli.places"], "sys", Closed)
    code, _, stderr = in_process("upscale", clip, "-", "--model", tiny_weights)
    assert code == 2
    assert "standard output is closed; name a file" in stderr
