"""Detect telecined film by sampling several positions of a video. Changes no frames."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Literal

from ristn_cli.video.reading.cadence import CYCLE, Change
from ristn_cli.video.reading.field_meter import FieldMeter, planar_format
from ristn_cli.video.reading.interlace import Deinterlace, decodable_frames
from ristn_cli.video.reading.streams import as_fraction
from ristn_cli.video.types import FieldOrder, Telecine, VideoInfo

# Number of sampled positions, spread over the video, and of consecutive frames at each.
PLACES = 8
PLACE_FRAMES = 45
# Maximum number of frames to skip after a seek to a key frame.
MAX_SKIPPED = 300
# Frames that are classified together: three cycles. The next stretch begins one cycle later.
STRETCH = 3 * CYCLE
# Smallest number of repeated fields in film, and of moving frames in other video, per stretch.
MIN_REPEATS = 3
MIN_MOVING = 5
# Longer stretch to find faint repeats, and the smallest mean difference from moving fields, in log2.
STEADY = 6 * CYCLE
FAINT = 0.3
# Smallest share of repeats among the fields that should repeat, and of expected ones among all repeats.
PATTERN_SHARE = 0.75
# Smallest number of film stretches.
MIN_STRETCHES = 2
# From this share, the whole video counts as film: the other stretches contain an edit in the pattern.
WHOLE_SHARE = Fraction(4, 5)

Kind = Literal["still", "other", "top", "bottom"]
"""Class of a stretch: film with this first field, other video, or too static to decide."""


def find_telecine(info: VideoInfo, *, is_asked: bool = False) -> VideoInfo:
    """Return `info` with `telecine` set if the video contains a relevant share of telecined film.

    Decodes up to PLACES x PLACE_FRAMES frames, but none if `find_fields` found nothing interlaced, unless `is_asked`.
    """
    if info.is_image_sequence or info.is_still or info.stream is not None:
        return info
    if not (is_asked or info.is_interlaced or info.field_order is not None):
        return info
    return replace(info, telecine=_find(info))


def _find(info: VideoInfo) -> Telecine | None:
    kinds: Counter[Kind] = Counter()
    for changes in _sampled_changes(info):
        kinds.update(judge_stretches(changes))
    film = kinds["top"] + kinds["bottom"]
    if film < MIN_STRETCHES:
        return None
    share = Fraction(film, film + kinds["other"])
    order: FieldOrder = "top" if kinds["top"] >= kinds["bottom"] else "bottom"
    return Telecine(order, Fraction(1) if share >= WHOLE_SHARE else share)


def takes_film(info: VideoInfo, mode: Deinterlace) -> bool:
    """Return whether to undo telecine: on request, or if most of a video is telecined film."""
    if info.is_image_sequence or info.is_still:
        return False
    return mode == "ivtc" or (mode == "auto" and info.telecine is not None and info.telecine.is_mostly_film)


def assume_film(info: VideoInfo) -> Telecine:
    """Return the telecine parameters to use if telecine was requested but not found.

    The field order is that of the frames if known, else that of the header. Repeated frames are dropped, but the
    nominal rate does not change, except for a pipe, which could not be sampled.
    """
    share = Fraction(0) if info.stream is None else Fraction(1)
    return info.telecine or Telecine(info.field_order or info.stated_order or "top", share)


def judge_stretches(changes: Sequence[Change]) -> Iterator[Kind]:
    """Classify each stretch of consecutive frames. In `changes`, `kept` is the top field."""
    for begin in range(0, len(changes) - STRETCH + 1, CYCLE):
        kind = _classify(changes[begin : begin + STRETCH])
        first = max(0, min(begin - (STEADY - STRETCH) // 2, len(changes) - STEADY))
        yield _classify_steady(changes[first : first + STEADY]) or kind if kind == "other" else kind


@dataclass(frozen=True)
class _Slots:
    """Positions in the cycle at which top fields and bottom fields repeat."""

    top: int
    bottom: int

    @property
    def order(self) -> FieldOrder:
        """The first field in time: its repeat is one or two frames before that of the other field."""
        return "top" if (self.bottom - self.top) % CYCLE <= 2 else "bottom"


def _classify(changes: Sequence[Change]) -> Kind:
    moving = sum(change.moves for change in changes)
    tops = {k for k, change in enumerate(changes) if change.repeats_kept}
    bottoms = {k for k, change in enumerate(changes) if change.repeats_other}

    def fit(slots: _Slots) -> tuple[int, int]:
        """Return the number of repeats in their slots, and of slots without a repeat in moving frames."""
        pairs = [(k, found) for found, slot in ((tops, slots.top), (bottoms, slots.bottom))
                 for k in range(slot, len(changes), CYCLE)]  # fmt: skip
        hits = sum(k in found for k, found in pairs)
        return hits, sum(changes[k].moves for k, _ in pairs) - hits

    choices = [_Slots(top, bottom) for top in range(CYCLE) for bottom in range(CYCLE) if top != bottom]
    best = max(choices, key=lambda slots: (fit(slots)[0], -fit(slots)[1]))
    hits, misses = fit(best)
    is_film = (
        hits >= MIN_REPEATS
        and hits >= PATTERN_SHARE * (hits + misses)
        and hits >= PATTERN_SHARE * (len(tops) + len(bottoms))
    )
    if is_film:
        return best.order
    return "other" if moving >= MIN_MOVING else "still"


def _classify_steady(changes: Sequence[Change]) -> FieldOrder | None:
    """Detect film whose coding noise hides repeats: they differ little from moving fields, but in every cycle."""
    leans = [[change.lean for change in changes[slot::CYCLE]] for slot in range(CYCLE)]
    if len(changes) < STEADY:
        return None
    tops, bottoms = (
        [slot for slot, found in enumerate(leans) if _is_steady([sign * lean for lean in found])] for sign in (1, -1)
    )
    if len(tops) != 1 or len(bottoms) != 1:
        return None
    others = [found for slot, found in enumerate(leans) if slot not in (tops[0], bottoms[0])]
    is_even = all(abs(sum(found)) < FAINT * 2 / 3 * len(found) for found in others)
    return _Slots(tops[0], bottoms[0]).order if is_even else None


def _is_steady(leans: Sequence[float]) -> bool:
    """Return whether one field changed more than the other in all cycles but one, and clearly so on average."""
    return sum(leans) >= FAINT * len(leans) and sum(lean >= FAINT / 3 for lean in leans) >= len(leans) - 1


def _sampled_changes(info: VideoInfo) -> Iterator[list[Change]]:
    """Yield the changes of consecutive frames at each sampled position, with the top field as the kept one."""
    places = PLACES if info.duration is not None else 1
    until: Fraction | None = None
    for index in range(places):
        since = Fraction(index, places) * (info.duration or 0)
        if until is not None and since + info.start_time < until:
            continue
        changes, until = _sample(info, since, PLACES * PLACE_FRAMES // places)
        if changes:
            yield changes
        if until is None:
            return


def _sample(info: VideoInfo, since: Fraction, most: int) -> tuple[list[Change], Fraction | None]:
    """Return the changes of up to `most` consecutive frames from `since`, and the time of the last one, if known."""
    meter = FieldMeter("top")
    changes: list[Change] = []
    last: Fraction | None = None
    passed = 0
    for frame in decodable_frames(info, since):
        base = as_fraction(frame.time_base)
        last = None if frame.pts is None or base is None else frame.pts * base
        if last is not None and last < info.start_time + since and passed < MAX_SKIPPED:
            passed += 1
            continue
        if planar_format(frame.format.name) is None:
            return [], None
        changes.append(meter.push(frame))
        if len(changes) == most:
            break
    return changes, last
