"""Windows over a stream of frames: what is read together, and which of it is kept. Knows no pixels."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Window(Generic[Item]):
    """Consecutive frames, and the slice of them whose outputs are kept: the others are context for it."""

    frames: tuple[Item, ...]
    keep: slice


class WindowCutter(Generic[Item]):
    """Cuts a stream, fed frame by frame, into windows of `length` that advance by `length - 2 * context`.

    ```
    window 1   k k k k k k c c            k kept, c context
    window 2           c c k k k k c c
    window 3                   c c k k k  the last one ends with the stream
    ```

    Every frame is kept exactly once. The ends of the stream and of its scenes have no context beyond them. A stream may
    begin with `continued` frames that an earlier window kept: they are read again as context, so that it goes on as if
    it had not been interrupted. At most `length` + 1 frames are held.

    Raises:
        ValueError: no frame of a window would be kept.
    """

    def __init__(self, length: int, context: int, *, continued: int = 0) -> None:
        if context < 0 or length <= 2 * context:
            raise ValueError(
                f"a window of {length} frames keeps nothing between {context} frames of context on each side"
            )
        self._length, self._context = length, context
        self._held: list[Item] = []
        self._first_kept = continued

    def push(self, frame: Item, *, begins_scene: bool = False) -> list[Window[Item]]:
        """Add the next frame. Returns the window that is full without it, or the last one of the scene before it."""
        ready: list[Window[Item]] = []
        if begins_scene:
            ready = self.finish()
        elif len(self._held) == self._length:
            ready = [Window(tuple(self._held), slice(self._first_kept, self._length - self._context))]
            self._held = self._held[self._length - 2 * self._context :]
            self._first_kept = self._context
        self._held.append(frame)
        return ready

    def finish(self) -> list[Window[Item]]:
        """The last window of the scene, if a frame of it is left. The next frame begins another scene."""
        held, first_kept = self._held, self._first_kept
        self._held, self._first_kept = [], 0
        return [Window(tuple(held), slice(first_kept, len(held)))] if len(held) > first_kept else []


def slide_windows(frames: Iterable[Item], length: int, context: int, *, continued: int = 0) -> Iterator[Window[Item]]:
    """The windows that a `WindowCutter` of the same arguments cuts a whole stream into."""
    cutter: WindowCutter[Item] = WindowCutter(length, context, continued=continued)
    for frame in frames:
        yield from cutter.push(frame)
    yield from cutter.finish()


def split_window(window: Window[Item], context: int) -> tuple[Window[Item], Window[Item]] | None:
    """Two windows that keep what one did, each with as much context where there are frames; None when it keeps one."""
    first, last = range(len(window.frames))[window.keep][0], range(len(window.frames))[window.keep][-1]
    if first == last:
        return None
    middle = (first + last + 1) // 2
    begin = middle - min(context, middle)
    return (
        Window(window.frames[: middle + context], slice(first, middle)),
        Window(window.frames[begin:], slice(middle - begin, last + 1 - begin)),
    )
