"""Finds scene cuts, across which a window must not read. Does not read files.

Uses the measure of FFmpeg's `scdet` filter: the smaller of the mean difference to the previous frame and the change of
that difference, so that steady fast motion is not a cut. `scdet` itself restarts where decoding does, but a resumed run
must find the same cuts.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import numpy as np

from ristn_cli.engine.transfer import peak_of
from ristn_cli.engine.windows import Window, WindowCutter, slide_windows

Item = TypeVar("Item")

CUT_SCORE = 7.0
"""Percent of the range; `scdet` uses 10. A false cut costs a frame its neighbours, a missed cut causes ghosting."""

FLASH_SCORE = 40.0
"""Percent of the range: an image that differs more from a scene's first image is not part of it. White noise has 33."""

STEP = 4
"""Every fourth pixel of every fourth row is compared, in green instead of luma."""


def difference(before: np.ndarray, after: np.ndarray) -> float:
    """Return the mean absolute difference of two images (H, W, 3) of one data type, in percent of its range."""
    number = np.float32 if before.dtype == np.float32 else np.int32
    a, b = (image[::STEP, ::STEP, 1].astype(number) for image in (before, after))
    return 100 * float(np.abs(a - b).mean()) / peak_of(before.dtype)


class SceneDetector:
    """Detects the first images of scenes. Needs one image ahead.

    There is no difference before a scene's first one, so that is compared with the one after it: the first image is a
    scene of its own if the images after it are steadier, or if it is a flash. So results depend only on two images of
    the same scene, or on its first image, and on one image ahead.

    Args:
        settled: number of images at the start that are known to belong to one scene.
    """

    def __init__(self, *, settled: int = 0) -> None:
        self._uncut = max(settled, 1)
        self._judged = 0
        self._image: np.ndarray | None = None
        self._difference = 0.0
        self._before: float | None = None

    def push(self, image: np.ndarray | None) -> bool:
        """Add an image and return whether the previous image begins a scene; None ends the stream.

        The first image of a stream does not count.
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
    """Yield the windows of `slide_windows` for each scene separately.

    Args:
        frames: a stream of frames.
        image_of: returns the image of a frame.
        length: frames per window.
        context: frames at inner ends of a window that are not kept.
        detect_cuts: false to treat the stream as one scene.
        continued: number of frames at the start that earlier windows kept, and that the first window reads again.
    """
    if not detect_cuts:
        return slide_windows(frames, length, context, continued=continued)
    return _windows_of_scenes(frames, image_of, WindowCutter(length, context, continued=continued), continued)


def _windows_of_scenes(
    frames: Iterable[Item], image_of: Callable[[Item], np.ndarray], cutter: WindowCutter[Item], continued: int
) -> Iterator[Window[Item]]:
    detector = SceneDetector(
        settled=continued + 1 if continued else 0
    )  # the previous window has read at least one more
    waiting: list[Item] = []  # the frame whose result needs the next one
    for frame in frames:
        begins_scene = detector.push(image_of(frame))
        if waiting:
            yield from cutter.push(waiting.pop(), begins_scene=begins_scene)
        waiting.append(frame)
    if waiting:
        yield from cutter.push(waiting.pop(), begins_scene=detector.push(None))
    yield from cutter.finish()
