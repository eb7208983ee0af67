"""Measure how much of a source's grain a result has, by brightness, on a clip with grain of known strength.

    python tools/grain_power.py CLIP --model ristn-lite-real --crop 192x128+40+20

The clip is reduced and cropped, and upscaled three times: clean, with grain, and with grain and `--grain match`. The
power of grain is the variance of the difference from the clean result, in flat places, for four equal shares of them
from dark to bright. The table shows it as a ratio to that of the source.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from contact_sheet import parse_crop  # noqa: E402

from ristn_cli import UpscaleOptions, Upscaler, choose_backend, find_weights, load_weights, upscale_video  # noqa: E402
from ristn_cli.model import SCALE  # noqa: E402
from ristn_cli.video import Grain, GrainMaker, Image, read_frames, resize_image, write_image  # noqa: E402
from ristn_cli.video.grain import LEVELS, REACH  # noqa: E402

SIZES = {"fine": (1.0,), "medium": (0.84, 0.38, 0.03), "coarse": (0.72, 0.44, 0.18, 0.02)}
"""Taps of the filters that give grain its size: single pixels, and about two and three pixels wide."""
COLOR_SHARE = 0.3
FLAT = 4.0
"""Largest difference between neighbours in flat places, in 8-bit levels."""
BORDER = 4
"""LR pixels at the borders that are not measured."""
STEPS = 4

Floats = NDArray[np.float64]


def make_grain(deviation: float, size: str) -> Grain:
    """Return grain that is half as strong again in the middle tones as in black and white, and weak in colour."""
    taps = np.zeros(REACH + 1)
    taps[: len(SIZES[size])] = SIZES[size]
    taps /= np.sqrt(taps[0] ** 2 + 2 * np.square(taps[1:]).sum())
    levels = (np.arange(LEVELS) + 0.5) / LEVELS
    luma = deviation / 255 * (1 + 0.5 * np.sin(np.pi * levels))
    strength = tuple(tuple(share * luma) for share in (1, COLOR_SHARE, COLOR_SHARE))
    return Grain(strength=strength, across=(tuple(taps),) * 3, down=(tuple(taps),) * 3)


def read_clean(clip: Path, frames: int, reduce: int, crop: tuple[int, int, int, int]) -> list[Image]:
    """Read the first frames of a clip, reduced and cropped."""
    width, height, left, top = crop
    return [
        resize_image(frame.image, frame.image.shape[1] // reduce, frame.image.shape[0] // reduce, "bicubic")[
            top : top + height, left : left + width
        ]
        for frame in islice(read_frames(clip), frames)
    ]


def upscale(images: list[Image], folder: Path, upscaler: Upscaler, grain: float) -> Floats:
    """Return the results (T, 4H, 4W), mean of RGB, of an ordinary job on numbered images."""
    for name in ("lr", "sr"):
        (folder / name).mkdir(parents=True)
    for number, image in enumerate(images):
        write_image(folder / "lr" / f"{number:04}.png", image)
    for _ in upscale_video(folder / "lr", folder / "sr" / "%04d.png", upscaler, UpscaleOptions(grain=grain)):
        pass
    return gray([frame.image for frame in read_frames(folder / "sr")])


def gray(images: list[Image]) -> Floats:
    return np.stack(images).mean(axis=-1, dtype=np.float64)


def powers(difference: Floats, clean: Floats, scale: int) -> Floats:
    """Return the variance of a difference (T, scale*H, scale*W) in the flat places of clean frames (T, H, W)."""
    flat = np.zeros(clean.shape, dtype=bool)
    flat[:, BORDER:-BORDER, BORDER:-BORDER] = True
    for axis in (1, 2):
        is_smooth = np.abs(np.diff(clean, axis=axis)) < FLAT
        for lost in (0, clean.shape[axis] - 1):  # both neighbours of a place
            flat &= np.insert(is_smooth, lost, False, axis=axis)
    if not flat.any():
        raise SystemExit("the crop has no flat places to measure grain in; choose another --crop")
    limits = np.quantile(clean[flat], np.linspace(0, 1, STEPS + 1))
    places = [flat & (clean >= low) & (clean <= high) for low, high in pairwise(limits)]
    return np.array([difference[place.repeat(scale, 1).repeat(scale, 2)].var() for place in places])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clip", type=Path)
    parser.add_argument("--model", default="ristn-lite-real", help="released weights, or a .safetensors file")
    parser.add_argument("--deviation", type=float, default=4.0, help="strength in black and white, in 8-bit levels")
    parser.add_argument("--size", choices=SIZES, default="medium")
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--reduce", type=int, default=2, help="factor by which the clip is reduced first")
    parser.add_argument("--crop", type=parse_crop, default=parse_crop("192x128+0+0"), help="WxH+X+Y, after that")
    options = parser.parse_args()
    upscaler = Upscaler(load_weights(find_weights(options.model)), choose_backend())
    clean = read_clean(options.clip, options.frames, options.reduce, options.crop)
    maker = GrainMaker(make_grain(options.deviation, options.size), 1)
    grainy = [maker.apply(image, 1000 + number) for number, image in enumerate(clean)]
    given = powers(gray(grainy) - gray(clean), gray(clean), 1)
    print(f"source: {' '.join(f'{power**0.5:.2f}' for power in given)} levels, from dark to bright")
    with tempfile.TemporaryDirectory() as folder:
        smooth = upscale(clean, Path(folder, "clean"), upscaler, 0)
        for name, share in (("without --grain", 0.0), ("--grain match", 1.0)):
            made = upscale(grainy, Path(folder, name), upscaler, share)
            found = powers(made - smooth, gray(clean), SCALE) / given
            print(f"{name}: {' '.join(f'{ratio:.2f}' for ratio in found)} of its power")


if __name__ == "__main__":
    main()
