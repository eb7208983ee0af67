"""What a job is asked for: what shapes its output, and how its run behaves."""

import threading
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from ristn_cli.job.positions import Position
from ristn_cli.video import Deinterlace, VideoInfo, assume_film, takes_film

Deinterlaced = Literal["none", "flagged", "all", "field", "film"]
"""Which frames are deinterlaced: see `choose_deinterlacing`."""


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
        start_position: a frame number or timecode instead of `start`.
        end_position: the same instead of `end`: of the first frame that is left out.
        max_frames: stop after as many frames.
        with_audio: keep the sound.
        with_subtitles: keep the subtitles, and the fonts that go with them.
        scale: size of the output in sizes of the source, at most the network's own 4; below, its result is resampled.
        size: exact width and height of the output, instead of `scale`.
        fit: as large as fits into 1920x1080 or 3840x2160, but not above 4x, instead of `scale`.
        square_pixels: resample to pixels as wide as high.
        deinterlace: `auto` treats interlaced frames, and makes film frames of telecined ones; `ivtc` makes film frames;
            `frame` treats all, `off` none; `field` makes two frames of each.
        drop_alpha: upscale a video with transparency without it, rather than carry or refuse it.
        strict: fail where packets cannot be decoded or frames change in size or format, rather than conceal or convert
            them with a warning.
        image_rate: frames a second of numbered images; None for 25.
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
    start_position: Position | None = None
    end_position: Position | None = None
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
    segment_frames: int | None = None
    video_stream: int | None = None

    def __post_init__(self) -> None:
        """Raise ValueError when more than one of `scale`, `size` and `fit` says how large the output is."""
        if (self.size is not None) + (self.fit is not None) + (self.scale != 4) > 1:
            raise ValueError("give one of scale, size and fit: each says how large the output is")


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How a run behaves; nothing of it changes a frame.

    Attributes:
        overwrite: replace an existing output.
        restart: discard what an earlier, unfinished run did.
        disk_check: refuse to begin when, by an estimate, the disk is too small.
        makes_folder: the folder of the output need not exist yet.
        workers: how many compute the parts of the job.
        stop: set it, from any thread, to end the run where no finished part is lost.
    """

    overwrite: bool = False
    restart: bool = False
    disk_check: bool = True
    makes_folder: bool = False
    workers: int = 1
    stop: threading.Event = field(default_factory=threading.Event)


def doubles_rate(info: VideoInfo, options: UpscaleOptions) -> bool:
    """Whether a job makes two frames of each of the source's."""
    return options.deinterlace == "field" and not (info.is_image_sequence or info.is_still)


def makes_film(info: VideoInfo, options: UpscaleOptions) -> bool:
    """Whether a job makes film frames of the source's, which were telecined."""
    return takes_film(info, options.deinterlace)


def output_rate(info: VideoInfo, options: UpscaleOptions) -> Fraction:
    """Nominal frames a second of a job's output."""
    if doubles_rate(info, options):
        return 2 * info.rate
    if makes_film(info, options) and assume_film(info).is_mostly_film:
        return info.rate * 4 / 5
    return info.rate


def carries_alpha(info: VideoInfo, options: UpscaleOptions) -> bool:
    """Whether a job gives the output the source's transparency."""
    return info.has_alpha and not options.drop_alpha


def choose_deinterlacing(info: VideoInfo, options: UpscaleOptions) -> Deinterlaced:
    """Which frames of a source are deinterlaced; `field`: all, into one frame a field; `film`: telecine is undone."""
    if options.deinterlace == "off" or info.is_image_sequence or info.is_still:
        return "none"
    if makes_film(info, options):
        return "film"
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
    elif makes_film(info, options):
        kept = assume_film(info).kept_share
        count, rate = None if count is None else round(kept * count), kept * rate
    if count is None:
        return options.max_frames
    if options.end is not None:
        count = min(count, round(options.end * rate))
    if options.start is not None:
        count = max(0, count - round(options.start * rate))
    return count if options.max_frames is None else min(count, options.max_frames)


def expected_end(info: VideoInfo, options: UpscaleOptions) -> Fraction | None:
    """Where the range of a job ends, in seconds after the first frame: with `max_frames`, about there."""
    if options.max_frames is None:
        return options.end
    wanted = (options.start or Fraction(0)) + options.max_frames / output_rate(info, options)
    return wanted if options.end is None else min(options.end, wanted)
