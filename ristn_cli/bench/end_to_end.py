"""Measures a clip end to end, and each step of reading and writing. Unlike `measure`, always needs PyAV."""

import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from ristn_cli.bench.peak_memory import Peaks, read_peaks
from ristn_cli.bench.results import EndToEnd, summarize
from ristn_cli.bench.scene import make_scene
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.job.checks import check_job
from ristn_cli.job.events import Planned
from ristn_cli.job.options import RunOptions, UpscaleOptions
from ristn_cli.job.progress import Progress
from ristn_cli.job.reading import source_windows
from ristn_cli.job.run import upscale_video
from ristn_cli.model import SCALE
from ristn_cli.video import (
    CODECS,
    Color,
    EncoderSettings,
    Frame,
    FrameWriter,
    OutputShape,
    ReadOptions,
    VideoInfo,
    choose_codec,
    encoder_bytes,
    probe,
    read_frames,
)
from ristn_cli.video.steps import FrameBuilder, RgbReader, decode_pictures, output_color, scale_bicubic

RATE = Fraction(25)
CLIP_CRF = 12
TARGET_CRF = 17
HELD_BYTES = 1 << 28
"""Memory for finished images that are kept to time the encoder."""

MOST_TURNS = 3
"""Largest number of alternating measurements of end to end and of the network alone, if time allows."""

REPEATS = 3


def held_bytes(width: int, height: int, preset: str, *, is_deep: bool) -> int:
    """Return the memory of the encoder for a clip at 4x of `width` x `height`."""
    encoder = CODECS[choose_codec(None, 16 if is_deep else 8)].encoder
    return encoder_bytes(encoder, preset=preset, is_deep=is_deep, width=SCALE * width, height=SCALE * height)


def open_scene(path: Path, width: int, height: int, frames: int) -> VideoInfo:
    """Write the synthetic scene to `path` as high-quality H.264 and probe it."""
    shape = OutputShape(width=width, height=height, rate=RATE, time_base=1 / RATE)
    encoder = EncoderSettings(codec=choose_codec(None, 8), color=Color(), crf=CLIP_CRF, preset="veryfast")
    with FrameWriter(path, shape, encoder) as writer:
        for index, image in enumerate(make_scene(width, height, frames)):
            writer.write(Frame(image, index / RATE, 1 / RATE))
    return probe(path)


def first_images(source: VideoInfo, count: int) -> tuple[np.ndarray, ...]:
    """Return up to `count` images (H, W, 3) from the start of a video."""
    return tuple(frame.image for frame in read_frames(source, ReadOptions(max_frames=count, drop_alpha=True)))


def measure_end_to_end(
    upscaler: Upscaler, info: VideoInfo, frames: int, folder: Path, preset: str, seconds: float
) -> tuple[EndToEnd, list[np.ndarray], Peaks]:
    """Measure `upscale_video` and the network alone on the same windows, in turns.

    Args:
        upscaler: the engine.
        info: the source.
        frames: number of frames to upscale.
        folder: folder of the output.
        preset: preset of the encoder.
        seconds: time for turns after the first.

    Returns:
        The times, some finished images, and the peaks of memory of the first turn, before those images were kept.
    """
    options = UpscaleOptions(
        max_frames=frames, preset=preset, crf=TARGET_CRF, with_audio=False, with_subtitles=False, drop_alpha=True
    )
    target, run = folder / "upscaled.mkv", RunOptions(overwrite=True, disk_check=False)
    planned = check_job(info, target, options, run)
    took, alone, total = list[float](), list[float](), list[float]()
    held: list[np.ndarray] = []
    peaks: Peaks | None = None
    count = 0
    while not took or (len(took) < MOST_TURNS and (len(took) + 1) * (total[0] + alone[0] * count) < seconds):
        began = planned_at = time.perf_counter()
        for event in upscale_video(info, target, upscaler, options, run):
            if isinstance(event, Planned):
                planned_at = time.perf_counter()
            elif isinstance(event, Progress):
                count = event.frames
        ended = time.perf_counter()
        total.append(ended - began)
        peaks = peaks or read_peaks(upscaler.backend)
        # Until the file is finished: after the last progress event, the encoder still has frames to write.
        took.append((ended - planned_at) / count)
        network = 0.0
        for window in source_windows(planned, None, upscaler):
            images = Window(tuple(run[0].image for run in window.frames), window.keep)
            start = time.perf_counter()
            made = upscaler.upscale_window(images)
            network += time.perf_counter() - start
            held += made[: max(0 if held else 1, HELD_BYTES // made[0].nbytes - len(held))]
            del made
        alone.append(network / count)
    whole, part = summarize(took).median, summarize(alone).median
    found = EndToEnd(
        frames=count,
        seconds_per_frame=whole,
        network_seconds_per_frame=part,
        ratio=whole / part,
        total_seconds=summarize(total).median,
        preset=preset,
    )
    assert peaks is not None
    return found, held, peaks


def time_bicubic(info: VideoInfo, frames: int, folder: Path, preset: str) -> float:
    """Return seconds per frame of ffmpeg alone, including its start: the faster of two runs."""
    took = []
    for _ in range(2):
        began = time.perf_counter()
        scale_bicubic(
            info,
            folder / "bicubic.mkv",
            width=SCALE * info.width,
            height=SCALE * info.height,
            frames=frames,
            crf=TARGET_CRF,
            preset=preset,
        )
        took.append((time.perf_counter() - began) / frames)
    return min(took)


def time_reading(info: VideoInfo, frames: int) -> dict[str, float]:
    """Return seconds per frame of decoding and of conversion to RGB: medians of `REPEATS` runs."""
    decode, convert = [], []
    for _ in range(REPEATS):
        began = time.perf_counter()
        pictures = decode_pictures(info, frames)
        decoded = time.perf_counter()
        reader = RgbReader(info.color, path=info.path, drop_alpha=True)
        for picture in pictures:
            reader.to_rgb(picture)
        decode.append((decoded - began) / len(pictures))
        convert.append((time.perf_counter() - decoded) / len(pictures))
    return {"decode": summarize(decode).median, "convert_in": summarize(convert).median}


def time_writing(images: Sequence[np.ndarray], info: VideoInfo, folder: Path, preset: str) -> dict[str, float]:
    """Return seconds per frame of conversion from RGB and of encoding without it, for finished images (4H, 4W, 3).

    Both are medians of `REPEATS` runs.
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
        shape = OutputShape(width=width, height=height, rate=rate, time_base=1 / rate)
        settings = EncoderSettings(codec=codec.name, color=info.color, preset=preset)
        with FrameWriter(folder / "encoded.mp4", shape, settings) as writer:
            for index, image in enumerate(images):
                writer.write(Frame(image, Fraction(index) / rate, 1 / rate))
        convert.append((converted - began) / len(images))
        encode.append(max(0.0, (time.perf_counter() - converted) / len(images) - convert[-1]))
    return {"convert_out": summarize(convert).median, "encode": summarize(encode).median}
