"""Detect frames whose size, shape or pixel format differs from the first one, and convert them. Does not know files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame

from ristn_cli.video.colors import color_of
from ristn_cli.video.convert import scale_codes
from ristn_cli.video.filters import Chain
from ristn_cli.video.resample import ALPHA_FLAGS, Resampler
from ristn_cli.video.types import Color, Image, VideoError, VideoInfo

# Frames whose aspect ratio differs by less are stretched: sizes are rounded, and pixels of 4:3 PAL are 16:15 or 12:11.
MAX_STRETCH = Fraction(3, 100)
ASPECT_UNIT = 10000
MAX_ASPECT = 4
RANGE_NAMES = {"tv": "limited range", "pc": "full range"}


class AspectReader:
    """Reads the pixel aspect ratio of decoded frames, which PyAV lacks but FFmpeg's `scale` filter provides."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] | None = None
        self._chain: Chain | None = None

    def read(self, frame: VideoFrame) -> Fraction:
        """Return the pixel aspect ratio (width / height); 1 if it is unset or implausible."""
        key = (frame.format.name, frame.width, frame.height, int(frame.colorspace), int(frame.color_range))
        try:
            if self._chain is None or key != self._key:
                width = f"clip(round(sar*{ASPECT_UNIT}),1,{MAX_ASPECT * ASPECT_UNIT})"
                filters = [
                    ("crop", "min(iw,16):min(ih,4):0:0"),
                    ("scale", f"w='{width}':h=2:eval=frame:flags=neighbor"),
                ]
                self._chain, self._key = Chain(frame, filters), key
            found = self._chain.apply(frame).width
        except av.error.FFmpegError:  # libswscale does not support the pixel format
            return Fraction(1)
        aspect = Fraction(found, ASPECT_UNIT).limit_denominator(255)
        return aspect if Fraction(1, MAX_ASPECT) < aspect < MAX_ASPECT else Fraction(1)


@dataclass(frozen=True)
class Layout:
    """How to interpret the pixels of a frame. Size and pixel aspect ratio are those of the upright frame.

    `pixel_format` is FFmpeg's name without range and alpha channel, which are compared separately. `matrix` and `range`
    are those for the conversion.
    """

    width: int
    height: int
    pixel_aspect: Fraction
    pixel_format: str
    matrix: str = ""
    range: str = ""

    @property
    def shape(self) -> Fraction:
        """Display aspect ratio (width / height)."""
        return self.width * self.pixel_aspect / self.height

    def fit(self, width: int, height: int, pixel_aspect: Fraction) -> tuple[int, int]:
        """Return the largest size with this aspect ratio within another frame; its size if the ratios nearly match."""
        relative = self.shape / (width * pixel_aspect / height)
        if abs(relative - 1) <= MAX_STRETCH:
            return width, height
        if relative > 1:
            return width, max(1, round(height / relative))
        return max(1, round(width * relative)), height


def layout_of_images(info: VideoInfo, image: Image | None = None) -> Layout:
    """Return the layout of an image (H, W, 3) of a sequence; for None that of the first image."""
    height, width = (info.height, info.width) if image is None else image.shape[:2]
    is_deep = info.bit_depth > 8 if image is None else image.dtype != np.uint8
    return Layout(width, height, info.sample_aspect_ratio, f"{16 if is_deep else 8} bits per sample")


def layout_of_video(info: VideoInfo) -> Layout:
    matrix, range_ = _conversion(info.color, VideoFormat(info.pixel_format).is_rgb)
    return Layout(info.width, info.height, info.sample_aspect_ratio, plain_format(info.pixel_format), matrix, range_)


def _conversion(color: Color, is_rgb: bool) -> tuple[str, str]:
    """Return matrix and range for the conversion. RGB is not converted, regardless of its tags."""
    if is_rgb or color.conversion_matrix == "gbr":
        return "gbr", "pc"
    return color.conversion_matrix, color.conversion_range


def plain_format(name: str) -> str:
    """Return the name of a pixel format without range and alpha channel."""
    return name.replace("yuvj", "yuv").replace("yuva", "yuv").replace("gbrap", "gbrp")


class LayoutReader:
    """Reads the layouts of a video's decoded frames."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._aspects = AspectReader()
        self._known: dict[tuple[object, ...], Layout] = {}

    def read(self, frame: VideoFrame) -> Layout:
        """Return the layout of a frame. The container's pixel aspect ratio applies until that of the frames changes."""
        info = self._info
        stated = self._aspects.read(frame)
        key = (frame.width, frame.height, frame.format.name, int(frame.colorspace), int(frame.color_range), stated)
        if key not in self._known:
            width, height = (frame.height, frame.width) if info.transposed else (frame.width, frame.height)
            aspect = 1 / stated if info.transposed else stated
            matrix, range_ = _conversion(color_of(frame, info.color), frame.format.is_rgb)
            self._known[key] = Layout(
                width,
                height,
                info.sample_aspect_ratio if stated == info.frame_aspect_ratio else aspect,
                plain_format(frame.format.name),
                matrix,
                range_,
            )
        return self._known[key]


