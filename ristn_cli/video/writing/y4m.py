"""Write YUV4MPEG2 (Y4M), the uncompressed stream that most video programs read from pipes.

Supports 4:2:0 to 4:4:4 with 8 to 16 bits. Y4M has a constant frame rate, and no timestamps, audio and colour matrix.
"""

from __future__ import annotations

from typing import IO

from ristn_cli.video.convert import FrameBuilder, plane
from ristn_cli.video.resample import Resampler
from ristn_cli.video.types import UNSPECIFIED, Frame, VideoError
from ristn_cli.video.writing.settings import EncoderSettings, OutputShape, output_color

SITES = {"left": "mpeg2", "topleft": "paldv", "center": "jpeg", UNSPECIFIED: "jpeg"}
FORMATS = {
    "yuv420p": "420",
    "yuv422p": "422",
    "yuv444p": "444",
    **{
        f"yuv{sampling}p{bits}le": f"{sampling}p{bits} XYSCSS={sampling}P{bits}"
        for sampling in (420, 422, 444)
        for bits in (10, 12, 16)
    },
}
FRAME_HEADER = b"FRAME\n"


class Y4mWriter:
    """Writes frames to an open file, resampled to the shape's size. Has the interface of the other writers.

    The settings' `pixel_format` is a key of `FORMATS`; None for 4:2:0 with 8 bits, or 10 bits for uint16 frames. Raises
    VideoError for other formats, and if the reader of a pipe has closed it. FFmpeg's own muxer is not used, because
    PyAV cannot set its pixel aspect ratio.
    """

    def __init__(self, file: IO[bytes], shape: OutputShape, settings: EncoderSettings, *, is_deep: bool) -> None:
        name = settings.pixel_format or ("yuv420p10le" if is_deep else "yuv420p")
        if name not in FORMATS:
            raise VideoError(f"standard output: Y4M cannot hold {name}; use one of {', '.join(FORMATS)}")
        color = output_color(settings.color)
        site = SITES.get(color.chroma_location, "jpeg") if name == "yuv420p" else ""
        aspect, rate = shape.sample_aspect_ratio, shape.rate
        level = "FULL" if color.range == "pc" else "LIMITED"
        header = f"YUV4MPEG2 W{shape.width} H{shape.height} F{rate.numerator}:{rate.denominator} Ip "
        header += f"A{aspect.numerator}:{aspect.denominator} C{FORMATS[name]}{site} XCOLORRANGE={level}\n"
        self._header = header.encode()
        self._builder = FrameBuilder(shape.width, shape.height, name, color)
        self._resampler = Resampler(shape.width, shape.height)
        self._file = file
        self.frames_written = 0

    def write(self, frame: Frame) -> None:
        """Write one frame, and the header before the first one."""
        picture = self._builder.to_frame(self._resampler.apply(frame.image))
        try:
            if self.frames_written == 0:
                self._file.write(self._header)
            self._file.write(FRAME_HEADER)
            for index in range(3):
                self._file.write(plane(picture, index).tobytes())
            self._file.flush()
        except BrokenPipeError as error:
            raise VideoError(
                f"standard output: the reading program closed the pipe after {self.frames_written} frames"
            ) from error
        self.frames_written += 1
