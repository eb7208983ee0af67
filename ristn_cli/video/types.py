"""Plain values that describe videos and frames, and the package's exception. Uses no video library."""

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
# In frames per second. A higher rate that FFmpeg guesses is the resolution of a clock, not a frame rate.
MAX_PLAUSIBLE_RATE = 300
# In ticks per second. On such a clock, one tick is too short to be noticed.
FINE_TICKS = 10_000
# Inverse telecine places film frames at quarters of the frame interval of the video.
FILM_GRAIN = 4

FieldOrder = Literal["top", "bottom"]

Transfer = Literal["log", "linear", "display"]

Image = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]


def peak_of(dtype: np.dtype[Any]) -> float:
    """Return the value of white, or of full opacity, for images of this dtype."""
    return 1.0 if dtype.kind == "f" else float(np.iinfo(dtype).max)


class VideoError(Exception):
    """A video cannot be read, written or muxed. One line: the file, what was found, what was expected, what to do."""


class CheckError(VideoError):
    """A finished file differs from what was expected."""

    @classmethod
    def mismatch(cls, target: Path, what: str, found: str, expected: str) -> CheckError:
        """Return the error for a property of `target` that differs from the expected value."""
        return cls(
            f"{target}: the finished file fails its check: {what} is {found}, expected {expected}; please report it"
        )


@dataclass(frozen=True)
class Color:
    """Colour tags of a stream, by FFmpeg's names (`bt709`, `smpte2084`, `tv`, `topleft`), or `unspecified`.

    `default_matrix` and `default_range` apply to untagged streams: BT.709 from 720 lines, else BT.601, both in limited
    range; `pc` (full range) for RGB and full-range pixel formats.
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
        """Matrix for conversion to and from RGB; `gbr` for RGB sources."""
        return self.default_matrix if self.matrix == UNSPECIFIED else self.matrix

    @property
    def conversion_range(self) -> str:
        """Range for conversion to and from RGB: `tv` (limited) or `pc` (full)."""
        return self.default_range if self.range == UNSPECIFIED else self.range

    @property
    def is_hdr(self) -> bool:
        """Whether the transfer characteristic is PQ or HLG."""
        return self.transfer in ("smpte2084", "arib-std-b67")


@dataclass(frozen=True)
class MasteringMetadata:
    """HDR10 static metadata in the syntax of x265; None if the source has none.

    `display` is `G(x,y)B(x,y)R(x,y)WP(x,y)L(max,min)`: chromaticity in units of 0.00002, luminance in 0.0001 cd/m2.
    `light_level` is `MaxCLL,MaxFALL` in cd/m2.
    """

    display: str | None = None
    light_level: str | None = None


@dataclass(frozen=True)
class StreamInfo:
    """A stream of a container. `kind` is `video`, `audio`, `subtitle`, `attachment` or `data`.

    `codec` is FFmpeg's name, or for a codec that FFmpeg does not know the sample entry or `none`. `has_decoder` is
    false for video, audio and subtitles that FFmpeg cannot decode. `is_cover` marks a cover image or another still
    image beside the video, `is_still` one that the file does not mark as a cover.
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
    """A chapter; `start` and `end` are in seconds on the source's clock."""

    start: Fraction
    end: Fraction
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scan:
    """How to interpret the values of a film scan (DPX or EXR).

    Attributes:
        transfer: `log` for printing density, `linear` for light, `display` for video.
        bit_depth: bits per sample: integers of 8 to 16 bits in DPX, floats of 16 (half) or 32 bits in EXR.
        rate: frames per second; None if the header does not state it.
        timecode: `HH:MM:SS:FF`; None if the header does not state it.
        dpx_codes: DPX's codes of transfer and colorimetric characteristic.
        chromaticities: EXR's x and y of red, green, blue and white.
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
        """Whether a curve of `scan_curve` converts the values for the network, because they are not video values."""
        return self.transfer != "display"

    @property
    def dtype(self) -> type[np.uint8] | type[np.uint16] | type[np.float32]:
        """Dtype of the images, precise enough to keep values distinct after the curve. float32 is in [0, 1]."""
        if not self.is_curved:
            return np.uint8 if self.bit_depth == 8 else np.uint16
        return np.float32 if self.bit_depth > 10 else np.uint16


@dataclass(frozen=True)
class Telecine:
    """Film that was telecined: 24 frames per second on 30 interlaced ones, by repeated fields (3:2 pulldown).

    `field_order` is the first field in time, `share` the share of film in the moving parts of the video, 0 to 1.
    """

    field_order: FieldOrder
    share: Fraction

    @property
    def is_mostly_film(self) -> bool:
        return self.share >= Fraction(1, 2)

    @property
    def kept_share(self) -> Fraction:
        """Estimated share of frames that remain: four of five in film."""
        return 1 - self.share / 5


@dataclass(frozen=True)
class VideoInfo:
    """The result of `probe`. Sizes are after rotation; times are in seconds on the source's clock.

    Attributes:
        rate: nominal frame rate. Like `frame_count`, it is only a hint.
        start_time: time of the first frame.
        origin: start time that the container states.
        end_time: end of the video stream by its header; None if the container does not state it.
        transposed: transpose frames first, then flip them by `flipped_x` and `flipped_y`, to undo the display matrix.
            `rotation` is the same in degrees clockwise.
        is_interlaced: whether flags mark the video as interlaced.
        field_order: first field of a video that is interlaced without flags; None unless `find_fields` found it.
        stated_order: first field according to the header.
        telecine: telecined film in the video; None unless `find_telecine` found it.
        frame_aspect_ratio: pixel aspect ratio of the first frame itself, before rotation. That of the container, in
            `sample_aspect_ratio`, takes precedence.
        has_captions: whether frames carry closed captions: the first one, or another one found by `find_captions`.
        dynamic_hdr: kinds of HDR metadata in the first frame that change from frame to frame.
        stream: the `InputStream` that is read instead of a file. `path` is its name.
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
        """Whether the container has no presentation times for reordered frames, and FFmpeg guesses them wrong.

        AVI has none. FFmpeg's parser derives them for MPEG-4, but not for H.264 and HEVC.
        """
        return self.container == "avi" and self.codec in ("h264", "hevc")

    @property
    def frame_time_base(self) -> Fraction:
        """Time base of frame times: a divisor of `time_base` with ticks of 0.1 ms or less.

        Frames with equal timestamps are moved to consecutive ticks.
        """
        if self.is_image_sequence or self.is_still:
            return self.time_base
        ticks = self.time_base.denominator
        return Fraction(1, ticks if ticks >= FINE_TICKS else ticks * ceil(10 * FINE_TICKS / ticks))

    @property
    def value_bytes(self) -> int:
        """Bytes per sample of the images that are read."""
        if self.scan is not None:
            return np.dtype(self.scan.dtype).itemsize
        return 1 if self.bit_depth <= 8 else 2

    @property
    def has_plausible_rate(self) -> bool:
        """False if the frame rate is the resolution of a clock (600, 1000, 90000) rather than a frame rate."""
        return self.rate <= MAX_PLAUSIBLE_RATE

    @property
    def is_image_sequence(self) -> bool:
        return bool(self.images)


