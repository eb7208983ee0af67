"""What a job will do, in numbers, before it does it. Arithmetic on what is known of the source: reads no file."""

import math
from dataclasses import dataclass
from fractions import Fraction

from ristn_cli.engine.memory import Tiling
from ristn_cli.job.options import Deinterlaced
from ristn_cli.video import FieldOrder, StreamPlan, Telecine

LOSSY_BITS_PER_PIXEL = 0.25
"""Of the output, in the disk estimate of h264, hevc and av1, whatever the quality: 12 Mbit/s for 1920x1080 at 24 frames
a second, which is much for pictures as smooth as upscaled ones."""

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
"""Of what takes far more: ProRes 422 HQ by its data rate, FFV1 as if it hardly compressed, images of 8 bits, EXR of
halves."""


@dataclass(frozen=True, kw_only=True)
class JobPlan:
    """What a job will do. Counts of what is in the source are estimates from its headers, None where they say nothing.

    Attributes:
        width: of the output, in pixels.
        height: of the output, in pixels.
        sample_aspect_ratio: of the output: how wide a pixel is for its height.
        is_resampled: the output's frames are made from the network's, of another size, by a resampler.
        rate: nominal frames a second; each frame keeps its own time.
        has_alpha: the output has the source's transparency, resampled apart from the network.
        deinterlaced: the frames that are: `none`, `flagged` ones, `all`, or all, to one frame a `field`; `film` where
            telecine is undone.
        field_order: which field comes first, found by looking at pictures whose flags are silent.
        grain: standard deviation of the grain that is added, where it is strongest, 1 for white; None without.
        telecine: the telecined film in the source, undone or not; None where none was found or looked for.
        encoder: the encoder's name.
        streams: what becomes of each stream.
        dynamic_hdr: kinds of HDR metadata that change from frame to frame, which no encoder keeps.
        frames: all frames of the output.
        resumed_frames: of these, the ones that an earlier run finished.
        parts: files the frames are encoded into, those of an earlier run included.
        windows: runs of frames still to be computed.
        window_frames: frames that a window reads.
        tiles: tiles that each window is cut into.
        device: where the network computes.
        precision: in which precision.
        workers: that share the memory of a machine; of each of them the following three are.
        memory_bytes: what a window takes at most, and what waits meanwhile; an estimate.
        encoder_bytes: what the encoder holds in main memory; an estimate.
        room_bytes: what windows may take beside program and encoder, by the limit or by what is free; None where
            nothing tells.
        faster: what the program would take in all with more memory, in bytes, and the time as a share of this plan's;
            None where that is no faster.
        needed_bytes: free disk space that the job needs beside the output, at most, as an estimate.
        free_bytes: what is free there.
        seconds: time the network will take, measured on the first frames; None when it was not measured.
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
    """How many windows `slide_windows` makes of as many kept frames; scene cuts may make more."""
    if frames <= 0:
        return 0
    read = frames + continued
    return 1 + max(0, math.ceil((read - tiling.window) / (tiling.window - 2 * tiling.context)))


def count_parts(frames: int, length: int, tiling: Tiling) -> int:
    """About how many parts of `length` frames, rounded up to whole windows, a job makes."""
    kept = tiling.window - 2 * tiling.context
    return math.ceil(frames / (math.ceil(length / kept) * kept))


def estimate_disk(pixels: int, family: str, frames_left: int, other_bytes: int, *, is_deep: bool = False) -> int:
    """Bytes of disk that a job still needs at most: the parts that are missing, and all parts once more in the output.

    Args:
        pixels: of a frame of the output.
        family: the codec, as in `video.CODECS`, or the kind of images.
        frames_left: frames still to be encoded.
        other_bytes: of the finished parts, and of sound and all else that goes along: the size of the source is enough.
        is_deep: whether the source has more than 8 bits a sample, and so images of it 16.
    """
    bits = BITS_PER_PIXEL.get(family, LOSSY_BITS_PER_PIXEL)
    if is_deep and family in ("png", "tiff"):
        bits *= 3  # the lower eight of 16 bits are noise, which nothing compresses
    elif is_deep and family in ("dpx", "exr"):
        bits *= 2
    encoded = frames_left * pixels * bits / 8
    return math.ceil(2 * encoded) + other_bytes


def format_bytes(count: int) -> str:
    """`0.1 MB`, `999.9 MB`, `1.00 GB`."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
