"""The options of a job: those that shape its output, and those that only concern its run."""

import threading
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, Literal

from ristn_cli.job.positions import Position
from ristn_cli.video import Deinterlace, VideoInfo, assume_film, takes_film

Deinterlaced = Literal["none", "flagged", "all", "field", "film"]
"""Which frames are deinterlaced; see `choose_deinterlacing`."""

Fit = Literal["720p", "1080p", "1440p", "2160p", "4320p"]
"""Names of sizes to fit the output into."""

LeftOut = Literal["attachments", "captions", "chapters", "covers", "data", "metadata", "videos"]
"""Further parts of a source that the output can omit, besides audio, subtitles and alpha channel."""

FIRST_RECORDED = (
    *("codec", "crf", "preset", "pixel_format", "encoder_options", "start", "end", "max_frames"),
    *("with_audio", "with_subtitles", "scale", "size", "fit", "square_pixels", "deinterlace"),
    *("drop_alpha", "strict", "image_rate", "segment_frames", "video_stream"),
)
"""Options in every manifest and record. Others are recorded only if they differ from their default, so that jobs from
before these options existed can be resumed."""


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """What shapes the output, besides the network.

    Attributes:
        codec: a key of `video.CODECS`, or `auto`: h264, or 10-bit hevc for sources above 8 bits.
        crf: constant rate factor of the encoder.
        preset: speed preset of the encoder.
        pixel_format: FFmpeg's name of the output's pixel format; None for the codec's default at the source's bit
            depth.
        encoder_options: options of the encoder by FFmpeg's names. They override all others.
        start: time to start at, in seconds after the first frame.
        end: time to stop at, in seconds after the first frame.
        start_position: frame number or timecode, instead of `start`.
        end_position: frame number or timecode of the first frame after the range, instead of `end`.
        max_frames: largest number of frames.
        with_audio: keep the audio.
        with_subtitles: keep the subtitles and their fonts.
        scale: scale factor; 2 and 3 are resampled from 4x.
        size: exact (width, height) of the output, instead of `scale`.
        fit: size to fit the output into, at most 4x, instead of `scale`: a name, which is rotated for portrait video,
            or (width, height) in pixels.
        square_pixels: resample to square pixels.
        grain: share of the removed film grain to put back, in [0, 1]; 0 for none.
        deinterlace: `auto` deinterlaces interlaced frames and undoes telecine; `ivtc` undoes telecine; `frame`
            deinterlaces all frames, `field` makes a frame of every field, `off` does nothing.
        drop_alpha: drop the alpha channel.
        strict: fail if packets cannot be decoded or frames change in size or format, instead of concealing or
            converting them with a warning.
        image_rate: frame rate of numbered images; None for 25.
        segment_frames: number of frames after which a part ends; None for about PART_PIXELS.
        video_stream: number of the video stream to upscale, from 0; None for the one that `probe` chooses.
        leave_out: further parts of the source to omit.
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
    fit: Fit | tuple[int, int] | None = None
    square_pixels: bool = False
    grain: float = 0
    deinterlace: Deinterlace = "auto"
    drop_alpha: bool = False
    strict: bool = False
    image_rate: Fraction | None = None
    segment_frames: int | None = None
    video_stream: int | None = None
    leave_out: tuple[LeftOut, ...] = ()

    def __post_init__(self) -> None:
        """Raise ValueError if `grain` is out of range, or two of `scale`, `size` and `fit` are given."""
        if not 0 <= self.grain <= 1:
            raise ValueError(f"grain is {self.grain}, expected 0 to 1")
        if (self.size is not None) + (self.fit is not None) + (self.scale != 4) > 1:
            raise ValueError("scale, size and fit all set the size of the output; give only one of them")

    @property
    def dropped(self) -> frozenset[str]:
        """Everything that the output omits, including audio and subtitles."""
        unwanted = {"audio": not self.with_audio, "subtitles": not self.with_subtitles}
        return frozenset(self.leave_out) | {name for name, is_unwanted in unwanted.items() if is_unwanted}


def plain_text(value: Any) -> str:
    """Return an option as text. Equal numbers give equal text: 17 from Python, 17.0 from the command line."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def recorded_options(options: UpscaleOptions) -> dict[str, str]:
    """Return the options for a manifest or a record, as text."""
    default = asdict(UpscaleOptions())
    return {
        name: plain_text(value)
        for name, value in asdict(options).items()
        if name in FIRST_RECORDED or value != default[name]
    }


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of a run that do not change any frame.

    Attributes:
        overwrite: replace an existing output.
        restart: discard the parts of an earlier, unfinished run.
        disk_check: refuse to start if the disk is estimated to be too small.
        makes_folder: create the output's folder if needed.
        workers: number of workers that compute parts.
        stop: set it from any thread to stop the run without losing finished parts.
    """

    overwrite: bool = False
    restart: bool = False
    disk_check: bool = True
    makes_folder: bool = False
    workers: int = 1
    stop: threading.Event = field(default_factory=threading.Event)


def doubles_rate(info: VideoInfo, options: UpscaleOptions) -> bool:
    """Return whether a job makes two frames from each frame of the source."""
    return options.deinterlace == "field" and not (info.is_image_sequence or info.is_still)


def makes_film(info: VideoInfo, options: UpscaleOptions) -> bool:
    """Return whether a job undoes the telecine of the source."""
    return takes_film(info, options.deinterlace)


def output_rate(info: VideoInfo, options: UpscaleOptions) -> Fraction:
    """Return the nominal frame rate of the output."""
    if doubles_rate(info, options):
        return 2 * info.rate
    if makes_film(info, options) and assume_film(info).is_mostly_film:
        return info.rate * 4 / 5
    return info.rate


def carries_alpha(info: VideoInfo, options: UpscaleOptions) -> bool:
    """Return whether the output has the source's alpha channel."""
    return info.has_alpha and not options.drop_alpha


def choose_deinterlacing(info: VideoInfo, options: UpscaleOptions) -> Deinterlaced:
    """Return which frames are deinterlaced: `none`, `flagged`, `all`, every `field` into a frame, or `film` to undo
    telecine.
    """
    if options.deinterlace == "off" or info.is_image_sequence or info.is_still:
        return "none"
    if makes_film(info, options):
        return "film"
    if options.deinterlace == "auto" and info.field_order is None:
        return "flagged" if info.is_interlaced else "none"
    return "field" if doubles_rate(info, options) else "all"


def estimate_frames(info: VideoInfo, options: UpscaleOptions) -> int | None:
    """Estimate the number of frames that a job will write from the container's hints; None if it has none."""
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
    """Return the end of the range in seconds after the first frame; an estimate with `max_frames`."""
    if options.max_frames is None:
        return options.end
    wanted = (options.start or Fraction(0)) + options.max_frames / output_rate(info, options)
    return wanted if options.end is None else min(options.end, wanted)
