"""Lists the available weights, with the options that select them. Does not download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ristn_cli.weights import RELEASES, ModelChoice, WeightsError, find_release, locate


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to upscale a video.

    Attributes:
        name: name for people, and part of output names.
        model: name of released weights, or path of a weights file.
        options: options of `ristn upscale` that select it.
        note: its purpose.
        recommendation: why `--model auto` selects it, in words after "because"; empty if it does not.
    """

    name: str
    model: str
    options: tuple[str, ...]
    note: str = ""
    recommendation: str = ""

    @property
    def is_recommended(self) -> bool:
        """Whether `--model auto` selects it."""
        return bool(self.recommendation)


def find_choices(automatic: ModelChoice, names: Sequence[str] | None = None) -> tuple[list[Choice], list[str]]:
    """Return the released weights on this machine as choices, and the names of missing ones.

    Args:
        automatic: the weights that `--model auto` selects for the video.
        names: names of weights to choose from; None for all.

    Raises:
        WeightsError: a name is unknown, or no weights are on this machine.
    """
    choices, missing = [], []
    for release in RELEASES.values() if names is None else [find_release(name) for name in dict.fromkeys(names)]:
        if locate(release) is None:
            missing.append(release.name)
            continue
        choices.append(
            Choice(
                name=release.name,
                model=release.name,
                options=("--model", release.name),
                note=f"for {release.source} footage",
                recommendation=automatic.reason if release.name == automatic.name else "",
            )
        )
    if not choices:
        raise WeightsError(
            f"no released weights are on this machine ({', '.join(missing)}); use ristn download-weights"
        )
    return choices, missing
