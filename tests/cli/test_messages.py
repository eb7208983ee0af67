"""What is said of files that cannot be read: the file, what is known of it, and what to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from clips import make_clip, make_picture, rewrite_entries, run_ffmpeg
from commands import in_process

from ristn_cli.job.options import UpscaleOptions, estimate_frames
from ristn_cli.video import ReadOptions, VideoError, check_mux, encode_png, probe, read_frames
from ristn_cli.video.reading import decoding as decoding_module
from ristn_cli.video.reading import source as source_module
from ristn_cli.video.reading.source import open_input
from ristn_cli.weights.choice import bits_per_pixel

SETTINGS = ("--device", "cpu", "--preset", "ultrafast")
KEY = "0123456789abcdef0123456789abcdef"
ENCRYPTION = ("-encryption_scheme", "cenc-aes-ctr", "-encryption_key", KEY, "-encryption_kid", KEY)


class Flaky:
    """Stands in for a container in a damaged file: reading fails `times` at a packet, and then goes on."""

    def __init__(self, container: Any, *, at: int, times: int = 1) -> None:
        self._container, self._left, self._times = container, at, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def __enter__(self) -> Flaky:
        return self

    def __exit__(self, *error: object) -> None:
        self._container.close()

    def demux(self, streams: Any) -> Iterator[Any]:
        packets = self._container.demux(streams)
        while True:
            if self._left <= 0 < self._times:
                self._times -= 1
                raise av.error.FFmpegError(95, "Operation not supported")
            try:
                packet = next(packets)
            except StopIteration:
                return
            self._left -= 1
            yield packet


@pytest.fixture
def break_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes reading of files named `in.*` fail, as `Flaky` says."""

    def patch(**how: int) -> None:
        real = source_module._open_container

        def opened(source: Path, limits: dict[str, str]) -> Any:
            container = real(source, limits)
            return Flaky(container, **how) if source.stem == "in" else container

        monkeypatch.setattr(source_module, "_open_container", opened)

    return patch


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return make_clip(tmp_path / "in.mp4", frames=6, audio_tracks=1)


class TestEncrypted:
    @pytest.mark.parametrize("scheme", [b"cenc", b"cbcs", b"piff"])
    def test_mp4(self, clip: Path, tmp_path: Path, scheme: bytes) -> None:
        locked = tmp_path / "locked.mp4"
        run_ffmpeg("-i", clip, "-c", "copy", *ENCRYPTION, locked)
        locked.write_bytes(locked.read_bytes().replace(b"schm\0\0\0\0cenc", b"schm\0\0\0\0" + scheme))
        with pytest.raises(VideoError, match=rf"locked\.mp4: is encrypted \({scheme.decode()}\)"):
            probe(locked)
        code, _, err = in_process("info", locked)
        assert (code, err.count("error:")) == (1, 1)

    def test_mp4_that_ffmpeg_cannot_open(self, clip: Path, tmp_path: Path) -> None:
        locked = tmp_path / "locked.mp4"
        run_ffmpeg("-i", clip, "-c", "copy", *ENCRYPTION, "-movflags", "+faststart", locked)
        data = locked.read_bytes()
        locked.write_bytes(data.replace(b"senc\0\0\0\2\0\0\0\6", b"senc\0\0\0\2\0\0\xff\6"))
        with pytest.raises(VideoError, match=r"locked\.mp4: is encrypted \(cenc\)"):
            probe(locked)

    def test_sound_alone_can_be_left_out(self, clip: Path) -> None:
        rewrite_entries(clip, {b"mp4a": b"enca"})
        info = probe(clip)
        with pytest.raises(VideoError, match=r"in\.mp4: the audio stream 1 is encrypted.*or --drop audio"):
            check_mux(info, "out.mkv")
        assert check_mux(info, "out.mkv", drop=("audio",))[1].action == "drop"

    @pytest.mark.parametrize("tag", ["encryption", "ASF_Protection_Type"])
    def test_windows_media(self, clip: Path, tmp_path: Path, tag: str) -> None:
        for name in ("a.wmv", "a.mkv"):
            run_ffmpeg("-i", clip, "-c:v", "wmv2", "-c:a", "copy", "-metadata", f"{tag}=DRM", tmp_path / name)
        with pytest.raises(VideoError, match=r"a\.wmv: is encrypted \(Windows Media DRM\)"):
            probe(tmp_path / "a.wmv")
        assert probe(tmp_path / "a.mkv").codec == "wmv2"  # the tag is anybody's there

    def test_webm(self, clip: Path, tmp_path: Path) -> None:
        """The title of the track makes room for the description of its encryption."""
        locked = tmp_path / "locked.mkv"
        run_ffmpeg("-i", clip, "-map", "0:v", "-c", "copy", "-metadata:s:v:0", f"title={'x' * 60}", locked)

        def element(kind: str, content: bytes) -> bytes:
            return bytes.fromhex(kind) + bytes([0x80 | len(content)]) + content

        encryption = element("5035", element("47e1", b"\5") + element("47e2", b"0123456789abcdef"))
        encodings = element("6d80", element("6240", element("5033", b"\1") + encryption))
        title = element("536e", b"x" * 60)
        data = locked.read_bytes()
        assert title in data
        locked.write_bytes(data.replace(title, encodings + element("ec", bytes(len(title) - len(encodings) - 2))))
        with pytest.raises(VideoError, match=r"locked\.mkv: is encrypted \(WebM\)"):
            probe(locked)


