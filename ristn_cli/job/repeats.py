"""Joins consecutive identical frames, such as animation on twos, so that each is computed once."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from ristn_cli.video import Frame

LONGEST_RUN = 32
"""Most frames per run, so that a still image does not extend a window or a part without limit."""

Run = tuple[Frame, ...]
"""Consecutive frames that share one image. Each has its own time."""


def join_repeats(frames: Iterable[Frame]) -> Iterator[Run]:
    """Join consecutive frames with equal images to runs. Every frame is in exactly one run.

    A run does not depend on earlier frames: a stream that resumes at the first frame of a run gives the same runs.
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
