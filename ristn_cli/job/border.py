"""The border between two windows, where a part may end and the next may begin. Knows no files."""

from dataclasses import dataclass, field
from fractions import Fraction

from ristn_cli.video import Clock

MOST_FRAMES = 2**31
MOST_SECONDS = 2**31
"""Of what a border can be: more than clocks of containers count."""


@dataclass(frozen=True, kw_only=True)
class Border:
    """What a run needs to know to begin with the window behind a border. Times are seconds on the source's clock.

    Attributes:
        time: of the first frame that the window behind it reads.
        context: how many of that window's frames the windows before it kept, repeated ones counted once.
        repeats: how many more these are with their repeats.
        clock: of the first frame that the window reads; None for images.
        frames: that all windows before it kept.
        end_time: where the last frame before it ends.
        is_damaged: packets of the source before it could not be decoded.
        is_last: nothing is left to keep behind it.
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
        """Raise ValueError for a border that cannot be: it may come from a damaged file."""
        for name in ("context", "repeats", "frames"):
            if not 0 <= getattr(self, name) <= MOST_FRAMES:
                raise ValueError(f"a border with {name} {getattr(self, name)} cannot be")
        if max(abs(self.time), abs(self.end_time)) > MOST_SECONDS:
            raise ValueError(f"times beyond {MOST_SECONDS} seconds cannot be")