class TestBrokenMp4:
    def test_a_box_with_a_wrong_size(self, clip: Path, tmp_path: Path) -> None:
        """All of the video is there: only the size of `free` is wrong."""
        data = clip.read_bytes()
        at = data.index(b"free") - 4
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(data[:at] + b"\x7f\xff\xff\xff" + data[at + 4 :])
        with pytest.raises(VideoError, match=r"broken\.mp4: .*'free' box should end at byte .*damaged or cut short"):
            probe(broken)
        broken.write_bytes(data[:at] + b"\0\0\0\3" + data[at + 4 :])
        with pytest.raises(
            VideoError, match=rf"broken\.mp4: .*no valid box at byte {at}: the file is damaged"
        ) as error:
            probe(broken)
        assert "cut short" not in str(error.value)

    def test_without_an_index(self, clip: Path, tmp_path: Path) -> None:
        data = clip.read_bytes()
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(data[: data.index(b"moov") - 4])
        with pytest.raises(VideoError, match=r"broken\.mp4: .*without its index \('moov'\).*not finished"):
            probe(broken)


class TestImplausibleRates:
    def test_no_estimate(self, clip: Path, tiny_weights: Path, tmp_path: Path) -> None:
        """ASF has a clock of milliseconds, and no frame rate."""
        source = tmp_path / "in.wmv"
        run_ffmpeg("-i", clip, "-map", "0:v", "-r", "1000", "-t", "0.05", "-c:v", "wmv2", source)
        info = probe(source)
        assert info.rate == 1000
        assert info.frame_count is None
        assert bits_per_pixel(info, 10_000) is None
        options = ("--dry-run", "--json", "--model", tiny_weights, *SETTINGS)
        code, out, err = in_process("upscale", source, tmp_path / "out.mkv", *options)
        assert code == 0, err
        assert json.loads(out)["frames"] is None
        code, _, err = in_process("upscale", source, tmp_path / "out.png", "--model", tiny_weights)
        assert code == 1
        assert "is one image, but the input has more frames" in err
        assert not list(tmp_path.glob(".out.png*"))  # refused before the first frame

    @pytest.mark.parametrize("rate", [600, 1000, 90000])
    def test_a_range_of_counted_frames(self, clip: Path, rate: int) -> None:
        info = replace(probe(clip), rate=Fraction(rate), frame_count=60, duration=Fraction(2))
        assert estimate_frames(info, UpscaleOptions(start=Fraction(1, 2))) == 45
        assert estimate_frames(replace(info, frame_count=None), UpscaleOptions()) is None


