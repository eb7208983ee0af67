"""`ristn upscale`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.markup import escape

from ristn_cli.cli.info import JsonOption, describe_plan, write_json
from ristn_cli.cli.terminal import (
    EXIT_CODES,
    CompileOption,
    DebugOption,
    DeviceOption,
    MaxFramesOption,
    MemoryOption,
    ModelOption,
    PrecisionOption,
    TileOption,
    WeightsOption,
    WindowOption,
    build_upscaler,
    console,
    errors,
    format_seconds,
    log,
    note,
    parse_bytes,
    parse_time,
    progress_bar,
    reported_errors,
    stop_requests,
    warn,
)

if TYPE_CHECKING:
    from ristn_cli.inference.plan import JobPlan
    from ristn_cli.inference.progress import Progress

ProgressMode = Literal["auto", "bar", "json", "none"]


def parse_encoder_arguments(given: list[str]) -> dict[str, str]:
    """`key=value` pairs as a dictionary.

    Raises:
        typer.BadParameter: one is no such pair.
    """
    pairs = [argument.partition("=") for argument in given]
    for key, equals, value in pairs:
        if not (key and equals and value):
            raise typer.BadParameter(f"{key + equals + value!r} is not an encoder option; expected key=value")
    return {key: value for key, _, value in pairs}


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height of `1920x1080`.

    Raises:
        typer.BadParameter: it is no size.
    """
    if text is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a size; expected WIDTHxHEIGHT such as 1920x1080")
    return int(found[1]), int(found[2])


@contextmanager
def shown_progress(mode: ProgressMode, name: str) -> Iterator[Callable[[Progress], None]]:
    """Within, what to tell where the job stands: a bar (`auto`: on a terminal), JSON lines on stderr, or nothing."""
    if mode == "json":
        yield write_progress
        return
    with progress_bar(is_shown=mode == "bar" or (mode == "auto" and errors.is_terminal)) as bar:
        task = bar.add_task(name, total=None, note="")

        def update(done: Progress) -> None:
            speed = f"{done.frames_per_second:.2f} fps, {format_seconds(done.remaining_seconds)} left"
            bar.update(task, completed=done.frames, total=done.total, note=speed)

        yield update


def write_progress(done: Progress) -> None:
    """One JSON object on a line of stderr; null for what is unknown."""
    remaining = done.remaining_seconds
    values = {
        "frames": done.frames,
        "total": done.total,
        "fps": round(done.frames_per_second, 3),
        "elapsed": round(done.elapsed_seconds, 3),
        "remaining": None if remaining is None else round(remaining, 3),
        "part": done.part,
    }
    sys.stderr.write(json.dumps(values) + "\n")
    sys.stderr.flush()


