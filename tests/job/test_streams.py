"""The standard streams as ends of a job: what comes in, what goes out, and nothing else on standard output."""

import contextlib
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import make_clip, make_picture, packet_times, run_ffmpeg
from commands import COMMAND, SHORT_PARTS

from ristn_cli.job.parts import Interrupted
from ristn_cli.job.pipeline import Cancelled
from ristn_cli.video import InputStream, RawFormat, ReadOptions, VideoError, interruptible, probe, read_frames

QUICK = ["--preset", "ultrafast", "--precision", "fp32"]


def quick_for(target: object, options: Sequence[object]) -> list[str]:
    """Options that save time; those of an encoder are refused where none writes."""
    is_encoded = "matroska" in options if target == "-" else Path(str(target)).suffix != ".png"
    return QUICK if is_encoded else ["--precision", "fp32"]


def stream(weights: Path, *arguments: object, given: bytes = b"") -> tuple[int, bytes, str]:
    """Exit code, stdout and stderr of `ristn upscale` with `given` on its standard input."""
    quick = quick_for(arguments[1], arguments)
    command = [sys.executable, "-m", "ristn_cli", "upscale", "--model", weights, *quick, *arguments]
    done = subprocess.run([str(word) for word in command], input=given, capture_output=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr.decode()


def decode(data: bytes, path: Path) -> list[np.ndarray]:
    path.write_bytes(data)
    return [frame.image for frame in read_frames(path)]


def brightness(pictures: list[np.ndarray]) -> np.ndarray:
    return np.array([picture.mean() for picture in pictures])


def test_raw_frames_in_and_y4m_out(tiny_weights: Path, tmp_path: Path) -> None:
    pictures = [make_picture(index, 32, 24) for index in range(5)]
    raw = b"".join(picture.tobytes() for picture in pictures)
    options = ["--raw", "32x24@24000/1001:rgb24", "--progress", "json", "-v"]
    code, stdout, stderr = stream(tiny_weights, "-", "-", *options, given=raw + b"half a frame")
    assert code == 0, stderr
    assert stdout.startswith(b"YUV4MPEG2 W128 H96 F24000:1001 Ip A1:1 C420")
    assert stdout.count(b"FRAME\n") == 5
    found = decode(stdout, tmp_path / "out.y4m")
    np.testing.assert_allclose(brightness(found), brightness(pictures), atol=2)
    assert "for rawvideo, besides the program" in stderr
    lines = [line for line in stderr.splitlines() if line.startswith("{")]
    assert json.loads(lines[0])["total"] is None
    assert json.loads(lines[-1])["frames"] == 5
    assert "ends in the middle of frame 6: 12 of 2304 bytes" in stderr


def test_plain_frames_leave_windows_the_memory_of_an_encoder(tiny_weights: Path, tmp_path: Path) -> None:
    """Beside x264 not even the smallest, of 190 MB, would fit."""
    pictures = [make_picture(index, 640, 360) for index in range(2)]
    raw = b"".join(picture.tobytes() for picture in pictures)
    options = ["--raw", "640x360:rgb24", "--memory-limit", "700MiB", "-v"]
    code, stdout, stderr = stream(tiny_weights, "-", "-", *options, given=raw)
    assert code == 0, stderr
    assert stdout.count(b"FRAME\n") == 2
    windows = re.search(r"memory: about (\d+\.\d) MB for windows", stderr)
    assert windows, stderr
    assert 250 < float(windows[1]) < 1.048576 * 300  # of which the program takes 400, and the frames on their way 20


def test_fields_lie_evenly_in_time(tiny_weights: Path, tmp_path: Path) -> None:
    make_clip(tmp_path / "in.mkv", frames=5, width=32, height=24)
    code, stdout, stderr = stream(tiny_weights, tmp_path / "in.mkv", "-", "--deinterlace", "field")
    assert code == 0, stderr
    assert stdout.startswith(b"YUV4MPEG2 W128 H96 F50:1 ")
    assert stdout.count(b"FRAME\n") == 10
    assert "evenly spaced" not in stderr


def test_ten_bits_pass_through_y4m(tiny_weights: Path, tmp_path: Path) -> None:
    run_ffmpeg(
        "-f", "lavfi", "-i", "testsrc2=s=32x24:r=25", "-frames:v", "3", "-pix_fmt", "yuv420p10le", "-strict", "-1",
        tmp_path / "in.y4m",
    )  # fmt: skip
    code, stdout, stderr = stream(tiny_weights, "-", "-", given=(tmp_path / "in.y4m").read_bytes())
    assert code == 0, stderr
    assert b" C420p10 XYSCSS=420P10 " in stdout.split(b"\n")[0]
    before, after = list(read_frames(tmp_path / "in.y4m")), decode(stdout, tmp_path / "out.y4m")
    assert len(after) == 3
    assert after[0].dtype == np.uint16
    assert abs(after[0].mean() - before[0].image.mean()) < 300


def test_repeated_frames_leave_as_often_as_they_came(tiny_weights: Path, tmp_path: Path) -> None:
    pictures = [make_picture(index // 2, 32, 24) for index in range(6)]
    raw = b"".join(picture.tobytes() for picture in pictures)
    code, stdout, stderr = stream(tiny_weights, "-", "-", "--raw", "32x24:rgb24", given=raw)
    assert code == 0, stderr
    found = decode(stdout, tmp_path / "out.y4m")
    assert len(found) == 6
    assert all(np.array_equal(found[index], found[index + 1]) for index in (0, 2, 4))
    np.testing.assert_allclose(brightness(found), brightness(pictures), atol=2)


def test_a_file_with_everything_out_as_matroska(tiny_weights: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=30, width=32, height=32, audio_tracks=2, subtitles=True)
    code, stdout, stderr = stream(tiny_weights, source, "-", "--format", "mkv")
    assert code == 0, stderr
    (tmp_path / "out.mkv").write_bytes(stdout)
    assert [frame.time for frame in read_frames(tmp_path / "out.mkv")] == [Fraction(k, 25) for k in range(30)]
    assert [other.kind for other in probe(tmp_path / "out.mkv").streams] == ["video", "audio", "audio", "subtitle"]
    assert packet_times(tmp_path / "out.mkv", 1) == packet_times(source, 1)


def test_matroska_in_and_a_file_out(tiny_weights: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", times=[0, 40, 80, 300], time_base=Fraction(1, 1000), audio_tracks=1)
    target = tmp_path / "out.mp4"
    code, _, stderr = stream(tiny_weights, "-", target, given=source.read_bytes())
    assert code == 1
    assert stderr == (
        "error: standard input: has audio streams, which cannot be copied from standard input; "
        "name a file, or use --drop audio\n"
    )
    code, stdout, stderr = stream(tiny_weights, "-", target, "--drop", "audio", given=source.read_bytes())
    assert code == 0, stderr
    assert b"4 frames" in stdout
    times = [frame.time for frame in read_frames(target)]
    assert times == [Fraction(k, 1000) for k in (0, 40, 80, 300)]
    assert not list(tmp_path.glob(".*"))


def begin_with_socket(weights: Path, target: object, *options: object) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """`ristn upscale - TARGET` with a connection as its standard input, and the connection's other end."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    command = [*COMMAND, "upscale", "-", target, "--model", weights, *quick_for(target, options)]
    if target != "-" or "matroska" in options:  # Y4M has no parts
        command += SHORT_PARTS
    command += ["--window", "6", *options]
    with far:
        process = subprocess.Popen(
            [str(word) for word in command], stdin=far, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    return process, near


def reset(connection: socket.socket) -> None:
    """End a connection so that reading at its other end fails with ECONNRESET, as when a machine dies."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


RAW = ["--raw", "32x24:rgb24", "--progress", "json"]
PICTURES = [make_picture(index % 16, 32, 24).tobytes() for index in range(60)]


def wait_for_frames(process: subprocess.Popen[bytes], frames: int) -> str:
    """What the process writes to standard error until it has written as many frames."""
    told = ""
    assert process.stderr is not None
    watchdog = threading.Timer(120, process.kill)
    watchdog.start()
    try:
        for line in process.stderr:
            told += line.decode()
            if line.startswith(b"{") and json.loads(line)["frames"] >= frames:
                return told
    finally:
        watchdog.cancel()
    raise AssertionError(told)


@pytest.mark.parametrize(("target", "options"), [("out.mkv", []), ("out/%03d.png", []), ("-", [])])
def test_an_input_that_dies_is_an_error_and_what_was_made_is_kept(
    tiny_weights: Path, tmp_path: Path, target: str, options: list[str]
) -> None:
    place = target if target == "-" else tmp_path / target
    process, connection = begin_with_socket(tiny_weights, place, *RAW, *options)
    connection.sendall(b"".join(PICTURES))
    if target == "-":
        assert process.stdout is not None
        process.stdout.read(128 * 96)
    else:
        wait_for_frames(process, 12)
    reset(connection)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    last = stderr.decode().splitlines()[-1]
    assert last.startswith("error: standard input: reading failed (Connection reset by peer)"), stderr
    assert "Traceback" not in stderr.decode()
    if target != "-":
        kept = re.search(r"its (\d+) finished frames are kept in (\S+) as (part-00001\.\w+)", stderr.decode())
        assert kept, stderr
        assert int(kept[1]) >= 12
        assert (Path(kept[2]) / kept[3]).stat().st_size > 0
        assert Path(kept[2]).parent == place.parent
        assert not place.exists()
        assert not list(place.parent.glob("*.png"))


def test_an_input_that_ends_within_a_packet_is_not_awaited(tiny_weights: Path, tmp_path: Path) -> None:
    """Its last frames cannot be decoded once more: it is read once."""
    source, target = tmp_path / "in.flv", tmp_path / "out.mkv"
    run_ffmpeg("-i", make_clip(tmp_path / "plain.mp4", frames=12, width=32, height=32), "-c", "copy", source)
    with av.open(str(source)) as container:
        ends = [packet.pos for packet in container.demux(video=0) if packet.size]
    code, _, told = stream(tiny_weights, "-", target, given=source.read_bytes()[: ends[9] + 30])
    assert code == 0, told
    assert "ends within a packet" in told or "cannot be decoded" in told  # the latter without threads
    assert 7 <= len(list(read_frames(target))) <= 9


def test_an_input_that_cannot_be_read_at_all_is_named(tiny_weights: Path, tmp_path: Path) -> None:
    """A file that is open only for writing."""
    for raw in ([], RAW[:4]):
        command = [sys.executable, "-m", "ristn_cli", "upscale", "-", tmp_path / "out.mkv", "--model", tiny_weights]
        descriptor = os.open(tmp_path / "given", os.O_WRONLY | os.O_CREAT)
        try:
            words = [str(word) for word in [*command, *QUICK, *raw]]
            done = subprocess.run(words, stdin=descriptor, capture_output=True, text=True, check=False, timeout=120)
        finally:
            os.close(descriptor)
        assert done.returncode == 1
        assert "error: standard input: reading failed (Bad file descriptor)" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given", "tiny.safetensors"]


def test_a_stopped_run_keeps_what_was_made_of_standard_input(tiny_weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    process, connection = begin_with_socket(tiny_weights, target, *RAW)
    with connection:
        connection.sendall(b"".join(PICTURES))
        told = wait_for_frames(process, 6)
        process.send_signal(signal.SIGINT)
        sent = 0
        with contextlib.suppress(OSError):
            while process.poll() is None and sent < 3000:  # the part at work is finished first
                connection.sendall(PICTURES[sent % 60])
                sent += 1
        told += process.communicate(timeout=120)[1].decode()
    assert process.returncode == 130, told
    kept = re.search(r"its (\d+) finished frames are kept in (\S+) as (part-00001\.mp4)", told)
    assert kept, told
    assert len(list(read_frames(Path(kept[2]) / kept[3]))) >= 6
    assert not target.exists()
    code, _, stderr = stream(tiny_weights, "-", target, *RAW, given=b"".join(PICTURES[:6]))
    assert code == 1
    assert ".out.mkv.ristn: contains the parts of an earlier run; move or remove this folder" in stderr
    assert (Path(kept[2]) / kept[3]).exists()


def test_a_stop_while_nothing_comes_in_ends_the_run(tiny_weights: Path, tmp_path: Path) -> None:
    process, connection = begin_with_socket(tiny_weights, tmp_path / "out.mkv", *RAW)
    with connection:
        connection.sendall(b"".join(PICTURES))
        told = wait_for_frames(process, 12)
        process.send_signal(signal.SIGINT)
        told += process.communicate(timeout=60)[1].decode()
    assert process.returncode == 130, told
    assert "finished frames are kept in" in told


def test_an_output_that_appears_meanwhile_stays_and_the_work_is_kept(tiny_weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    process, connection = begin_with_socket(tiny_weights, target, *RAW)
    with connection:
        connection.sendall(b"".join(PICTURES))
        told = wait_for_frames(process, 1)
        target.write_text("of another program")
    told += process.communicate(timeout=120)[1].decode()
    assert process.returncode == 1, told
    assert "out.mkv: already exists" in told
    assert target.read_text() == "of another program"
    kept = re.search(r"its 60 finished frames are kept as (\S+)", told)
    assert kept, told
    assert len(list(read_frames(Path(kept[1])))) == 60


FAILING = """
from ristn_cli.__main__ import main
from ristn_cli.job import finishing
from ristn_cli.video import VideoError

def fail(path, *_, **__):
    raise VideoError(f"{path}: fails its check")

finishing.verify = fail
main()
"""
"""The command, with a last check that always fails: a stand-in for a fault of the mux."""


def test_a_last_check_that_fails_keeps_what_was_made_of_standard_input(tiny_weights: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", FAILING, "upscale", "-", tmp_path / "out.mkv", "--model", tiny_weights]
    words = [str(word) for word in [*command, *QUICK, *RAW]]
    done = subprocess.run(words, input=b"".join(PICTURES[:5]), capture_output=True, check=False, timeout=120)
    assert done.returncode == 1
    told = done.stderr.decode()
    assert "out.mkv: fails its check; the unverified result is kept as" in told
    assert len(list(read_frames(tmp_path / "out.unverified.mkv"))) == 5
    kept = re.search(r"its 5 finished frames are kept in (\S+) as (part-00001\.mp4)", told)
    assert kept, told
    assert len(list(read_frames(Path(kept[1]) / kept[2]))) == 5
    assert not (tmp_path / "out.mkv").exists()


def test_nobody_reads_the_output(tiny_weights: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=8, width=160, height=120)
    command = [sys.executable, "-m", "ristn_cli", "upscale", source, "-", "--model", tiny_weights]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([str(word) for word in command], **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.read(9) == b"YUV4MPEG2"
        process.stdout.close()
        stderr = process.stderr.read().decode()
        assert process.wait(60) == 1
    assert "standard output: the reading program closed the pipe after" in stderr
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "given", "words"),
    [
        ([], b"", "standard input: is not a video"),
        ([], b"just text", "standard input: is not a video"),
        (["--raw", "4x4:nonsense"], b"", "check --raw"),
        (["--start", "1"], b"", "--start needs a seekable input"),
    ],
)
def test_bad_streams_are_one_line(
    tiny_weights: Path, tmp_path: Path, options: list[str], given: bytes, words: str
) -> None:
    code, stdout, stderr = stream(tiny_weights, "-", tmp_path / "out.mkv", *options, given=given)
    assert (code, stdout) == (1, b"")
    assert words in stderr
    assert len(stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.safetensors"]


@pytest.mark.parametrize("arguments", [["a.mp4", "-", "out"], ["-", "out.mkv", "--dry-run"]])
def test_streams_in_the_wrong_place(tiny_weights: Path, arguments: list[str]) -> None:
    assert stream(tiny_weights, *arguments)[0] == 2


def test_the_head_is_read_twice_and_the_rest_once(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=12)
    with source.open("rb") as file:
        info = probe(InputStream(file))
        assert (info.width, info.height) == (64, 48)
        assert info == replace(probe(source), path=Path("standard input"))
        found = list(read_frames(info))
        with pytest.raises(VideoError, match=r"standard input: .*can be read only once"):
            next(read_frames(info))
    assert len(found) == 12
    for frame, expected in zip(found, read_frames(source), strict=True):
        assert (frame.time, frame.duration) == (expected.time, expected.duration)
        assert np.array_equal(frame.image, expected.image)


def test_an_unknown_raw_format_is_refused_before_reading() -> None:
    with pytest.raises(VideoError, match=r"standard input: cannot read raw frames of 4x4 abc .*--raw"):
        probe(InputStream(io.BytesIO(), RawFormat(4, 4, Fraction(25), "abc")))


def test_an_incomplete_raw_frame_is_damage() -> None:
    raw, data = RawFormat(4, 4, Fraction(25), "gray"), bytes(4 * 16 + 5)
    damage: list[str] = []
    frames = list(read_frames(probe(InputStream(io.BytesIO(data), raw)), on_damage=damage.append))
    assert [frame.time for frame in frames] == [Fraction(k, 25) for k in range(4)]
    assert damage == ["standard input: ends in the middle of frame 5: 5 of 16 bytes"]
    with pytest.raises(VideoError, match="frame 5: 5 of 16 bytes; run without --strict"):
        list(read_frames(probe(InputStream(io.BytesIO(data), raw)), ReadOptions(strict=True)))


@pytest.mark.parametrize("error", [Interrupted, Cancelled, KeyboardInterrupt])
@pytest.mark.parametrize("given", [b"", b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\nFRAME\n"])
def test_waiting_for_input_can_be_interrupted(given: bytes, error: type[BaseException]) -> None:
    """While nothing comes in, however far the stream was read."""

    def check() -> None:
        if time.monotonic() > begin + 0.2:
            raise error

    reader, writer = os.pipe()
    begin = time.monotonic()
    try:
        os.write(writer, given)
        with open(reader, "rb", closefd=False) as file, interruptible(check), pytest.raises(error):
            probe(InputStream(file))
    finally:
        os.close(reader)
        os.close(writer)
    assert time.monotonic() < begin + 20
