"""Pack everything that a training run needs into one folder, small enough to send to a machine with a GPU.

    python tools/gpu_pack.py lite-next --data DATA --run RUN --output PACK

The pack contains the recipe, photographs, drawings and clips as WebP images, lossless validation windows, and the run's
checkpoint and log. `tools/gpu_train.py PACK` trains from it and only needs PyTorch and Pillow.
"""

import argparse
import io
import shutil
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ristn_cli.training.material import IMAGE_SUFFIXES, list_clips, list_files, read_clip, read_photo
from ristn_cli.training.recipe import Recipe
from ristn_cli.training.recipe_file import load_recipe
from ristn_cli.training.validation import load_validation

SCALES = (1.0, 0.75, 0.6)
QUALITIES = (90, 85, 80, 75, 70, 65, 60)
"""Scales of stills and WebP qualities. The first pair that fits is used. Training reduces stills, which hides the loss.
"""

SAMPLED = 12
"""Every n-th image is encoded to choose the quality."""

USED_SHARE = 0.95
"""Share of the available size to use, because the sample is only an estimate."""

LONGEST_CLIP = 24
"""Largest number of frames per clip, from its middle."""


def encode(image: Tensor, quality: int | None) -> bytes:
    """Encode (3, H, W) uint8 as WebP; None for lossless."""
    buffer = io.BytesIO()
    settings = {"lossless": True} if quality is None else {"quality": quality}
    Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy())).save(buffer, "webp", method=4, **settings)
    return buffer.getvalue()


def shrink(image: Tensor, scale: float) -> Tensor:
    """Scale (3, H, W) uint8."""
    if scale == 1:
        return image
    size = [round(scale * side) for side in image.shape[1:]]
    smaller = F.interpolate(image[None].float(), size=size, mode="bicubic", antialias=True)
    return smaller[0].clamp(0, 255).round().byte()


def find_images(recipe: Recipe, data: Path) -> list[tuple[Path, Path]]:
    """Return the stills of a recipe with their paths in the pack, in an order that does not depend on suffixes."""
    pairs = []
    for name in filter(None, (recipe.data.photos, recipe.data.drawings)):
        files = list_files(data / name, IMAGE_SUFFIXES)
        packed = [path.relative_to(data).with_suffix(".webp") for path in files]
        if packed != sorted(set(packed)):
            sys.exit(f"{data / name}: two files differ in their suffix alone; rename one of them")
        pairs += list(zip(files, packed, strict=True))
    return pairs


def read_images(recipe: Recipe, data: Path) -> Iterator[tuple[Path, Tensor, bool]]:
    """Yield the path of every lossy image, the image, and whether it is a still or a frame of a clip.

    Clips become folders with the frames of their middle.
    """
    for path, place in find_images(recipe, data):
        yield place, read_photo(path), True
    for path in list_clips(data / recipe.data.clips) if recipe.data.clips else []:
        frames = read_clip(path)
        first = max(0, (len(frames) - LONGEST_CLIP) // 2)
        for number, frame in enumerate(frames[first : first + LONGEST_CLIP]):
            yield path.relative_to(data) / f"{number:04d}.webp", frame, False


def pack_validation(recipe: Recipe, data: Path, output: Path) -> None:
    """Write the windows of validation clips as folders of frames, and the validation photographs, all lossless."""
    photos = recipe.data.validation_photos
    for path in list_files(data / photos, IMAGE_SUFFIXES) if photos else []:
        write(output / path.relative_to(data).with_suffix(".webp"), encode(read_photo(path), None))
    clips = {path.stem: path for path in (list_clips(data / recipe.data.validation) if recipe.data.validation else [])}
    for window in load_validation(recipe, data):
        if window.kind == "clip":
            folder = output / clips[window.name].relative_to(data)
            for number, frame in enumerate(window.hr.mul(255).round().byte()):
                write(folder / f"{number:04d}.webp", encode(frame, None))


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def choose_quality(recipe: Recipe, data: Path, room: int) -> tuple[float, int]:
    """Return the best scale and quality with which all images fit into `room` bytes, estimated from a sample."""
    sample, count = [], 0
    for number, (_, image, is_still) in enumerate(read_images(recipe, data)):
        count += 1
        if number % SAMPLED == 0:
            sample.append((image, is_still))
    for scale in SCALES:
        scaled = [shrink(image, scale if is_still else 1) for image, is_still in sample]
        for quality in QUALITIES:
            estimate = sum(len(encode(image, quality)) for image in scaled) * count / max(1, len(sample))
            if estimate <= USED_SHARE * room:
                return scale, quality
    sys.exit(f"the material does not fit into {room / 1e6:.0f} MB even at quality {QUALITIES[-1]}; raise --limit-mb")


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack a training run into one folder for tools/gpu_train.py.")
    parser.add_argument("recipe", help="a .toml file, or the name of one that comes with ristn")
    parser.add_argument("--data", type=Path, required=True, help="folder that the recipe's folders are in")
    parser.add_argument("--run", type=Path, help="folder with the run's checkpoint.pt and log.jsonl, to resume")
    parser.add_argument("--output", type=Path, required=True, help="folder of the pack; it must not exist")
    parser.add_argument("--limit-mb", type=float, default=50.0, help="largest size of the pack (default: 50)")
    options = parser.parse_args()
    if options.output.exists():
        parser.error(f"{options.output} exists; name a new folder")

    recipe = load_recipe(options.recipe)
    output: Path = options.output
    data = output / "data"
    if options.recipe.endswith(".toml"):
        text = Path(options.recipe).read_text(encoding="utf-8")
    else:
        text = (resources.files("ristn_cli.training") / "recipes" / f"{options.recipe}.toml").read_text("utf-8")
    write(output / "recipe.toml", text.encode())
    for name in ("checkpoint.pt", "log.jsonl") if options.run else ():
        shutil.copy(options.run / name, output / name)
    pack_validation(recipe, options.data, data)
    scale, quality = choose_quality(recipe, options.data, int(options.limit_mb * 1e6) - folder_bytes(output))
    for place, image, is_still in read_images(recipe, options.data):
        write(data / place, encode(shrink(image, scale if is_still else 1), quality))
    size = folder_bytes(output)
    print(f"{output}: {size / 1e6:.1f} MB, images at WebP quality {quality}, stills at {scale:g} times their size")
    if size > options.limit_mb * 1e6:
        sys.exit(f"{output} is larger than {options.limit_mb:g} MB; pack it again with a smaller --limit-mb")


if __name__ == "__main__":
    main()
