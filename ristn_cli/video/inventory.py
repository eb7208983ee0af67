"""Capabilities of FFmpeg on this machine: versions, working encoders, available decoders."""

from __future__ import annotations

import os
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.codec import Codec as LibraryCodec
from av.codec.codec import UnknownCodecError

from ristn_cli.video.codecs import Codec, part_suffix
from ristn_cli.video.muxing.program import find_ffmpeg
from ristn_cli.video.types import Color, Frame, VideoError
from ristn_cli.video.writing.settings import EncoderSettings, OutputShape
from ristn_cli.video.writing.writer import FrameWriter

DECODERS = (
    *("h264", "hevc", "av1", "vp8", "vp9", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3", "h263", "vc1", "wmv3"),
    *("prores", "dnxhd", "cfhd", "ffv1", "huffyuv", "utvideo", "dvvideo", "mjpeg", "theora", "rv40", "cinepak", "svq3"),
)
"""FFmpeg's names of decoders for common formats."""

TRIAL_SIDE = 256
"""Width and height of the frame that tests an encoder. NVENC refuses smaller frames."""

TIMEOUT_SECONDS = 20


def library_versions() -> dict[str, str]:
    """Return the versions of FFmpeg's libraries in PyAV, by name."""
    return {name: ".".join(map(str, numbers)) for name, numbers in sorted(av.library_versions.items())}


def program_version() -> str:
    """Return the version of the ffmpeg program that muxes, and where it was found.

    Raises:
        VideoError: there is no ffmpeg program, or it does not run.
    """
    program = find_ffmpeg()
    try:
        done = subprocess.run(
            [program, "-version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise VideoError(
            f"the ffmpeg program does not run ({type(error).__name__}); set IMAGEIO_FFMPEG_EXE to another one"
        ) from error
    words = done.stdout.decode("utf-8", "replace").split()
    version = words[2] if words[:2] == ["ffmpeg", "version"] and len(words) > 2 else "unknown"
    return f"{version} ({'IMAGEIO_FFMPEG_EXE' if os.environ.get('IMAGEIO_FFMPEG_EXE') else 'imageio-ffmpeg'})"


def find_decoders() -> tuple[list[str], list[str]]:
    """Return the decoders of `DECODERS` that PyAV's FFmpeg includes, and those that it lacks."""
    found, missing = [], []
    for name in DECODERS:
        try:
            LibraryCodec(name, "r")
        except UnknownCodecError:
            missing.append(name)
        else:
            found.append(name)
    return found, missing


def try_encoder(codec: Codec) -> bool:
    """Return whether an encoder is available and encodes a black frame."""
    if not codec.is_available:
        return False
    shape = OutputShape(width=TRIAL_SIDE, height=TRIAL_SIDE, rate=Fraction(25), time_base=Fraction(1, 25))
    settings = EncoderSettings(codec=codec.name, color=Color(), preset="ultrafast")
    frame = Frame(np.zeros((TRIAL_SIDE, TRIAL_SIDE, 3), np.uint8), Fraction(0), shape.time_base)
    with tempfile.TemporaryDirectory(prefix="ristn-") as folder:
        path = Path(folder) / f"frame{part_suffix(codec.name)}"
        try:
            with FrameWriter(path, shape, settings) as writer:
                writer.write(frame)
        except VideoError:
            return False
        return path.stat().st_size > 0