class Matcher:
    """Converts frames to the size, aspect ratio (with black bars) and bit depth of the first frame.

    The first frame that differs is reported in one line, or refused if `strict`.
    """

    def __init__(self, info: VideoInfo, first: Layout, strict: bool, report: Callable[[str], None]) -> None:
        self._info, self._first, self._strict, self._report = info, first, strict, report
        self._is_deep = info.bit_depth > 8
        self._has_seen_first = self._has_reported = False
        self._scaled: dict[tuple[int, int], tuple[Resampler, Resampler]] = {}

    def match(
        self, image: Image, alpha: Image | None, layout: Layout, time: Fraction, path: Path | None = None
    ) -> tuple[Image, Image | None]:
        """Convert an image (H, W, 3) and its alpha (H, W) to the layout of the first frame.

        `time` is in seconds on the source's clock; `path` is the file of a single image. Raises VideoError if the image
        differs and `strict` is set.
        """
        first = self._first
        size = layout.fit(first.width, first.height, first.pixel_aspect)
        is_scaled = (layout.width, layout.height) != size or size != (first.width, first.height)
        has_bars = size != (first.width, first.height)
        others = [
            pair
            for pair in (
                (first.pixel_format, layout.pixel_format),
                (first.matrix, layout.matrix),
                (RANGE_NAMES.get(first.range, ""), RANGE_NAMES.get(layout.range, "")),
            )
            if pair[0] != pair[1]
        ]
        if is_scaled or others:
            self._report_change(path or self._info.path, layout, time, is_scaled, has_bars, others)
        else:
            self._has_seen_first = True
        image = _to_depth(image, self._is_deep)
        alpha = None if alpha is None else _to_depth(alpha, self._is_deep)
        if not is_scaled:
            return image, alpha
        if size not in self._scaled:
            self._scaled[size] = Resampler(*size), Resampler(*size, ALPHA_FLAGS)
        scale_image, scale_alpha = self._scaled[size]
        image = self._framed(scale_image.apply(image))
        return image, None if alpha is None else self._framed(scale_alpha.apply(alpha))

    def _framed(self, image: Image) -> Image:
        """Return the image centred in a black, or transparent, image of the first frame's size."""
        first = self._first
        height, width = image.shape[:2]
        if (width, height) == (first.width, first.height):
            return image
        framed = np.zeros((first.height, first.width, *image.shape[2:]), image.dtype)
        top, left = (first.height - height) // 2, (first.width - width) // 2
        framed[top : top + height, left : left + width] = image
        return framed

    def _report_change(
        self, path: Path, layout: Layout, time: Fraction, is_scaled: bool, has_bars: bool, others: list[tuple[str, str]]
    ) -> None:
        if self._has_reported:
            return
        first = self._first
        pairs = [(_name_size(first, has_bars), _name_size(layout, has_bars))] if is_scaled else []
        before, after = (", ".join(pair[k] for pair in [*pairs, *others] if pair[k]) for k in (0, 1))
        when = f"{'at' if self._has_seen_first else 'before'} {float(time - self._info.start_time):.2f} s"
        what = f"{path}: the format changes from {before} to {after} {when}"
        is_folder = self._info.is_image_sequence
        if self._strict:
            way = "use --images stills for single images" if is_folder else "split the job there with --start and --end"
            raise VideoError(f"{what}; {way}, or run without --strict to convert such frames")
        done = []
        if is_scaled:
            done.append(f"scaled to {first.width}x{first.height}{' with black bars' if has_bars else ''}")
        if others:
            done.append("converted to match the first frame")
        hint = "; use --images stills to upscale each image separately" if is_folder else ""
        self._report(f"{what}; such frames are {' and '.join(done)}{hint}")
        self._has_reported = True


def _name_size(layout: Layout, with_shape: bool) -> str:
    """Return the size, such as `720x576`, and if `with_shape` the display aspect ratio: `720x576 (16:9)`."""
    size = f"{layout.width}x{layout.height}"
    if not with_shape:
        return size
    shape = layout.shape.limit_denominator(20)
    return f"{size} ({shape.numerator}:{shape.denominator})"


def _to_depth(image: Image, is_deep: bool) -> Image:
    """Convert between 8 and 16 bits, rounded. Returns the image itself if it has the right dtype."""
    bits = 8 * image.itemsize
    if image.dtype == np.float32:  # film scans, which all have one dtype
        return image
    return image if (bits > 8) == is_deep else scale_codes(image, bits, 16 if is_deep else 8)
