"""Scene cuts: where a window must not read on, because what comes next is another shot. Knows no files.

The measure is that of FFmpeg's `scdet` filter: the mean difference to the frame before, or by how much that difference
changed, whichever is less; so steady fast motion is no cut. It is computed here because `scdet` begins anew wherever
decoding does, and a resumed run must find the same cuts as an uninterrupted one.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from ristn_cli.engine.transfer import peak_of
from ristn_cli.engine.windows import Window, WindowCutter, slide_windows

Item = TypeVar("Item")

CUT_SCORE = 7.0
"""Percent of the range; `scdet` takes 10. A cut too many costs a frame its neighbours, one too few makes a ghost."""

FLASH_SCORE = 40.0
"""Percent of the range: what differs as much from the first image of a scene is no part of it. White noise has 33."""

STEP = 4
"""Every fourth pixel of every fourth row is compared, in green, which stands for luma."""


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """Mean absolute difference of two images (H, W, 3) of one type, in percent of its range."""
    number = np.float32 if before.dtype == np.float32 else np.int32
    a, b = (image[::STEP, ::STEP, 1].astype(number) for image in (before, after))
    return 100 * float(np.abs(a - b).mean()) / peak_of(before.dtype)


class SceneDetector:
    """Tells which images begin a scene. It is fed image by image, and needs one image ahead to judge one.

    A scene's first difference is compared with the one after it, since there is none before: its first image is a scene
    of its own where what follows it is steadier, or where it is a flash. So two settled images, or the first of a
    scene, and one image ahead are all that its verdicts depend on.

    Args:
        settled: images at the start that are known to be of one scene.
    """

    def __init__(self, *, settled: int = 0) -> None:
        self._uncut = max(settled, 1)
        self._judged = 0
        self._image: np.ndarray | None = None
        self._difference = 0.0
        self._before: float | None = None

    def push(self, image: np.ndarray | None) -> bool:
        """Whether the image pushed before this one begins a scene; None ends the stream.

        The first image of a stream does not count as the beginning of one.
        """
        last, self._image = self._image, image
        if last is None:
            return False
        now, after = self._difference, None if image is None else difference(last, image)
        if self._before is not None:
            is_new = min(now, abs(now - self._before)) >= CUT_SCORE
        else:
            is_new = now >= FLASH_SCORE or (after is not None and min(now, now - after) >= CUT_SCORE)
        is_cut = is_new and self._judged >= self._uncut
        self._before = None if is_cut or self._judged == 0 else now
        self._judged += 1
        self._difference = after or 0.0
        return is_cut


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
        return slide_windows(frames, length, context, continued=continued)
    return _windows_of_scenes(frames, image_of, WindowCutter(length, context, continued=continued), continued)


def _windows_of_scenes(
    frames: Iterable[Item], image_of: Callable[[Item], np.ndarray], cutter: WindowCutter[Item], continued: int
) -> Iterator[Window[Item]]:
    detector = SceneDetector(settled=continued + 1 if continued else 0)  # the window before has read one more at least
    waiting: list[Item] = []  # the frame that is judged with the next one
    for frame in frames:
        begins_scene = detector.push(image_of(frame))
        if waiting:
            yield from cutter.push(waiting.pop(), begins_scene=begins_scene)
        waiting.append(frame)
    if waiting:
        yield from cutter.push(waiting.pop(), begins_scene=detector.push(None))
    yield from cutter.finish()
