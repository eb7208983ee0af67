"""Open an encoder with its settings and colour tags, and explain errors."""

from __future__ import annotations

import os
import re
from dataclasses import replace

from av.codec.codec import UnknownCodecError
from av.container import OutputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.codecs import (
    CODECS,
    NVENC_PRESETS,
    X26X_PRESETS,
    Codec,
    choose_pixel_format,
)
from ristn_cli.video.convert import FrameBuilder
from ristn_cli.video.types import UNSPECIFIED, Color, MasteringMetadata, VideoError
from ristn_cli.video.writing.settings import EncoderSettings, OutputShape

# Lookahead of x264 and x265 in frames, by preset. They keep these frames in memory.
LOOKAHEADS = {
    "libx264": dict(zip(X26X_PRESETS, (0, 0, 10, 20, 30, 40, 50, 60, 60), strict=True)),
    "libx265": dict(zip(X26X_PRESETS, (5, 10, 15, 15, 15, 20, 25, 40, 40), strict=True)),
}
MIN_LOOKAHEADS = {"libx264": 3, "libx265": 9}
"""Smallest lookaheads. x264 needs some to place B-frames, x265 more than the 8 in a row of its slowest preset."""
LARGE_PICTURE = 4096 * 2304
"""In pixels. Limits memory: for larger frames, the lookahead of x264 and x265 shrinks to the same number of pixels.

x264 also encodes only one frame at a time, in slices. Otherwise it would need 6 GiB at 7680x4320 and `medium`.
"""
MAX_SLICES = 4
"""At 7680x4320 and the same rate factor, 4 slices cost at most 0.1 dB and 0.4 % of the size; 16 would cost 5 %."""


def add_stream(
    container: OutputContainer, shape: OutputShape, settings: EncoderSettings, is_deep: bool
) -> tuple[VideoStream, FrameBuilder]:
    """Add a video stream with a configured encoder to `container`. Returns it with the converter for its frames.

    `is_deep` means more than 8 bits per sample. Raises VideoError if the encoder is missing or does not support the
    settings.
    """
    codec = CODECS[settings.codec]
    if codec.has_presets and codec.presets is None and settings.preset not in X26X_PRESETS:
        # x264 itself would only print an error.
        raise VideoError(f"{codec.encoder} has no preset '{settings.preset}'; expected {', '.join(X26X_PRESETS)}")
    depth = 16 if is_deep else 8
    pixel_format = choose_pixel_format(settings.codec, settings.pixel_format, depth, has_alpha=settings.has_alpha)
    color = settings.color
    if codec.encoder == "ffv1":
        # FFV1 itself has no colour tags, and MP4 stores either all three or none.
        primaries, transfer = _complete(color)
        color = replace(color, primaries=primaries, transfer=transfer)
        settings = replace(settings, color=color)
    try:
        builder = FrameBuilder(shape.width, shape.height, pixel_format, color)
        stream = container.add_stream(
            codec.encoder, rate=shape.rate, options=_encoder_options(shape, settings, builder)
        )
    except UnknownCodecError as error:
        message = f"this build of FFmpeg does not include the encoder {codec.encoder}; use another --codec"
        raise VideoError(message) from error
    except ValueError as error:
        raise VideoError(f"{codec.encoder}: {error}; use another --codec, --pix-fmt or suffix") from error
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = shape.width, shape.height, pixel_format
    context = stream.codec_context
    if codec.encoder == "libx264":
        context.thread_type = "AUTO"  # PyAV's default of slices is slower and larger
        if is_large(shape.width * shape.height):
            context.thread_type, context.thread_count = "SLICE", min(usable_cores(), MAX_SLICES)
    context.sample_aspect_ratio = shape.sample_aspect_ratio
    stream.time_base = context.time_base = shape.time_base
    return stream, builder


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_large(pixels: int) -> bool:
    """Return whether frames are so large that the memory of encoders must be limited."""
    return pixels > LARGE_PICTURE


