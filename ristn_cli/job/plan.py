"""The plan of a job in numbers, computed from the description of the source. Does not read files."""

import math
from dataclasses import dataclass
from fractions import Fraction

from ristn_cli.engine.memory import Tiling
from ristn_cli.job.options import Deinterlaced
from ristn_cli.video import FieldOrder, StreamPlan, Telecine

LOSSY_BITS_PER_PIXEL = 0.25
"""Bits per output pixel in the disk estimate for h264, hevc and av1 at any quality: 12 Mbit/s for 1920x1080 at 24 fps,
a high estimate for smooth upscaled frames."""

BITS_PER_PIXEL = {
    "prores": 4.0,
    "ffv1": 16.0,
    "jpeg": 4.0,
    "png": 16.0,
    "tiff": 24.0,
    "webp": 2.0,
    "dpx": 24.0,
    "exr": 48.0,
}
"""The same for larger formats: the data rate of ProRes 422 HQ, FFV1 with almost no compression, 8-bit images,
half-float EXR."""


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """What a job will do. Counts are estimates from the source's headers, None if unknown.

    Attributes:
        width: width of the output in pixels.
        height: height of the output in pixels.
        sample_aspect_ratio: pixel aspect ratio of the output.
        is_resampled: frames at 4x are resampled to the size of the output.
        rate: nominal frame rate; each frame keeps its own time.
        has_alpha: the output has the source's alpha channel, resampled without the network.
        deinterlaced: see `choose_deinterlacing`.
        field_order: field order that was found in the frames of a source without flags.
        grain: largest standard deviation of the added grain, 1 for white; None without grain.
        telecine: telecined film in the source; None if not found or not searched for.
        encoder: name of the encoder.
        streams: plan of each stream.
        dynamic_hdr: kinds of HDR metadata that change from frame to frame, which no encoder keeps.
        frames: frames of the output.
        resumed_frames: frames of the output that an earlier run finished.
        parts: encoded files, including those of an earlier run.
        windows: windows still to compute.
        window_frames: frames per window.
        tiles: tiles per window.
        device: device of the network.
        precision: precision of the network.
        workers: workers that share the memory of a machine. The next three figures are for one worker.
        memory_bytes: estimated largest memory of a window and of queued frames.
        encoder_bytes: estimated main memory of the encoder.
        room_bytes: memory for windows within the limit or the free memory; None if unknown.
        faster: total memory in bytes with which the network would be faster, and its time as a share of this plan's;
            None if more memory does not help.
        needed_bytes: estimated largest disk space that the job needs besides an existing output.
        free_bytes: free disk space.
        seconds: estimated time of the network, measured on the first frames; None if not measured.
    """

    width: int
    height: int
    sample_aspect_ratio: Fraction
    is_resampled: bool
    rate: Fraction
    has_alpha: bool
    deinterlaced: Deinterlaced
    field_order: FieldOrder | None
    grain: float | None
    telecine: Telecine | None
    encoder: str
    streams: tuple[StreamPlan, ...]
    dynamic_hdr: tuple[str, ...]
    frames: int | None
    resumed_frames: int
    parts: int | None
    windows: int | None
    window_frames: int
    tiles: int
    device: str
    precision: str
    memory_bytes: int
    encoder_bytes: int
    room_bytes: int | None
    faster: tuple[int, float] | None
    needed_bytes: int | None
    free_bytes: int
    workers: int = 1
    seconds: float | None = None


def count_windows(frames: int, tiling: Tiling, *, continued: int = 0) -> int:
    """Return how many windows `slide_windows` makes of `frames` kept frames. Scene cuts may add more."""
    if frames <= 0:
        return 0
    read = frames + continued
    return 1 + max(0, math.ceil((read - tiling.window) / (tiling.window - 2 * tiling.context)))


def count_parts(frames: int, length: int, tiling: Tiling) -> int:
    """Estimate how many parts of `length` frames, rounded up to whole windows, a job makes."""
    kept = tiling.window - 2 * tiling.context
    return math.ceil(frames / (math.ceil(length / kept) * kept))


def estimate_disk(pixels: int, family: str, frames_left: int, other_bytes: int, *, is_deep: bool = False) -> int:
    """Return the most bytes of disk that a job still needs: the missing parts, and all parts again in the output.

    Args:
        pixels: pixels per output frame.
        family: codec as in `video.CODECS`, or image format.
        frames_left: frames still to encode.
        other_bytes: bytes of the finished parts and of all other streams, for which the size of the source is enough.
        is_deep: the source has more than 8 bits per sample, so images have 16.
    """
    bits = BITS_PER_PIXEL.get(family, LOSSY_BITS_PER_PIXEL)
    if is_deep and family in ("png", "tiff"):
        bits *= 3  # the lower eight of 16 bits are noise and cannot be compressed
    elif is_deep and family in ("dpx", "exr"):
        bits *= 2
    encoded = frames_left * pixels * bits / 8
    return math.ceil(2 * encoded) + other_bytes


def format_bytes(count: int) -> str:
    """Format as `12.3 kB`, `0.1 MB`, `999.9 MB` or `1.00 GB`."""
    if 0 < count < 100_000:
        return f"{count / 1e3:.1f} kB"
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
