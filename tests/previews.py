"""Videos of known frames to preview, and choices of weights to preview them with."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from ristn_cli.bench.scene import make_texture
from ristn_cli.engine.device import choose_backend
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.preview.choices import Choice
from ristn_cli.video import Color, EncoderSettings, Frame, FrameWriter, OutputShape
from ristn_cli.weights import ModelChoice, load_choice

RATE = 10


def blocks(seed: int, width: int, height: int) -> np.ndarray:
    """Squares of 4 pixels in random colours, (H, W, 3) uint8."""
    colors = np.random.default_rng(seed).integers(20, 235, (height // 4, width // 4, 3), dtype=np.uint8)
    return colors.repeat(4, axis=0).repeat(4, axis=1)


def write_video(path: Path, images: Iterable[np.ndarray], *, rate: int = RATE) -> Path:
    """The images as H.264 of high quality, with a key frame at least every second; `path` is returned."""
    writer = None
    step = Fraction(1, rate)
    settings = EncoderSettings(codec="h264", color=Color(), crf=8, preset="ultrafast", options={"g": str(rate)})
    for number, image in enumerate(images):
        if writer is None:
            shape = OutputShape(width=image.shape[1], height=image.shape[0], rate=Fraction(rate), time_base=step)
            writer = FrameWriter(path, shape, settings)
        writer.write(Frame(image, number * step, step))
    assert writer is not None
    writer.close()
    return path


def moving(seed: int, frames: int, width: int, height: int) -> list[np.ndarray]:
    """A smooth texture that moves to the left by a pixel a frame: no frame seems to begin another scene."""
    wide = make_texture(width + frames, height, seed)
    return [wide[:, k : k + width] for k in range(frames)]


def make_choice(name: str, weights: Path, *, recommendation: str = "") -> Choice:
    """A choice of the weights of a file, which counts as released."""
    return Choice(
        name=name,
        model=ModelChoice(str(weights)),
        options=("--model", name),
        note="for tests",
        recommendation=recommendation,
    )


def open_choice(choice: Choice) -> Upscaler:
    """Its engine on the processor."""
    return Upscaler(load_choice(choice.model), choose_backend("cpu", "fp32"))