def upscale(
    source: Annotated[Path, typer.Argument(help="Video to upscale.")],
    target: Annotated[Path, typer.Argument(help="Video to write; its suffix chooses the container.")],
    model: ModelOption = "ristn-lite",
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    compilation: CompileOption = "auto",
    tile: TileOption = None,
    window: WindowOption = None,
    memory_limit: MemoryOption = None,
    no_scene_cuts: Annotated[
        bool, typer.Option("--no-scene-cuts", help="Read neighbouring frames across scene cuts, too.")
    ] = False,
    codec: Annotated[
        str, typer.Option(help="h264, hevc, av1, prores, ffv1, or *_nvenc; auto is h264, hevc for 10-bit sources.")
    ] = "auto",
    crf: Annotated[float, typer.Option(min=0, max=63, help="Constant rate factor: lower is better and larger.")] = 17,
    preset: Annotated[str, typer.Option(help="Speed preset of the encoder.")] = "medium",
    pix_fmt: Annotated[
        str | None, typer.Option(help="Pixel format of the output, by FFmpeg's name, such as yuv444p10le.")
    ] = None,
    encoder_arg: Annotated[
        list[str] | None, typer.Option(help="key=value for the encoder, by FFmpeg's names; may be repeated.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="Begin here: seconds, M:SS or H:MM:SS.")] = None,
    end: Annotated[str | None, typer.Option(help="Stop here: seconds, M:SS or H:MM:SS.")] = None,
    max_frames: MaxFramesOption = None,
    no_audio: Annotated[bool, typer.Option("--no-audio", help="Leave out the sound.")] = False,
    no_subtitles: Annotated[bool, typer.Option("--no-subtitles", help="Leave out the subtitles.")] = False,
    scale: Annotated[
        Literal["2", "3", "4"] | None, typer.Option(help="Times the size of the input; 2 and 3 by Lanczos from 4.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of the output, by Lanczos from the 4x result.")] = None,
    fit: Annotated[
        Literal["1080p", "2160p"] | None, typer.Option(help="As large as fits, 4x at most, by Lanczos from 4x.")
    ] = None,
    square_pixels: Annotated[
        bool, typer.Option("--square-pixels", help="Resample to pixels as wide as they are high.")
    ] = False,
    deinterlace: Annotated[
        Literal["auto", "off", "frame", "field"],
        typer.Option(help="auto: interlaced frames; off: none; frame: all; field: all, at twice the rate."),
    ] = "auto",
    drop_alpha: Annotated[bool, typer.Option("--drop-alpha", help="Go on without the source's transparency.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where the source is damaged.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Forget what an earlier, unfinished run did.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and how long it takes.")] = False,
    as_json: JsonOption = False,
    no_disk_check: Annotated[
        bool, typer.Option("--no-disk-check", help="Begin even if the disk seems too small.")
    ] = False,
    progress: Annotated[
        ProgressMode, typer.Option(help="auto is a bar on a terminal; json: a line each on stderr.")
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only warnings and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the plan before the work.")] = False,
    log_file: Annotated[Path | None, typer.Option(help="Append what happens to this file.")] = None,
    debug: DebugOption = False,
) -> None:
    """Upscale a video 4x, keeping its timestamps, sound, subtitles and everything else."""
    begin, stop = (None if text is None else parse_time(text) for text in (start, end))
    if begin is not None and stop is not None and stop <= begin:
        raise typer.BadParameter(f"--end {end} is not after --start {start}")
    if as_json and not dry_run:
        raise typer.BadParameter("--json goes with --dry-run; --progress json tells of the work")
    if sum(given is not None for given in (scale, size, fit)) > 1:
        raise typer.BadParameter("--scale, --size and --fit each say how large the output is; give one of them")
    limit = parse_bytes(memory_limit)
    exact_size = parse_size(size)
    encoder_options = parse_encoder_arguments(encoder_arg or [])
    with reported_errors(debug, log_file):
        from ristn_cli.inference.job import Interrupted, upscale_video
        from ristn_cli.inference.plan import UpscaleOptions
        from ristn_cli.inference.preflight import plan_job
        from ristn_cli.inference.progress import Progress

        options = UpscaleOptions(
            codec=codec,
            crf=crf,
            preset=preset,
            pixel_format=pix_fmt,
            encoder_options=encoder_options,
            start=begin,
            end=stop,
            max_frames=max_frames,
            with_audio=not no_audio,
            with_subtitles=not no_subtitles,
            scale=int(scale) if scale is not None else 4,  # type: ignore[arg-type]
            size=exact_size,
            fit=fit,
            square_pixels=square_pixels,
            deinterlace=deinterlace,
            drop_alpha=drop_alpha,
            strict=strict,
        )
        upscaler = build_upscaler(
            model,
            weights,
            device,
            precision,
            tile,
            window,
            detect_cuts=not no_scene_cuts,
            memory_limit=limit,
            compilation=compilation,
            quiet=quiet,
        )
        if dry_run:
            plan = plan_job(source, target, upscaler, options, overwrite=overwrite, restart=restart)
            if as_json:
                write_json(asdict(plan))
                return
            for line in describe_plan(plan):
                console.print(escape(line))
            return

        def tell_plan(plan: JobPlan) -> None:
            for line in describe_plan(plan):
                note(line, is_shown=verbose and not quiet)

        note(f"{source} to {target}", is_shown=False)
        done, damages = Progress(frames=0), 0

        def tell_damage(message: str) -> None:
            nonlocal damages
            damages += 1
            warn(message)

        mode = "none" if quiet and progress == "auto" else progress
        with shown_progress(mode, source.name) as show, stop_requests() as received:
            job = upscale_video(
                source,
                target,
                upscaler,
                options,
                overwrite=overwrite,
                restart=restart,
                disk_check=not no_disk_check,
                should_stop=lambda: bool(received),
                on_plan=tell_plan,
                on_damage=tell_damage,
            )
            try:
                for now in job:
                    show(now)
                    if now.part > done.part:
                        log.info("part %d is finished, %d frames", done.part, done.frames)
                    done = now
            except Interrupted:
                same = "the same command without --restart" if restart else "the same command"
                note(f"stopped after {done.frames} frames; {same} goes on from there")
                raise typer.Exit(EXIT_CODES[received[0]]) from None
            finally:
                job.close()  # whatever ended the loop: no stage may be left at work
        if damages:
            warn(f"{source}: damaged in {damages} places, which were concealed; --strict fails instead")
        summary = (
            f"{done.frames} frames in {format_seconds(done.elapsed_seconds)} ({done.mean_frames_per_second:.2f} fps)"
        )
        log.info("%s: %s", target, summary)
        if not quiet:
            console.print(escape(f"{target}: {summary}"))
