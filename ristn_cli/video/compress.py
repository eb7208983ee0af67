"""What real encoders do to pictures: frames through an encoder and back through its decoder, in memory."""

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

SMALLEST_SIDE = 16
"""Smaller pictures are repeated at their edge up to this: encoders work in blocks of as many pixels."""

DECODERS = {"libx264": "h264", "mpeg4": "mpeg4", "mpeg2video": "mpeg2video"}


@dataclass(frozen=True, kw_only=True)
class Compression:
    """How strongly pictures are compressed, always as 4:2:0 in 8 bits at 25 frames a second.

    Attributes:
        encoder: `libx264`, `mpeg4` or `mpeg2video`.
        strength: x264's constant rate factor (0 to 51), or the others' quantiser scale (1 to 31).
        preset: x264's; the others have none.
        keyframe_interval: largest distance of key frames.
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
            raise ValueError(f"{self.encoder}: strength {self.strength} is not from {lowest} to {highest}")


def compress_clip(images: Iterable[Image], crf: int) -> Iterator[Image]:
    """Frames as H.264 of a constant rate factor shows them, by x264's preset `medium`; see `compress_images`."""
    return compress_images(images, Compression(strength=crf))


def compress_images(images: Iterable[Image], compression: Compression) -> Iterator[Image]:
    """As many frames as came in, in their order: (H, W, 3) uint8, all of the first one's size.

    Reads ahead as far as the encoder does and holds no more. The same frames give the same result in every call.

    Raises:
        VideoError: frames of other sizes or depths, or a codec that failed.
    """
    codec: tuple[VideoCodecContext, VideoCodecContext] | None = None
    shape: tuple[int, ...] = ()
    count = given = 0
    try:
        for image in images:
            if codec is None:
                shape = image.shape
                codec = open_codec(shape[0], shape[1], compression)
            check_image(image, shape, count)
            for decoded in pass_frame(codec, to_picture(image, count)):
                given += 1
                yield to_image(decoded, shape)
            count += 1
        if codec is not None:
            for decoded in pass_frame(codec, None):
                given += 1
                yield to_image(decoded, shape)
    except FFmpegError as error:
        raise VideoError(f"{compression.encoder}: {error.strerror}") from error
    if given != count:
        raise VideoError(f"{compression.encoder}: {given} of {count} frames came back")


@dataclass(frozen=True)
class EncodedImages:
    """Pictures as an encoder left them, a small part of their size: what is decoded of them is always the same.

    Attributes:
        encoder: as in `Compression`.
        shape: of every picture, (H, W, 3); empty where there are none.
        packets: what the encoder gave, in its order.
        count: how many pictures they are.
    """

    encoder: str
    shape: tuple[int, ...]
    packets: tuple[bytes, ...]
    count: int

    def decode(self) -> Iterator[Image]:
        """The pictures, (H, W, 3) uint8, in their order.

        Raises:
            VideoError: they cannot be decoded, or not as many come back as went in.
        """
        decoder = open_decoder(self.encoder)
        given = 0
        try:
            for data in (*self.packets, None):
                for decoded in decoder.decode(None if data is None else av.Packet(data)):
                    given += 1
                    yield to_image(decoded, self.shape)
        except FFmpegError as error:
            raise VideoError(f"{self.encoder}: {error.strerror}") from error
        if given != self.count:
            raise VideoError(f"{self.encoder}: {given} of {self.count} frames came back")


def encode_images(images: Iterable[Image], compression: Compression) -> EncodedImages:
    """All frames, (H, W, 3) uint8 of one size, encoded once: for readers that must all have the same frames.

    Raises:
        VideoError: frames of other sizes or depths, or an encoder that failed.
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
    """Raise VideoError unless a picture is uint8 and of the first one's shape."""
    if image.shape != shape or image.dtype != np.uint8:
        raise VideoError(f"frame {number + 1} is {image.shape} {image.dtype}: expected {shape} uint8")


def open_codec(height: int, width: int, compression: Compression) -> tuple[VideoCodecContext, VideoCodecContext]:
    """An encoder for pictures of a size, in one thread, and its decoder."""
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
            # Without cpu-independent, x264 gives other bits for the same frames in some of its calls.
            "x264-params": "log-level=none:threads=1:cpu-independent=1",
        }
    else:
        scale = str(compression.strength)
        encoder.options = {"qmin": scale, "qmax": scale, "flags": "+qscale", "global_quality": str(118 * int(scale))}
    return encoder, open_decoder(compression.encoder)


def open_decoder(encoder: str) -> VideoCodecContext:
    """A decoder, in one thread, of what an encoder gives."""
    decoder = av.CodecContext.create(DECODERS[encoder], "r")
    assert isinstance(decoder, VideoCodecContext)
    decoder.thread_count, decoder.thread_type = 1, ThreadType.NONE
    return decoder


def pass_frame(codec: tuple[VideoCodecContext, VideoCodecContext], picture: VideoFrame | None) -> Iterator[VideoFrame]:
    """What comes out of the decoder after a picture went into the encoder; None ends both."""
    encoder, decoder = codec
    for packet in encoder.encode(picture):
        yield from decoder.decode(packet)
    if picture is None:
        yield from decoder.decode(None)


def padded_side(side: int) -> int:
    """The even side that a picture's is grown to."""
    return max(SMALLEST_SIDE, side + side % 2)


def to_picture(image: Image, number: int) -> VideoFrame:
    """An encoder's picture, its edge repeated up to the padded size."""
    height, width = image.shape[:2]
    padding = ((0, padded_side(height) - height), (0, padded_side(width) - width), (0, 0))
    grown = np.ascontiguousarray(np.pad(image, padding, mode="edge"))
    picture = VideoFrame.from_ndarray(grown, format="rgb24").reformat(format="yuv420p")
    picture.pts, picture.time_base = number, Fraction(1, 25)
    picture.pict_type = PictureType.NONE
    return picture


def to_image(picture: VideoFrame, shape: tuple[int, ...]) -> Image:
    """RGB of a decoded picture, cut to the size that it was given in."""
    image = picture.to_ndarray(format="rgb24")[: shape[0], : shape[1]]
    return np.ascontiguousarray(image, dtype=np.uint8)
