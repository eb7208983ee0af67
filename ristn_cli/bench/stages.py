"""Where a frame's time goes: the parts of the network by hooks, reading and writing step by step."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ristn_cli.bench.machine import synchronize
from ristn_cli.bench.report import summarize
from ristn_cli.inference.device import Backend
from ristn_cli.model.inference import InferenceRISTN
from ristn_cli.video import CODECS, Frame, FrameWriter, VideoInfo, choose_codec
from ristn_cli.video.steps import FrameBuilder, RgbReader, decode_pictures, output_color

REPEATS = 3


class StageClock:
    """Seconds that the network spent in each of its parts while the clock is attached; tiles add up.

    Fusion belongs to the reconstruction: it begins where the last ConvLSTM layer ends.
    """

    def __init__(self, model: InferenceRISTN, backend: Backend) -> None:
        self._model, self._backend = model, backend
        self._last = 0.0
        self.seconds: dict[str, float] = {}

    @contextmanager
    def attached(self) -> Iterator[dict[str, float]]:
        """Within, `spatial`, `temporal` and `reconstruction` grow; they begin at 0."""
        self.seconds = dict.fromkeys(("spatial", "temporal", "reconstruction"), 0.0)
        features = self._model.features
        last_layer: Any = self._model.mapping if features is None else features.layers[-1]
        ends: list[tuple[nn.Module, str]] = [
            (self._model.spatial_component, "spatial"),
            (last_layer, "temporal"),
            (self._model, "reconstruction"),
        ]
        handles = [self._model.register_forward_pre_hook(lambda *_: self._mark(None))]
        handles += [module.register_forward_hook(lambda *_, stage=stage: self._mark(stage)) for module, stage in ends]
        try:
            yield self.seconds
        finally:
            for handle in handles:
                handle.remove()

    def _mark(self, stage: str | None) -> None:
        synchronize(self._backend)
        now = time.perf_counter()
        if stage is not None:
            self.seconds[stage] += now - self._last
        self._last = now


def time_reading(info: VideoInfo, frames: int) -> dict[str, float]:
    """Seconds a frame of decoding, and of conversion to RGB: the medians of some repeats."""
    decode, convert = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        pictures = decode_pictures(info.path, frames)
        decoded = time.perf_counter()
        reader = RgbReader(info.color, path=info.path, drop_alpha=True)
        for picture in pictures:
            reader.to_rgb(picture)
        decode.append((decoded - began) / len(pictures))
        convert.append((time.perf_counter() - decoded) / len(pictures))
    return {"decode": summarize(decode).median, "convert_in": summarize(convert).median}


def time_writing(images: Sequence[np.ndarray], info: VideoInfo, folder: Path, preset: str) -> dict[str, float]:
    """Seconds a frame of conversion from RGB, and of what encoding takes besides: the medians of some repeats.

    Args:
        images: finished ones, (4H, 4W, 3).
        info: the source.
        folder: for the file that is encoded.
        preset: of the encoder.
    """
    height, width, _ = images[0].shape
    codec = CODECS[choose_codec("auto", 8 * images[0].itemsize)]
    pixel_format = codec.pixel_format if images[0].itemsize == 1 else codec.deep_pixel_format
    convert, encode = [], []
    for _ in range(REPEATS):
        builder = FrameBuilder(width, height, pixel_format, output_color(info.color))
        began = time.perf_counter()
        for image in images:
            builder.to_frame(image)
        converted = time.perf_counter()
        rate = info.rate
        writer = FrameWriter(
            folder / "encoded.mp4",
            width=width,
            height=height,
            rate=rate,
            time_base=1 / rate,
            color=info.color,
            preset=preset,
        )
        with writer:
            for index, image in enumerate(images):
                writer.write(Frame(image, Fraction(index) / rate, 1 / rate))
        convert.append((converted - began) / len(images))
        encode.append(max(0.0, (time.perf_counter() - converted) / len(images) - convert[-1]))
    return {"convert_out": summarize(convert).median, "encode": summarize(encode).median}
