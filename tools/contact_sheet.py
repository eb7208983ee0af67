"""Show the effect of each training degradation on a clip or a still, at three strengths, enlarged.

    python tools/contact_sheet.py CLIP_OR_STILL SHEET.jpg --crop 72x40+104+62 --start 12 --seed 5

A still moves one pixel to the right per frame. `--reduce 4` reduces the frames first, as training does. The whole frame
is degraded. The sheet shows the crop of the sixth frame, because an encoder's first frames are better than later ones.
"""

from __future__ import annotations

import argparse
import re
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ristn_cli.degradation import crop_to_multiple  # noqa: E402
from ristn_cli.training.degradations import DEGRADATIONS  # noqa: E402
from ristn_cli.training.material import CLIP_SUFFIXES, to_8_bits  # noqa: E402
from ristn_cli.video import Image, draw_label, encode_jpeg, read_frames, read_image, resize_image, write_image  # noqa: E402

STRENGTHS = (1 / 3, 2 / 3, 1.0)
FRAMES, SHOWN = 10, 5
ENLARGEMENT, GAP, LABEL = 4, 4, 15
SHEET_QUALITY = 70
"""Quality of JPEG sheets. Noise makes large files."""


def read_window(path: Path, start: int, reduce: int) -> Tensor:
    """Read frames (FRAMES, 3, H, W) in [0, 1] of a clip from frame `start`, or of a moving still."""
    if path.suffix.lower() in CLIP_SUFFIXES:
        frames = [to_8_bits(frame.image) for frame in islice(read_frames(path), start, start + FRAMES)]
        if len(frames) < FRAMES:
            raise SystemExit(f"{path}: {len(frames)} frames from frame {start} on; expected {FRAMES}")
    else:
        still = to_8_bits(read_image(path))
        width = still.shape[2] - reduce * FRAMES
        if width < 1:
            raise SystemExit(f"{path}: {still.shape[2]} pixels wide; expected more than {reduce * FRAMES}")
        frames = [still[:, :, reduce * t : reduce * t + width] for t in range(FRAMES)]
    window = crop_to_multiple(torch.stack(frames).float().div(255), reduce)
    if reduce == 1:
        return window
    size = window.shape[2] // reduce, window.shape[3] // reduce
    return torch.nn.functional.interpolate(window, size=size, mode="bicubic", antialias=True).clamp(0, 1)


def parse_crop(text: str) -> tuple[int, int, int, int]:
    """Return width, height, left and top from `WxH+X+Y`."""
    match = re.fullmatch(r"(\d+)x(\d+)\+(\d+)\+(\d+)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r}: expected WIDTHxHEIGHT+LEFT+TOP, such as 72x40+100+60")
    width, height, left, top = (int(number) for number in match.groups())
    return width, height, left, top


def enlarge(window: Tensor, crop: tuple[int, int, int, int]) -> Image:
    """Return the crop of the shown frame, enlarged by pixel repetition: (H, W, 3) uint8."""
    width, height, left, top = crop
    frame = window[SHOWN, :, top : top + height, left : left + width]
    image = frame.mul(255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return resize_image(image, ENLARGEMENT * image.shape[1], ENLARGEMENT * image.shape[0], "nearest")


def make_sheet(window: Tensor, crop: tuple[int, int, int, int], seed: int) -> Image:
    """Draw a row for each degradation: the clean crop, and the crop at three strengths."""
    clean = enlarge(window, crop)
    height, width = clean.shape[:2]
    columns = 1 + len(STRENGTHS)
    sheet = np.full((len(DEGRADATIONS) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, dtype=np.uint8)
    for row, (name, degrade) in enumerate(DEGRADATIONS.items()):
        cells = [("clean", clean)]
        cells += [(f"{name} {strength:.2f}", enlarge(degrade(window, strength, seed), crop)) for strength in STRENGTHS]
        for column, (label, image) in enumerate(cells):
            top, left = row * (height + GAP), column * (width + GAP)
            sheet[top : top + height, left : left + width] = image
            draw_label(sheet, label, x=left, y=top, width=width, size=LABEL)
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("input", type=Path, help="clip or image")
    parser.add_argument("output", type=Path, help="sheet to write, .jpg or .png")
    parser.add_argument("--crop", type=parse_crop, metavar="WxH+X+Y", help="part that is shown; default the middle")
    parser.add_argument("--start", type=int, default=0, metavar="FRAME", help="first frame of a clip; default 0")
    parser.add_argument("--reduce", type=int, default=1, metavar="N", help="reduce the input N times first; default 1")
    parser.add_argument("--seed", type=int, default=0, help="of every degradation; default 0")
    options = parser.parse_args()
    window = read_window(options.input, options.start, options.reduce)
    height, width = window.shape[2:]
    crop = options.crop or (min(72, width), min(40, height), max(0, width - 72) // 2, max(0, height - 40) // 2)
    if crop[0] + crop[2] > width or crop[1] + crop[3] > height:
        raise SystemExit(f"--crop {crop[0]}x{crop[1]}+{crop[2]}+{crop[3]} is not within the frame of {width}x{height}")
    sheet = make_sheet(window, crop, options.seed)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    if options.output.suffix.lower() in (".jpg", ".jpeg"):
        options.output.write_bytes(encode_jpeg(sheet, SHEET_QUALITY))
    else:
        write_image(options.output, sheet)
    print(f"{options.output}: {sheet.shape[1]}x{sheet.shape[0]}, {options.output.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
