"""Training material: photographs, clips and rendered pages, decoded once and cached in memory.

`ristn_cli.video` is imported only when a file is read, so that machines without PyAV can train on images.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ristn_cli.own_files import import_apart

PAGES = 256
"""Number of different rendered pages."""

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
CLIP_SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v"}

Key = TypeVar("Key", bound=Hashable)


class MaterialError(Exception):
    """A photograph or clip cannot be read."""


def list_files(folder: Path, suffixes: set[str]) -> list[Path]:
    """Return the files below `folder` with one of the suffixes, sorted."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)


def list_clips(folder: Path) -> list[Path]:
    """Return the clips below `folder`, sorted: videos, and folders of frames whose names end like videos."""
    return list_files(folder, CLIP_SUFFIXES)


def to_8_bits(image: Any) -> Tensor:
    """Convert (H, W, 3) uint8, or uint16 with full scale, to (3, H, W) uint8."""
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return torch.from_numpy(image).permute(2, 0, 1)


def read_clip(path: Path) -> Tensor:
    """Return all frames of a video or a folder of images: (N, 3, H, W) uint8.

    Raises:
        MaterialError: it cannot be read.
    """
    if path.is_dir():
        frames = [read_photo(frame) for frame in list_files(path, IMAGE_SUFFIXES)]
    else:
        from ristn_cli.video import VideoError, read_frames

        try:
            frames = [to_8_bits(frame.image) for frame in read_frames(path)]
        except VideoError as error:
            raise MaterialError(str(error)) from error
    if not frames:
        raise MaterialError(f"{path}: no frames")
    return torch.stack(frames)


def read_photo(path: Path) -> Tensor:
    """Return a photograph: (3, H, W) uint8. Uses Pillow where PyAV is not installed.

    Raises:
        MaterialError: it cannot be read.
    """
    if find_spec("av") is None:
        from PIL import Image

        try:
            return torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).contiguous()
        except OSError as error:
            raise MaterialError(f"{path}: {error}") from error
    from ristn_cli.video import VideoError, read_image

    try:
        return to_8_bits(read_image(path)).contiguous()
    except VideoError as error:
        raise MaterialError(str(error)) from error


def read_source(source: Path | int) -> Tensor:
    """Return a clip (N, 3, H, W) or photograph (3, H, W) by path, or a rendered page by number; uint8."""
    if isinstance(source, int):
        return render_page(source)
    return read_clip(source) if source.suffix.lower() in CLIP_SUFFIXES else read_photo(source)


class FrameCache:
    """Least-recently-used cache of decoded files and rendered pages, with a memory budget.

    The latest entry is kept even if it alone exceeds the budget.
    """

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.cached_bytes = 0
        self._cached: OrderedDict[Hashable, Tensor] = OrderedDict()

    def get(self, key: Key, read: Callable[[Key], Tensor]) -> Tensor:
        """Return the cached frames of `key`, or call `read` and cache its result."""
        if key in self._cached:
            self._cached.move_to_end(key)
            return self._cached[key]
        frames = read(key)
        self._cached[key] = frames
        self.cached_bytes += frames.nbytes
        while self.cached_bytes > self.budget_bytes and len(self._cached) > 1:
            _, evicted = self._cached.popitem(last=False)
            self.cached_bytes -= evicted.nbytes
        return frames


@lru_cache(maxsize=1)
def font_files() -> list[str]:
    """Return the outline fonts that are part of matplotlib, which every training machine has."""
    import_apart("matplotlib")
    import matplotlib

    return sorted(str(path) for path in (Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("DejaVu*.ttf"))


def render_page(number: int, width: int = 720, height: int = 540) -> Tensor:
    """Render page `number` with random words, numbers, lines, grids and shapes in random colours: (3, height, width)
    uint8.
    """
    from PIL import Image, ImageDraw, ImageFont

    rng = np.random.default_rng(number)

    def colour() -> tuple[int, int, int]:
        if rng.random() < 0.5:
            grey = int(rng.choice([rng.integers(0, 60), rng.integers(190, 256)]))
            return grey, grey, grey
        red, green, blue = (int(value) for value in rng.integers(0, 256, 3))
        return red, green, blue

    page = Image.new("RGB", (width, height), colour())
    draw = ImageDraw.Draw(page)
    alphabet = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789&.,:;!?%()/-")
    for _ in range(int(rng.integers(10, 24))):
        x, y = int(rng.integers(-40, width)), int(rng.integers(-20, height))
        ink = colour()
        kind = rng.random()
        if kind < 0.65:
            font = ImageFont.truetype(str(rng.choice(font_files())), int(rng.integers(9, 64)))
            lines = ["".join(rng.choice(alphabet, int(rng.integers(2, 24)))) for _ in range(int(rng.integers(1, 7)))]
            draw.multiline_text((x, y), "\n".join(lines), fill=ink, font=font)
        elif kind < 0.75:
            pitch, lines_across = int(rng.integers(4, 24)), int(rng.integers(4, 20))
            thickness = int(rng.integers(1, 4))
            for line in range(lines_across):
                draw.line((x + line * pitch, y, x + line * pitch, y + lines_across * pitch), fill=ink, width=thickness)
                draw.line((x, y + line * pitch, x + lines_across * pitch, y + line * pitch), fill=ink, width=thickness)
        elif kind < 0.9:
            x1, y1 = (int(value) for value in rng.integers(0, (width, height)))
            draw.line((x, y, x1, y1), fill=ink, width=int(rng.integers(1, 8)))
        else:
            size = int(rng.integers(8, 120))
            draw.ellipse((x, y, x + size, y + size), outline=ink, width=int(rng.integers(1, 6)))
    return torch.from_numpy(np.asarray(page).copy()).permute(2, 0, 1).contiguous()


def detail(frame: Tensor, place: np.ndarray, size: int) -> float:
    """Return the mean absolute difference of green over three pixels, in 8-bit levels, in a square of a (3, H, W) uint8
    frame.
    """
    top, left = ((np.array(frame.shape[1:]) - size).clip(0) * place).astype(int)
    green = frame[1, top : top + size, left : left + size].to(torch.int16)
    return float((green[3:] - green[:-3]).abs().float().mean() + (green[:, 3:] - green[:, :-3]).abs().float().mean())
