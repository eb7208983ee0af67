"""Make pairs of crops of moving places by two upscalers, with shuffled sides, for a blind comparison.

    python tools/blind_pairs.py make ORIGINALS FIRST SECOND PAIRS --count 20 --seed 1
    python tools/blind_pairs.py score PAIRS

ORIGINALS, FIRST and SECOND are folders of clips or of folders of images with the same names. PAIRS gets a picture for
each pair: above and below, the same place in three frames by the one and by the other upscaler. `key.json` says which
is above; do not read it before you have answered. Write a line for each pair into `answers.txt`: its number and A
(above), B (below) or = (equal). `score` counts the answers.

The places have motion and detail in the original: each clip contributes equally many, which do not overlap.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ristn_cli.video import Image, draw_label, encode_jpeg, read_frames, resize_image  # noqa: E402

WIDTH, HEIGHT = 128, 96
STEP = 3
"""Frames between the shown ones."""

SHOWN, ENLARGEMENT, GAP, LABEL = 3, 3, 6, 18
QUALITY = 88


@dataclass(frozen=True)
class Place:
    """A crop of a clip: its top left corner, and the first of the shown frames."""

    clip: str
    left: int
    top: int
    frame: int


def read_clip(path: Path) -> list[Image]:
    """Read all frames of a clip or of a folder of images."""
    return [frame.image for frame in read_frames(path)]


def find_places(name: str, frames: list[Image], count: int, rng: np.random.Generator) -> list[Place]:
    """Choose places in proportion to motion times detail, without overlap."""
    luma = np.stack([frame.astype(np.float32).mean(2) for frame in frames])
    span = STEP * (SHOWN - 1)
    if len(luma) <= span:
        raise SystemExit(f"{name}: {len(luma)} frames; expected more than {span}")
    motion = np.abs(np.diff(luma, axis=0)).mean(0)
    detail = sum(np.abs(np.diff(luma[0], axis=axis, append=0)) for axis in (0, 1))
    height, width = motion.shape
    corners = [
        (top, left)
        for top in range(0, height - HEIGHT + 1, HEIGHT // 2)
        for left in range(0, width - WIDTH + 1, WIDTH // 2)
    ]
    weights = np.array([(motion * detail)[y : y + HEIGHT, x : x + WIDTH].mean() for y, x in corners])
    places: list[Place] = []
    while len(places) < count and weights.sum() > 0:
        top, left = corners[int(rng.choice(len(corners), p=weights / weights.sum()))]
        places.append(Place(name, left, top, int(rng.integers(0, len(luma) - span))))
        for number, (y, x) in enumerate(corners):
            if abs(y - top) < HEIGHT and abs(x - left) < WIDTH:
                weights[number] = 0
    return places


def cut(frames: list[Image], place: Place) -> Image:
    """Return the shown frames of a place side by side, enlarged."""
    shown = [frames[place.frame + STEP * k] for k in range(SHOWN)]
    crops = [image[place.top : place.top + HEIGHT, place.left : place.left + WIDTH] for image in shown]
    return np.concatenate(
        [resize_image(crop, ENLARGEMENT * WIDTH, ENLARGEMENT * HEIGHT, "bicubic") for crop in crops], axis=1
    )


def draw_pair(above: Image, below: Image) -> Image:
    """Draw one strip above the other, with the labels A and B."""
    height, width = above.shape[:2]
    picture = np.full((2 * height + GAP, width, 3), 255, dtype=np.uint8)
    for label, strip, top in (("A", above, 0), ("B", below, height + GAP)):
        picture[top : top + height] = strip
        draw_label(picture, label, x=0, y=top, width=width, size=LABEL)
    return picture


def find_clip(folder: Path, name: str) -> Path:
    """Return the clip of this name, with any suffix."""
    found = [path for path in sorted(folder.iterdir()) if (path.name if path.is_dir() else path.stem) == name]
    if not found:
        raise SystemExit(f"{folder}: contains no {name}")
    return found[0]


def make(options: argparse.Namespace) -> None:
    """Write the pairs and the key."""
    rng = np.random.default_rng(options.seed)
    clips = sorted(options.originals.iterdir())
    names = [path.name if path.is_dir() else path.stem for path in clips]
    each = -(-options.count // len(clips))
    places = [
        place
        for path, name in zip(clips, names, strict=True)
        for place in find_places(name, read_clip(path)[: options.frames], each, rng)
    ]
    chosen = [places[k] for k in rng.permutation(len(places))[: options.count]]
    if len(chosen) < options.count:
        raise SystemExit(f"{options.originals}: only {len(chosen)} moving places; expected {options.count}")
    options.pairs.mkdir(parents=True)
    key: dict[str, dict[str, object]] = {}
    sides = rng.permutation(np.arange(options.count) % 2)  # each upscaler is above as often as below
    for number, (place, side) in enumerate(zip(chosen, sides.tolist(), strict=True), start=1):
        strips = [cut(read_clip(find_clip(folder, place.clip)), place) for folder in (options.first, options.second)]
        if side:
            strips.reverse()
        (options.pairs / f"{number:02}.jpg").write_bytes(encode_jpeg(draw_pair(*strips), QUALITY))
        key[f"{number:02}"] = {**asdict(place), "A": "second" if side else "first"}
    (options.pairs / "key.json").write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")


def score(folder: Path) -> dict[str, int]:
    """Count how often each upscaler was preferred."""
    key = json.loads((folder / "key.json").read_text(encoding="utf-8"))
    lines = (folder / "answers.txt").read_text(encoding="utf-8").split("\n")
    answers = dict(line.split()[:2] for line in lines if line.strip())
    if wrong := sorted(key.keys() ^ answers.keys()):
        raise SystemExit(f"{folder}: expected one answer for each pair; wrong: {', '.join(wrong)}")
    counts = {"first": 0, "second": 0, "equal": 0}
    for number, answer in answers.items():
        if answer not in ("A", "B", "="):
            raise SystemExit(f"{folder}: answer {answer!r} to pair {number}; expected A, B or =")
        above = key[number]["A"]
        below = "first" if above == "second" else "second"
        counts[{"A": above, "B": below, "=": "equal"}[answer]] += 1
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make", help="make pairs")
    for name in ("originals", "first", "second", "pairs"):
        maker.add_argument(name, type=Path)
    maker.add_argument("--count", type=int, default=20)
    maker.add_argument("--seed", type=int, default=1)
    maker.add_argument("--frames", type=int, default=None, help="first frames of each clip to use; default: all")
    commands.add_parser("score", help="count answers").add_argument("pairs", type=Path)
    options = parser.parse_args()
    if options.command == "make":
        make(options)
    else:
        counts = score(options.pairs)
        print(", ".join(f"{name} {count}" for name, count in counts.items()))


if __name__ == "__main__":
    main()
