"""Convert decoded frames to RGB arrays and back, with the correct matrix, range and chroma location.

Does not know files and times. For 8-bit frames, libswscale is accurate to half a code value if every parameter is
explicit. Above 8 bits its RGB arithmetic is off by up to four 10-bit codes, because it uses 255 << 8 as white. There it
only resamples chroma, at the source's bit depth, and the matrix is applied here in float32.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ristn_cli.video.colors import LUMA_WEIGHTS, check_matrix, color_of, depth_of, has_alpha_channel
from ristn_cli.video.filters import Chain
from ristn_cli.video.types import UNSPECIFIED, Color, Image, VideoError, peak_of

VECTOR_PIXELS = 64  # pixels

SWS_FLAGS = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
# Rows per step above 8 bits: three float32 planes of a 4096-pixel-wide strip fit into the second-level cache.
STRIP_ROWS = 16
PLANAR_DEPTHS = (9, 10, 12, 14, 16)


class RgbReader:
    """Converts decoded frames of one stream to RGB. Rebuilds its filters when the format changes.

    A frame's own tags take precedence over `color`, the tags of the stream.
    """

    def __init__(self, color: Color, *, path: object, drop_alpha: bool = False) -> None:
        check_matrix(color, path)
        self._stream_color = self._color = color
        self._path = path
        self._drop_alpha = drop_alpha
        self._key: tuple[object, ...] | None = None
        self._chain: Chain | None = None
        self._target = ""
        self._bits = 8

    def to_rgb(self, frame: VideoFrame) -> Image:
        """Return RGB (H, W, 3): uint8 for formats of up to 8 bits, else uint16 in [0, 65535].

        Raises VideoError for a frame that is not fully opaque, unless the alpha channel is dropped.
        """
        image, alpha = self.to_rgba(frame)
        if alpha is not None and float(alpha.min()) < peak_of(alpha.dtype):
            raise VideoError(
                f"{self._path}: the image has transparency, which the output would lose; "
                "use --drop alpha to remove the alpha channel"
            )
        return image

    def to_rgba(self, frame: VideoFrame) -> tuple[Image, Image | None]:
        """Return RGB as `to_rgb` does, and alpha (H, W) of the same dtype; None without alpha, or if it is dropped."""
        key = (frame.format.name, frame.width, frame.height, int(frame.colorspace), int(frame.color_range))
        if key != self._key:
            self._configure(frame)
            self._key = key
        assert self._chain is not None
        result = self._chain.apply(frame)
        if self._target in ("rgb24", "rgba"):
            channels = 4 if self._target == "rgba" else 3
            pixels = packed_plane(result, channels)
            alpha8 = pixels[..., 3].copy() if channels == 4 else None
            return np.ascontiguousarray(pixels[..., :3]), alpha8
        alpha = None
        if self._target.startswith(("gbra", "yuva")):
            alpha = scale_codes(plane(result, 3), self._bits, 16)
        if self._target.startswith("gray"):
            luma = plane(result, 0)
            centre = np.full_like(luma, 2 ** (self._bits - 1))
            range_ = self._color.conversion_range
            return yuv_to_rgb16([luma, centre, centre], self._bits, self._color.conversion_matrix, range_), alpha
        if self._target.startswith("gbr"):
            return planar_to_rgb16([plane(result, index) for index in (2, 0, 1)], self._bits), alpha
        planes = [plane(result, index) for index in range(3)]
        return yuv_to_rgb16(planes, self._bits, self._color.conversion_matrix, self._color.conversion_range), alpha

    def _configure(self, frame: VideoFrame) -> None:
        self._color = color_of(frame, self._stream_color)
        self._target, self._bits = self._choose_target(frame.format)
        matrix, range_ = self._color.conversion_matrix, self._color.conversion_range
        options = f"flags={SWS_FLAGS}"
        if self._target.startswith("gray"):  # libswscale's default range of grey depends on the filter
            options += ":in_range=pc:out_range=pc"
        elif not frame.format.is_rgb and matrix != "gbr":
            keeps_yuv = self._target.startswith("yuv")
            options += f":in_color_matrix={matrix}:in_range={range_}:out_range={range_ if keeps_yuv else 'pc'}"
            if keeps_yuv:
                options += f":out_color_matrix={matrix}"
        self._chain = Chain(frame, [("scale", options), ("format", self._target)])

    def _choose_target(self, pixel_format: VideoFormat) -> tuple[str, int]:
        bits = depth_of(pixel_format)
        alpha = has_alpha_channel(pixel_format) and not self._drop_alpha
        if bits <= 8:
            return ("rgba" if alpha else "rgb24"), 8
        bits = next((depth for depth in PLANAR_DEPTHS if depth >= bits), 16)
        if alpha:
            bits = next(depth for depth in (10, 12, 16) if depth >= bits)
        if pixel_format.name.startswith("gray") and not alpha and self._color.conversion_matrix != "gbr":
            return f"gray{bits}le", bits
        if pixel_format.is_rgb or self._color.conversion_matrix == "gbr":
            return f"{'gbrap' if alpha else 'gbrp'}{bits}le", bits
        return f"{'yuva444p' if alpha else 'yuv444p'}{bits}le", bits


class FrameBuilder:
    """Converts RGB arrays to frames of one pixel format, with the colour tags of the conversion."""

    def __init__(self, width: int, height: int, pixel_format: str, color: Color) -> None:
        self._width, self._height = width, height
        self._format = VideoFormat(pixel_format, width, height)
        self._bits = depth_of(self._format)
        self._color = color
        self._chains: dict[str, Chain] = {}

    @property
    def is_rgb(self) -> bool:
        return bool(self._format.is_rgb)

    @property
    def has_alpha(self) -> bool:
        return has_alpha_channel(self._format)

    def to_frame(self, image: Image, alpha: Image | None = None) -> VideoFrame:
        """Convert `image` (H, W, 3), uint8 or uint16, to a frame without a timestamp. Values are rounded.

        `alpha` (H, W) has the same dtype; None is fully opaque. It is ignored if the format has no alpha channel.
        """
        holds_alpha = self.has_alpha
        if holds_alpha and alpha is None:
            alpha = np.full(image.shape[:2], peak_of(image.dtype), image.dtype)
        if self._format.is_rgb:
            name = "rgb24" if image.dtype == np.uint8 else "rgb48le"
            pixels: NDArray[Any] = image
            if holds_alpha and alpha is not None:
                name = "rgba" if image.dtype == np.uint8 else "rgba64le"
                pixels = np.dstack((image, alpha))
            return self._through(name, VideoFrame.from_ndarray(pixels, format=name))
        if image.dtype == np.uint8 and self._bits <= 8:
            # A view avoids a copy. libswscale reads whole vectors, beyond the end of the array if the last row does not
            # end with one.
            fits = image.shape[1] % VECTOR_PIXELS == 0 and image.flags.c_contiguous
            view = VideoFrame.from_numpy_buffer if fits else VideoFrame.from_ndarray
            frame = self._through("rgb24", view(image, format="rgb24"))
            if holds_alpha and alpha is not None:
                plane(frame, 3)[...] = alpha  # libswscale's is off by one
            return frame
        name = ("yuva444p" if holds_alpha else "yuv444p") + ("" if self._bits <= 8 else f"{self._bits}le")
        frame = VideoFrame(self._width, self._height, name)
        planes = [plane(frame, index) for index in range(3)]
        rgb_to_yuv(image, planes, self._bits, self._color.conversion_matrix, self._color.conversion_range)
        if holds_alpha and alpha is not None:
            plane(frame, 3)[...] = scale_codes(alpha, 8 * alpha.itemsize, self._bits)
        return self._through(name, frame)

    def _through(self, name: str, frame: VideoFrame) -> VideoFrame:
        if name == self._format.name:
            return frame
        if name not in self._chains:
            options = f"flags={SWS_FLAGS}"
            if not self._format.is_rgb:
                matrix, range_ = self._color.conversion_matrix, self._color.conversion_range
                is_yuv = name.startswith("yuv")
                options += f":in_range={range_ if is_yuv else 'pc'}:out_range={range_}:out_color_matrix={matrix}"
                if is_yuv:
                    options += f":in_color_matrix={matrix}"
                if self._color.chroma_location != UNSPECIFIED:
                    options += f":out_chroma_loc={self._color.chroma_location}"
            self._chains[name] = Chain(frame, [("scale", options), ("format", self._format.name)])
        return self._chains[name].apply(frame)


def plane(frame: VideoFrame, index: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return plane `index` of a planar frame as an (H, W) view of its memory, without padding."""
    source = frame.planes[index]
    dtype = np.uint8 if depth_of(frame.format) <= 8 else np.uint16
    rows = np.frombuffer(source, dtype).reshape(-1, source.line_size // np.dtype(dtype).itemsize)  # type: ignore[call-overload]
    return cast("NDArray[np.uint8] | NDArray[np.uint16]", rows[: source.height, : source.width])


def packed_plane(frame: VideoFrame, channels: int) -> NDArray[np.uint8]:
    """Return the only plane of a packed 8-bit frame as an (H, W, channels) view of its memory."""
    source = frame.planes[0]
    rows = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)  # type: ignore[call-overload]
    pixels = rows[: frame.height, : frame.width * channels]
    return cast("NDArray[np.uint8]", pixels.reshape(frame.height, frame.width, channels))


