"""Windows over a stream of frames: what is read together, and which of it is kept. Pure iteration; knows no pixels."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Window(Generic[Item]):
    """Consecutive frames, and the slice of them whose outputs are kept: the others are context for it."""

    frames: tuple[Item, ...]
    keep: slice


def slide_windows(frames: Iterable[Item], length: int, context: int, *, continued: int = 0) -> Iterator[Window[Item]]:
    """Cut a stream into windows of `length` that advance by `length - 2 * context`; every frame is kept exactly once.

    ```
    window 1   k k k k k k c c            k kept, c context
    window 2           c c k k k k c c
    window 3                   c c k k k  the last one ends with the stream
    ```

    The stream's ends have no context beyond them. A stream may begin with `continued` frames that an earlier window
    kept: they are read again as context, so that it goes on as if it had not been interrupted. At most `length` + 1
    frames are held.

    Raises:
        ValueError: no frame of a window would be kept.
    """
    if context < 0 or length <= 2 * context:
        raise ValueError(f"a window of {length} frames keeps nothing between {context} frames of context on each side")
    held: list[Item] = []
    first_kept = continued
    for frame in frames:
        if len(held) == length:
            yield Window(tuple(held), slice(first_kept, length - context))
            held = held[length - 2 * context :]
            first_kept = context
        held.append(frame)
    if len(held) > first_kept:
        yield Window(tuple(held), slice(first_kept, len(held)))
