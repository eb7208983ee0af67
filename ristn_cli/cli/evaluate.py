"""`ristn evaluate`."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from ristn_cli.cli.terminal import (
    DebugOption,
    DeviceOption,
    MaxFramesOption,
    ModelOption,
    PrecisionOption,
    TileOption,
    WeightsOption,
    WindowOption,
    build_upscaler,
    console,
    progress_bar,
    reported_errors,
)

if TYPE_CHECKING:
    from ristn_cli.evaluation.evaluate import FrameScores


def evaluate(
    dataset: Annotated[Path, typer.Argument(help="A clip, or a folder of clips: the ground truth.")],
    model: ModelOption = "ristn-lite",
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    tile: TileOption = None,
    window: WindowOption = None,
    degradation: Annotated[
        Literal["BI", "BD"], typer.Option(help="How LR is made: bicubic, or blurred and decimated.")
    ] = "BI",
    skip: Annotated[int, typer.Option(min=0, help="Frames at each end of a clip that are not scored.")] = 0,
    max_frames: MaxFramesOption = None,
    temporal_gain: Annotated[
        bool, typer.Option("--temporal-gain", help="Also PSNR with true neighbours minus PSNR with the frame repeated.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    debug: DebugOption = False,
) -> None:
    """Measure PSNR-Y and SSIM against the original and against bicubic, as the paper's tables do."""
    with reported_errors(debug):
        from ristn_cli.evaluation.evaluate import ClipScores, evaluate_clip, find_clips, mean_scores

        clips = find_clips(dataset)
        upscaler = build_upscaler(model, weights, device, precision, tile, window)
        rows: list[ClipScores] = []
        with progress_bar() as bar:
            for clip in clips:
                task = bar.add_task(clip.stem, total=None, note="")
                scores = []
                for score in evaluate_clip(
                    clip,
                    upscaler,
                    degradation=degradation,
                    skip=skip,
                    max_frames=max_frames,
                    temporal_gain=temporal_gain,
                ):
                    scores.append(score)
                    bar.update(task, completed=len(scores), note=f"{score.psnr_y:.2f} dB")
                rows.append(ClipScores(clip=clip.stem, frames=len(scores), means=mean_scores(scores)))
        mean = mean_scores(row.means for row in rows)
        if as_json:
            protocol = {"degradation": degradation, "crop_border": 8, "skip": skip, "window": upscaler.tiling.window}
            clips_json = {row.clip: {"frames": row.frames} | finite(row.means) for row in rows}
            sys.stdout.write(json.dumps({"protocol": protocol, "clips": clips_json, "mean": finite(mean)}) + "\n")
            return
        ends = f"all but {skip} frames at each end" if skip else "all frames"
        table = Table(title=f"PSNR-Y in dB / SSIM, {degradation}, 8 border pixels cut, {ends}")
        for heading in ("clip", "frames", "bicubic", "ours", "gain", *(["temporal gain"] if temporal_gain else [])):
            table.add_column(heading, justify="left" if heading == "clip" else "right")
        for name, count, means in [*((r.clip, str(r.frames), r.means) for r in rows), ("mean", "", mean)]:
            table.add_row(
                name,
                count,
                f"{means.bicubic_psnr_y:.2f} / {means.bicubic_ssim_y:.4f}",
                f"{means.psnr_y:.2f} / {means.ssim_y:.4f}",
                f"{means.psnr_y - means.bicubic_psnr_y:+.2f}",
                *([f"{means.temporal_gain:+.3f}"] if temporal_gain else []),
            )
        console.print(table)


def finite(scores: FrameScores) -> dict[str, float]:
    """Scores that were measured, for JSON, which has no NaN."""
    return {name: round(value, 4) for name, value in asdict(scores).items() if math.isfinite(value)}
