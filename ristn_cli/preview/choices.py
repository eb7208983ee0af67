"""What there is to choose from for an upscale: sets of weights, and the options that ask for them. Fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ristn_cli.weights import RELEASES, ModelChoice, WeightsError, find_release, locate


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to upscale a video.

    Attributes:
        name: what people call it; part of the names of outputs.
        weights: the file, whose bytes were checked.
        options: of `ristn upscale`, which ask for this.
        note: what it is for.
        recommendation: why `--model auto` takes it, in words that follow `because`; empty where it does not.
    """

    name: str
    weights: Path
    options: tuple[str, ...]
    note: str = ""
    recommendation: str = ""

    @property
    def is_recommended(self) -> bool:
        """Whether `--model auto` takes it."""
        return bool(self.recommendation)


def find_choices(automatic: ModelChoice, names: Sequence[str] | None = None) -> tuple[list[Choice], list[str]]:
    """The released weights that are on this machine, as choices, and the names of those that are not.

    Args:
        automatic: what `--model auto` means for the video.
        names: of the weights to choose from; None for all.

    Raises:
        WeightsError: one of the names is unknown, or none of the weights are there.
    """
    choices, missing = [], []
    for release in RELEASES.values() if names is None else [find_release(name) for name in dict.fromkeys(names)]:
        path = locate(release)
        if path is None:
            missing.append(release.name)
            continue
        choices.append(
            Choice(
                name=release.name,
                weights=path,
                options=("--model", release.name),
                note=f"for {release.source} footage",
                recommendation=automatic.reason if release.name == automatic.name else "",
            )
        )
    if not choices:
        raise WeightsError(
            f"no released weights are on this machine ({', '.join(missing)}); fetch them with ristn download-weights"
        )
    return choices, missing
