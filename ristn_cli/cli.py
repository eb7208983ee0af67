"""Command line: parse, call, show. The only module that knows typer and rich, or prints.

The package's own modules are imported inside the commands: `ristn --help` must not wait for torch.
"""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from ristn_cli.evaluation.evaluate import FrameScores
    from ristn_cli.inference.upscaler import Upscaler

FAILED = 1
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Upscale video 4x with RISTN, a Residual Invertible Spatio-Temporal Network.",
)
console = Console()
errors = Console(stderr=True, soft_wrap=True)


def parse_time(text: str) -> Fraction:
    """Seconds of `90`, `1:30`, `0:01:30` or `1:30.5`.

    Raises:
        typer.BadParameter: it is none of these.
    """
    try:
        parts = [Fraction(part) for part in text.split(":")]
    except ValueError:
        parts = []
    if not 1 <= len(parts) <= 3 or any(part < 0 for part in parts) or any(part >= 60 for part in parts[1:]):
        raise typer.BadParameter(f"{text!r} is not a time; expected seconds, M:SS or H:MM:SS")
    seconds = Fraction(0)
    for part in parts:
        seconds = 60 * seconds + part
    return seconds


ModelOption = Annotated[str, typer.Option(help="Released weights to use.")]
WeightsOption = Annotated[Path | None, typer.Option(help="Weights file (.safetensors) to use instead.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
PrecisionOption = Annotated[str, typer.Option(help="auto, fp32, fp16 or bf16.")]
TileOption = Annotated[int | None, typer.Option(min=32, help="Largest side of a tile in source pixels.")]
WindowOption = Annotated[int | None, typer.Option(min=1, help="Frames that the network reads together.")]
MaxFramesOption = Annotated[int | None, typer.Option(min=1, help="Stop after as many frames.")]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


class Stopped(BaseException):
    """A signal that ends the run at once; unwinds like KeyboardInterrupt, so that everything is cleaned up."""

    def __init__(self, number: int) -> None:
        self.exit_code = EXIT_CODES[signal.Signals(number)]


def stop_at_once(number: int, _: Any) -> None:
    """Signal handler outside of work that can be finished first."""
    raise Stopped(number)


@contextmanager
def stop_requests() -> Iterator[list[signal.Signals]]:
    """Within, a first Ctrl-C or SIGTERM is put on the list for the work to notice; a second stops at once."""
    received: list[signal.Signals] = []

    def note(number: int, frame: Any) -> None:
        if received:
            stop_at_once(number, frame)
        received.append(signal.Signals(number))
        errors.print("finishing what is in flight; once more stops at once", highlight=False)

    for number in EXIT_CODES:
        signal.signal(number, note)
    try:
        yield received
    finally:
        for number in EXIT_CODES:
            signal.signal(number, stop_at_once)


@contextmanager
def reported_errors(debug: bool) -> Iterator[None]:
    """Show an expected error as one line and leave with its exit code; signals leave with theirs."""
    for number in EXIT_CODES:
        signal.signal(number, stop_at_once)
    try:
        from ristn_cli.inference.device import DeviceError
        from ristn_cli.inference.manifest import JobError
        from ristn_cli.training.recipe import RecipeError
        from ristn_cli.training.train import TrainingError
        from ristn_cli.video import VideoError
        from ristn_cli.weights import WeightsError

        expected = (VideoError, WeightsError, DeviceError, JobError, RecipeError, TrainingError, OSError)
        try:
            yield
        except expected as error:
            if debug:
                raise
            errors.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
            raise typer.Exit(FAILED) from error
    except Stopped as stopped:
        errors.print("stopped at once", highlight=False)
        raise typer.Exit(stopped.exit_code) from stopped


def build_upscaler(
    model: str, weights: Path | None, device: str, precision: str, tile: int | None, window: int | None
) -> Upscaler:
    """The engine that the common options describe."""
    from ristn_cli.inference.device import choose_backend
    from ristn_cli.inference.upscaler import Tiling, Upscaler
    from ristn_cli.weights import find_weights, load_weights

    backend = choose_backend(device, precision)
    network = load_weights(weights if weights is not None else find_weights(model))
    standard = Tiling()
    length = standard.window if window is None else window
    side = standard.tile if tile is None else tile
    tiling = Tiling(
        window=length,
        context=min(standard.context, (length - 1) // 2),
        tile=side,
        overlap=min(standard.overlap, (side - 1) // 4),
    )
    return Upscaler(network, backend, tiling)


def format_seconds(seconds: float | None) -> str:
    """`M:SS` or `H:MM:SS`; dashes when unknown."""
    if seconds is None or not math.isfinite(seconds):
        return "-:--"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def progress_bar() -> Progress:
    """A bar with elapsed time and a `note`; nothing is drawn when stderr is not a terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeElapsedColumn(),
        console=errors,
        disable=not errors.is_terminal,
    )


@app.command()
def upscale(
    source: Annotated[Path, typer.Argument(help="Video to upscale.")],
    target: Annotated[Path, typer.Argument(help="Video to write; its suffix chooses the container.")],
    model: ModelOption = "ristn-lite",
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    tile: TileOption = None,
    window: WindowOption = None,
    codec: Annotated[
        str, typer.Option(help="h264, hevc, av1, prores, ffv1, or *_nvenc; auto is h264, hevc for 10-bit sources.")
    ] = "auto",
    crf: Annotated[float, typer.Option(min=0, max=63, help="Constant rate factor: lower is better and larger.")] = 17,
    preset: Annotated[str, typer.Option(help="Speed preset of the encoder.")] = "medium",
    start: Annotated[str | None, typer.Option(help="Begin here: seconds, M:SS or H:MM:SS.")] = None,
    end: Annotated[str | None, typer.Option(help="Stop here: seconds, M:SS or H:MM:SS.")] = None,
    max_frames: MaxFramesOption = None,
    no_audio: Annotated[bool, typer.Option("--no-audio", help="Leave out the sound.")] = False,
    no_subtitles: Annotated[bool, typer.Option("--no-subtitles", help="Leave out the subtitles.")] = False,
    deinterlace: Annotated[
        Literal["auto", "frame", "off"], typer.Option(help="Frames flagged as interlaced, all, or none.")
    ] = "auto",
    drop_alpha: Annotated[bool, typer.Option("--drop-alpha", help="Go on without the source's transparency.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where the source is damaged.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an earlier, unfinished run did.")] = False,
    debug: DebugOption = False,
) -> None:
    """Upscale a video 4x, keeping its timestamps, sound, subtitles and everything else."""
    begin, stop = (None if text is None else parse_time(text) for text in (start, end))
    if begin is not None and stop is not None and stop <= begin:
        raise typer.BadParameter(f"--end {end} is not after --start {start}")
    with reported_errors(debug):
        from ristn_cli.inference.job import Interrupted, UpscaleOptions, upscale_video
        from ristn_cli.inference.job import Progress as JobProgress

        options = UpscaleOptions(
            codec=codec,
            crf=crf,
            preset=preset,
            start=begin,
            end=stop,
            max_frames=max_frames,
            with_audio=not no_audio,
            with_subtitles=not no_subtitles,
            deinterlace=deinterlace,
            drop_alpha=drop_alpha,
            strict=strict,
        )
        upscaler = build_upscaler(model, weights, device, precision, tile, window)
        done = JobProgress(frames=0)
        with progress_bar() as bar, stop_requests() as received:
            task = bar.add_task(source.name, total=None, note="")
            job = upscale_video(
                source,
                target,
                upscaler,
                options,
                overwrite=overwrite,
                restart=restart,
                should_stop=lambda: bool(received),
                on_damage=lambda message: errors.print(f"warning: {escape(message)}", highlight=False),
            )
            try:
                for done in job:
                    note = f"{done.frames_per_second:.2f} fps, {format_seconds(done.remaining_seconds)} left"
                    bar.update(task, completed=done.frames, total=done.total, note=note)
            except Interrupted:
                errors.print(
                    f"stopped after {done.frames} frames; the same command goes on from there", highlight=False
                )
                raise typer.Exit(EXIT_CODES[received[0]]) from None
        console.print(
            f"{escape(str(target))}: {done.frames} frames in {format_seconds(done.elapsed_seconds)}"
            f" ({done.frames_per_second:.2f} fps)",
            highlight=False,
            soft_wrap=True,
        )


@app.command()
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
    return {name: round(value, 4) for name, value in asdict(scores).items() if not math.isnan(value)}


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A .toml file, or a recipe that comes with ristn: lite, paper.")],
    data: Annotated[Path, typer.Option(help="Folder that the recipe's folders are in.")] = Path("data"),
    output: Annotated[Path, typer.Option(help="Folder of the run: checkpoint, log, curve, weights.")] = Path("run"),
    minutes: Annotated[float | None, typer.Option(min=0, help="Save and stop after this long.")] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that prepare batches.")] = 1,
    debug: DebugOption = False,
) -> None:
    """Train weights by a recipe. The same command goes on where a stopped run was."""
    with reported_errors(debug):
        from ristn_cli.inference.device import choose_backend
        from ristn_cli.training.recipe import load_recipe
        from ristn_cli.training.train import train as run_training

        chosen = load_recipe(recipe)
        with progress_bar() as bar, stop_requests() as received:
            task = bar.add_task(chosen.name, total=chosen.iterations, note="")
            for done in run_training(
                chosen,
                data=data,
                output=output,
                backend=choose_backend(device, precision),
                minutes=minutes,
                workers=workers,
                should_stop=lambda: bool(received),
            ):
                note = (
                    f"{done.pixels_per_second / 1000:.1f} k LR pixels/s, {format_seconds(done.remaining_seconds)} left"
                )
                if done.validation:
                    note += f", PSNR-Y {done.validation['psnr_y']:.2f} dB"
                bar.update(task, completed=done.iteration, note=note)
                if done.validation and done.iteration % chosen.validate_every == 0:
                    shown = ", ".join(f"{name} {value:.3f}" for name, value in done.validation.items())
                    bar.console.print(f"step {done.iteration}: loss {done.loss:.6f}, {shown}", highlight=False)
        if received:
            errors.print(f"stopped; the same command goes on from {escape(str(output))}", highlight=False)
            raise typer.Exit(EXIT_CODES[received[0]])


def main() -> None:
    """Entry point of the `ristn` command."""
    app()


if __name__ == "__main__":
    main()
