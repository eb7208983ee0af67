"""A whole output, settled before its first frame: what is read, what is written, and what becomes of every stream."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from ristn_cli.video.muxing.stream_plan import StreamPlan
from ristn_cli.video.types import VideoInfo
from ristn_cli.video.writing.settings import EncoderSettings, OutputShape


@dataclass(frozen=True, kw_only=True)
class Output:
    """What reading, writing, muxing and verifying a file need to know of it.

    Attributes:
        source: the source, probed once.
        shape: of the frames.
        encoder: of the frames.
        streams: what becomes of each stream of the source.
        start: seconds after the first frame at which the range begins; None for the first frame.
        end: seconds after the first frame at which it ends; None for the last one's end.
        images: suffix of the images that are written instead of a video; None for a video.
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
        """Whether anything is cut off the source."""
        return self.start is not None or self.end is not None
