"""What is known of a video: plain values, and the error every part of the package raises. Knows no library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

UNSPECIFIED = "unspecified"
# Frames a second. A rate that FFmpeg guesses above is the grain of a clock, and nothing to count frames by.
HIGHEST_PLAUSIBLE_RATE = 300
# Ticks a second of a clock on which a frame can be shown a tick after another and still be as good as at its time.
FINE_TICKS = 10_000
# Film frames lie at quarters of the time between two frames of telecined video.
FILM_GRAIN = 4

FieldOrder = Literal["top", "bottom"]

Transfer = Literal["log", "linear", "display"]

Image = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]


def peak_of(dtype: np.dtype[Any]) -> float:
    """The largest value of images of a type: white, or what is opaque."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


class VideoError(Exception):
    """A video cannot be read, written or muxed. One line: the file, what was found, what was expected, what to do."""


class CheckError(VideoError):
    """A finished file is not what was to be made."""

    @classmethod
    def mismatch(cls, target: Path, what: str, found: str, expected: str) -> CheckError:
        """The error of one property of `target` that is not as expected."""
        return cls(
            f"{target}: the finished file fails its check: {what} is {found}, expected {expected}; please report it"
        )


@dataclass(frozen=True)
class Color:
    """Colour tags of a stream, by FFmpeg's names (`bt709`, `smpte2084`, `tv`, `topleft`), `unspecified` when untagged.

    `default_matrix` and `default_range` are what an untagged stream is taken to be: BT.709 at 720 lines and more, else
    BT.601, limited range; `pc` for RGB and for full-range pixel formats.
    """

    matrix: str = UNSPECIFIED
    range: str = UNSPECIFIED
    primaries: str = UNSPECIFIED
    transfer: str = UNSPECIFIED
    chroma_location: str = UNSPECIFIED
    default_matrix: str = "bt709"
    default_range: str = "tv"

    @property
    def conversion_matrix(self) -> str:
        """The matrix both conversions use; `gbr` for RGB sources."""
        return self.default_matrix if self.matrix == UNSPECIFIED else self.matrix

    @property
    def conversion_range(self) -> str:
        """The range both conversions use: `tv` (limited) or `pc` (full)."""
        return self.default_range if self.range == UNSPECIFIED else self.range

    @property
    def is_hdr(self) -> bool:
        """True for PQ and HLG."""
        return self.transfer in ("smpte2084", "arib-std-b67")


@dataclass(frozen=True)
class MasteringMetadata:
    """HDR10 static metadata, in the strings x265 and SVT-AV1 take; None where the source has none.

    `display` is `G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)`: chromaticity in units of 0.00002, luminance in 0.0001 cd/m2.
    `light_level` is `MaxCLL,MaxFALL` in cd/m2.
    """

    display: str | None = None
    light_level: str | None = None


@dataclass(frozen=True)
class StreamInfo:
    """One stream of a container. `kind` is `video`, `audio`, `subtitle`, `attachment` or `data`.

    `codec` is FFmpeg's name; for a codec that FFmpeg does not know it is the sample entry or `none`. `has_decoder` is
    false for video, audio and subtitles that cannot be decoded. `is_cover` is true for a cover picture. `is_still` is
    true for a cover that the file does not mark as one: it is a still beside the video.
    """

    index: int
    kind: str
    codec: str
    language: str | None = None
    title: str | None = None
    dispositions: tuple[str, ...] = ()
    is_cover: bool = False
    is_still: bool = False
    has_decoder: bool = True
    is_encrypted: bool = False
    file_name: str | None = None
    mime_type: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Chapter:
    """A chapter; `start` and `end` in seconds on the source's clock."""

    start: Fraction
    end: Fraction
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scan:
    """How the values of a film scan, a DPX or EXR picture, are to be understood.

    `transfer` is `log` for printing density, `linear` for light, `display` for video. `bit_depth` is of a sample: 8 to
    16 of integers; EXR holds floats, of 16 (half) or 32. `rate` is in frames a second and `timecode` is `HH:MM:SS:FF`,
    None where the header does not say. `dpx_codes` are DPX's own numbers of transfer and colorimetry. `chromaticities`
    are EXR's, x and y of red, green, blue and white.
    """

    kind: Literal["dpx", "exr"]
    transfer: Transfer
    bit_depth: int
    rate: Fraction | None = None
    timecode: str | None = None
    dpx_codes: tuple[int, int] = (0, 0)
    chromaticities: tuple[float, ...] | None = None

    @property
    def is_curved(self) -> bool:
        """Whether the network sees the values through a curve of `scan_curve`: they are not those of video."""
        return self.transfer != "display"

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16] | type[np.float32]:
        """The type of the images, which holds every value apart behind the curve: float32 are values in [0, 1]."""
        if not self.is_curved:
            return np.uint8 if self.bit_depth == 8 else np.uint16
        return np.float32 if self.bit_depth > 10 else np.uint16


