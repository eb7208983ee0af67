"""Whether a container takes a stream as it is: tried with the ffmpeg program, for what no table knows."""

from __future__ import annotations

import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from ristn_cli.video.info import VideoError
from ristn_cli.video.program import QUIET, find_ffmpeg
from ristn_cli.video.source import file_url, open_input
from ristn_cli.video.streams import codec_names

TRIED_SECONDS = 10


@lru_cache(maxsize=256)
def can_copy(path: Path, index: int, muxer: str) -> bool:
    """Whether `muxer` takes the first seconds of stream `index`, and the result holds a stream of the same codec."""
    with tempfile.TemporaryDirectory(prefix="ristn-copy-") as scratch:
        copied = Path(scratch) / "copied"
        command = [find_ffmpeg(), *QUIET, "-i", file_url(path), "-map", f"0:{index}", "-c", "copy"]
        command += ["-t", str(TRIED_SECONDS), "-map_chapters", "-1", "-f", muxer, file_url(copied)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if done.returncode != 0:
            return False
        try:
            with open_input(path) as before, open_input(copied) as after:
                kept = [(stream.type, name) for stream, name in zip(after.streams, codec_names(after), strict=True)]
                return kept == [(before.streams[index].type, codec_names(before)[index])]
        except VideoError:
            return False
