"""Shape of the output frames, and settings of the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from ristn_cli.video.codecs import DEFAULT_CRF, choose_codec
from ristn_cli.video.types import Color, MasteringMetadata, VideoInfo


@dataclass(frozen=True, kw_only=True)
class OutputShape:
    """Properties that all frames of an output share.

    Attributes:
        width, height: in pixels.
        rate: nominal frames per second.
        time_base: time base that represents the time of every frame exactly, such as the source's.
        sample_aspect_ratio: pixel width / pixel height.
        frame_size: width and height of the frames that a writer receives, and resamples to `width` x `height`; None for
            the same size.
        has_field_rate: each source frame becomes two, the second one halfway to the next frame.
        is_film: repeated source frames are dropped. The others are moved by less than a frame duration.
    """

    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    sample_aspect_ratio: Fraction = Fraction(1)
    frame_size: tuple[int, int] | None = None
    has_field_rate: bool = False
    is_film: bool = False

    @property
    def given_size(self) -> tuple[int, int]:
        """Width and height of the frames that a writer receives."""
        return self.frame_size or (self.width, self.height)

    @property
    def is_resampled(self) -> bool:
        return self.given_size != (self.width, self.height)


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """Settings of an encoder, except for the shape of its frames.

    Attributes:
        codec: a key of `CODECS`.
        color: colour tags of the source; see `output_color` for those of the output.
        crf: constant rate factor; `cq` for NVENC, ignored for ProRes and FFV1.
        preset: speed preset, by x264's names.
        pixel_format: FFmpeg's name; None for 4:2:0 with 8 bits, or 10 bits for uint16 frames.
        options: additional options by FFmpeg's names. They override all others.
        mastering: HDR10 metadata.
        has_alpha: the pixel format must have an alpha channel.
    """

    codec: str
    color: Color
    crf: float = DEFAULT_CRF
    preset: str = "medium"
    pixel_format: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    mastering: MasteringMetadata = field(default_factory=MasteringMetadata)
    has_alpha: bool = False

    @classmethod
    def for_source(cls, source: VideoInfo, codec: str | None = None, **others: Any) -> EncoderSettings:
        """Return settings with the source's colours. `codec` is as in `choose_codec`; `others` are further fields.

        Raises:
            VideoError: the codec is unknown.
        """
        chosen = choose_codec(codec, source.bit_depth)
        return cls(codec=chosen, color=source.color, mastering=source.mastering, **others)


def output_color(color: Color) -> Color:
    """Return the colour tags of the output: matrix and range are always set, RGB becomes BT.709 limited range.

    An untagged matrix or range gets the assumed value. Otherwise players would assume BT.709 for the larger frame.
    """
    if color.conversion_matrix == "gbr":
        return replace(color, matrix="bt709", range="tv")
    return replace(color, matrix=color.conversion_matrix, range=color.conversion_range)