@dataclass(frozen=True)
class Telecine:
    """Film that was telecined onto interlaced video: 24 frames a second on 30, by repeated fields (3:2 pulldown).

    `field_order` is the field that comes first, `share` how much of what moves is film, from 0 to 1.
    """

    field_order: FieldOrder
    share: Fraction

    @property
    def is_mostly_film(self) -> bool:
        """Whether the film's rate is the nominal one."""
        return self.share >= Fraction(1, 2)

    @property
    def kept_share(self) -> Fraction:
        """What share of the frames is left, by an estimate: four of five in film."""
        return 1 - self.share / 5


@dataclass(frozen=True)
class VideoInfo:
    """What `probe` found. Sizes are as shown, after rotation; times are seconds on the source's own clock.

    `rate` is the nominal frame rate and `frame_count` a hint: neither is trusted for anything that is counted.
    `duration` is that of the video stream, None when unknown; `end_time` is where its header says it ends, None for
    containers that do not say. `start_time` is the time of the first frame and `origin` the container's own zero.
    `transposed`, `flipped_x` and `flipped_y` undo the container's display matrix, in that order; `rotation` is the same
    in degrees clockwise. `is_interlaced` is what flags say; `field_order` is the field that comes first in a video that
    is interlaced against its flags, None unless `find_fields` was asked. `stated_order` is the field that comes first
    by the header. `telecine` is the telecined film in it, None unless `find_telecine` found any. `images` lists the
    files of an image sequence, and `is_still` is true for a single image. `frame_aspect_ratio` is the pixel aspect
    ratio that the first frame itself states, before rotation; the container may say otherwise in `sample_aspect_ratio`,
    and wins. `stream` is the `InputStream` that is read instead of a file; `path` is its name. `has_captions` is true
    for pictures that carry closed captions: in the first frame, or where `find_captions` looked. `dynamic_hdr` names
    the kinds of HDR metadata that the first frame has and that change from frame to frame.
    """

    path: Path
    container: str
    codec: str
    width: int
    height: int
    sample_aspect_ratio: Fraction
    rate: Fraction
    time_base: Fraction
    start_time: Fraction
    origin: Fraction
    duration: Fraction | None
    end_time: Fraction | None
    frame_count: int | None
    bit_depth: int
    pixel_format: str
    color: Color
    mastering: MasteringMetadata
    rotation: int
    transposed: bool
    flipped_x: bool
    flipped_y: bool
    has_alpha: bool
    is_interlaced: bool
    video_index: int
    streams: tuple[StreamInfo, ...]
    chapters: tuple[Chapter, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    images: tuple[Path, ...] = ()
    is_still: bool = False
    field_order: FieldOrder | None = None
    stated_order: FieldOrder | None = None
    telecine: Telecine | None = None
    frame_aspect_ratio: Fraction = Fraction(1)
    stream: object | None = field(default=None, compare=False, repr=False)
    scan: Scan | None = None
    has_captions: bool = False
    dynamic_hdr: tuple[str, ...] = ()

    @property
    def has_decoding_times_only(self) -> bool:
        """True when the container holds no presentation times of reordered pictures, and what FFmpeg guesses is wrong.

        AVI holds none. FFmpeg's MPEG-4 parser works them out of the pictures; those of H.264 and HEVC do not.
        """
        return self.container == "avi" and self.codec in ("h264", "hevc")

    @property
    def frame_time_base(self) -> Fraction:
        """The clock of the frames' times: every tick of `time_base` lies on it, and its own are 0.1 ms at most.

        Frames of one timestamp come a tick of this clock after each other.
        """
        if self.is_image_sequence or self.is_still:
            return self.time_base
        ticks = self.time_base.denominator
        return Fraction(1, ticks if ticks >= FINE_TICKS else ticks * ceil(10 * FINE_TICKS / ticks))

    @property
    def value_bytes(self) -> int:
        """Bytes of a value of the images that are read."""
        if self.scan is not None:
            return np.dtype(self.scan.dtype).itemsize
        return 1 if self.bit_depth <= 8 else 2

    @property
    def has_plausible_rate(self) -> bool:
        """False for a frame rate that is the grain of a clock (600, 1000, 90000), and tells no number of frames."""
        return self.rate <= HIGHEST_PLAUSIBLE_RATE

    @property
    def is_image_sequence(self) -> bool:
        """True for a folder or pattern of numbered images."""
        return bool(self.images)


@dataclass(frozen=True)
class Clock:
    """What the time of a decoded frame depends on: its own timestamps, and what was decoded before it.

    `frames` counts the frames decoded before it since reading began. `pts` and `dts` are its own timestamps, None where
    it has none. `last_pts` and `last_dts` are those of the frame before; where that had only one of them, both are it.
    `pts_faults` and `dts_faults` count the frames whose timestamp was not later than the one before. `last_estimate`
    and `last_duration` are those of the frame before. All these are in ticks of the stream's time base. `last_time` is
    the time that the frame before was given, in ticks of `VideoInfo.frame_time_base`. `behind` counts the frames just
    before whose estimates lay more than a second before the time of their predecessor. Of film, the frame itself is
    `lead` frames later, and the last frame that repeated another lies `since_repeat` before it: see `cadence`.
    """

    frames: int = 0
    pts: int | None = None
    dts: int | None = None
    last_pts: int | None = None
    last_dts: int | None = None
    pts_faults: int = 0
    dts_faults: int = 0
    last_estimate: int | None = None
    last_duration: int = 0
    last_time: int | None = None
    behind: int = 0
    lead: int = 0
    since_repeat: int = 0

    @property
    def can_be_sought(self) -> bool:
        """Whether the frame's timestamps, and those of the frame before, tell it from all frames before it."""
        return self.pts is not None and self.last_pts is not None and 0 in (self.pts_faults, self.dts_faults)


@dataclass(frozen=True)
class Frame:
    """A picture and its place in time.

    `image` is RGB (H, W, 3): uint8 from 8-bit sources, else uint16 on the full 16-bit scale (65535 is white), or
    float32 in [0, 1] from film scans of more than 10 bits, see `Scan`. `time` is the source's own presentation time in
    seconds, `duration` the time until the next frame. `is_damaged` marks a picture the decoder had to conceal. `alpha`
    is (H, W), of the image's type and scale, 0 where nothing is seen; None for a picture without transparency. The
    image is not multiplied with it (straight alpha), but for EXR. `clock` lets a later reading begin with this frame;
    None for images. `timecode` is what a film scan's own header says. `captions` are the closed captions sent from this
    frame on until the next one: `cc_data` of CTA-708, triplets of a byte of flags and two bytes of data.
    """

    image: Image
    time: Fraction
    duration: Fraction | None = None
    is_damaged: bool = False
    alpha: Image | None = None
    clock: Clock | None = None
    timecode: str | None = None
    captions: bytes | None = None
