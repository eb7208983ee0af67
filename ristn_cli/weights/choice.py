"""The choice of released weights for a source, which is what `--model auto` does. Reads no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ristn_cli.weights.records import DIAL, RELEASES, Release

if TYPE_CHECKING:
    from ristn_cli.video import VideoInfo

CLEAN_MODEL = "ristn-lite"
"""Weights for clean sources, and for all sources if no others are released."""

DEFAULT_DETAIL = 0.5
"""`--detail` for compressed sources."""

CLEAN_BITS_PER_PIXEL = 0.5
"""A lossy source with at least this many bits per pixel counts as clean. Measured with x264: crf 18 spends 0.1 to 0.3
bits per pixel at 640x360 and up to 0.6 at 160x90; crf 14 spends 1.5 to 2 times as much. Weights for compressed
footage become better between crf 18 and 23. Older codecs need more bits for the same quality (DVDs use up to 0.5),
so borderline sources count as compressed. Films on Blu-ray reach this limit; intermediate codecs such as ProRes
exceed it by far."""

LOSSLESS_CODECS = {"rawvideo", "v210", "v410", "ffv1", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "png", "qtrle"}
"""FFmpeg's names of lossless codecs, which are clean at any bit rate."""


@dataclass(frozen=True)
class ModelChoice:
    """The chosen weights.

    Attributes:
        name: name of released weights, or path of a weights file.
        reason: the reason as a clause that can follow "because".
        detail: share of the second weights of `DIAL`, with which those of `name`, the first ones, are interpolated; 0
            for none.
    """

    name: str
    reason: str = "it was asked for"
    detail: float = 0.0

    @property
    def label(self) -> str:
        """The weights in words. Different weights have different labels."""
        return f"{self.name} with detail {self.detail:g}" if self.detail else self.name


def choose_detail(detail: float, reason: str = ModelChoice.reason) -> ModelChoice:
    """Return the weights for a `--detail` from 0 to 1."""
    first, second = DIAL
    return ModelChoice(second, reason) if detail == 1 else ModelChoice(first, reason, detail)


def choose_model(
    info: VideoInfo, file_bytes: int, releases: Mapping[str, Release] = RELEASES, *, removes_grain: bool = False
) -> ModelChoice:
    """Choose weights for compressed footage if the source is likely to have compression artefacts, else for clean
    footage.

    Args:
        info: the source. Images count as clean.
        file_bytes: size of the source file. This includes audio, which is small next to clean video.
        releases: the weights to choose from.
        removes_grain: choose weights that remove film grain: those for compressed footage. The others strengthen it.
    """
    compressed = [release.name for release in releases.values() if release.source == "compressed"]
    for_compressed = min(compressed, key=lambda name: name == DIAL[1], default=None)  # the end of the dial comes last
    if removes_grain and for_compressed is not None:
        return ModelChoice(for_compressed, "--grain needs weights that remove grain")
    if info.is_image_sequence:
        return ModelChoice(CLEAN_MODEL, "the source is images")
    if info.codec in LOSSLESS_CODECS:
        return ModelChoice(CLEAN_MODEL, f"{info.codec} is lossless")
    bits = bits_per_pixel(info, file_bytes)
    spent = f"{info.codec}" if bits is None else f"{info.codec} at {bits:.2f} bits per pixel"
    if bits is not None and bits >= CLEAN_BITS_PER_PIXEL:
        return ModelChoice(CLEAN_MODEL, f"{spent} loses little detail")
    if for_compressed is None:
        return ModelChoice(CLEAN_MODEL, f"no weights are released for compressed sources ({spent})")
    reason = f"{spent} leaves compression artefacts"
    has_dial = for_compressed == DIAL[0] and DIAL[1] in releases
    return choose_detail(DEFAULT_DETAIL, reason) if has_dial else ModelChoice(for_compressed, reason)


def bits_per_pixel(info: VideoInfo, file_bytes: int) -> float | None:
    """Return the source's bits per pixel of a frame, or None if its header does not give the duration."""
    frames = info.frame_count or (float(info.duration * info.rate) if info.duration and info.has_plausible_rate else 0)
    return 8 * file_bytes / (frames * info.width * info.height) if frames else None
