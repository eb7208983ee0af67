"""Train and evaluate the paper's ablations (Tables 1 to 3) with a small budget, next to the paper's figures.

    python tools/ablate.py --data DATA --test VID4 --output runs/ablation [--table 1] [--iterations 400]

Finished networks are kept: the same command resumes after a stop.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from ablation_runs import (  # noqa: E402
    DEPTHS,
    TABLE_3,
    VARIANTS,
    Ablation,
    AblationResult,
    Variant,
    read_results,
    run_ablation,
    score_bicubic,
)

from ristn_cli.engine.device import DeviceError, choose_backend  # noqa: E402
from ristn_cli.evaluation.tables import Table, to_markdown  # noqa: E402
from ristn_cli.printable import printable  # noqa: E402
from ristn_cli.training.recipe import RecipeError  # noqa: E402
from ristn_cli.training.state import TrainingError  # noqa: E402
from ristn_cli.typed import MalformedError  # noqa: E402
from ristn_cli.video import VideoError  # noqa: E402
from ristn_cli.weights import WeightsError  # noqa: E402

Results = Mapping[str, AblationResult]

BICUBIC = {1: "28.42 / 0.810", 2: "23.74 / 0.633", 3: "23.74"}
"""The paper's bicubic scores: Table 1 on Set5, Tables 2 and 3 on Vid4."""

TITLES = {
    1: "Table 1: blocks of the single-image network; the paper on Set5",
    2: "Table 2: fusion; the paper on Vid4",
    3: "Table 3: recurrent variants by layers; the paper on Vid4",
}


@dataclass(frozen=True)
class Ordering:
    """Comparison of our order of some variants with the paper's.

    Attributes:
        name: what is compared.
        order: the paper's order, worst first.
        found: our order.
        agreeing: number of `pairs` with the same order.
        extent: our best minus our worst, in dB.
    """

    name: str
    order: tuple[str, ...]
    found: tuple[str, ...]
    agreeing: int
    pairs: int
    extent: float

    @property
    def holds(self) -> bool:
        return self.agreeing == self.pairs


def ablation_tables(ablation: Ablation, results: Results, bicubic: AblationResult) -> list[Table]:
    """Return the paper's tables with our figures; a dash for unfinished networks."""
    makers = {1: flat_table, 2: flat_table, 3: depth_table}
    return [makers[number](number, results, bicubic) for number in sorted(set(ablation.tables))]


def flat_table(number: int, results: Results, bicubic: AblationResult) -> Table:
    rows = [("bicubic", BICUBIC[number], f"{bicubic.psnr_y:.2f} / {bicubic.ssim_y:.4f}", "", "")]
    for variant in (variant for variant in VARIANTS if variant.table == number):
        found = results.get(variant.key)
        ours = ("-", "-", "-")
        if found is not None:
            ours = (f"{found.psnr_y:.2f} / {found.ssim_y:.4f}", f"{found.parameters:,}", f"{found.seconds:.0f} s")
        rows.append((variant.name, f"{variant.psnr:.2f} / {variant.ssim:.3f}", *ours))
    return Table(TITLES[number], ("", "paper", "ours", "parameters", "training"), tuple(rows))


def depth_table(number: int, results: Results, bicubic: AblationResult) -> Table:
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
    """Return the orderings of Tables 1 and 2, and of finished depths and patterns of Table 3."""
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
    return Table("The paper's orderings compared with ours", ("", "paper", "ours", "order", "best - worst"), rows)


def state_budget(ablation: Ablation, results: Results) -> list[str]:
    """Describe the conditions of the figures, and how the budget differs from the paper's."""
    recipe = ablation.make_recipe(VARIANTS[-1])
    (stage,) = recipe.stages
    pixels = stage.frames * stage.batch * stage.patch**2
    seconds = math.fsum(result.seconds for result in results.values())
    return [
        "Budgets differ: the paper trains its whole network for 400 epochs of 5800 sequences on a GPU; here each has "
        f"{stage.iterations} steps of {pixels} LR pixels, the same for all, and is a narrow one with a bicubic skip.",
        f"Test clips: the first {ablation.frames} frames of each in {ablation.test.name}, PSNR-Y in dB / SSIM, "
        "8 border pixels cut. Absolute figures are not comparable with the paper's, only their order is.",
        "One seed each: differences of a few hundredths of a dB are not significant.",
        f"Training of {len(results)} networks took {seconds / 60:.1f} minutes.",
    ]


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder with train/photos and train/clips")
    parser.add_argument("--test", type=Path, help="clips to score on, such as Vid4 (default: DATA/validation/clips)")
    parser.add_argument("--output", type=Path, default=Path("ablation"), help="folder of the runs (default: ablation)")
    parser.add_argument("--table", type=int, choices=(1, 2, 3), action="append", help="only this table; repeatable")
    parser.add_argument("--iterations", type=int, help="steps of each network (default: 600)")
    parser.add_argument("--frames", type=int, default=10, help="frames of each test clip to score (default: 10)")
    parser.add_argument("--minutes", type=float, help="save and stop after this time (default: no limit)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    parser.add_argument("--precision", default="auto", help="auto, fp32, fp16 or bf16 (default: auto)")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> int:
    """Train missing networks and print the tables; return 1 if a signal stopped the training."""
    ablation = Ablation(
        data=options.data,
        test=options.test or options.data / "validation" / "clips",
        output=options.output,
        tables=tuple(sorted(set(options.table or (1, 2, 3)))),
        iterations=options.iterations,
        frames=options.frames,
    )
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)  # a second signal ends the program immediately

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        network = ""
        for done in run_ablation(
            ablation,
            choose_backend(options.device, options.precision),
            minutes=options.minutes,
            should_stop=lambda: bool(received),
        ):
            if done.name != network:
                network = done.name
                print(f"network {done.position + 1} of {done.count}: {network}", file=sys.stderr, flush=True)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    results = read_results(ablation)
    if any(variant.key not in results for variant in ablation.variants):
        reason = "stopped" if received else "time is up"
        print(f"{reason} with {len(results)} networks finished; the same command continues", file=sys.stderr)
        if received:
            return 1
    tables = ablation_tables(ablation, results, score_bicubic(ablation))
    if orderings := check_orderings(ablation, results):
        tables.append(ordering_table(orderings))
    print("\n\n".join([*map(to_markdown, tables), *map(printable, state_budget(ablation, results))]))
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. An expected error is one line on standard error."""
    try:
        return run(parse_arguments(arguments))
    except (DeviceError, RecipeError, TrainingError, MalformedError, VideoError, WeightsError, OSError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
