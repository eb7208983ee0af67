"""The places with the least gain over bicubic, found while frames are scored, as a picture.

Memory is bounded: it keeps the worst frame of every place of the current clip, and a few places of each earlier clip.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ristn_cli.evaluation.methods import interpolate_bicubic
from ristn_cli.evaluation.metrics import psnr, rgb_to_y
from ristn_cli.evaluation.scoring import CROP_BORDER, ScoredFrame, limited
from ristn_cli.video import draw_label

PLACE = 160
"""Side of a place in HR pixels, equal to 40 LR pixels; less in smaller frames."""

INVISIBLE = 40.0
"""PSNR-Y in dB from which an error is invisible and does not count as a failure."""

MOST = 12
"""Largest number of places in the picture."""

ZOOM = 2
MARGIN = 8
LABEL_SIZE = 18
LABEL_ROW = 30
GROUND = 255


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A place with a small or negative gain: a rectangle in HR pixels of frame `frame` (from 0), and PSNR-Y in dB."""

    clip: str
    frame: int
    x: int
    y: int
    width: int
    height: int
    psnr_y: float
    bicubic_psnr_y: float

    @property
    def badness(self) -> tuple[float, float]:
        """Sort key, worst first: least gain over bicubic, then largest error."""
        return self.psnr_y - self.bicubic_psnr_y, self.psnr_y

    def is_apart(self, other: "Failure") -> bool:
        """Return whether two places are in different clips, or neither overlap nor touch."""
        across = abs(self.x - other.x) > max(self.width, other.width)
        return self.clip != other.clip or across or abs(self.y - other.y) > max(self.height, other.height)


@dataclass(frozen=True)
class Shown:
    """A failure and its pictures, (H, W, 3) uint8: bicubic, network, original."""

    failure: Failure
    pictures: tuple[np.ndarray, np.ndarray, np.ndarray]


class Failures:
    """Collects the worst frame of every place from scored frames of a network."""

    def __init__(self) -> None:
        self.worst: dict[tuple[str, int, int], Shown] = {}

    def add(self, clip: str, frame: ScoredFrame) -> None:
        """Compare every place of a frame with the worst so far."""
        bicubic = interpolate_bicubic(frame.lr)
        luma = [rgb_to_y(image) for image in (frame.sr, bicubic, frame.hr)]
        for place in places(*frame.hr.shape[:2]):
            ours, theirs, truth = (plane[place] for plane in luma)
            rows, columns = place
            found = Failure(
                clip=clip,
                frame=frame.index,
                x=columns.start,
                y=rows.start,
                width=columns.stop - columns.start,
                height=rows.stop - rows.start,
                psnr_y=limited(psnr(ours, truth)),
                bicubic_psnr_y=limited(psnr(theirs, truth)),
            )
            if found.psnr_y >= INVISIBLE:
                continue
            key = (clip, found.x, found.y)
            if key not in self.worst or found.badness < self.worst[key].failure.badness:
                self.worst[key] = Shown(found, (bicubic[place].copy(), frame.sr[place].copy(), frame.hr[place].copy()))

    def end_clip(self, clip: str) -> None:
        """Discard the places of a finished clip that `choose` cannot return."""
        kept: dict[tuple[str, int, int], Shown] = {}
        for key, shown in sorted(self.worst.items(), key=lambda item: item[1].failure.badness):
            if key[0] == clip and (len(kept) == MOST or not is_apart_from(shown, kept.values())):
                del self.worst[key]
            elif key[0] == clip:
                kept[key] = shown

    def choose(self, count: int) -> list[Shown]:
        """Return at most `count` failures, worst first. Each clip contributes its worst before any clip contributes a
        second one.
        """
        ranked = sorted(self.worst.values(), key=lambda shown: shown.failure.badness)
        clips = {shown.failure.clip: shown for shown in reversed(ranked)}
        firsts = sorted(clips.values(), key=lambda shown: shown.failure.badness)[:count]
        chosen = list(firsts)
        for shown in ranked:
            if len(chosen) < count and is_apart_from(shown, chosen):
                chosen.append(shown)
        return sorted(chosen, key=lambda shown: shown.failure.badness)


def is_apart_from(shown: Shown, others: Iterable[Shown]) -> bool:
    return all(shown.failure.is_apart(other.failure) for other in others)


def places(height: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield the rows and columns of evenly spaced, slightly overlapping places that cover a frame within its border."""
    for rows in spread(height):
        for columns in spread(width):
            yield rows, columns


def spread(side: int) -> list[slice]:
    length = min(PLACE, side - 2 * CROP_BORDER)
    free = side - 2 * CROP_BORDER - length
    steps = math.ceil(free / length)
    starts = [CROP_BORDER + round(k * free / max(1, steps)) for k in range(steps + 1)]
    return [slice(start, start + length) for start in starts]


def draw_failures(chosen: Sequence[Shown], name: str) -> np.ndarray:
    """Draw a row per failure: bicubic, the network called `name` and the original, enlarged; (H, W, 3) uint8."""
    cell_width = ZOOM * max((shown.failure.width for shown in chosen), default=PLACE)
    heights = [ZOOM * shown.failure.height for shown in chosen]
    sheet = np.full(
        (MARGIN + sum(LABEL_ROW + height + MARGIN for height in heights), MARGIN + 3 * (cell_width + MARGIN), 3),
        GROUND,
        np.uint8,
    )
    top = MARGIN
    for shown, height in zip(chosen, heights, strict=True):
        failure = shown.failure
        labels = (
            f"{failure.clip}, frame {failure.frame}: bicubic {failure.bicubic_psnr_y:.2f} dB",
            f"{name} {failure.psnr_y:.2f} dB",
            "original",
        )
        for column, (label, image) in enumerate(zip(labels, shown.pictures, strict=True)):
            left = MARGIN + column * (cell_width + MARGIN)
            draw_label(sheet, label, x=left, y=top, width=cell_width, size=LABEL_SIZE)
            enlarged = image.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
            below = top + LABEL_ROW
            sheet[below : below + height, left : left + enlarged.shape[1]] = enlarged
        top += LABEL_ROW + height + MARGIN
    return sheet
