"""Divides a stream of frames into windows. Does not know what a frame is."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Window(Generic[Item]):
    """Consecutive frames, and the slice of them whose outputs are kept. The others are context."""

    frames: tuple[Item, ...]
    keep: slice


class WindowCutter(Generic[Item]):
    """Divides a stream, frame by frame, into windows of `length` frames that advance by `length - 2 * context`.

    ```
    window 1   k k k k k k c c            k kept, c context
    window 2           c c k k k k c c
    window 3                   c c k k k  the last one ends with the stream
    ```

    Every frame is kept exactly once. The ends of the stream and of its scenes have no context. A resumed stream begins
    with `continued` frames that an earlier window kept, as context. At most `length` + 1 frames are in memory.

    Raises:
        ValueError: a window would keep no frame.
    """

    def __init__(self, length: int, context: int, *, continued: int = 0) -> None:
        if context < 0 or length <= 2 * context:
            raise ValueError(f"a window of {length} frames is too short for {context} frames of context on each side")
        self._length, self._context = length, context
        self._held: list[Item] = []
        self._first_kept = continued

    def push(self, frame: Item, *, begins_scene: bool = False) -> list[Window[Item]]:
        """Add the next frame. Return the window that ended before it, if any: a full one, or the last of a scene."""
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
        """Return the last window of the scene, if it keeps a frame. The next frame begins another scene."""
        held, first_kept = self._held, self._first_kept
        self._held, self._first_kept = [], 0
        return [Window(tuple(held), slice(first_kept, len(held)))] if len(held) > first_kept else []


def slide_windows(frames: Iterable[Item], length: int, context: int, *, continued: int = 0) -> Iterator[Window[Item]]:
    """Yield the windows of a whole stream; see `WindowCutter`."""
    cutter: WindowCutter[Item] = WindowCutter(length, context, continued=continued)
    for frame in frames:
        yield from cutter.push(frame)
    yield from cutter.finish()


def split_window(window: Window[Item], context: int) -> tuple[Window[Item], Window[Item]] | None:
    """Split a window into two that keep the same frames, with as much context as available; None if it keeps one
    frame.
    """
    first, last = range(len(window.frames))[window.keep][0], range(len(window.frames))[window.keep][-1]
    if first == last:
        return None
    middle = (first + last + 1) // 2
    begin = middle - min(context, middle)
    return (
        Window(window.frames[: middle + context], slice(first, middle)),
        Window(window.frames[begin:], slice(middle - begin, last + 1 - begin)),
    )
