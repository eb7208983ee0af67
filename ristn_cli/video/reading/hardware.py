"""Decoding on an NVIDIA card: what it is tried on, how it is opened, and its frames as software gives them.

Knows nothing of when software takes over; whatever goes wrong here is a HardwareError.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import av
from av.codec.hwaccel import HWAccel
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ristn_cli.video.convert import Chain
from ristn_cli.video.types import VideoInfo

Decoder = Literal["software", "auto", "nvdec"]

# Codecs whose decoding is exact by their standard. MPEG-2 and MPEG-4 part 2 leave the inverse transform's rounding
# open. FFmpeg's first AV1 decoder is dav1d, which has no hardware side.
NVDEC_FORMATS = {
    "h264": {"yuv420p"},
    "hevc": {"yuv420p", "yuv420p10le", "yuv420p12le"},
    "vp8": {"yuv420p"},
    "vp9": {"yuv420p", "yuv420p10le", "yuv420p12le"},
}


class HardwareError(Exception):
    """The card did not decode, or gave what software decoding would not have given."""


class HardwareDamage:
    """Stands in for the count of damage: software decoding is to conceal it, so the first damage ends hardware's."""

    def add(self, what: str) -> None:
        """Raise HardwareError."""
        raise HardwareError(what)


def why_not_nvdec(info: VideoInfo, *, with_alpha: bool, strict: bool) -> str | None:
    """Why a video is left to software decoding; None where NVDEC may be tried."""
    if int(av.__version__.split(".")[0]) < 18:
        return f"PyAV {av.__version__} does not tell which pictures of a card are interlaced or damaged; 18 does"
    if info.codec not in NVDEC_FORMATS or info.is_still:
        return f"{info.codec} is decoded in software only"
    if info.pixel_format not in NVDEC_FORMATS[info.codec]:
        return f"NVDEC is not tried on {info.codec} in {info.pixel_format}"
    if with_alpha:
        return "NVDEC gives no transparency"
    if info.has_decoding_times_only:
        return f"{info.container} holds no presentation times to go on from"
    if strict:
        return "NVDEC does not tell of all damage, which --strict asks for"
    return None


def open_nvdec() -> HWAccel:
    """The card's decoder for `av.open`, without FFmpeg's own, silent fallback."""
    return HWAccel("cuda", allow_software_fallback=False)


def prepare_nvdec(stream: VideoStream) -> None:
    """Set a stream up, before its first packet. Raises HardwareError when no hardware decoder came with it."""
    if not stream.codec_context.is_hwaccel:
        raise HardwareError("FFmpeg has no NVDEC decoder for this stream")
    stream.codec_context.thread_count = 1  # the card works in parallel; threads would only hold its surfaces


def as_software(frames: Iterator[VideoFrame], info: VideoInfo) -> Iterator[VideoFrame]:
    """Downloaded frames (nv12, p010, p016) in the pixel format of software decoding, with the same codes.

    Raises HardwareError at a frame of another size, a damaged one, or one without a later time than the one before:
    none of them could be told from a failure of the card, and after the last frame given software goes on.
    """
    size = (info.height, info.width) if info.transposed else (info.width, info.height)
    chain: Chain | None = None
    layout: tuple[object, ...] = ()
    previous: int | None = None
    for frame in frames:
        if (frame.width, frame.height) != size:
            raise HardwareError(f"a picture is {frame.width}x{frame.height}, expected {size[0]}x{size[1]}")
        if frame.is_corrupt:
            raise HardwareError("a picture is damaged")
        if frame.pts is None or not frame.time_base or (previous is not None and frame.pts <= previous):
            raise HardwareError("a picture has no time of its own")
        previous = frame.pts
        if frame.format.name == info.pixel_format:
            yield frame
            continue
        now = (frame.format.name, frame.colorspace, frame.color_range)
        if chain is None or layout != now:
            chain = Chain(frame, [("format", info.pixel_format)], frame.time_base)
            layout = now
        planar = chain.apply(frame)
        if planar.pts != frame.pts or planar.time_base != frame.time_base:
            planar.pts, planar.time_base = frame.pts, frame.time_base
        yield planar
