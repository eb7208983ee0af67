"""Which released weights suit a source: what `--model auto` means. Reads no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ristn_cli.weights.records import RELEASES, Release

if TYPE_CHECKING:
    from ristn_cli.video import VideoInfo

CLEAN_MODEL = "ristn-lite"
"""For clean sources, and for all where nothing else is released."""

CLEAN_BITS_PER_PIXEL = 0.5
"""From here on a lossy codec is taken to leave little. Measured with x264: a rate factor of 18 spends 0.1 to 0.3 on
frames of 640x360 and up to 0.6 on 160x90, one of 14 half as much again or twice as much; weights for compressed footage
begin to gain between 18 and 23. Older codecs need more for the same, DVDs by their usual rates up to 0.5: in doubt the
source counts as compressed. Films on Blu-ray reach the limit, intermediate codecs such as ProRes far surpass it."""

LOSSLESS_CODECS = {"rawvideo", "v210", "v410", "ffv1", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "png", "qtrle"}
"""By FFmpeg's names; however few bits they need for pictures that are simple."""


@dataclass(frozen=True)
class ModelChoice:
    """Released weights by name, and why these, in words that follow `because`."""

    name: str
    reason: str


def choose_model(info: VideoInfo, file_bytes: int, releases: Mapping[str, Release] = RELEASES) -> ModelChoice:
    """Weights for compressed footage where compression will have left traces, else those for clean footage.

    Args:
        info: the source. Images count as clean.
        file_bytes: size of its file: with the sound, which is little beside a picture that is clean.
        releases: what there is to choose from.
    """
    if info.is_image_sequence:
        return ModelChoice(CLEAN_MODEL, "the source is images")
    if info.codec in LOSSLESS_CODECS:
        return ModelChoice(CLEAN_MODEL, f"{info.codec} loses nothing")
    bits = bits_per_pixel(info, file_bytes)
    spent = f"{info.codec}" if bits is None else f"{info.codec} at {bits:.2f} bits a pixel"
    if bits is not None and bits >= CLEAN_BITS_PER_PIXEL:
        return ModelChoice(CLEAN_MODEL, f"{spent} loses little")
    name = next((release.name for release in releases.values() if release.source == "compressed"), None)
    if name is None:
        return ModelChoice(CLEAN_MODEL, f"no weights are released for compressed sources ({spent})")
    return ModelChoice(name, f"{spent} leaves traces of compression")


def bits_per_pixel(info: VideoInfo, file_bytes: int) -> float | None:
    """What a source spends on a pixel of a frame; None where its header does not tell how long it is."""
    frames = info.frame_count or (float(info.duration * info.rate) if info.duration and info.has_plausible_rate else 0)
    return 8 * file_bytes / (frames * info.width * info.height) if frames else None
