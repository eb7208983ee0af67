"""The available codecs: encoder names, pixel formats and presets. Does not know files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from av.codec.codec import codecs_available
from av.video.format import VideoFormat

from ristn_cli.video.colors import has_alpha_channel
from ristn_cli.video.types import VideoError

DEFAULT_CRF = 17
X26X_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
# The names of x264's presets, mapped to the presets of other encoders.
SVT_PRESETS = dict(zip(X26X_PRESETS, (12, 11, 10, 9, 8, 6, 4, 3, 2), strict=True))
NVENC_PRESETS = dict(zip(X26X_PRESETS, (1, 1, 2, 3, 4, 4, 5, 6, 7), strict=True))


@dataclass(frozen=True)
class Codec:
    """A value of `--codec`, and how to use its encoder.

    `deep_pixel_format` is for frames of more than 8 bits. The pixel formats with alpha are None if the codec does not
    support it. `presets` is None if the encoder uses x264's names.

    `reorder_depth` is the maximum number of frames that the encoder reorders: 2 for x264 and x265, whose B-frames are
    references for one level of B-frames; an upper estimate for NVENC.
    """

    name: str
    encoder: str
    pixel_format: str
    deep_pixel_format: str
    alpha_pixel_format: str | None = None
    deep_alpha_pixel_format: str | None = None
    part_suffix: str = ".mp4"
    quality_option: str | None = "crf"
    presets: Mapping[str, int] | None = None
    has_presets: bool = True
    reorder_depth: int = 0
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def family(self) -> str:
        """The codec whose pictures the encoder makes: NVENC's encoders are others of h264, hevc and av1."""
        return self.name.removesuffix("_nvenc")

    @property
    def is_available(self) -> bool:
        """Return whether FFmpeg's libraries include the encoder. NVENC additionally needs a GPU."""
        return self.encoder in codecs_available


CODECS: dict[str, Codec] = {
    codec.name: codec
    for codec in (
        Codec("h264", "libx264", "yuv420p", "yuv420p10le", reorder_depth=2),
        Codec("hevc", "libx265", "yuv420p", "yuv420p10le", reorder_depth=2),
        Codec("av1", "libsvtav1", "yuv420p", "yuv420p10le", presets=SVT_PRESETS),
        Codec(
            "prores",
            "prores_ks",
            "yuv422p10le",
            "yuv422p10le",
            alpha_pixel_format="yuva444p10le",
            deep_alpha_pixel_format="yuva444p10le",
            part_suffix=".mov",
            quality_option=None,
            has_presets=False,
            options={"profile": "hq", "vendor": "apl0"},
        ),
        Codec(
            "ffv1",
            "ffv1",
            "yuv420p",
            "yuv420p10le",
            alpha_pixel_format="yuva420p",
            deep_alpha_pixel_format="yuva420p10le",
            quality_option=None,
            has_presets=False,
            options={"level": "3"},
        ),
        Codec(
            "h264_nvenc",
            "h264_nvenc",
            "yuv420p",
            "yuv420p",
            quality_option="cq",
            presets=NVENC_PRESETS,
            reorder_depth=4,
        ),
        Codec(
            "hevc_nvenc", "hevc_nvenc", "yuv420p", "p010le", quality_option="cq", presets=NVENC_PRESETS, reorder_depth=4
        ),
        Codec("av1_nvenc", "av1_nvenc", "yuv420p", "p010le", quality_option="cq", presets=NVENC_PRESETS),
    )
}


AUTO = ("h264", "hevc", "av1")
AUTO_DEEP = ("hevc", "av1")


def choose_codec(name: str | None, bit_depth: int) -> str:
    """Resolve `auto` or None: h264 for 8-bit frames, else hevc; if FFmpeg lacks that encoder, the next available one.

    Raises VideoError for an unknown name.
    """
    if name is None or name == "auto":
        preferred = AUTO_DEEP if bit_depth > 8 else AUTO
        return next((codec for codec in preferred if CODECS[codec].is_available), preferred[0])
    if name not in CODECS:
        raise VideoError(f"unknown codec '{name}'; expected auto, {', '.join(CODECS)}")
    return name


def choose_pixel_format(codec: str | None, pixel_format: str | None, bit_depth: int, *, has_alpha: bool = False) -> str:
    """Return `pixel_format`, or if it is None the codec's default for the bit depth.

    Raises VideoError if the frames have transparency and the format or the codec does not support it.
    """
    chosen = CODECS[choose_codec(codec, bit_depth)]
    if not has_alpha:
        return pixel_format or (chosen.deep_pixel_format if bit_depth > 8 else chosen.pixel_format)
    name = pixel_format or (chosen.deep_alpha_pixel_format if bit_depth > 8 else chosen.alpha_pixel_format)
    if name is None:
        raise VideoError(
            f"the video has transparency, which {chosen.name} cannot hold; use --codec prores with an output ending in "
            ".mov, --codec ffv1 with one ending in .mkv, or remove the transparency with --drop alpha"
        )
    if not has_alpha_channel(_layout(name)):
        raise VideoError(
            f"the video has transparency, which the pixel format {name} cannot hold; use another --pix-fmt, "
            "or remove the transparency with --drop alpha"
        )
    return name


def size_step(
    codec: str | None, pixel_format: str | None, bit_depth: int, *, has_alpha: bool = False
) -> tuple[int, int]:
    """Return the numbers that width and height must be multiples of, because of chroma subsampling.

    Raises VideoError as `choose_pixel_format` does, and for an unknown pixel format.
    """
    layout = _layout(choose_pixel_format(codec, pixel_format, bit_depth, has_alpha=has_alpha))
    return 64 // layout.chroma_width(), 64 // layout.chroma_height()


def _layout(pixel_format: str) -> VideoFormat:
    try:
        return VideoFormat(pixel_format, 64, 64)
    except ValueError as error:
        raise VideoError(f"FFmpeg does not know the pixel format '{pixel_format}'; use another --pix-fmt") from error


def part_suffix(codec: str | None) -> str:
    """Return the suffix of part files of a codec: `.mp4`, or `.mov` for ProRes."""
    return CODECS[choose_codec(codec, 8)].part_suffix
