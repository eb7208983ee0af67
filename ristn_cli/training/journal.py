"""The log of a run, its learning curve, and the comparison with another run's log."""

import json
import math
import statistics
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from ristn_cli.own_files import import_apart, open_if_own, write_text, writing
from ristn_cli.typed import MalformedError, Opener, build, open_at_once, parse_json, read_text

MAX_LOG_BYTES = 2**30

SAME_PIXELS = 0.02
"""Two validations are compared if their numbers of trained pixels differ by at most this share."""


@dataclass(frozen=True)
class Difference:
    """How much better a run is than another at a validation, over the windows that both have.

    Attributes:
        lr_pixels: LR pixels that this run has trained on, over all processes.
        psnr_y: PSNR-Y of this run in dB, mean over the windows.
        ahead: mean of the paired differences in PSNR-Y, in dB.
        error: standard error of `ahead`, in dB.
        gain_ahead: mean of the paired differences of the temporal gain, in dB.
        windows: number of windows.
    """

    lr_pixels: int
    psnr_y: float
    ahead: float
    error: float
    gain_ahead: float
    windows: int


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """The fields of a log entry that are read again. An entry may have more."""

    iteration: int
    seconds: float = 0.0
    loss: float = 0.0
    lr_pixels: int = 0
    validation: dict[str, float] = field(default_factory=dict)
    windows: dict[str, dict[str, float]] = field(default_factory=dict)


_ENTRY_NAMES = frozenset(item.name for item in fields(_Entry))


def read_log(path: Path, *, opener: Opener = open_at_once) -> list[dict[str, Any]]:
    """Return the entries of a log, without an incomplete last line; empty if the file does not exist.

    Raises:
        MalformedError: the file is not text, or a line before the last is not an entry.
    """
    entries: list[dict[str, Any]] = []
    if not path.exists():
        return entries
    lines = read_text(path, most_bytes=MAX_LOG_BYTES, opener=opener).splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            values = parse_json(line)
            build(_Entry, {name: values[name] for name in _ENTRY_NAMES & values.keys()})
        except (MalformedError, AttributeError) as error:
            if number == len(lines):
                break
            raise MalformedError(f"{path}: line {number} is not a log entry of ristn train ({error})") from error
        entries.append(values)
    return entries


def compare_logs(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> list[Difference]:
    """Return paired differences at each validation that the other run has after about the same number of LR pixels."""
    others = [entry for entry in theirs if "windows" in entry]
    rows = []
    for entry in ours:
        if "windows" not in entry or not others:
            continue
        pixels = entry["lr_pixels"]
        other = min(others, key=lambda each: abs(each["lr_pixels"] - pixels))
        names = entry["windows"].keys() & other["windows"].keys()
        if abs(other["lr_pixels"] - pixels) > SAME_PIXELS * pixels or len(names) < 2:
            continue
        pairs = [(entry["windows"][name], other["windows"][name]) for name in sorted(names)]
        psnr, gain = ([a[name] - b[name] for a, b in pairs] for name in ("psnr_y", "temporal_gain"))
        rows.append(
            Difference(
                lr_pixels=pixels,
                psnr_y=statistics.fmean(a["psnr_y"] for a, _ in pairs),
                ahead=statistics.fmean(psnr),
                error=statistics.stdev(psnr) / math.sqrt(len(psnr)),
                gain_ahead=statistics.fmean(gain),
                windows=len(pairs),
            )
        )
    return rows


def trim_log(path: Path, iteration: int) -> list[dict[str, Any]]:
    """Remove entries after `iteration`, which a killed run wrote after its last checkpoint, and return the others."""
    if not path.exists():
        return []
    entries = [entry for entry in read_log(path, opener=open_if_own) if entry["iteration"] <= iteration]
    write_text(path, "".join(json.dumps(entry) + "\n" for entry in entries))
    return entries


def draw_curve(history: list[dict[str, Any]], path: Path, title: str) -> None:
    """Write the learning curve as PNG: loss, PSNR-Y of the validation against bicubic, and temporal gains, over
    hours.
    """
    import_apart("matplotlib")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), layout="constrained")
    axes = figure.subplots(3, sharex=True)
    hours = [entry["seconds"] / 3600 for entry in history]
    block = max(1, len(history) // 200)
    blocks = range(0, len(history), block)
    means = [sum(entry["loss"] for entry in history[i : i + block]) / len(history[i : i + block]) for i in blocks]
    axes[0].semilogy([hours[i] for i in blocks], means)
    axes[0].set_ylabel("training loss")
    axes[0].set_title(title)
    validated = [
        (hour, entry["validation"]) for hour, entry in zip(hours, history, strict=True) if "validation" in entry
    ]
    gains = [name for name in (validated[-1][1] if validated else {}) if name.startswith("temporal_gain")]
    for axis, names in ((axes[1], ["psnr_y", "bicubic_psnr_y"]), (axes[2], gains or ["temporal_gain"])):
        for name in names:
            axis.plot([hour for hour, _ in validated], [values[name] for _, values in validated], ".-", label=name)
        axis.set_ylabel("dB")
        axis.legend()
    axes[2].set_xlabel("hours")
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=100)