def test_identical_warnings_are_one_with_a_count(
    clip: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stands in for an unreadable disk."""
    real = decoding_module.read_packets

    def unreadable(container: Any, streams: Any, report: Callable[[Exception], None]) -> Iterator[Any]:
        for _ in range(100):
            report(av.error.FFmpegError(5, "Input/output error"))
        yield from real(container, streams, report)

    monkeypatch.setattr(decoding_module, "read_packets", unreadable)
    code, _, err = in_process("upscale", clip, tmp_path / "out.mkv", "--model", tiny_weights, *SETTINGS)
    assert code == 0, err
    lines = " ".join(err.split())
    assert lines.count("has unreadable data (Input/output error)") == 1
    assert "(100 times)" in lines
    assert "damaged in 100 places" in lines


class TestNamesTheFile:
    def test_reading_that_fails(self, clip: Path, break_reading: Callable[..., None]) -> None:
        break_reading(at=0, times=1000)
        with pytest.raises(VideoError, match=r"in\.mp4: FFmpeg cannot read .*\(Operation not supported\).*convert it"):
            probe(clip)

    def test_any_error_of_ffmpeg(self, clip: Path) -> None:
        def fail() -> None:
            with open_input(clip):
                raise av.error.FFmpegError(95, "Operation not supported")

        with pytest.raises(VideoError, match=r"in\.mp4: .*Operation not supported"):
            fail()

    def test_an_image_whose_decoder_fails(self, tmp_path: Path) -> None:
        image = tmp_path / "a.png"
        data = encode_png(make_picture(0, 64, 48))
        image.write_bytes(data[: len(data) // 3] + bytes(2 * len(data) // 3))
        with pytest.raises(
            VideoError, match=r"a\.png: FFmpeg cannot read or decode its only packet .*copy it again, or convert"
        ):
            probe(image)

    def test_a_cover_alone(self, clip: Path, tmp_path: Path) -> None:
        cover, source = tmp_path / "cover.png", tmp_path / "a.m4a"
        cover.write_bytes(encode_png(make_picture(0, 64, 48)))
        run_ffmpeg(
            "-i", clip, "-i", cover, "-map", "0:a", "-map", "1", "-c", "copy", "-disposition:v", "attached_pic", source
        )
        with pytest.raises(
            VideoError, match=r"a\.m4a: has no video stream, only a cover image beside audio; .*--video-stream 0"
        ):
            probe(source)
        assert len(list(read_frames(probe(source, video_stream=0), ReadOptions(strict=True)))) == 1


def test_damage_behind_the_range_does_not_fail_the_check_at_the_end(
    tiny_weights: Path, tmp_path: Path, break_reading: Callable[..., None]
) -> None:
    """The check reads further than the job."""
    source = make_clip(tmp_path / "in.mkv", frames=60)
    break_reading(at=30)
    options = ("--max-frames", 4, "--model", tiny_weights, *SETTINGS)
    code, _, err = in_process("upscale", source, tmp_path / "out.mkv", *options)
    assert code == 0, err
    assert len(list(read_frames(tmp_path / "out.mkv"))) == 4


OTHER_THREAD = """
import sys
import threading
import av.logging
from ristn_cli.video import filters
with filters.LOG_LOCK:
    av.logging.set_level(av.logging.INFO)
    with av.logging.Capture():
        other = threading.Thread(target=av.logging.log, args=(av.logging.ERROR, "mov", "UDTA parsing failed"))
        other.start()
        other.join()
"""


def test_messages_of_ffmpeg_from_other_threads_are_not_printed() -> None:
    """The log level is raised for a moment in each probe, for all threads."""
    done = subprocess.run([sys.executable, "-c", OTHER_THREAD], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")
