"""Warnings of one job: identical ones as one line with a count."""

from __future__ import annotations

from collections import Counter

from ristn_cli.cli.terminal import warn


class FoldedWarnings:
    """Counts warnings, and shows each message once: what came together in one line with its count.

    `total` is how many there were.
    """

    def __init__(self) -> None:
        self.total = 0
        self._waiting: Counter[str] = Counter()
        self._shown: Counter[str] = Counter()
        self._later: Counter[str] = Counter()

    def add(self, message: str) -> None:
        """Keep a message for the next `show`."""
        self.total += 1
        self._waiting[message] += 1

    def show(self) -> None:
        """Show the messages that are new since the last call; count those that were shown before."""
        for message, count in self._waiting.items():
            if message in self._shown:
                self._later[message] += count
            else:
                warn(message if count == 1 else f"{message} ({count} times)")
                self._shown[message] = count
        self._waiting.clear()

    def finish(self) -> None:
        """Show what is left, and how often those that were shown before came again."""
        self.show()
        for message, count in self._later.items():
            warn(f"{message} ({self._shown[message] + count} times in all)")
        self._later.clear()
