"""Positions in a video as editors write them: frame numbers and SMPTE timecodes. Does not read files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

FRAME_NUMBER = re.compile(r"(\d{1,9})f", re.ASCII)
TIMECODE = re.compile(r"(\d{1,2})[:;](\d{1,2})[:;](\d{1,2})([:;])(\d{1,3})", re.ASCII)
DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class FrameNumber:
    """A frame, counted from 0."""

    number: int

    def __str__(self) -> str:
        return f"{self.number}f"


@dataclass(frozen=True)
class Timecode:
    """The label of a frame (SMPTE ST 12-1).

    Drop frame (`is_drop`), for 29.97 and 59.94 fps, skips labels so that they match the clock: 2 of 30, or 4 of 60, at
    the start of each minute except every tenth. No frame is dropped.
    """

    hours: int
    minutes: int
    seconds: int
    frames: int
    is_drop: bool = False

    def __str__(self) -> str:
        mark = ";" if self.is_drop else ":"
        return f"{self.hours:02}:{self.minutes:02}:{self.seconds:02}{mark}{self.frames:02}"

    def count(self, rate: Fraction) -> int:
        """Return the number of frames from 00:00:00:00 to this label at a frame rate.

        Raises:
            ValueError: the label does not exist at that rate, or the rate has no drop frame timecode.
        """
        nominal = round(rate)
        if self.is_drop and not has_drop_frames(rate):
            raise ValueError(f"drop frame timecode is for 29.97 and 59.94 frames per second, not {float(rate):.6g}")
        if self.minutes >= 60 or self.seconds >= 60 or self.frames >= nominal:
            raise ValueError(
                f"expected minutes and seconds below 60, and frames below {nominal} at {float(rate):.6g} frames "
                "per second"
            )
        minutes = 60 * self.hours + self.minutes
        dropped = nominal // 15 if self.is_drop else 0
        if self.seconds == 0 and self.frames < dropped and self.minutes % 10:
            raise ValueError(f"drop frame timecode skips this label; the minute begins with frame {dropped:02}")
        return (60 * minutes + self.seconds) * nominal + self.frames - dropped * (minutes - minutes // 10)

    @classmethod
    def of_count(cls, count: int, rate: Fraction, *, is_drop: bool) -> Timecode:
        """Return the label `count` frames after 00:00:00:00: the inverse of `count`, modulo a day."""
        nominal = round(rate)
        count %= day_frames(rate, is_drop=is_drop)
        if is_drop:
            dropped = nominal // 15
            minute = 60 * nominal - dropped
            tens, rest = divmod(count, 10 * minute + dropped)
            count += 9 * dropped * tens + (dropped * ((rest - dropped) // minute) if rest > dropped else 0)
        seconds, frames = divmod(count, nominal)
        return cls(seconds // 3600, seconds // 60 % 60, seconds % 60, frames, is_drop)


Position = FrameNumber | Timecode


def has_drop_frames(rate: Fraction) -> bool:
    """Return whether drop frame timecode exists for this rate: just below 30 or 60 fps."""
    return round(rate) in (30, 60) and rate < round(rate)


def day_frames(rate: Fraction, *, is_drop: bool) -> int:
    """Return the number of labels per day."""
    nominal = round(rate)
    dropped = nominal // 15 if is_drop else 0
    return DAY_MINUTES * 60 * nominal - dropped * (DAY_MINUTES - DAY_MINUTES // 10)


def parse_timecode(text: str) -> Timecode | None:
    """Parse `01:00:10:12`, or with drop frame `01:00:10;12`. Return None for another form."""
    found = TIMECODE.fullmatch(text.strip())
    if found is None:
        return None
    hours, minutes, seconds, frames = (int(found[group]) for group in (1, 2, 3, 5))
    return Timecode(hours, minutes, seconds, frames, is_drop=found[4] == ";")


def parse_position(text: str) -> Position | None:
    """Parse a timecode, or a frame number such as `240f`. Return None for another form."""
    found = FRAME_NUMBER.fullmatch(text.strip())
    return parse_timecode(text) if found is None else FrameNumber(int(found[1]))