def scale_codes(values: Image, bits: int, to_bits: int) -> Image:
    """Scale full-range values from `bits` to `to_bits`, rounded. The result is uint8 up to 8 bits, else uint16."""
    if bits == to_bits:
        return values.copy()
    top, to_top = 2**bits - 1, 2**to_bits - 1
    scaled: NDArray[np.uint32] = (values.astype(np.uint32) * to_top + top // 2) // top
    return scaled.astype(np.uint8) if to_bits <= 8 else scaled.astype(np.uint16)


def code_scale(bits: int, range_: str) -> tuple[float, float, float, float]:
    """Return luma offset and extent, chroma centre and extent in code values (ITU-T H.273, equations 20 to 25)."""
    if range_ == "pc":
        return 0.0, 2.0**bits - 1, 2.0 ** (bits - 1), 2.0**bits - 1
    unit = 2.0 ** (bits - 8)
    return 16 * unit, 219 * unit, 128 * unit, 224 * unit


def yuv_to_rgb16(
    planes: list[NDArray[np.uint8] | NDArray[np.uint16]], bits: int, matrix: str, range_: str
) -> NDArray[np.uint16]:
    """Convert Y, Cb, Cr planes, each (H, W), to RGB (H, W, 3) uint16, clipped to [0, 65535]."""
    red_weight, blue_weight = LUMA_WEIGHTS[matrix]
    green_weight = 1 - red_weight - blue_weight
    offset, extent, centre, chroma_extent = code_scale(bits, range_)
    height, width = planes[0].shape
    image = np.empty((height, width, 3), np.uint16)
    chroma = np.float32(65535 / chroma_extent)
    for top in range(0, height, STRIP_ROWS):
        rows = slice(top, top + STRIP_ROWS)
        luma = (planes[0][rows].astype(np.float32) - np.float32(offset)) * np.float32(65535 / extent) + np.float32(0.5)
        blue_difference = (planes[1][rows].astype(np.float32) - np.float32(centre)) * chroma
        red_difference = (planes[2][rows].astype(np.float32) - np.float32(centre)) * chroma
        red = luma + red_difference * np.float32(2 * (1 - red_weight))
        blue = luma + blue_difference * np.float32(2 * (1 - blue_weight))
        luma -= red_difference * np.float32(2 * red_weight * (1 - red_weight) / green_weight)
        luma -= blue_difference * np.float32(2 * blue_weight * (1 - blue_weight) / green_weight)
        for channel, values in enumerate((red, luma, blue)):
            image[rows, :, channel] = np.clip(values, 0, 65535, out=values)
    return image


def rgb_to_yuv(
    image: Image, planes: list[NDArray[np.uint8] | NDArray[np.uint16]], bits: int, matrix: str, range_: str
) -> None:
    """Convert RGB (H, W, 3), uint8 or uint16, to Y, Cb, Cr of `bits`, rounded, written into `planes`, each (H, W)."""
    red_weight, blue_weight = LUMA_WEIGHTS[matrix]
    offset, extent, centre, chroma_extent = code_scale(bits, range_)
    unit = np.float32(1 / (255 if image.dtype == np.uint8 else 65535))
    highest = 2**bits - 1
    for top in range(0, image.shape[0], STRIP_ROWS):
        rows = slice(top, top + STRIP_ROWS)
        red, green, blue = (image[rows, :, channel].astype(np.float32) * unit for channel in range(3))
        luma = (
            red * np.float32(red_weight)
            + green * np.float32(1 - red_weight - blue_weight)
            + blue * np.float32(blue_weight)
        )
        blue -= luma
        blue *= np.float32(chroma_extent / (2 * (1 - blue_weight)))
        red -= luma
        red *= np.float32(chroma_extent / (2 * (1 - red_weight)))
        luma *= np.float32(extent)
        for target, values, zero in zip(planes, (luma, blue, red), (offset, centre, centre), strict=True):
            values += np.float32(zero + 0.5)
            target[rows] = np.clip(values, 0, highest, out=values)


def planar_to_rgb16(planes: list[NDArray[np.uint8] | NDArray[np.uint16]], bits: int) -> NDArray[np.uint16]:
    """Convert R, G, B planes of `bits`, each (H, W), to (H, W, 3) uint16 in [0, 65535]."""
    image = np.empty((*planes[0].shape, 3), np.uint16)
    for channel, values in enumerate(planes):
        image[..., channel] = scale_codes(values, bits, 16)
    return image
