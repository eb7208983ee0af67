"""`ristn upscale`."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from ristn_cli.cli.batch import run_batch, show_plans
from ristn_cli.cli.info import JsonOption, describe_plan, write_json
from ristn_cli.cli.terminal import (
    EXIT_CODES,
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
    from ristn_cli.inference.plan import JobPlan, UpscaleOptions
    from ristn_cli.inference.progress import Progress
    from ristn_cli.inference.upscaler import Upscaler
    from ristn_cli.video import RawFormat

ProgressMode = Literal["auto", "bar", "json", "none"]
STREAM = Path("-")


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


def parse_rate(text: str) -> Fraction:
    """Frames a second of `24`, `23.976` or `24000/1001`.

    Raises:
        typer.BadParameter: it is none of these.
    """
    try:
        rate = Fraction(text)
    except (ValueError, ArithmeticError):
        rate = Fraction(0)
    if not 0 < rate <= 1000:
        raise typer.BadParameter(f"{text!r} is not a rate; expected frames a second such as 25 or 24000/1001")
    return rate


def parse_raw(size: str | None, rate: str, pixel_format: str) -> RawFormat | None:
    """What raw frames on standard input are; None when no size is given.

    Raises:
        typer.BadParameter: the size is none.
    """
    from ristn_cli.video import RawFormat

    if size is None:
        return None
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", size)
    if found is None:
        raise typer.BadParameter(f"--raw-size {size!r} is not a size; expected such as 640x360")
    return RawFormat(int(found[1]), int(found[2]), parse_rate(rate), pixel_format)


def check_streams(sources: list[Path], target: Path, *, dry_run: bool) -> None:
    """Refuse `-` where no stream can be.

    Raises:
        typer.BadParameter: among several inputs, with --dry-run, or where it is a terminal.
    """
    if len(sources) > 1:
        raise typer.BadParameter("- is one input and one output: it cannot be among several")
    if dry_run:
        raise typer.BadParameter("--dry-run goes with files: what comes through a pipe is not known before")
    if sources[0] == STREAM and sys.stdin.isatty():
        raise typer.BadParameter("standard input is a terminal; let a program write a video to it")
    if target == STREAM and sys.stdout.isatty():
        raise typer.BadParameter("standard output is a terminal; let a program or a file read from it")


@contextmanager
def shown_progress(
    mode: ProgressMode, name: str, labels: Mapping[str, str] | None = None
) -> Iterator[Callable[[Progress], None]]:
    """Within, what to tell where the job stands: a bar (`auto`: on a terminal), JSON lines on stderr, or nothing.

    `labels` go into each JSON line.
    """
    if mode == "json":
        yield partial(write_progress, labels=labels or {})
        return
    with progress_bar(is_shown=mode == "bar" or (mode == "auto" and errors.is_terminal)) as bar:
        task = bar.add_task(name, total=None, note="")

        def update(done: Progress) -> None:
            speed = f"{done.frames_per_second:.2f} fps, {format_seconds(done.remaining_seconds)} left"
            bar.update(task, completed=done.frames, total=done.total, note=speed)

        yield update


def write_progress(done: Progress, labels: Mapping[str, str]) -> None:
    """One JSON object on a line of stderr; null for what is unknown."""
    remaining = done.remaining_seconds
    values = {
        **labels,
        "frames": done.frames,
        "total": done.total,
        "fps": round(done.frames_per_second, 3),
        "elapsed": round(done.elapsed_seconds, 3),
        "remaining": None if remaining is None else round(remaining, 3),
        "part": done.part,
    }
    sys.stderr.write(json.dumps(values) + "\n")
    sys.stderr.flush()


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is common to all jobs of a command; the fields are its options."""

    upscaler: Upscaler
    options: UpscaleOptions
    overwrite: bool
    restart: bool
    disk_check: bool
    progress: ProgressMode
    quiet: bool
    verbose: bool
    raw: RawFormat | None = None
    stdout_format: Literal["y4m", "matroska"] = "y4m"

    def show_plan(self, source: Path, target: Path, *, as_json: bool, makes_folder: bool = False) -> None:
        """What a job would do, on stdout; `makes_folder`: in a folder that need not be there yet."""
        from ristn_cli.inference.preflight import plan_job

        plan = plan_job(
            source,
            target,
            self.upscaler,
            self.options,
            overwrite=self.overwrite,
            restart=self.restart,
            makes_folder=makes_folder,
        )
        if as_json:
            write_json({"input": source, "output": target, **asdict(plan)})
            return
        for line in describe_plan(plan):
            console.print(escape(line))

    def begin(self, source: Path, target: Path, **told: Any) -> Iterator[Progress]:
        """The job of two files, or, where one of them is `-`, of a standard stream."""
        from ristn_cli.inference.job import upscale_video
        from ristn_cli.inference.stream import Ends, upscale_stream

        if STREAM in (source, target):
            ends = Ends(
                source=source,
                target=target,
                stdin=sys.stdin.buffer,
                stdout=sys.stdout.buffer,
                raw=self.raw,
                stdout_format=self.stdout_format,
            )
            return upscale_stream(ends, self.upscaler, self.options, overwrite=self.overwrite, on_loss=warn, **told)
        return upscale_video(
            source,
            target,
            self.upscaler,
            self.options,
            overwrite=self.overwrite,
            restart=self.restart,
            disk_check=self.disk_check,
            **told,
        )

    def run(self, source: Path, target: Path, name: str) -> str:
        """Do a job under a `name` for the bar, telling of it on stderr; a summary in a line."""
        from ristn_cli.inference.job import Interrupted
        from ristn_cli.inference.progress import Progress

        note(f"{source} to {target}", is_shown=False)
        done, damages = Progress(frames=0), 0

        def tell_plan(plan: JobPlan) -> None:
            for line in describe_plan(plan):
                note(line, is_shown=self.verbose and not self.quiet)

        def tell_damage(message: str) -> None:
            nonlocal damages
            damages += 1
            warn(message)

        mode = "none" if self.quiet and self.progress == "auto" else self.progress
        labels = {} if name == source.name else {"input": str(source)}  # one of several
        with shown_progress(mode, name, labels) as show, stop_requests() as received:
            job = self.begin(
                source, target, should_stop=lambda: bool(received), on_plan=tell_plan, on_damage=tell_damage
            )
            try:
                for now in job:
                    show(now)
                    if now.part > done.part:
                        log.info("part %d is finished, %d frames", done.part, done.frames)
                    done = now
            except Interrupted:
                if STREAM in (source, target):
                    note(f"stopped after {done.frames} frames; what flows through a pipe cannot be resumed")
                    raise typer.Exit(EXIT_CODES[received[0]]) from None
                same = "the same command without --restart" if self.restart else "the same command"
                note(f"stopped after {done.frames} frames; {same} goes on from there")
                raise typer.Exit(EXIT_CODES[received[0]]) from None
        if damages:
            warn(f"{source}: damaged in {damages} places, which were concealed; --strict fails instead")
        summary = (
            f"{done.frames} frames in {format_seconds(done.elapsed_seconds)} ({done.mean_frames_per_second:.2f} fps)"
        )
        log.info("%s: %s", target, summary)
        return f"{target}: {summary}"


