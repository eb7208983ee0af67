"""Make a weights file for release, with its model card, from the averaged weights of a training checkpoint.

    python tools/export_weights.py RUN weights/NAME.safetensors [--measured Vid4.json] [--failures worst.png]

RUN is the folder of a run, its checkpoint.pt, or a weights file to measure again. The card receives the facts of the
file. The record for `ristn_cli/weights/records.py` is printed.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

from model_card import BARE_CARD, config_name, fill_card, headline  # noqa: E402

from ristn_cli.model import RISTN, RISTNConfig  # noqa: E402
from ristn_cli.own_files import write_text, writing  # noqa: E402
from ristn_cli.printable import printable  # noqa: E402
from ristn_cli.training.journal import read_log  # noqa: E402
from ristn_cli.training.state import TrainingError, read_checkpoint  # noqa: E402
from ristn_cli.typed import MalformedError, build, read_json  # noqa: E402
from ristn_cli.weights import WeightsError, file_sha256, load_weights, read_metadata, save_weights  # noqa: E402


@dataclass(frozen=True)
class Trained:
    """The averaged weights of a run and its record, which `save_weights` stores as `metrics`.

    The record contains `recipe`, `iterations`, `seconds`, the `source` (`clean` or `compressed` footage),
    `start_sha256` if the run started with a file, and the validation of these weights if the log has it.
    """

    model: RISTN
    record: dict[str, Any]


def read_trained(checkpoint: Path) -> Trained:
    """Read what a release needs from a checkpoint.

    Args:
        checkpoint: the file, or the folder of the run.

    Raises:
        TrainingError: not a checkpoint of `ristn train`.
    """
    path = checkpoint / "checkpoint.pt" if checkpoint.is_dir() else checkpoint
    state = read_checkpoint(path, advice="expected the checkpoint.pt of a run of ristn train")
    try:
        recipe = state["recipe"]
        config = RISTNConfig.from_dict(recipe["model"])
        if recipe["stages"][state["stage_index"]].get("part") == "spatial":
            config = replace(config, lstm_layers=0)
        model = RISTN(config)
        # AveragedModel stores the network under `module.`, next to its step count.
        averaged = {k.removeprefix("module."): v for k, v in state["average"].items() if k.startswith("module.")}
        model.load_state_dict(averaged)
        record = {
            "recipe": recipe["name"],
            "iterations": state["iteration"],
            "seconds": round(state["elapsed_seconds"]),
            "source": "compressed" if recipe.get("data", {}).get("degradation") == "real" else "clean",
        }
    except (KeyError, IndexError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"{path}: not a checkpoint of this version of ristn ({reason})") from error
    if state.get("start_sha256"):
        record["start_sha256"] = state["start_sha256"]
    return Trained(model.eval(), read_validation(path.with_name("log.jsonl"), state["iteration"]) | record)


def read_released(path: Path) -> Trained:
    """Read a weights file, without what was measured of it. Raises WeightsError if it is none."""
    metrics = read_metadata(path)["metrics"]
    record = {name: value for name, value in metrics.items() if name not in ("measured", "failures_sha256")}
    return Trained(load_weights(path), record)


def read_validation(log: Path, iteration: int) -> dict[str, float]:
    """Return the validation of a step from a run's log; empty if there is none."""
    found = (entry for entry in read_log(log) if entry["iteration"] == iteration)
    return dict(next(found, {}).get("validation", {}))


def read_figures(path: Path) -> dict[str, Any]:
    """Read `ristn evaluate --json` of one network and bicubic: `protocol`, and figures of `clips` and `mean`.

    Raises:
        WeightsError: the file has another content.
    """

    def number(of: dict[str, Any], name: str) -> float:
        return cast("float", build(float, of[name], name))

    def figures(below: dict[str, Any], of: dict[str, Any]) -> dict[str, float]:
        scores = {name: number(of["mean"], name) for name in ("psnr_y", "ssim_y")}
        scores |= {f"bicubic_{name}": number(below["mean"], name) for name in ("psnr_y", "ssim_y")}
        is_there = of["mean"].get("temporal_gain") is not None
        return scores | ({"temporal_gain": number(of["mean"], "temporal_gain")} if is_there else {})

    try:
        report = build(dict[str, Any], read_json(path))
        protocol, methods = report["protocol"], report["methods"]
        windows = build(dict[str, int], protocol["windows"], "windows")
        (ours,) = windows
        bicubic, network = (methods[name] for name in ("bicubic", ours))
        told: dict[str, Any] = {"degradation": build(str, protocol["degradation"], "degradation")}
        for codec, name in (("crf", "x264_crf"), ("mpeg2", "mpeg2_scale"), ("mpeg4", "mpeg4_scale")):
            if protocol.get(codec) is not None:
                told[name] = build(int, protocol[codec], codec)
        told |= {name: build(int, protocol[name], name) for name in ("crop_border", "skip")}
        clips = {
            name: {"frames": build(int, clip["scored"], "scored")}
            | figures(bicubic["clips"][name], network["clips"][name])
            for name, clip in report["clips"].items()
        }
        read = {"protocol": told | {"window": windows[ours]}, "clips": clips, "mean": figures(bicubic, network)}
        failures = build(list[dict[str, Any]], report["failures"], "failures") if "failures" in report else None
        return read if failures is None else read | {"failures": failures}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: is not a result of ristn evaluate --json for one network ({error})") from error


