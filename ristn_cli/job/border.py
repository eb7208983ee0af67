"""The border between two windows, where a part can end and the next one can begin. Does not read or write files."""

from dataclasses import dataclass, field
from fractions import Fraction

from ristn_cli.video import Clock

MOST_FRAMES = 2**31
MOST_SECONDS = 2**31
"""Limits of a plausible border, beyond what clocks of containers count."""


@dataclass(frozen=True, kw_only=True)
class Border:
    """What a run needs to continue with the window after a border. Times are seconds on the source's clock.

    Attributes:
        time: time of the first frame that the next window reads.
        context: number of that window's frames that were already kept; each run of identical frames counts once.
        repeats: number of further repeated frames in that context.
        clock: clock of the first frame that the next window reads; None for images.
        frames: number of frames kept so far.
        end_time: end of the last kept frame.
        is_damaged: packets of the source before the border could not be decoded.
        is_last: no frames remain after the border.
    """

    time: Fraction
    context: int
    repeats: int
    clock: Clock | None = None
    frames: int
    end_time: Fraction
    is_damaged: bool = field(compare=False)
    is_last: bool = field(compare=False)

    def __post_init__(self) -> None:
        """Raise ValueError for implausible values, which may come from a damaged file."""
        for name in ("context", "repeats", "frames"):
            if not 0 <= getattr(self, name) <= MOST_FRAMES:
                raise ValueError(f"{name} of a border is {getattr(self, name)}, expected 0 to {MOST_FRAMES}")
        if max(abs(self.time), abs(self.end_time)) > MOST_SECONDS:
            raise ValueError(f"a time of a border exceeds {MOST_SECONDS} seconds")
