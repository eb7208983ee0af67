"""Which frames of telecined film are repeats, from how much each field differs from the one before. Knows no pictures.

Telecine shows four film frames in five video frames, `A|B|C|D` (first and second field of each):

```
first field    A B B C D        the kept field repeats in the third frame: that frame is a repeat
second field   A B C D D        the other field repeats in the fifth: that frame is none
```

So a frame that repeats has a kept field that did not change while the other one did. Video that was never film changes
in both fields or in neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log2

CYCLE = 5
# Frames that are looked ahead before one is judged: three cycles.
HORIZON = 3 * CYCLE
# Frames before one that its judgement and its picture depend on.
LEAD = 6
# Frames since the last repeat: as many or more, and where there was none yet.
LONG_AGO = CYCLE + 1
NEVER = CYCLE + 2

# Differences are in code values of 8 bits. What is below is coding noise.
NOISE = 0.5
STILL = 1.0
MOVING = 1.5
# By how many doublings one field must differ more than the other to be clear.
CLEAR = 1.0
# A repeat dropped out of the pattern, or missed in it, must have more evidence than this.
IRREGULAR = 2.5
FIRST_REPEAT = 1.0
PICTURE_LOST = 6.0
REPEAT_LEFT = 4.0
# A tie goes to the pattern: in a still picture it goes on.
PATTERN_BONUS = 0.3


@dataclass(frozen=True)
class Change:
    """How much the fields of a frame differ from those of the frame before, where they differ most.

    `kept` is the field that comes first in time, which a film frame keeps, `other` the second one, both in code values
    of 8 bits; infinite where there is no frame before to compare with.
    """

    kept: float
    other: float

    @property
    def lean(self) -> float:
        """Doublings by which the other field changed more than the kept one."""
        if self.kept == inf:
            return 0.0
        return log2((self.other + NOISE) / (self.kept + NOISE))

    @property
    def moves(self) -> bool:
        """Whether something moved."""
        return max(self.kept, self.other) >= MOVING

    @property
    def repeats_kept(self) -> bool:
        """Whether it is clearly the kept field alone that did not change."""
        return self.moves and self.lean >= CLEAR

    @property
    def repeats_other(self) -> bool:
        """Whether it is clearly the other field alone that did not change."""
        return self.moves and self.lean <= -CLEAR


def _share(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


@dataclass(frozen=True)
class Verdict:
    """Whether a frame repeats the one before, and how many frames before it the last repeat was."""

    is_repeat: bool
    since_repeat: int


class Cadence:
    """Tells of each frame whether it repeats the one before, HORIZON frames later.

    A verdict depends on the changes of the three frames before and of HORIZON frames ahead, and on how long ago the
    last repeat was, from which a later reading may go on. It is the first step of the cheapest way
    through the frames ahead: a real picture dropped, a repeat left and a step out of the pattern each have a price.

    Args:
        since_repeat: frames since the last repeat, 1 to LONG_AGO, or NEVER.
    """

    def __init__(self, since_repeat: int = NEVER) -> None:
        self._since_repeat = min(max(1, since_repeat), NEVER)
        self._before: deque[Change] = deque(maxlen=3)
        self._ahead: deque[Change] = deque()

    def note(self, change: Change) -> None:
        """Add a change that is judged already, from before the first frame to judge."""
        self._before.append(change)

    def push(self, change: Change) -> list[Verdict]:
        """Add the next frame. Returns the verdict on the frame HORIZON before it."""
        self._ahead.append(change)
        return [self._judge()] if len(self._ahead) > HORIZON else []

    def finish(self) -> list[Verdict]:
        """The verdicts on all frames that wait for one; the stream ends."""
        return [self._judge() for _ in range(len(self._ahead))]

    def _judge(self) -> Verdict:
        changes = [*self._before, *self._ahead]
        first = len(self._before)
        costs = [(_cost_of_drop(changes[k]), _cost_of_keep(changes, k)) for k in range(first, len(changes))]
        verdict = Verdict(_first_step(costs, self._since_repeat), self._since_repeat)
        self._since_repeat = _next_state(self._since_repeat, is_repeat=verdict.is_repeat)
        self._before.append(self._ahead.popleft())
        return verdict


def _cost_of_drop(change: Change) -> float:
    if change.kept == inf:
        return inf
    return PICTURE_LOST * _share(change.kept, STILL, 3 * STILL) * (1 - _share(change.lean, 0, 0.6 * CLEAR))


def _cost_of_keep(changes: Sequence[Change], at: int) -> float:
    change = changes[at]
    cost = REPEAT_LEFT * _share(change.lean, 0.3 * CLEAR, 1.1 * CLEAR) * _share(change.other, STILL, 2 * MOVING)
    # In telecine the other field repeats one or two frames later (2:3:3:2 and 3:2), and three frames before.
    partners = [at + 1, at + 2, *([at - 3] if at >= 3 else [])]
    has_partner = any(changes[k].repeats_other for k in partners if k < len(changes))
    return 1.5 * cost if has_partner else cost


def _next_state(since: int, *, is_repeat: bool) -> int:
    if is_repeat:
        return 1
    return NEVER if since == NEVER else min(since + 1, LONG_AGO)


def _first_step(costs: Sequence[tuple[float, float]], since: int) -> bool:
    """Whether the cheapest way through the frames ahead drops the first of them; `costs` are of drop and keep."""
    later = [0.0] * (NEVER + 1)
    steps: list[tuple[float, float]] = [(inf, 0.0)] * (NEVER + 1)
    for drop, keep in reversed(costs):
        steps = []
        for state in range(NEVER + 1):
            step = -PATTERN_BONUS if state == CYCLE else FIRST_REPEAT if state == NEVER else IRREGULAR
            dropped = inf if state <= 1 else drop + step + later[1]
            missed = IRREGULAR if state == CYCLE else 0.0
            steps.append((dropped, keep + missed + later[_next_state(state, is_repeat=False)]))
        later = [min(step) for step in steps]
    dropped, kept = steps[since]
    return dropped < kept
