"""Find repeated frames of telecined film by how much each field changes. Does not know images.

Telecine shows four film frames in five video frames, `A|B|C|D` (first and second field of each):

```
first field    A B B C D        the first field repeats in the third frame: that frame is a repeat
second field   A B C D D        the second field repeats in the fifth frame: that frame is not a repeat
```

In a repeated frame, the first field, which the film frame keeps, did not change, but the second one did. Other video
changes in both fields or in neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log2

CYCLE = 5
# Number of frames to look ahead before deciding on one: three cycles.
HORIZON = 3 * CYCLE
# Number of previous frames that the decision on a frame, and its image, depend on.
LEAD = 6
# Frames since the last repeated frame: LONG_AGO is that many or more, NEVER is no repeated frame so far.
LONG_AGO = CYCLE + 1
NEVER = CYCLE + 2

# Differences, in 8-bit code values. Smaller ones are coding noise.
NOISE = 0.5
STILL = 1.0
MOVING = 1.5
# Smallest difference between the changes of both fields, in log2, that counts as clear.
CLEAR = 1.0
# Costs of decisions, for `_first_step`. Decisions against the pattern need more evidence than IRREGULAR.
IRREGULAR = 2.5
FIRST_REPEAT = 1.0
PICTURE_LOST = 6.0
REPEAT_LEFT = 4.0
PATTERN_BONUS = 0.3  # in a static scene, the pattern continues


@dataclass(frozen=True)
class Change:
    """How much the fields of a frame changed, in the blocks that changed most, in 8-bit code values.

    `kept` is the first field in time, which a film frame keeps, `other` the second one. Both are infinite without a
    previous frame.
    """

    kept: float
    other: float

    @property
    def lean(self) -> float:
        """log2 of the change of the other field relative to that of the kept field."""
        if self.kept == inf:
            return 0.0
        return log2((self.other + NOISE) / (self.kept + NOISE))

    @property
    def moves(self) -> bool:
        return max(self.kept, self.other) >= MOVING

    @property
    def repeats_kept(self) -> bool:
        """Whether clearly only the kept field did not change."""
        return self.moves and self.lean >= CLEAR

    @property
    def repeats_other(self) -> bool:
        """Whether clearly only the other field did not change."""
        return self.moves and self.lean <= -CLEAR


def _share(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low)))


@dataclass(frozen=True)
class Verdict:
    """Whether a frame repeats the previous one, and how many frames before it the last repeated frame was."""

    is_repeat: bool
    since_repeat: int


class Cadence:
    """Decides for each frame whether it repeats the previous one, HORIZON frames later.

    A verdict depends on the changes of the three previous frames, of the HORIZON next ones, and on the distance to the
    last repeated frame. It is the first step of the cheapest sequence of decisions: dropping a film frame, keeping a
    repeated frame, and leaving the pattern each have a cost.

    Args:
        since_repeat: frames since the last repeated frame, 1 to LONG_AGO, or NEVER.
    """

    def __init__(self, since_repeat: int = NEVER) -> None:
        self._since_repeat = min(max(1, since_repeat), NEVER)
        self._before: deque[Change] = deque(maxlen=3)
        self._ahead: deque[Change] = deque()

    def note(self, change: Change) -> None:
        """Add the change of a frame before the first one to decide on."""
        self._before.append(change)

    def push(self, change: Change) -> list[Verdict]:
        """Add the next frame. Returns the verdict on the frame HORIZON frames before it."""
        self._ahead.append(change)
        return [self._judge()] if len(self._ahead) > HORIZON else []

    def finish(self) -> list[Verdict]:
        """Return the remaining verdicts at the end of the stream."""
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
    # The other field repeats one or two frames later (2:3:3:2 and 3:2 pulldown), and three frames before.
    partners = [at + 1, at + 2, *([at - 3] if at >= 3 else [])]
    has_partner = any(changes[k].repeats_other for k in partners if k < len(changes))
    return 1.5 * cost if has_partner else cost


def _next_state(since: int, *, is_repeat: bool) -> int:
    if is_repeat:
        return 1
    return NEVER if since == NEVER else min(since + 1, LONG_AGO)


def _first_step(costs: Sequence[tuple[float, float]], since: int) -> bool:
    """Return whether the cheapest sequence of decisions drops the first frame. `costs` are those of drop and keep."""
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
