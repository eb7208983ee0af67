"""Lists the available weights, with the options that select them. Does not download."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from ristn_cli.weights import DIAL, RELEASES, ModelChoice, WeightsError, choose_detail, find_release, locate


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to upscale a video.

    Attributes:
        name: name for people, and part of output names.
        model: the weights.
        options: options of `ristn upscale` that select it.
        note: its purpose.
        recommendation: why `--model auto` selects it, in words after "because"; empty if it does not.
    """

    name: str
    model: ModelChoice
    options: tuple[str, ...]
    note: str = ""
    recommendation: str = ""

    @property
    def is_recommended(self) -> bool:
        """Whether `--model auto` selects it."""
        return bool(self.recommendation)


def find_choices(
    automatic: ModelChoice, names: Sequence[str] | None = None, details: Sequence[float] | None = None
) -> tuple[list[Choice], list[str]]:
    """Return the weights on this machine as choices, and the names of missing ones.

    Args:
        automatic: the weights that `--model auto` selects for the video.
        names: names of weights to choose from; None for all.
        details: values of `--detail`; None for the one that `--model auto` selects, if it does.

    Raises:
        WeightsError: a name is unknown, or no weights are on this machine.
    """
    if names is None and details is None:
        names, details = tuple(RELEASES), (automatic.detail,) if automatic.detail else ()
    tried = [ModelChoice(find_release(name).name) for name in names or ()] + [
        choose_detail(detail) for detail in details or ()
    ]
    needed = {model: (model.name, *([DIAL[1]] if model.detail else [])) for model in tried}
    missing = [name for name in dict.fromkeys(itertools.chain(*needed.values())) if locate(find_release(name)) is None]
    choices = [
        Choice(
            name=f"detail-{model.detail:g}" if model.detail else model.name,
            model=model,
            options=("--detail", f"{model.detail:g}") if model.detail else ("--model", model.name),
            note=f"for {find_release(model.name).source} footage",
            recommendation=automatic.reason if model.label == automatic.label else "",
        )
        for model, used in needed.items()
        if not set(used) & set(missing)
    ]
    if not choices:
        raise WeightsError(
            f"no released weights are on this machine ({', '.join(missing)}); use ristn download-weights"
        )
    return choices, missing
