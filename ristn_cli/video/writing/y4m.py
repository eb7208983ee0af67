"""Frames as YUV4MPEG2, the plain stream that most video programs read from a pipe: 4:2:0 to 4:4:4, 8 to 16 bits.

The format has one rate and no times, and knows neither sound nor the colour matrix.
"""

from __future__ import annotations

from fractions import Fraction
from typing import IO

from ristn_cli.video.convert import FrameBuilder, plane
from ristn_cli.video.types import UNSPECIFIED, Color, Image, VideoError
from ristn_cli.video.writing.encoder import output_color

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
    """Writes images (H, W, 3), uint8 or uint16, to an open file.

    `pixel_format` is a key of `FORMATS`; None for 4:2:0 of 8 bits, 10 for deeper images. Raises VideoError for another,
    and when whoever reads the file stopped doing so.
    """

    def __init__(
        self,
        file: IO[bytes],
        *,
        width: int,
        height: int,
        rate: Fraction,
        color: Color,
        is_deep: bool,
        sample_aspect_ratio: Fraction = Fraction(1),
        pixel_format: str | None = None,
    ) -> None:
        name = pixel_format or ("yuv420p10le" if is_deep else "yuv420p")
        if name not in FORMATS:
            raise VideoError(f"standard output: Y4M cannot hold {name}; use one of {', '.join(FORMATS)}")
        color = output_color(color)
        site = SITES.get(color.chroma_location, "jpeg") if name == "yuv420p" else ""
        shape = f"{sample_aspect_ratio.numerator}:{sample_aspect_ratio.denominator}"
        level = "FULL" if color.range == "pc" else "LIMITED"
        header = f"YUV4MPEG2 W{width} H{height} F{rate.numerator}:{rate.denominator} Ip A{shape} "
        self._header = f"{header}C{FORMATS[name]}{site} XCOLORRANGE={level}\n".encode()
        self._builder = FrameBuilder(width, height, name, color)
        self._file = file
        self.frames_written = 0

    def write(self, image: Image) -> None:
        """Write one picture, after the header if it is the first."""
        frame = self._builder.to_frame(image)
        try:
            if self.frames_written == 0:
                self._file.write(self._header)
            self._file.write(FRAME_HEADER)
            for index in range(3):
                self._file.write(plane(frame, index).tobytes())
            self._file.flush()
        except BrokenPipeError as error:
            raise VideoError(f"standard output: whoever reads it stopped after {self.frames_written} frames") from error
        self.frames_written += 1
