"""What a job will do, in numbers, before it does it. Arithmetic on what is known of the source: reads no file."""

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from ristn_cli.engine.memory import Tiling
from ristn_cli.video import Deinterlace, FieldOrder, StreamPlan, VideoInfo

PART_PIXELS = 32_000_000
"""LR pixels of a part, about a minute to ten of work on a processor: what a crash may cost."""

SHORTEST_PART = 24
"""Frames that a part has at least: it begins with a keyframe, and those are large."""

LOSSY_BITS_PER_PIXEL = 0.25
"""Of the output, in the disk estimate of h264, hevc and av1, whatever the quality: 12 Mbit/s for 1920x1080 at 24 frames
a second, which is much for pictures as smooth as upscaled ones."""

BITS_PER_PIXEL = {"prores": 4.0, "ffv1": 16.0, "jpeg": 4.0, "png": 16.0, "tiff": 24.0, "webp": 2.0}
"""Of what takes far more: ProRes 422 HQ by its data rate, FFV1 as if it hardly compressed, images of 8 bits."""


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """What shapes the output, besides the network.

    Attributes:
        codec: a key of `video.CODECS`, or `auto`: h264, and 10-bit hevc for sources above 8 bits.
        crf: constant rate factor of the encoder.
        preset: speed preset of the encoder.
        pixel_format: of the output, by FFmpeg's name; None for the codec's own at the source's depth.
        encoder_options: the encoder's own options by FFmpeg's names; they win over all others.
        start: seconds from the first frame at which to begin.
        end: seconds from the first frame at which to stop.
        max_frames: stop after as many frames.
        with_audio: keep the sound.
        with_subtitles: keep the subtitles, and the fonts that go with them.
        scale: size of the output in sizes of the source, at most the network's own 4; below, its result is resampled.
        size: exact width and height of the output, instead of `scale`.
        fit: as large as fits into 1920x1080 or 3840x2160, but not above 4x, instead of `scale`.
        square_pixels: resample to pixels as wide as high.
        deinterlace: `auto` treats interlaced frames, `frame` all, `off` none; `field` makes two frames of each.
        drop_alpha: upscale a video with transparency without it, rather than carry or refuse it.
        strict: fail where packets cannot be decoded or frames change in size or format, rather than conceal or convert
            them with a warning.
        image_rate: frames a second of numbered images; None for 25.
        images: suffix of the images to write instead of a video; a job sets it by the name of its output.
        segment_frames: frames after which a part ends; None for what PART_PIXELS makes of their size.
        video_stream: which video stream to upscale, counted from 0; None for what `probe` takes for the film.
    """

    codec: str = "auto"
    crf: float = 17
    preset: str = "medium"
    pixel_format: str | None = None
    encoder_options: dict[str, str] = field(default_factory=dict)
    start: Fraction | None = None
    end: Fraction | None = None
    max_frames: int | None = None
    with_audio: bool = True
    with_subtitles: bool = True
    scale: Literal[2, 3, 4] = 4
    size: tuple[int, int] | None = None
    fit: Literal["1080p", "2160p"] | None = None
    square_pixels: bool = False
    deinterlace: Deinterlace = "auto"
    drop_alpha: bool = False
    strict: bool = False
    image_rate: Fraction | None = None
    images: str | None = None
    segment_frames: int | None = None
    video_stream: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError when more than one of `scale`, `size` and `fit` says how large the output is."""
        if (self.size is not None) + (self.fit is not None) + (self.scale != 4) > 1:
            raise ValueError("give one of scale, size and fit: each says how large the output is")


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
        deinterlaced: the frames that are: `none`, `flagged` ones, `all`, or all, to one frame a `field`.
        field_order: which field comes first, found by looking at pictures whose flags are silent.
        encoder: the encoder's name.
        streams: what becomes of each stream.
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
        needed_bytes: free disk space that the job needs beside the output, at most, as an estimate.
        free_bytes: what is free there.
        seconds: time the network will take, measured on the first frames; None when it was not measured.
        uses_default: windows and tiles are the fastest ones of a sweep on this machine, as far as they fit.
    """

    width: int
    height: int
    sample_aspect_ratio: Fraction
    is_resampled: bool
    rate: Fraction
    has_alpha: bool
    deinterlaced: Literal["none", "flagged", "all", "field"]
    field_order: FieldOrder | None
    encoder: str
    streams: tuple[StreamPlan, ...]
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
    needed_bytes: int | None
    free_bytes: int
    workers: int = 1
    seconds: float | None = None
    uses_default: bool = False


def doubles_rate(info: VideoInfo, options: UpscaleOptions) -> bool:
    """Whether a job makes two frames of each of the source's."""
    return options.deinterlace == "field" and not (info.is_image_sequence or info.is_still)


def carries_alpha(info: VideoInfo, options: UpscaleOptions) -> bool:
    """Whether a job gives the output the source's transparency."""
    return info.has_alpha and not options.drop_alpha


def choose_deinterlacing(info: VideoInfo, options: UpscaleOptions) -> Literal["none", "flagged", "all", "field"]:
    """Which frames of a source are deinterlaced; `field` stands for all, into one frame a field."""
    if options.deinterlace == "off" or info.is_image_sequence or info.is_still:
        return "none"
    if options.deinterlace == "auto" and info.field_order is None:
        return "flagged" if info.is_interlaced else "none"
    return "field" if doubles_rate(info, options) else "all"


def estimate_frames(info: VideoInfo, options: UpscaleOptions) -> int | None:
    """How many frames a job will write, from the container's hints."""
    count, rate = info.frame_count, info.rate
    if count is not None and info.duration and not info.has_plausible_rate:
        rate = count / info.duration
    if doubles_rate(info, options):
        count, rate = None if count is None else 2 * count, 2 * rate
    if count is None:
        return options.max_frames
    if options.end is not None:
        count = min(count, round(options.end * rate))
    if options.start is not None:
        count = max(0, count - round(options.start * rate))
    return count if options.max_frames is None else min(count, options.max_frames)


def part_length(info: VideoInfo, options: UpscaleOptions) -> int:
    """Frames after which a part ends, with the window that reaches them."""
    return options.segment_frames or max(SHORTEST_PART, PART_PIXELS // (info.width * info.height))


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


def estimate_disk(
    pixels: int, family: str, frames_left: int, finished_bytes: int, other_bytes: int, *, is_deep: bool = False
) -> int:
    """Bytes of disk that a job still needs at most: the parts that are missing, and all parts once more in the output.

    Args:
        pixels: of a frame of the output.
        family: the codec, as in `video.CODECS`, or the kind of images.
        frames_left: frames still to be encoded.
        finished_bytes: of the parts that an earlier run finished.
        other_bytes: of sound and all else that goes along; the size of the source is enough.
        is_deep: whether the source has more than 8 bits a sample, and so images of it 16.
    """
    bits = BITS_PER_PIXEL.get(family, LOSSY_BITS_PER_PIXEL)
    if is_deep and family in ("png", "tiff"):
        bits *= 3  # the lower eight of 16 bits are noise, which nothing compresses
    encoded = frames_left * pixels * bits / 8
    return math.ceil(2 * encoded) + finished_bytes + other_bytes


def format_bytes(count: int) -> str:
    """`0.1 MB`, `999.9 MB`, `1.00 GB`."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
