"""Description of an output, decided before its first frame: source, frames, encoder and the plan for every stream."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ristn_cli.video.muxing.stream_plan import StreamPlan
from ristn_cli.video.types import VideoInfo
from ristn_cli.video.writing.settings import EncoderSettings, OutputShape


@dataclass(frozen=True, kw_only=True)
class Output:
    """All that reading, writing, muxing and verification need to know about an output.

    Attributes:
        source: the probed source.
        shape, encoder: shape of the frames and settings of the encoder.
        streams: plan for each stream of the source.
        start, end: range in seconds after the first frame; None for the whole source.
        images: suffix of the images to write instead of a video; None for a video.
    """

    source: VideoInfo
    shape: OutputShape
    encoder: EncoderSettings
    streams: tuple[StreamPlan, ...]
    start: Fraction | None = None
    end: Fraction | None = None
    images: str | None = None

    @property
    def is_trimmed(self) -> bool:
        return self.start is not None or self.end is not None
