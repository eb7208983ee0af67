"""What a job is asked for: what shapes its output, and how its run behaves."""

import threading
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, Literal

from ristn_cli.job.positions import Position
from ristn_cli.video import Deinterlace, VideoInfo, assume_film, takes_film

Deinterlaced = Literal["none", "flagged", "all", "field", "film"]
"""Which frames are deinterlaced: see `choose_deinterlacing`."""

Fit = Literal["720p", "1080p", "1440p", "2160p", "4320p"]
"""Names of sizes that a picture is fitted into."""

LeftOut = Literal["attachments", "captions", "chapters", "covers", "data", "metadata", "videos"]
"""What else than the sound, the subtitles and the transparency an output can be without."""

FIRST_RECORDED = (
    *("codec", "crf", "preset", "pixel_format", "encoder_options", "start", "end", "max_frames"),
    *("with_audio", "with_subtitles", "scale", "size", "fit", "square_pixels", "deinterlace"),
    *("drop_alpha", "strict", "image_rate", "segment_frames", "video_stream"),
)
"""Options that every manifest and record names. Others are named only where they differ from their default, so that
what was begun before they existed goes on."""


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
        fit: as large as fits into this size, but not above 4x, instead of `scale`. A size by its name lies on its side
            for a picture that is higher than wide; one in pixels, (width, height), stays as it is.
        square_pixels: resample to pixels as wide as high.
        grain: share of the source's grain that is put back where the network removed it, in [0, 1]; 0 for none.
        deinterlace: `auto` treats interlaced frames, and makes film frames of telecined ones; `ivtc` makes film frames;
            `frame` treats all, `off` none; `field` makes two frames of each.
        drop_alpha: upscale a video with transparency without it, rather than carry or refuse it.
        strict: fail where packets cannot be decoded or frames change in size or format, rather than conceal or convert
            them with a warning.
        image_rate: frames a second of numbered images; None for 25.
        segment_frames: frames after which a part ends; None for what PART_PIXELS makes of their size.
        video_stream: which video stream to upscale, counted from 0; None for what `probe` takes for the film.
        leave_out: what else the output is to be without.
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
        """Raise ValueError for a `grain` out of range, or when two of `scale`, `size` and `fit` say the size."""
        if not 0 <= self.grain <= 1:
            raise ValueError(f"grain is {self.grain}, expected a share from 0 to 1")
        if (self.size is not None) + (self.fit is not None) + (self.scale != 4) > 1:
            raise ValueError("give one of scale, size and fit: each says how large the output is")

    @property
    def dropped(self) -> frozenset[str]:
        """What the output is without, sound and subtitles included."""
        unwanted = {"audio": not self.with_audio, "subtitles": not self.with_subtitles}
        return frozenset(self.leave_out) | {name for name, is_unwanted in unwanted.items() if is_unwanted}


def plain_text(value: Any) -> str:
    """An option as text; equal numbers give the same, as 17 from Python and 17.0 from the command line."""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value)


def recorded_options(options: UpscaleOptions) -> dict[str, str]:
    """The options that a manifest or a record names, as text."""
    default = asdict(UpscaleOptions())
    return {
        name: plain_text(value)
        for name, value in asdict(options).items()
        if name in FIRST_RECORDED or value != default[name]
    }


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
