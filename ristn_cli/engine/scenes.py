"""Scene cuts: where a window must not read on, because what comes next is another shot. Knows no files.

The measure is that of FFmpeg's `scdet` filter: the mean difference to the frame before, or by how much that difference
changed, whichever is less; so steady fast motion is no cut. It is computed here because `scdet` begins anew wherever
decoding does, and a resumed run must find the same cuts as an uninterrupted one.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import TypeVar

import numpy as np

from ristn_cli.engine.windows import Window, slide_windows

Item = TypeVar("Item")

CUT_SCORE = 7.0
"""Percent of the range; `scdet` takes 10. A cut too many costs a frame its neighbours, one too few makes a ghost."""

FLASH_SCORE = 40.0
"""Percent of the range: what differs as much from the first image of a scene is no part of it. White noise has 33."""

STEP = 4
"""Every fourth pixel of every fourth row is compared, in green, which stands for luma."""


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """Mean absolute difference of two images (H, W, 3) of one integer type, in percent of its range."""
    a, b = (image[::STEP, ::STEP, 1].astype(np.int32) for image in (before, after))
    return 100 * float(np.abs(a - b).mean()) / float(np.iinfo(before.dtype).max)


def number_scenes(images: Iterable[np.ndarray], *, settled: int = 0) -> Iterator[int]:
    """Number of the scene of each image, from 0; the first `settled` images are known to be of one scene.

    A scene's first difference is compared with the one after it, since there is none before: its first image is a scene
    of its own where what follows it is steadier, or where it is a flash. So two settled images, or the first of a
    scene, and one image ahead are all that the numbering depends on.
    """
    scene = 0
    before: float | None = None
    for index, (now, after) in enumerate(_with_next(_differences(images))):
        if before is not None:
            is_new = min(now, abs(now - before)) >= CUT_SCORE
        else:
            is_new = now >= FLASH_SCORE or (after is not None and min(now, now - after) >= CUT_SCORE)
        is_cut = is_new and index >= max(settled, 1)
        scene += is_cut
        before = None if is_cut or index == 0 else now
        yield scene


def _differences(images: Iterable[np.ndarray]) -> Iterator[float]:
    """Of each image to the one before; 0 for the first."""
    before: np.ndarray | None = None
    for image in images:
        yield 0.0 if before is None else difference(before, image)
        before = image


def _with_next(values: Iterable[float]) -> Iterator[tuple[float, float | None]]:
    """Each value beside the one after it."""
    before: float | None = None
    for value in values:
        if before is not None:
            yield before, value
        before = value
    if before is not None:
        yield before, None


def scene_windows(
    frames: Iterable[Item],
    image_of: Callable[[Item], np.ndarray],
    length: int,
    context: int,
    *,
    detect_cuts: bool = True,
    continued: int = 0,
) -> Iterator[Window[Item]]:
    """`slide_windows` over each scene by itself.

    Args:
        frames: a stream.
        image_of: the image of a frame.
        length: frames of a window.
        context: frames at its inner ends that are read only.
        detect_cuts: false takes the whole stream for one scene.
        continued: frames at the start of the stream that earlier windows kept, and the first is to read again.
    """
    if not detect_cuts:
        yield from slide_windows(frames, length, context, continued=continued)
        return
    settled = continued + 1 if continued else 0  # the window before has read one more at least, and gone on
    pairs = _with_scene(frames, image_of, settled)
    for scene, members in groupby(pairs, key=lambda pair: pair[0]):
        kept = continued if scene == 0 else 0
        yield from slide_windows((frame for _, frame in members), length, context, continued=kept)


def _with_scene(
    frames: Iterable[Item], image_of: Callable[[Item], np.ndarray], settled: int
) -> Iterator[tuple[int, Item]]:
    """Each frame behind the number of its scene."""
    passing: deque[Item] = deque()

    def images() -> Iterator[np.ndarray]:
        for frame in frames:
            passing.append(frame)
            yield image_of(frame)

    for scene in number_scenes(images(), settled=settled):
        yield scene, passing.popleft()
