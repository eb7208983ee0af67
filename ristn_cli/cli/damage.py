"""Joins equal warnings of a job to one line with a count."""

from __future__ import annotations

from collections import Counter

from ristn_cli.cli.terminal import warn


class FoldedWarnings:
    """Counts warnings. Shows each message once, with the number of its occurrences so far.

    `total` is the number of all warnings.
    """

    def __init__(self) -> None:
        self.total = 0
        self._waiting: Counter[str] = Counter()
        self._shown: Counter[str] = Counter()
        self._repeated: Counter[str] = Counter()

    def add(self, message: str) -> None:
        """Add a message for the next `show`."""
        self.total += 1
        self._waiting[message] += 1

    def show(self) -> None:
        """Show the new messages since the last call, and count those that were shown before."""
        for message, count in self._waiting.items():
            if message in self._shown:
                self._repeated[message] += count
            else:
                warn(message if count == 1 else f"{message} ({count} times)")
                self._shown[message] = count
        self._waiting.clear()

    def finish(self) -> None:
        """Show the remaining messages, and the final counts of repeated ones."""
        self.show()
        for message, count in self._repeated.items():
            warn(f"{message} ({self._shown[message] + count} times in all)")
        self._repeated.clear()
