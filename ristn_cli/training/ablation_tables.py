"""The paper's ablation tables beside ours, and whether its orderings hold in ours. Shows nothing to anyone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from ristn_cli.evaluation.tables import Table
from ristn_cli.training.ablations import DEPTHS, TABLE_3, VARIANTS, Ablation, AblationResult, Variant

Results = Mapping[str, AblationResult]

BICUBIC = {1: "28.42 / 0.810", 2: "23.74 / 0.633", 3: "23.74"}
"""The paper's bicubic: Table 1 on Set5, Tables 2 and 3 on Vid4."""

TITLES = {
    1: "Table 1: blocks of the single-image network; the paper on Set5",
    2: "Table 2: fusion; the paper on Vid4",
    3: "Table 3: recurrent variants by layers; the paper on Vid4",
}


@dataclass(frozen=True)
class Ordering:
    """Whether the order of some variants is the paper's.

    Attributes:
        name: what is compared.
        order: the paper's, from the worst to the best.
        found: ours.
        agreeing: pairs that have the same order in ours, of `pairs`.
        extent: best of ours minus worst, in dB.
    """

    name: str
    order: tuple[str, ...]
    found: tuple[str, ...]
    agreeing: int
    pairs: int
    extent: float

    @property
    def holds(self) -> bool:
        """Whether every pair has the paper's order."""
        return self.agreeing == self.pairs


def ablation_tables(ablation: Ablation, results: Results, bicubic: AblationResult) -> list[Table]:
    """The paper's tables, each figure beside ours; a dash for what is not finished."""
    makers = {1: flat_table, 2: flat_table, 3: depth_table}
    return [makers[number](number, results, bicubic) for number in sorted(set(ablation.tables))]


def flat_table(number: int, results: Results, bicubic: AblationResult) -> Table:
    """Table 1 or 2: a row a variant."""
    rows = [("bicubic", BICUBIC[number], f"{bicubic.psnr_y:.2f} / {bicubic.ssim_y:.4f}", "", "")]
    for variant in (variant for variant in VARIANTS if variant.table == number):
        found = results.get(variant.key)
        ours = ("-", "-", "-")
        if found is not None:
            ours = (f"{found.psnr_y:.2f} / {found.ssim_y:.4f}", f"{found.parameters:,}", f"{found.seconds:.0f} s")
        rows.append((variant.name, f"{variant.psnr:.2f} / {variant.ssim:.3f}", *ours))
    return Table(TITLES[number], ("", "paper", "ours", "parameters", "training"), tuple(rows))


def depth_table(number: int, results: Results, bicubic: AblationResult) -> Table:
    """Table 3: a row for each number of layers, the paper's figure and ours of each pattern."""
    headings = ["layers"]
    for pattern in TABLE_3:
        headings += [f"{pattern.upper()} paper", "ours"]
    rows = [("bicubic", *((BICUBIC[number], f"{bicubic.psnr_y:.2f}") * len(TABLE_3)))]
    for layers in DEPTHS:
        cells = [str(layers)]
        for variant in (v for v in VARIANTS if v.table == number and v.layers == layers):
            found = results.get(variant.key)
            cells += [f"{variant.psnr:.2f}", "-" if found is None else f"{found.psnr_y:.2f}"]
        rows.append(tuple(cells))
    return Table(TITLES[number], tuple(headings), tuple(rows))


def check_orderings(ablation: Ablation, results: Results) -> list[Ordering]:
    """The paper's orderings: each of Tables 1 and 2, and of Table 3 each depth and each pattern, where all is done."""
    groups: list[tuple[str, list[Variant]]] = []
    for number in (1, 2):
        groups.append((f"Table {number}", [v for v in VARIANTS if v.table == number]))
    third = [v for v in VARIANTS if v.table == 3]
    groups += [(f"Table 3, {layers} layers", [v for v in third if v.layers == layers]) for layers in DEPTHS]
    groups += [
        (f"Table 3, {name}", [v for v in third if v.name == name]) for name in dict.fromkeys(v.name for v in third)
    ]
    checked = []
    for name, variants in groups:
        if variants[0].table not in ablation.tables or any(v.key not in results for v in variants):
            continue
        ordered = sorted(variants, key=lambda v: v.psnr)
        ours = [results[v.key].psnr_y for v in ordered]
        names = [v.name if "layers" in name or v.layers is None else str(v.layers) for v in ordered]
        pairs = list(combinations(ours, 2))
        checked.append(
            Ordering(
                name,
                order=tuple(names),
                found=tuple(label for _, label in sorted(zip(ours, names, strict=True), key=lambda pair: pair[0])),
                agreeing=sum(worse < better for worse, better in pairs),
                pairs=len(pairs),
                extent=max(ours) - min(ours),
            )
        )
    return checked


def ordering_table(orderings: list[Ordering]) -> Table:
    """The checks as a table."""
    rows = tuple(
        (
            check.name,
            " < ".join(check.order),
            " < ".join(check.found),
            "holds" if check.holds else f"{check.agreeing} of {check.pairs} pairs",
            f"{check.extent:.2f} dB",
        )
        for check in orderings
    )
    return Table("The paper's orderings in ours", ("", "paper", "ours", "order", "best - worst"), rows)


def state_budget(ablation: Ablation, results: Results) -> list[str]:
    """What the figures are, in sentences: that they are of another budget than the paper's first of all."""
    recipe = ablation.make_recipe(VARIANTS[-1])
    (stage,) = recipe.stages
    pixels = stage.frames * stage.batch * stage.patch**2
    seconds = math.fsum(result.seconds for result in results.values())
    return [
        "Budgets differ: the paper trains its whole network for 400 epochs of 5800 sequences on a GPU; here each has "
        f"{stage.iterations} steps of {pixels} LR pixels, the same for all, and is a narrow one with a bicubic skip.",
        f"Test clips: the first {ablation.frames} frames of each in {ablation.test.name}, PSNR-Y in dB / SSIM, "
        "8 border pixels cut. Absolute figures are not comparable with the paper's, only their order is.",
        "One seed each: a difference of a few hundredths of a dB is no difference.",
        f"Training of {len(results)} networks took {seconds / 60:.1f} minutes.",
    ]


def ablation_json(ablation: Ablation, results: Results, bicubic: AblationResult) -> dict[str, Any]:
    """Everything as plain values."""
    return {
        "iterations": ablation.make_recipe(VARIANTS[-1]).iterations,
        "frames": ablation.frames,
        "bicubic": {"psnr_y": round(bicubic.psnr_y, 4), "ssim_y": round(bicubic.ssim_y, 4)},
        "variants": [
            {"table": v.table, "name": v.name, "layers": v.layers, "paper_psnr": v.psnr, "paper_ssim": v.ssim}
            | ({name: round(value, 4) for name, value in vars(results[v.key]).items()} if v.key in results else {})
            for v in ablation.variants
        ],
        "orderings": [vars(check) | {"holds": check.holds} for check in check_orderings(ablation, results)],
    }