@dataclass(frozen=True)
class Clock:
    """The state from which the time of a decoded frame is computed. Saved with a frame, it lets reading resume there.

    Timestamps and durations are in ticks of the stream's time base, `last_time` in ticks of
    `VideoInfo.frame_time_base`.

    Attributes:
        frames: number of frames that were decoded earlier.
        pts, dts: timestamps of the frame; None if missing.
        last_pts, last_dts: those of the previous frame. If one is missing, the other replaces it.
        pts_faults, dts_faults: number of frames whose timestamp did not increase.
        last_estimate, last_duration, last_time: of the previous frame: estimated timestamp, duration, and final time.
        behind: number of consecutive frames just before whose estimates were over a second before the previous frame.
        lead, since_repeat: for film: the number of frames from this clock's frame to the film frame, and from the last
            repeated frame to that; see `cadence`.
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
        """Whether the timestamps of this frame and the previous one identify the frame, so that a seek can find it."""
        return self.pts is not None and self.last_pts is not None and 0 in (self.pts_faults, self.dts_faults)


@dataclass(frozen=True)
class Frame:
    """An image and its time.

    Attributes:
        image: RGB (H, W, 3): uint8 for 8-bit sources, else uint16 in [0, 65535]; float32 in [0, 1] for film scans of
            more than 10 bits, see `Scan`.
        time: presentation time in seconds on the source's clock.
        duration: seconds until the next frame.
        is_damaged: the decoder concealed errors in the frame.
        alpha: (H, W), of the image's dtype and scale, 0 is transparent; None for a frame without transparency. Alpha is
            straight (not premultiplied), except for EXR.
        clock: lets a later reading start at this frame; None for images.
        timecode: timecode in the header of a film scan.
        captions: closed captions from this frame until the next one: `cc_data` of CTA-708, triplets of a byte of flags
            and two bytes of data.
    """

    image: Image
    time: Fraction
    duration: Fraction | None = None
    is_damaged: bool = False
    alpha: Image | None = None
    clock: Clock | None = None
    timecode: str | None = None
    captions: bytes | None = None
