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

from ristn_cli.video.types import Image, VideoError

MIN_SIDE = 16
"""Encoders work in blocks of this many pixels. Smaller frames are padded by repeating their edge."""

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
    shape: tuple[int, ...] = ()
    count = decoded_count = 0
    try:
        for image in images:
            if codec is None:
                shape = image.shape
                codec = open_codec(shape[0], shape[1], compression)
            check_image(image, shape, count)
            for decoded in pass_frame(codec, to_picture(image, count)):
                decoded_count += 1
                yield to_image(decoded, shape)
            count += 1
        if codec is not None:
            for decoded in pass_frame(codec, None):
                decoded_count += 1
                yield to_image(decoded, shape)
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
        decoder = open_decoder(self.encoder)
        decoded_count = 0
        try:
            for data in (*self.packets, None):
                for decoded in decoder.decode(None if data is None else av.Packet(data)):
                    decoded_count += 1
                    yield to_image(decoded, self.shape)
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
    shape: tuple[int, ...] = ()
    packets: list[bytes] = []
    count = 0
    try:
        for image in images:
            if encoder is None:
                shape = image.shape
                encoder = open_codec(shape[0], shape[1], compression)[0]
            check_image(image, shape, count)
            packets += [bytes(packet) for packet in encoder.encode(to_picture(image, count))]
            count += 1
        if encoder is not None:
            packets += [bytes(packet) for packet in encoder.encode(None)]
    except FFmpegError as error:
        raise VideoError(f"{compression.encoder}: {error.strerror}") from error
    return EncodedImages(compression.encoder, shape, tuple(packets), count)


def check_image(image: Image, shape: tuple[int, ...], number: int) -> None:
    """Raise VideoError unless a frame is uint8 and has the shape of the first frame."""
    if image.shape != shape or image.dtype != np.uint8:
        raise VideoError(f"frame {number + 1} is {image.shape} {image.dtype}: expected {shape} uint8")


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


def to_picture(image: Image, number: int) -> VideoFrame:
    """Convert an image to a YUV 4:2:0 frame, padded by repeating its edge."""
    height, width = image.shape[:2]
    padding = ((0, padded_side(height) - height), (0, padded_side(width) - width), (0, 0))
    padded = np.ascontiguousarray(np.pad(image, padding, mode="edge"))
    picture = VideoFrame.from_ndarray(padded, format="rgb24").reformat(format="yuv420p")
    picture.pts, picture.time_base = number, Fraction(1, 25)
    picture.pict_type = PictureType.NONE
    return picture


def to_image(picture: VideoFrame, shape: tuple[int, ...]) -> Image:
    """Return the RGB image (H, W, 3) of a decoded frame, cropped to its original size."""
    image = picture.to_ndarray(format="rgb24")[: shape[0], : shape[1]]
    return np.ascontiguousarray(image, dtype=np.uint8)
