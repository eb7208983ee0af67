"""What the frames of an output have in common, and what its encoder is opened with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from ristn_cli.video.codecs import DEFAULT_CRF, choose_codec
from ristn_cli.video.types import Color, MasteringMetadata, VideoInfo


@dataclass(frozen=True, kw_only=True)
class OutputShape:
    """What all frames of an output have in common.

    Attributes:
        width: in pixels.
        height: in pixels.
        rate: nominal frames a second.
        time_base: a clock that holds the time of every frame exactly; the source's does.
        sample_aspect_ratio: how wide a pixel is for its height.
        frame_size: width and height of the frames that are given to a writer, which resamples them to `width` x
            `height`; None for the same.
        has_field_rate: each frame of the source becomes two, the second halfway to the next.
        is_film: frames of the source that repeat others are left out, and the rest lie within a frame of their times.
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
        """Width and height of the frames that a writer takes."""
        return self.frame_size or (self.width, self.height)

    @property
    def is_resampled(self) -> bool:
        """Whether a writer resamples its frames."""
        return self.given_size != (self.width, self.height)


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """Everything that an encoder is opened with, besides the shape of its frames.

    Attributes:
        codec: a key of `CODECS`.
        color: the source's colour tags; see `output_color` for what is written.
        crf: constant rate factor; `cq` for NVENC, without meaning for ProRes and FFV1.
        preset: speed preset, by x264's names.
        pixel_format: by FFmpeg's name; None for 4:2:0 of 8 bits, of 10 for uint16 frames.
        options: the encoder's own options by FFmpeg's names; they win over all others.
        mastering: HDR10 metadata to state.
        has_alpha: the pixel format must hold transparency.
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
        """Settings that keep the source's colours; `codec` is as of `choose_codec`, `others` are further fields.

        Raises:
            VideoError: the codec is unknown.
        """
        chosen = choose_codec(codec, source.bit_depth)
        return cls(codec=chosen, color=source.color, mastering=source.mastering, **others)


def output_color(color: Color) -> Color:
    """The colour a source of `color` is written with: matrix and range always stated, RGB as BT.709 limited range.

    An untagged matrix or range is written as it was taken: the larger picture would otherwise be taken for BT.709.
    """
    if color.conversion_matrix == "gbr":
        return replace(color, matrix="bt709", range="tv")
    return replace(color, matrix=color.conversion_matrix, range=color.conversion_range)