def upscale(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN... OUT",
            help="What to upscale: videos, stills, folders; and the file to write, whose suffix chooses the container, "
            "or a folder for several.",
        ),
    ],
    model: ModelOption = "ristn-lite",
    weights: WeightsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
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
    deinterlace: Annotated[
        Literal["auto", "frame", "off"], typer.Option(help="Frames flagged as interlaced, all, or none.")
    ] = "auto",
    drop_alpha: Annotated[bool, typer.Option("--drop-alpha", help="Go on without the source's transparency.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail where the source is damaged.")] = False,
    rate: Annotated[
        str | None, typer.Option(help="Frames a second of numbered images, such as 24 or 24000/1001; else 25.")
    ] = None,
    raw_size: Annotated[
        str | None, typer.Option(help="WxH: raw frames of this size come in on -; else it is a Y4M or Matroska stream.")
    ] = None,
    raw_rate: Annotated[str, typer.Option(help="Frames a second of raw frames.")] = "25",
    raw_format: Annotated[str, typer.Option(help="Pixel format of raw frames, such as rgb24.")] = "yuv420p",
    stdout_format: Annotated[Literal["y4m", "matroska"], typer.Option(help="What goes out to -.")] = "y4m",
    recursive: Annotated[bool, typer.Option("--recursive", help="Look into the folders of folders, too.")] = False,
    suffix: Annotated[
        str | None, typer.Option(help="Of the outputs in a folder, such as .mkv, or .png for numbered images.")
    ] = None,
    stills: Annotated[bool, typer.Option("--stills", help="Take each image of a folder for a still.")] = False,
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
    *sources, target = paths
    if not sources:
        raise typer.BadParameter("expected an input and an output: IN... OUT")
    begin, stop = (None if text is None else parse_time(text) for text in (start, end))
    if begin is not None and stop is not None and stop <= begin:
        raise typer.BadParameter(f"--end {end} is not after --start {start}")
    if as_json and not dry_run:
        raise typer.BadParameter("--json goes with --dry-run; --progress json tells of the work")
    limit = parse_bytes(memory_limit)
    encoder_options = parse_encoder_arguments(encoder_arg or [])
    image_rate = None if rate is None else parse_rate(rate)
    if STREAM in paths:
        check_streams(sources, target, dry_run=dry_run)
    with reported_errors(debug, log_file):
        from ristn_cli.inference.batch import Record, is_batch, plan_batch
        from ristn_cli.inference.plan import UpscaleOptions

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
            deinterlace=deinterlace,
            drop_alpha=drop_alpha,
            strict=strict,
            image_rate=image_rate,
        )
        upscaler = build_upscaler(
            model, weights, device, precision, tile, window, detect_cuts=not no_scene_cuts, memory_limit=limit
        )
        work = Work(
            upscaler=upscaler,
            options=options,
            overwrite=overwrite,
            restart=restart,
            disk_check=not no_disk_check,
            progress=progress,
            quiet=quiet,
            verbose=verbose,
            raw=parse_raw(raw_size, raw_rate, raw_format),
            stdout_format=stdout_format,
        )
        if STREAM not in paths and is_batch(sources, target, recursive=recursive):
            record = Record(target, upscaler, options)
            items = plan_batch(sources, target, codec=codec, suffix=suffix, recursive=recursive, stills=stills)
            if dry_run:
                show_plans(items, record, work, as_json=as_json)
                return
            run_batch(items, record, work.run, overwrite=overwrite, restart=restart, quiet=quiet, debug=debug)
            return
        source = sources[0]
        if dry_run:
            work.show_plan(source, target, as_json=as_json)
            return
        summary = work.run(source, target, source.name)
        if not quiet:
            (errors if target == STREAM else console).print(escape(summary))
