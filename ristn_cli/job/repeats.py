"""Repeated frames: of consecutive frames with the very same picture, the network sees one. Knows nothing of windows.

Animation is drawn on twos and threes, and film is carried at television's rates: not every frame is new.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from ristn_cli.video import Frame

LONGEST_RUN = 32
"""Frames of one run at most, so that a still does not keep a window open for ever, nor a part."""

Run = tuple[Frame, ...]
"""Consecutive frames with one picture, which they share; each with its own time."""


def join_repeats(frames: Iterable[Frame]) -> Iterator[Run]:
    """Consecutive frames with equal pictures as one run; every frame is in exactly one.

    A run depends on nothing before it: a stream taken up at its first frame goes on with the same runs.
    """
    run: list[Frame] = []
    for frame in frames:
        if run and len(run) < LONGEST_RUN and np.array_equal(run[0].image, frame.image):
            run.append(replace(frame, image=run[0].image))
            continue
        if run:
            yield tuple(run)
        run = [frame]
    if run:
        yield tuple(run)
