"""Pictures for a report, made while frames are scored: crops, error maps, temporal profiles. Memory is bounded."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from ristn_cli.degradation import SCALE
from ristn_cli.evaluation.dataset import Clip
from ristn_cli.evaluation.methods import interpolate_bicubic
from ristn_cli.evaluation.metrics import rgb_to_y, temporal_profile
from ristn_cli.evaluation.scoring import Protocol, ScoredFrame, read_pairs

CROP = (96, 128)
"""Height and width of a crop in HR pixels."""

PROFILE_WIDTH = 256
LONGEST_PROFILE = 160
"""Largest width in HR pixels, and largest number of frames, of a temporal profile."""

OVERVIEW_WIDTH = 704
ERROR_WIDTH = 360
"""Largest width in pixels of whole frames and error maps; wider ones are averaged down."""

HIGHEST_ERROR = 48
"""Error in 8-bit levels of Y that has the brightest colour."""

MOST_CLIPS = 8
"""Number of clips with pictures. Tables and charts contain all clips."""

HEAT = np.array([(8, 8, 24), (70, 20, 120), (190, 40, 100), (245, 130, 40), (255, 240, 170)])
"""Evenly spaced colours of errors, from none to the highest."""


@dataclass(frozen=True)
class Place:
    """The frame and the crop that a clip is shown by; the top left corner in HR pixels."""

    frame: int
    top: int
    left: int
    height: int
    width: int

    @property
    def row(self) -> int:
        """Row of the temporal profile, through the middle of the crop."""
        return self.top + self.height // 2


@dataclass
class ClipPictures:
    """Pictures of a clip. The keys of each dictionary are names of methods."""

    place: Place
    overview: np.ndarray
    truth: np.ndarray
    lr: np.ndarray
    columns: slice
    crops: dict[str, np.ndarray] = field(default_factory=dict)
    errors: dict[str, np.ndarray] = field(default_factory=dict)
    psnr: dict[str, float] = field(default_factory=dict)
    lines: dict[str, list[np.ndarray]] = field(default_factory=dict)
    truth_lines: list[np.ndarray] = field(default_factory=list)

    def profile(self, method: str | None) -> np.ndarray:
        """Return the temporal profile of a method, or of the original for None: (frames, columns, 3)."""
        return np.stack(self.truth_lines if method is None else self.lines[method])


class Gallery:
    """Collects pictures of the middle frame of the first clips, where bicubic has the largest error."""

    def __init__(self, clips: Sequence[Clip], methods: Sequence[str], protocol: Protocol) -> None:
        self.methods = tuple(methods)
        self.protocol = protocol
        self.clips = {clip.name: clip for clip in clips[:MOST_CLIPS]}
        self.pictures: dict[str, ClipPictures] = {}

    def add(self, clip: str, method: str, frame: ScoredFrame) -> None:
        """Keep the pictures of a scored frame that the report needs."""
        if clip not in self.clips:
            return
        if clip not in self.pictures:
            self.pictures[clip] = self._look(self.clips[clip])
        kept = self.pictures[clip]
        lines = kept.lines.setdefault(method, [])
        if len(lines) < LONGEST_PROFILE:
            lines.append(temporal_profile([frame.sr], row=kept.place.row)[0, kept.columns].copy())
            if method == self.methods[0]:
                kept.truth_lines.append(temporal_profile([frame.hr], row=kept.place.row)[0, kept.columns].copy())
        if frame.index == kept.place.frame:
            kept.crops[method] = cut(frame.sr, kept.place)
            kept.errors[method] = shrink_to(show_error(frame.sr, frame.hr), ERROR_WIDTH)
            kept.psnr[method] = frame.scores.psnr_y

    def _look(self, clip: Clip) -> ClipPictures:
        """Read the middle one of the scored frames to choose the place in it."""
        skip = self.protocol.skip
        middle = skip + (clip.frames - 2 * skip) // 2
        hr, lr = next(islice(read_pairs(clip, self.protocol), middle, None))
        place = find_place(middle, hr, lr)
        left = max(0, min(place.left + place.width // 2 - PROFILE_WIDTH // 2, hr.shape[1] - PROFILE_WIDTH))
        small = Place(0, place.top // SCALE, place.left // SCALE, place.height // SCALE, place.width // SCALE)
        return ClipPictures(
            place=place,
            overview=shrink_to(frame_crop(hr, place), OVERVIEW_WIDTH),
            truth=cut(hr, place),
            lr=cut(lr, small).repeat(SCALE, axis=0).repeat(SCALE, axis=1),
            columns=slice(left, min(left + PROFILE_WIDTH, hr.shape[1])),
        )


def cut(image: np.ndarray, place: Place) -> np.ndarray:
    return image[place.top : place.top + place.height, place.left : place.left + place.width].copy()


def find_place(frame: int, hr: np.ndarray, lr: np.ndarray) -> Place:
    """Return the crop with the largest squared error of bicubic's Y, aligned to LR pixels."""
    error = np.square(rgb_to_y(interpolate_bicubic(lr)) - rgb_to_y(hr))
    height, width = (min(wanted, side) for wanted, side in zip(CROP, error.shape, strict=True))
    sums = np.zeros((error.shape[0] + 1, error.shape[1] + 1))
    sums[1:, 1:] = error.cumsum(axis=0).cumsum(axis=1)
    inside = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    candidates = inside[::SCALE, ::SCALE]
    top, left = np.unravel_index(int(np.argmax(candidates)), candidates.shape)
    return Place(frame, SCALE * int(top), SCALE * int(left), height, width)


def frame_crop(image: np.ndarray, place: Place, thickness: int = 2) -> np.ndarray:
    """Return a copy of an image with a yellow and black outline around the crop."""
    drawn = image.copy()
    for grow, colour in ((2 * thickness, (0, 0, 0)), (thickness, (255, 220, 0))):
        top, left = max(0, place.top - grow), max(0, place.left - grow)
        bottom, right = place.top + place.height + grow, place.left + place.width + grow
        drawn[top:bottom, left:right] = colour
    inside = np.s_[place.top : place.top + place.height, place.left : place.left + place.width]
    drawn[inside] = image[inside]
    return drawn


def show_error(sr: np.ndarray, hr: np.ndarray) -> np.ndarray:
    """Return the absolute error of Y in colours, from dark for 0 to brightest for `HIGHEST_ERROR` levels or more."""
    share = (np.abs(rgb_to_y(sr) - rgb_to_y(hr)) / HIGHEST_ERROR).clip(0, 1) * (len(HEAT) - 1)
    below = np.minimum(share.astype(int), len(HEAT) - 2)
    between = (share - below)[..., None]
    colours: np.ndarray = np.rint(HEAT[below] * (1 - between) + HEAT[below + 1] * between).astype(np.uint8)
    return colours


def shrink_to(image: np.ndarray, widest: int) -> np.ndarray:
    """Average an image down by the smallest integer factor that makes it at most `widest` wide."""
    factor = -(-image.shape[1] // widest)
    if factor == 1:
        return image
    height, width = (side // factor * factor for side in image.shape[:2])
    blocks = image[:height, :width].reshape(height // factor, factor, width // factor, factor, 3)
    averaged: np.ndarray = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
    return averaged
