"""`ristn export-weights`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from ristn_cli.cli.terminal import DebugOption, note, reported_errors, show


def export_weights(
    checkpoint: Annotated[Path, typer.Argument(help="checkpoint.pt of a run of ristn train, or the run's folder.")],
    output: Annotated[Path, typer.Argument(help="File to write: NAME.safetensors; its card is NAME.md beside it.")],
    measured: Annotated[
        list[Path] | None,
        typer.Option(help="LABEL.json that ristn evaluate --json wrote of these weights; may be repeated."),
    ] = None,
    failures: Annotated[
        Path | None,
        typer.Option(
            help="PNG of ristn evaluate --failures that goes with one of --measured: becomes NAME.failures.png."
        ),
    ] = None,
    card: Annotated[
        Path | None, typer.Option(help="Card whose prose to take; else that of a NAME.md that is there.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    debug: DebugOption = False,
) -> None:
    """Make a weights file to release, with its model card, from a training checkpoint: the averaged weights.

    What the file states of itself is filled into the card; the record for the registry is printed.
    """
    if output.suffix != ".safetensors":
        raise typer.BadParameter(f"{output}: expected a name that ends in .safetensors")
    if output.exists() and not overwrite:
        raise typer.BadParameter(f"{output}: already exists; use --overwrite to replace it")
    with reported_errors(debug):
        from ristn_cli.own_files import write_text, writing
        from ristn_cli.training.release import read_trained
        from ristn_cli.weights import WeightsError, file_sha256, save_weights
        from ristn_cli.weights.card import BARE_CARD, config_name, fill_card

        trained = read_trained(checkpoint)
        config_name(trained.model.config)
        figures = {path.stem: read_figures(path) for path in measured or []}
        own = output.with_suffix(".md")
        prose_of = card or (own if own.exists() else None)
        prose = BARE_CARD if prose_of is None else prose_of.read_text(encoding="utf-8")
        if figures and "<!-- measured -->" not in prose:
            raise WeightsError(f"{prose_of}: has no <!-- measured --> and <!-- end --> around what was measured")
        listed = [label for label, scores in figures.items() if scores.get("failures")]
        if listed and "<!-- failures -->" not in prose:
            raise WeightsError(f"{prose_of}: has no <!-- failures --> and <!-- end --> around the places of failure")
        more: dict[str, Any] = {"measured": figures} if figures else {}
        if failures is not None:
            if len(listed) != 1:
                raise WeightsError(f"{failures}: shows the failures of one of --measured; {len(listed)} have them")
            shown = output.with_name(f"{output.stem}.failures.png")
            more["failures_sha256"] = file_sha256(failures)
            if failures.resolve() != shown.resolve():
                with failures.open("rb") as original, writing(shown) as copy:
                    shutil.copyfileobj(original, copy)
        save_weights(trained.model, output, metrics=trained.record | more)
        write_text(own, fill_card(prose, output))
        note(f"{output} and {own.name}; the record of it:")
        for line in describe_record(output).splitlines():
            show(line)


def read_figures(path: Path) -> dict[str, Any]:
    """What `ristn evaluate --json` wrote of one network, beside bicubic: `protocol`, and figures of `clips` and `mean`.

    Raises:
        WeightsError: anything else.
    """
    from ristn_cli.typed import build, read_json
    from ristn_cli.weights import WeightsError

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
        if protocol.get("crf") is not None:
            told["x264_crf"] = build(int, protocol["crf"], "crf")
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
        raise WeightsError(f"{path}: not what ristn evaluate --json writes of one network ({error})") from error


def describe_record(path: Path) -> str:
    """The lines of a weights file for `RELEASES`."""
    from ristn_cli.weights import file_sha256, read_metadata
    from ristn_cli.weights.card import config_name, headline

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
