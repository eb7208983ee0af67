"""Compute VMAF with the ffmpeg program, if it was built with libvmaf."""

import json
import math
import subprocess
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

import numpy as np

from ristn_cli.video.muxing.program import find_ffmpeg
from ristn_cli.video.types import Image, VideoError

LOG = "vmaf.json"
MESSAGES = "messages.txt"
MODELS = r"version=vmaf_v0.6.1\\:name=vmaf|version=vmaf_v0.6.1neg\\:name=neg"


@lru_cache(maxsize=1)
def find_vmaf() -> str:
    """Return the path of an ffmpeg program with libvmaf.

    Raises:
        VideoError: the ffmpeg program has no libvmaf.
    """
    program = find_ffmpeg()
    listed = subprocess.run([program, "-hide_banner", "-filters"], capture_output=True, text=True, check=False)
    if " libvmaf " not in listed.stdout:
        raise VideoError(f"{program} has no libvmaf; set IMAGEIO_FFMPEG_EXE to the absolute path of an ffmpeg with it")
    return program


class VmafMeter:
    """Mean VMAF and VMAF-NEG (models v0.6.1 and v0.6.1neg) of frames that are added in order. Frames are not kept in
    this process.

    Distorted and original frames are stacked and share one pipe, to avoid a deadlock. VMAF uses only luma, here BT.601
    as for PSNR-Y, of the whole frame.
    """

    def __init__(self) -> None:
        self._folder = TemporaryDirectory(prefix="ristn-vmaf-")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()
        self._folder.cleanup()

    def add(self, sr: Image, hr: Image) -> None:
        """Add a frame and its original, both (H, W, 3) uint8 of the same size, even in both directions."""
        both = np.concatenate([sr, hr])
        if self._process is None:
            self._process = self._start(both.shape[1], both.shape[0])
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(both.tobytes())
        except OSError as error:
            raise VideoError(f"VMAF failed: {self._last_messages() or error}") from error

    def finish(self) -> tuple[float, float]:
        """Return VMAF and VMAF-NEG, 0 to 100; NaN if no frames were added.

        Raises:
            VideoError: ffmpeg failed.
        """
        if self._process is None:
            return math.nan, math.nan
        assert self._process.stdin is not None
        self._process.stdin.close()
        if self._process.wait() != 0:
            raise VideoError(f"VMAF failed: {self._last_messages()}")
        pooled = json.loads((Path(self._folder.name) / LOG).read_text(encoding="utf-8"))["pooled_metrics"]
        return float(pooled["vmaf"]["mean"]), float(pooled["neg"]["mean"])

    def _start(self, width: int, height: int) -> subprocess.Popen[bytes]:
        program = find_vmaf()
        graph = (
            "scale=out_color_matrix=bt601:out_range=tv,format=yuv420p,split[a][b];"
            "[a]crop=iw:ih/2:0:0[sr];[b]crop=iw:ih/2:0:ih/2[hr];"
            f"[sr][hr]libvmaf=log_fmt=json:log_path={LOG}:model={MODELS}"
        )
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "25", "-i", "pipe:0"]
        with (Path(self._folder.name) / MESSAGES).open("wb") as messages:
            return subprocess.Popen(
                [program, "-hide_banner", "-loglevel", "error", *source, "-lavfi", graph, "-f", "null", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=messages,
                cwd=self._folder.name,
                start_new_session=True,  # Ctrl-C does not reach ffmpeg: the caller decides
            )

    def _last_messages(self) -> str:
        lines = (Path(self._folder.name) / MESSAGES).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " | ".join(lines[-3:]) or "ffmpeg printed no message"
