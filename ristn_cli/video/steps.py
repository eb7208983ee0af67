"""Single steps of reading and writing for benchmarks: decoding, and bicubic scaling by ffmpeg."""

import subprocess
from itertools import islice
from pathlib import Path

from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.convert import FrameBuilder, RgbReader
from ristn_cli.video.formats import READ_OPTIONS, file_url
from ristn_cli.video.muxing.program import find_ffmpeg
from ristn_cli.video.reading.source import open_input
from ristn_cli.video.types import VideoError, VideoInfo
from ristn_cli.video.writing.settings import output_color


def decode_pictures(info: VideoInfo, count: int) -> list[VideoFrame]:
    """Return the first `count` decoded frames. Raises VideoError if the file cannot be opened."""
    with open_input(info.path) as container:
        stream = container.streams[info.video_index]
        assert isinstance(stream, VideoStream)
        stream.thread_type = "AUTO"
        return list(islice(container.decode(stream), count))


def scale_bicubic(
    source: VideoInfo, target: Path, *, width: int, height: int, frames: int, crf: float, preset: str
) -> None:
    """Decode, scale to `width` x `height` with `scale=flags=bicubic`, and encode as H.264, in one ffmpeg process.

    Raises:
        VideoError: ffmpeg failed.
    """
    command = [find_ffmpeg(), "-nostdin", "-hide_banner", "-loglevel", "error", "-y"]
    command += [word for name, value in READ_OPTIONS.items() for word in (f"-{name}", value)]
    command += [
        "-i",
        file_url(source.path),
        "-map",
        f"0:{source.video_index}",
        "-frames:v",
        str(frames),
        "-vf",
        f"scale={width}:{height}:flags=bicubic",
    ]
    command += ["-pix_fmt", "yuv420p", "-c:v", "libx264", "-crf", str(crf), "-preset", preset, file_url(target)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        messages = " | ".join(done.stderr.strip().splitlines()[-4:])
        raise VideoError(f"{source.path}: bicubic scaling failed, ffmpeg ended with {done.returncode}: {messages}")


__all__ = ["FrameBuilder", "RgbReader", "decode_pictures", "output_color", "scale_bicubic"]
