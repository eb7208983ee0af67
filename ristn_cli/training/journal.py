"""The log of a run and its learning curve."""

import json
from pathlib import Path
from typing import Any


def trim_log(path: Path, iteration: int) -> list[dict[str, Any]]:
    """Entries up to `iteration`; what a killed run wrote after its last checkpoint is cut off, for it comes again."""
    if not path.exists():
        return []
    entries = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break
        if entry["iteration"] > iteration:
            break
        entries.append(entry)
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(entry) + "\n" for entry in entries), encoding="utf-8")
    temporary.replace(path)
    return entries


def draw_curve(history: list[dict[str, Any]], path: Path, title: str) -> None:
    """Learning curve as PNG: loss, validation PSNR-Y against bicubic, and the temporal gain, over hours."""
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
    for axis, names in ((axes[1], ("psnr_y", "bicubic_psnr_y")), (axes[2], ("temporal_gain",))):
        for name in names:
            axis.plot([hour for hour, _ in validated], [values[name] for _, values in validated], ".-", label=name)
        axis.set_ylabel("dB")
        axis.legend()
    axes[2].set_xlabel("hours")
    figure.savefig(path, dpi=100)
