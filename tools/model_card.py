"""Model cards: updates the parts of their Markdown that a weights file states, and keeps the prose.

A part starts with `<!-- facts -->`, `<!-- measured -->` or `<!-- failures -->` and ends with `<!-- end -->`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ristn_cli.model import CONFIGS, RISTN, RISTNConfig, count_macs
from ristn_cli.weights import WeightsError, file_sha256, read_metadata

BARE_CARD = """# {name}

Weights of RISTN (Residual Invertible Spatio-Temporal Network, AAAI 2019) for 4x video super-resolution.

<!-- facts -->
<!-- end -->

## Measured

<!-- measured -->
<!-- end -->

## Limits

<!-- failures -->
<!-- end -->
"""


def config_name(config: RISTNConfig) -> str:
    """Return the name of a configuration in `model.CONFIGS`. Raises WeightsError if it has none."""
    for name, named in CONFIGS.items():
        if named == config:
            return name
    raise WeightsError(f"the network is none of {', '.join(CONFIGS)}: only these are released")


def headline(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures for listings: of the first measured data set, else of validation in training."""
    measured = metrics.get("measured") or {}
    figures = next(iter(measured.values()))["mean"] if measured else metrics
    return {name: round(figures[name], 4) for name in ("psnr_y", "temporal_gain") if name in figures}


def describe_facts(path: Path) -> list[str]:
    """Return a table of facts of a weights file, as lines of Markdown."""
    metadata = read_metadata(path)
    config, metrics = metadata["config"], metadata["metrics"]
    parameters = RISTN(config).count_parameters()
    rows = {
        "file": f"`{path.name}`, {path.stat().st_size:,} bytes",
        "SHA-256": f"`{file_sha256(path)}`",
        "network": f"`{config_name(config)}`: {parameters:,} parameters, "
        f"{count_macs(config):,} multiply-accumulates per LR pixel and frame",
        "training": f"recipe `{metrics['recipe']}`, {metrics['iterations']:,} steps, "
        f"{metrics['seconds'] / 3600:.2f} hours",
    }
    if "source" in metrics:
        rows["made for"] = f"{metrics['source']} footage"
    if "start_sha256" in metrics:
        rows["began with"] = f"the file of SHA-256 `{metrics['start_sha256']}`"
    if "psnr_y" in metrics:
        rows["validation"] = (
            f"PSNR-Y {metrics['psnr_y']:.2f} dB, bicubic {metrics['bicubic_psnr_y']:.2f} dB, "
            f"temporal gain {metrics['temporal_gain']:+.3f} dB"
        )
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]


def describe_measured(metrics: Mapping[str, Any]) -> list[str]:
    """Return a table of `ristn evaluate --json` results per data set, as lines of Markdown."""
    lines: list[str] = []
    for label, scores in (metrics.get("measured") or {}).items():
        protocol = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in scores["protocol"].items())
        has_gain = "temporal_gain" in scores["mean"]
        headings = ["clip", "frames", "bicubic", "ours", "gain", *(["temporal gain"] if has_gain else [])]
        lines += ["", f"{label}, PSNR-Y in dB / SSIM ({protocol}):", "", f"| {' | '.join(headings)} |"]
        lines.append("|---" * len(headings) + "|")
        for clip, row in [*scores["clips"].items(), ("**mean**", scores["mean"])]:
            cells = [
                clip,
                str(row.get("frames", "")),
                f"{row['bicubic_psnr_y']:.2f} / {row['bicubic_ssim_y']:.4f}",
                f"{row['psnr_y']:.2f} / {row['ssim_y']:.4f}",
                f"{row['psnr_y'] - row['bicubic_psnr_y']:+.2f}",
                *([f"{row['temporal_gain']:+.2f}"] if has_gain else []),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines[1:]


def describe_failures(metrics: Mapping[str, Any], name: str) -> list[str]:
    """Return the places of `ristn evaluate --failures` and the released picture, as Markdown."""
    lines: list[str] = []
    for label, scores in (metrics.get("measured") or {}).items():
        if not scores.get("failures"):
            continue
        lines += ["", f"{label}, the places with the least gain over bicubic, PSNR-Y of the place in dB:", ""]
        lines += ["| clip | frame | place | bicubic | ours | gain |", "|---|---|---|---|---|---|"]
        for place in scores["failures"]:
            ours, bicubic = place["psnr_y"], place["bicubic_psnr_y"]
            where = f"{place['width']}x{place['height']} at {place['x']},{place['y']}"
            cells = [
                place["clip"],
                str(place["frame"]),
                where,
                f"{bicubic:.2f}",
                f"{ours:.2f}",
                f"{ours - bicubic:+.2f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    if "failures_sha256" in metrics:
        lines += ["", f"![Each place by bicubic, by {name}, and of the original]({name}.failures.png)"]
    return lines[1:]


def fill_card(card: str, path: Path) -> str:
    """Return a card with name, facts, measured figures and failures from a weights file; the rest is unchanged.

    Raises:
        WeightsError: not a weights file of ristn, or a card without the marks.
    """
    metrics = read_metadata(path)["metrics"]
    card = re.sub(r"\A# .*", lambda _: f"# {path.stem}", card)
    parts = {
        "facts": describe_facts(path),
        "measured": describe_measured(metrics),
        "failures": describe_failures(metrics, path.stem),
    }
    for part, lines in parts.items():
        place = re.search(rf"<!-- {part} -->\n.*?<!-- end -->", card, re.DOTALL)
        if place is not None:
            text = "\n".join([f"<!-- {part} -->", *lines, "<!-- end -->"])
            card = card[: place.start()] + text + card[place.end() :]
        elif lines:
            raise WeightsError(f"{path.with_suffix('.md')}: has no <!-- {part} --> and <!-- end --> around its {part}")
    return card
