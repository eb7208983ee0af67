"""Encode and decode frames in memory, to simulate compression artefacts."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from av.codec.context import ThreadType
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType, VideoFrame

from ristn_cli.video.convert import FrameBuilder, RgbReader
from ristn_cli.video.types import Color, Image, VideoError

MIN_SIDE = 16
"""Encoders work in blocks of this many pixels. Smaller frames are padded by repeating their edge."""

COLOR = Color(matrix="smpte170m", range="tv")

DECODERS = {"libx264": "h264", "mpeg4": "mpeg4", "mpeg2video": "mpeg2video"}


@dataclass(frozen=True, kw_only=True)
class Compression:
    """Settings of a compression. Frames are always 8-bit 4:2:0 at 25 frames per second.

    Attributes:
        encoder: `libx264`, `mpeg4` or `mpeg2video`.
        strength: constant rate factor (0 to 51) of x264, or quantizer scale (1 to 31) of the others.
        preset: preset of x264. The others have none.
        keyframe_interval: largest distance between key frames.
    """

    encoder: str = "libx264"
    strength: int = 23
    preset: str = "medium"
    keyframe_interval: int = 250

    def __post_init__(self) -> None:
        if self.encoder not in DECODERS:
            raise ValueError(f"unknown encoder {self.encoder!r}: expected one of {', '.join(DECODERS)}")
        lowest, highest = (0, 51) if self.encoder == "libx264" else (1, 31)
        if not lowest <= self.strength <= highest:
            raise ValueError(f"{self.encoder}: strength {self.strength}: expected {lowest} to {highest}")


def compress_clip(images: Iterable[Image], crf: int) -> Iterator[Image]:
    """Yield frames compressed with H.264 at a constant rate factor and preset `medium`; see `compress_images`."""
    return compress_images(images, Compression(strength=crf))


def compress_images(images: Iterable[Image], compression: Compression) -> Iterator[Image]:
    """Yield each frame, (H, W, 3) uint8, after encoding and decoding. All frames must have the same size.

    Reads ahead only as far as the encoder does. The result is deterministic.

    Raises:
        VideoError: frames differ in size, are not uint8, or the codec failed.
    """
    codec: tuple[VideoCodecContext, VideoCodecContext] | None = None
    converter: Converter | None = None
    count = decoded_count = 0
    try:
        for image in images:
            if codec is None or converter is None:
                converter = Converter(image.shape)
                codec = open_codec(image.shape[0], image.shape[1], compression)
            for decoded in pass_frame(codec, converter.to_picture(image, count)):
                decoded_count += 1
                yield converter.to_image(decoded)
            count += 1
        if codec is not None and converter is not None:
            for decoded in pass_frame(codec, None):
                decoded_count += 1
                yield converter.to_image(decoded)
    except FFmpegError as error:
        raise VideoError(f"{compression.encoder}: {error.strerror}") from error
    if decoded_count != count:
        raise VideoError(f"{compression.encoder}: decoded {decoded_count} of {count} encoded frames")


@dataclass(frozen=True)
class EncodedImages:
    """Encoded frames in memory. Decoding always returns the same frames.

    Attributes:
        encoder: as in `Compression`.
        shape: shape (H, W, 3) of each frame; empty if there are no frames.
        packets: encoded packets in decoding order.
        count: number of frames.
    """

    encoder: str
    shape: tuple[int, ...]
    packets: tuple[bytes, ...]
    count: int

    def decode(self) -> Iterator[Image]:
        """Yield the frames, (H, W, 3) uint8, in their order.

        Raises:
            VideoError: decoding failed or returned another number of frames.
        """
        decoder, converter = open_decoder(self.encoder), Converter(self.shape)
        decoded_count = 0
        try:
            for data in (*self.packets, None):
                for decoded in decoder.decode(None if data is None else av.Packet(data)):
                    decoded_count += 1
                    yield converter.to_image(decoded)
        except FFmpegError as error:
            raise VideoError(f"{self.encoder}: {error.strerror}") from error
        if decoded_count != self.count:
            raise VideoError(f"{self.encoder}: decoded {decoded_count} of {self.count} encoded frames")


def encode_images(images: Iterable[Image], compression: Compression) -> EncodedImages:
    """Encode frames, (H, W, 3) uint8 of one size, once, so that several readers decode the same frames.

    Raises:
        VideoError: frames differ in size, are not uint8, or the encoder failed.
    """
    encoder: VideoCodecContext | None = None
    converter: Converter | None = None
    packets: list[bytes] = []
    count = 0
    try:
        for image in images:
            if encoder is None or converter is None:
                converter = Converter(image.shape)
                encoder = open_codec(image.shape[0], image.shape[1], compression)[0]
            packets += [bytes(packet) for packet in encoder.encode(converter.to_picture(image, count))]
            count += 1
        if encoder is not None:
            packets += [bytes(packet) for packet in encoder.encode(None)]
    except FFmpegError as error:
        raise VideoError(f"{compression.encoder}: {error.strerror}") from error
    return EncodedImages(compression.encoder, () if converter is None else converter.shape, tuple(packets), count)


def open_codec(height: int, width: int, compression: Compression) -> tuple[VideoCodecContext, VideoCodecContext]:
    """Return a single-threaded encoder for frames of this size, and its decoder."""
    encoder = av.CodecContext.create(compression.encoder, "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height = padded_side(width), padded_side(height)
    encoder.pix_fmt = "yuv420p"
    encoder.framerate, encoder.time_base = Fraction(25), Fraction(1, 25)
    encoder.gop_size = compression.keyframe_interval
    encoder.thread_count = 1
    if compression.encoder == "libx264":
        encoder.options = {
            "crf": str(compression.strength),
            "preset": compression.preset,
            # Without cpu-independent, x264 does not encode the same frames to the same bits in every call.
            "x264-params": "log-level=none:threads=1:cpu-independent=1",
        }
    else:
        scale = str(compression.strength)
        encoder.options = {"qmin": scale, "qmax": scale, "flags": "+qscale", "global_quality": str(118 * int(scale))}
    return encoder, open_decoder(compression.encoder)


def open_decoder(encoder: str) -> VideoCodecContext:
    """Return a single-threaded decoder for the output of an encoder."""
    decoder = av.CodecContext.create(DECODERS[encoder], "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count, decoder.thread_type = 1, ThreadType.NONE
    return decoder


def pass_frame(codec: tuple[VideoCodecContext, VideoCodecContext], picture: VideoFrame | None) -> Iterator[VideoFrame]:
    """Encode a frame and yield the frames that can be decoded by now; None flushes both codecs."""
    encoder, decoder = codec
    for packet in encoder.encode(picture):
        yield from decoder.decode(packet)
    if picture is None:
        yield from decoder.decode(None)


def padded_side(side: int) -> int:
    """Return the even side, at least MIN_SIDE, to which a frame is padded."""
    return max(MIN_SIDE, side + side % 2)


class Converter:
    """Converts images (H, W, 3) of one shape to YUV 4:2:0 frames and back, by BT.601 in limited range.

    Every conversion rounds to the nearest value. libswscale's default rounds down: images then get darker by 1 to 2
    levels, and a network that is trained on such frames makes footage brighter.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        height, width = shape[:2] if shape else (MIN_SIDE, MIN_SIDE)
        self._padding = ((0, padded_side(height) - height), (0, padded_side(width) - width), (0, 0))
        self._builder = FrameBuilder(padded_side(width), padded_side(height), "yuv420p", COLOR)
        self._reader = RgbReader(COLOR, path="compressed frames")

    def to_picture(self, image: Image, number: int) -> VideoFrame:
        """Convert an image to a frame, padded by repeating its edge. Raises VideoError for another shape or dtype."""
        if image.shape != self.shape or image.dtype != np.uint8:
            raise VideoError(f"frame {number + 1} is {image.shape} {image.dtype}: expected {self.shape} uint8")
        picture = self._builder.to_frame(np.ascontiguousarray(np.pad(image, self._padding, mode="edge")))
        picture.pts, picture.time_base = number, Fraction(1, 25)
        picture.pict_type = PictureType.NONE
        return picture

    def to_image(self, picture: VideoFrame) -> Image:
        """Return the RGB image of a decoded frame, cropped to its original size."""
        image = self._reader.to_rgb(picture)[: self.shape[0], : self.shape[1]]
        return np.ascontiguousarray(image, dtype=np.uint8)