def bounded_lookahead(encoder: str, preset: str, pixels: int) -> int:
    """Return the lookahead of the preset of x264 or x265 in frames, reduced for large frames."""
    lookahead = LOOKAHEADS[encoder][preset]
    if not is_large(pixels):
        return lookahead
    return min(lookahead, max(MIN_LOOKAHEADS[encoder], lookahead * LARGE_PICTURE // pixels))


def shorter_lookahead(codec: Codec, settings: EncoderSettings, pixels: int) -> int | None:
    """Return a reduced lookahead in frames; None if that of the preset is acceptable or user options affect it."""
    given = ":".join(f"{name}={value}" for name, value in settings.options.items())
    if codec.encoder not in LOOKAHEADS or re.search(r"\b(preset|tune|bframes|bf)=", given):
        return None
    shorter = bounded_lookahead(codec.encoder, settings.preset, pixels)
    return shorter if shorter < LOOKAHEADS[codec.encoder][settings.preset] else None


def _complete(color: Color) -> tuple[str, str]:
    """Return primaries and transfer. Untagged ones become those that belong to the matrix."""
    primaries, transfer = NATURAL_TAGS.get(color.matrix, (color.matrix, color.matrix))
    return (
        primaries if color.primaries == UNSPECIFIED else color.primaries,
        transfer if color.transfer == UNSPECIFIED else color.transfer,
    )


def tag_picture(picture: VideoFrame, color: Color) -> None:
    """Set colour tags on the frame itself, where ProRes reads them. libswscale would set bt470bg for BT.601."""
    if not picture.format.is_rgb:
        picture.colorspace = MATRICES[color.matrix]
    picture.color_primaries = PRIMARIES.get(color.primaries, picture.color_primaries)
    picture.color_trc = TRANSFERS.get(color.transfer, picture.color_trc)


def _encoder_options(shape: OutputShape, settings: EncoderSettings, builder: FrameBuilder) -> dict[str, str]:
    """Return quality, preset and colour as encoder options, overridden by the user's options."""
    codec, color = CODECS[settings.codec], settings.color
    options = dict(codec.options)
    if codec.encoder == "prores_ks" and builder.has_alpha:
        options["profile"] = "4444"
    if codec.quality_option is not None:
        options[codec.quality_option] = f"{settings.crf:g}"
    if codec.quality_option == "cq":
        options |= {"rc": "vbr", "b": "0"}
    if codec.has_presets:
        options["preset"] = settings.preset
        if codec.presets is not None and settings.preset in codec.presets:
            prefix = "p" if codec.presets is NVENC_PRESETS else ""
            options["preset"] = f"{prefix}{codec.presets[settings.preset]}"
    lookahead = shorter_lookahead(codec, settings, shape.width * shape.height)
    if codec.encoder == "libx264" and lookahead is not None:
        options["rc-lookahead"] = str(lookahead)
    tags = {
        "colorspace": "rgb" if builder.is_rgb else color.matrix,
        "color_range": "pc" if builder.is_rgb else color.range,
        "color_primaries": color.primaries,
        "color_trc": color.transfer,
        "chroma_sample_location": UNSPECIFIED if builder.is_rgb else color.chroma_location,
    }
    options |= {name: value for name, value in tags.items() if value != UNSPECIFIED}
    if codec.encoder == "libx265":
        options["x265-params"] = ":".join(_x265_parameters(settings, options.pop("x265-params", ""), lookahead))
    if codec.encoder == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only; the library prints to stderr
        parameters = _svtav1_parameters(settings.mastering)
        if parameters:
            options["svtav1-params"] = ":".join(parameters)
    for name, value in settings.options.items():
        joins = name in ("x265-params", "svtav1-params") and name in options
        options[name] = f"{options[name]}:{value}" if joins else value
    return options


def _x265_parameters(settings: EncoderSettings, given: str, lookahead: int | None) -> list[str]:
    # Without info=0, headers contain these parameters and the CPU, and parts of several machines could not be joined.
    parameters = ["log-level=none", "info=0", *([given] if given else [])]
    if lookahead is not None:
        parameters.append(f"rc-lookahead={lookahead}")
    color = settings.color
    if settings.mastering.display:
        parameters.append(f"master-display={settings.mastering.display}")
    if settings.mastering.light_level:
        parameters.append(f"max-cll={settings.mastering.light_level}")
    if color.transfer == "smpte2084":
        parameters.append("repeat-headers=1")
        if not settings.mastering.light_level:
            parameters.append("cll=0")  # otherwise x265 writes a light level of zero
    if color.chroma_location in CHROMA_LOCATIONS:
        parameters.append(f"chromaloc={CHROMA_LOCATIONS.index(color.chroma_location)}")
    return parameters


def _svtav1_parameters(mastering: MasteringMetadata) -> list[str]:
    """Return HDR10 metadata in SVT-AV1's syntax: plain chromaticities and cd/m2."""
    parameters = []
    if mastering.display:
        display = re.sub(
            r"\((\d+),(\d+)\)", lambda m: f"({int(m[1]) / 50000:g},{int(m[2]) / 50000:g})", mastering.display
        )
        light = re.search(r"L\((\d+),(\d+)\)", mastering.display)
        if light is not None:
            level = f"L({int(light[1]) / 10000:.4f},{int(light[2]) / 10000:.4f})"
            parameters.append("mastering-display=" + re.sub(r"L\(.*\)$", level, display))
    if mastering.light_level:
        parameters.append(f"content-light={mastering.light_level}")
    return parameters


# Code points of ITU-T H.273, which FFmpeg also uses, by FFmpeg's names.
NATURAL_TAGS = {"bt2020nc": ("bt2020", "bt2020-10"), "bt470bg": ("bt470bg", "gamma28"), "fcc": ("bt470m", "gamma22")}
MATRICES = {"bt709": 1, "fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "bt2020nc": 9}
PRIMARIES = {"bt709": 1, "bt470m": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "film": 8, "bt2020": 9}
PRIMARIES |= {"smpte428": 10, "smpte431": 11, "smpte432": 12, "ebu3213": 22}
TRANSFERS = {
    "bt709": 1,
    "gamma22": 4,
    "gamma28": 5,
    "bt470m": 4,
    "bt470bg": 5,
    "smpte170m": 6,
    "smpte240m": 7,
    "linear": 8,
}
TRANSFERS |= {"log100": 9, "log316": 10, "iec61966-2-4": 11, "bt1361e": 12, "iec61966-2-1": 13, "bt2020-10": 14}
TRANSFERS |= {"bt2020-12": 15, "smpte2084": 16, "smpte428": 17, "arib-std-b67": 18}
# In the order of chroma_sample_loc_type in ITU-T H.273.
CHROMA_LOCATIONS = ("left", "center", "topleft", "top", "bottomleft", "bottom")


def check_options_known(stream: VideoStream, settings: EncoderSettings) -> None:
    """Raise VideoError for a name in `options` that the opened encoder did not accept; FFmpeg ignores them."""
    unknown = sorted(settings.options.keys() & stream.codec_context.options.keys())
    if unknown:
        raise VideoError(f"{stream.codec_context.name} has no option '{unknown[0]}'; check --encoder-arg")


def explain_encoder(shape: OutputShape, settings: EncoderSettings, error: Exception) -> str:
    codec = CODECS[settings.codec]
    reason = getattr(error, "strerror", None) or str(error)
    if "nvenc" in codec.encoder:
        return f"{codec.encoder} is not usable ({reason}): it needs an NVIDIA GPU and driver; use another --codec"
    return (
        f"{codec.encoder} does not support {shape.width}x{shape.height} pixels with these options ({reason}); "
        "check --crf, --preset, --pix-fmt and --encoder-arg"
    )