def describe_record(path: Path) -> str:
    metadata = read_metadata(path)
    fields = {
        "name": path.stem,
        "sha256": file_sha256(path),
        "size": path.stat().st_size,
        "config": config_name(metadata["config"]),
        "source": metadata["metrics"].get("source", "clean"),
        "metrics": headline(metadata["metrics"]),
        "repository": f"ristn/{path.stem}",
        "revision": "v1",
    }
    values = (f"    {name}={json.dumps(value)}," for name, value in fields.items())
    return "\n".join(["Release(", *values, "),"])


def export(options: argparse.Namespace) -> None:
    """Write the weights, the card and the picture of the failures; print the record.

    Raises:
        WeightsError: the measured figures, the card or the picture do not match.
        TrainingError: the checkpoint cannot be read.
        OSError: a file cannot be read or written.
    """
    output: Path = options.output
    is_weights = options.checkpoint.suffix == ".safetensors"
    trained = read_released(options.checkpoint) if is_weights else read_trained(options.checkpoint)
    config_name(trained.model.config)
    figures = {path.stem: read_figures(path) for path in options.measured}
    own = output.with_suffix(".md")
    prose_of = options.card or (own if own.exists() else None)
    prose = BARE_CARD if prose_of is None else prose_of.read_text(encoding="utf-8")
    listed = [label for label, scores in figures.items() if scores.get("failures")]
    for part, needs_it in (("measured", bool(figures)), ("failures", bool(listed))):
        if needs_it and f"<!-- {part} -->" not in prose:
            raise WeightsError(f"{prose_of}: has no <!-- {part} --> and <!-- end --> around its {part}")
    more: dict[str, Any] = {"measured": figures} if figures else {}
    if options.failures is not None:
        if len(listed) != 1:
            raise WeightsError(f"{options.failures}: shows the failures of one of --measured; {len(listed)} have them")
        shown = output.with_name(f"{output.stem}.failures.png")
        more["failures_sha256"] = file_sha256(options.failures)
        if options.failures.resolve() != shown.resolve():
            with options.failures.open("rb") as original, writing(shown) as copy:
                shutil.copyfileobj(original, copy)
    save_weights(trained.model, output, metrics=trained.record | more)
    write_text(own, fill_card(prose, output))
    print(f"{output} and {own.name}; the record of it:", file=sys.stderr)
    print(describe_record(output))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code. An expected error is one line on standard error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "checkpoint", type=Path, help="folder of a run of ristn train, its checkpoint.pt, or a weights file"
    )
    parser.add_argument("output", type=Path, help="NAME.safetensors to write; its card is NAME.md beside it")
    parser.add_argument(
        "--measured", type=Path, action="append", default=[], help="LABEL.json by ristn evaluate --json; repeatable"
    )
    parser.add_argument(
        "--failures",
        type=Path,
        help="PNG by ristn evaluate --failures for one of --measured; copied to NAME.failures.png",
    )
    parser.add_argument("--card", type=Path, help="card to copy the prose from (default: NAME.md if it exists)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    options = parser.parse_args(arguments)
    if options.output.suffix != ".safetensors":
        parser.error(f"{options.output}: expected a name that ends in .safetensors")
    if options.output.exists() and not options.overwrite:
        parser.error(f"{options.output}: already exists; use --overwrite to replace it")
    try:
        export(options)
    except FileNotFoundError as error:
        print(printable(f"{error.filename}: no such file"), file=sys.stderr)
        return 1
    except (WeightsError, TrainingError, MalformedError, OSError) as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
