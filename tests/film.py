"""Film that is telecined, and interlaced video that is not, as files."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from ristn_cli.video import FieldOrder
from ristn_cli.video.filters import Chain

WIDTH, HEIGHT = 96, 64
NTSC, FILM = Fraction(30000, 1001), Fraction(24000, 1001)
PULLDOWNS = {"3:2": ((0, 0), (1, 1), (1, 2), (2, 3), (3, 3)), "2:3:3:2": ((0, 0), (1, 1), (1, 2), (2, 2), (3, 3))}
"""By video frame: the film frames that its first and its second field show."""


def picture(moment: float, shot: int = 0) -> np.ndarray:
    """The picture at a moment, (H, W, 3): smooth waves that move by 3 pixels a moment, another pattern in each shot."""
    x, y = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    waves = np.sin((x - 3 * moment) / (7 + 2 * shot) + 1.3 * shot) * np.cos((y + moment) / (9 - shot))
    return np.repeat((120 + 90 * waves)[..., None], 3, axis=2).astype(np.uint8)


def weave(first: np.ndarray, second: np.ndarray, order: FieldOrder = "top") -> np.ndarray:
    image = first.copy()
    image[1 if order == "top" else 0 :: 2] = second[1 if order == "top" else 0 :: 2]
    return image


def pull_down(film: Sequence[np.ndarray], order: FieldOrder = "top", pattern: str = "3:2") -> list[np.ndarray]:
    """Film on interlaced video: five frames of four."""
    return [
        weave(film[at + first], film[at + second], order)
        for at in range(0, len(film), 4)
        for first, second in PULLDOWNS[pattern]
    ]


def native(count: int, shot: int = 0) -> list[np.ndarray]:
    """Interlaced video that was never film: each field has a moment of its own."""
    return [weave(picture(index, shot), picture(index + 0.5, shot)) for index in range(count)]


def encode(
    path: Path, images: Sequence[np.ndarray], *, rate: Fraction = NTSC, is_flagged: bool = True, **options: str
) -> Path:
    """H.264, or MPEG-2 in a `.vob` or `.m2v`; flagged as interlaced, top field first, when asked."""
    codec = "mpeg2video" if path.suffix in (".vob", ".m2v") else "libx264"
    quality = {"crf": "3", "preset": "veryfast"} if codec == "libx264" else {"qmin": "1", "qmax": "1", "b": "8M"}
    flags = {"flags": "+ildct+ilme"} if is_flagged else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, options={"g": "6", "bf": "0", **quality, **flags, **options})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = stream.codec_context.time_base = 1 / rate
        marks: Chain | None = None
        for index, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            if is_flagged:
                marks = marks or Chain(frame, [("setfield", "tff")])  # PyAV cannot set the flag itself
                frame = marks.apply(frame)
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_edited_film(path: Path) -> Path:
    """Two shots of 40 film frames, cut in the middle of their patterns."""
    first, second = ([picture(index, shot) for index in range(40)] for shot in range(2))
    return encode(path, pull_down(first)[:33] + pull_down(second)[2:])
