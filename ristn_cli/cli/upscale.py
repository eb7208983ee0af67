"""`ristn upscale`."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Literal

import typer

from ristn_cli.cli.arguments import (
    CompileOption,
    DebugOption,
    MaxFramesOption,
    MemoryOption,
    PrecisionOption,
    TileOption,
    VideoStreamOption,
    WeightsOption,
    WindowOption,
    parse_bytes,
    parse_encoder_arguments,
    parse_rate,
    parse_raw,
    parse_size,
    parse_time,
)
from ristn_cli.cli.effects import (
    BY_KIND,
    STREAM,
    Given,
    check_inputs,
    check_outputs,
    check_suffix,
    check_words,
    kind_of,
)
from ristn_cli.cli.engines import Engines
from ristn_cli.cli.info import JsonOption
from ristn_cli.cli.several import run_batch, show_plans
from ristn_cli.cli.terminal import console, errors, reported_errors, show
from ristn_cli.cli.work import ProgressMode, Work
from ristn_cli.cli.workers import (
    Computers,
    DevicesOption,
    RayOption,
    RayThreadsOption,
    RayWorkersOption,
    check_ray_options,
)


def check_streams(sources: list[Path], target: Path, *, dry_run: bool) -> None:
    """Refuse `-` where no stream can be.

    Raises:
        typer.BadParameter: among several inputs, with --dry-run, or where it is closed or a terminal.
    """
    if len(sources) > 1:
        raise typer.BadParameter("- is one input and one output: it cannot be among several")
    if dry_run:
        raise typer.BadParameter("--dry-run goes with files: what comes through a pipe is not known before")
    for path, stream, name in ((sources[0], sys.stdin, "input"), (target, sys.stdout, "output")):
        if path == STREAM and stream is None:
            raise typer.BadParameter(f"standard {name} is closed; name a file")
    if sources[0] == STREAM and sys.stdin.isatty():
        raise typer.BadParameter("standard input is a terminal; let a program write a video to it")
    if target == STREAM and sys.stdout.isatty():
        raise typer.BadParameter("standard output is a terminal; let a program or a file read from it")


def check_log_file(path: Path, inputs: list[Path | None]) -> None:
    """Refuse to append a log to an input, or to what another user chose by a link.

    Raises:
        typer.BadParameter: the log file is one of the inputs, by whatever name, or another user's link.
    """
    from ristn_cli.own_files import ForeignFileError, check_place
    from ristn_cli.video import InputFiles

    try:
        check_place(path)
    except ForeignFileError as error:
        raise typer.BadParameter(f"--log-file {error}") from error

    if InputFiles(0 if source == STREAM else source for source in inputs if source is not None).find(path):
        raise typer.BadParameter(f"--log-file {path} is an input; give the log another name")


def upscale(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN... OUT",
            help="The videos, images or folders to upscale, then the file to write (its extension chooses the "
            "container) or the folder for several outputs. - is standard input or output.",
        ),
    ],
    model: Annotated[
        str, typer.Option(help="Released weights. auto chooses by how strongly the source is compressed.")
    ] = "auto",
    weights: WeightsOption = None,
    device: DevicesOption = "auto",
    precision: PrecisionOption = "auto",
    compilation: CompileOption = "auto",
    tile: TileOption = None,
    window: WindowOption = None,
    memory_limit: MemoryOption = None,
    no_scene_cuts: Annotated[
        bool, typer.Option("--no-scene-cuts", help="Ignore scene cuts: let frames read neighbours from another shot.")
    ] = False,
    codec: Annotated[
        str, typer.Option(help="h264, hevc, av1, prores, ffv1 or *_nvenc. auto is h264, or hevc for 10-bit sources.")
    ] = "auto",
    crf: Annotated[
        float, typer.Option(min=0, max=63, help="Constant rate factor of the encoder. Lower is better and larger.")
    ] = 17,
    preset: Annotated[str, typer.Option(help="Speed preset of the encoder.")] = "medium",
    pix_fmt: Annotated[
        str | None, typer.Option(help="Pixel format of the output, by FFmpeg's name, e.g. yuv444p10le.")
    ] = None,
    encoder_arg: Annotated[
        list[str] | None, typer.Option(help="Option of the encoder as key=value, by FFmpeg's names. May be repeated.")
    ] = None,
    video_stream: VideoStreamOption = None,
    start: Annotated[str | None, typer.Option(help="Time at which to begin: seconds, M:SS or H:MM:SS.")] = None,
    end: Annotated[str | None, typer.Option(help="Time at which to stop: seconds, M:SS or H:MM:SS.")] = None,
    max_frames: MaxFramesOption = None,
    no_audio: Annotated[bool, typer.Option("--no-audio", help="Leave out the audio.")] = False,
    no_subtitles: Annotated[bool, typer.Option("--no-subtitles", help="Leave out the subtitles.")] = False,
    scale: Annotated[
        Literal["2", "3", "4"] | None,
        typer.Option(help="Scale factor. 2 and 3 are downscaled from 4x with Lanczos. [default: 4]"),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Size of the output as WIDTHxHEIGHT, resampled from 4x with Lanczos.")
    ] = None,
    fit: Annotated[
        Literal["1080p", "2160p"] | None, typer.Option(help="Fit the output into this size, at most 4x, with Lanczos.")
    ] = None,
    square_pixels: Annotated[bool, typer.Option("--square-pixels", help="Resample to square pixels.")] = False,
    deinterlace: Annotated[
        Literal["auto", "off", "frame", "field"],
        typer.Option(help="Frames to deinterlace. auto: interlaced ones; frame: all; field: all, at twice the rate."),
    ] = "auto",
    drop_alpha: Annotated[bool, typer.Option("--drop-alpha", help="Leave out the alpha channel.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if the source is damaged or its frames change in size or format.")
    ] = False,
    rate: Annotated[
        str | None, typer.Option(help="Frame rate of numbered images, e.g. 24 or 24000/1001. [default: 25]")
    ] = None,
    raw_size: Annotated[
        str | None,
        typer.Option(help="Size of raw frames on standard input as WxH. Without it, the input has a header."),
    ] = None,
    raw_rate: Annotated[str, typer.Option(help="Frame rate of raw frames.")] = "25",
    raw_format: Annotated[str, typer.Option(help="Pixel format of raw frames, e.g. rgb24.")] = "yuv420p",
    stdout_format: Annotated[Literal["y4m", "matroska"], typer.Option(help="Format of standard output.")] = "y4m",
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Search the subfolders of input folders, too.")
    ] = False,
    suffix: Annotated[
        str | None, typer.Option(help="File extension of outputs written to a folder, e.g. .mkv.")
    ] = None,
    stills: Annotated[bool, typer.Option("--stills", help="Treat each image in a folder as a separate still.")] = False,
    segment_frames: Annotated[
        int | None,
        typer.Option(min=1, help="Length of the parts that a stopped job resumes from. Default: by frame size."),
    ] = None,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = None,
    ray_threads: RayThreadsOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Discard the finished parts of an earlier run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and the expected time, and do nothing.")
    ] = False,
    as_json: JsonOption = False,
    no_disk_check: Annotated[
        bool, typer.Option("--no-disk-check", help="Start even if the disk seems too small.")
    ] = False,
    progress: Annotated[
        ProgressMode, typer.Option(help="Progress on stderr. auto: a bar on terminals; json: one object a line.")
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only warnings and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the plan before starting.")] = False,
    log_file: Annotated[Path | None, typer.Option(help="File to append a log to.")] = None,
    debug: DebugOption = False,
) -> None:
    """Upscale a video 4x, with its timestamps, audio, subtitles and everything else."""
    *sources, target = paths
    if not sources:
        raise typer.BadParameter("expected an input and an output: IN... OUT")
    begin, stop = (None if text is None else parse_time(text) for text in (start, end))
    if begin is not None and stop is not None and stop <= begin:
        raise typer.BadParameter(f"--end {end} is not after --start {start}")
    if as_json and not dry_run:
        raise typer.BadParameter("--json goes with --dry-run; --progress json tells of the work")
    if sum(given is not None for given in (scale, size, fit)) > 1:
        raise typer.BadParameter("--scale, --size and --fit each say how large the output is; give one of them")
    check_ray_options(ray, ray_workers, ray_threads)
    if STREAM in paths and (ray is not None or "," in device):
        raise typer.BadParameter("- cannot be cut into segments: --ray and several devices go with files")
    limit = parse_bytes(memory_limit)
    exact_size = parse_size(size)
    encoder_options = parse_encoder_arguments(encoder_arg or [])
    image_rate = None if rate is None else parse_rate(rate)
    if STREAM in paths:
        check_streams(sources, target, dry_run=dry_run)
    if log_file is not None:
        check_log_file(log_file, [*sources, weights])
    with reported_errors(debug, log_file), ExitStack() as stack:
        from ristn_cli.job.batch import Record, is_batch, plan_batch
        from ristn_cli.job.options import UpscaleOptions

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
            image_rate=image_rate,
            segment_frames=segment_frames,
            video_stream=video_stream,
        )
        computers = Computers(
            weights=weights,
            device=device,
            precision=precision,
            tile=tile,
            window=window,
            detect_cuts=not no_scene_cuts,
            memory_limit=limit,
            compilation=compilation,
            quiet=quiet,
            ray=None if dry_run else ray,
            ray_workers=ray_workers,
            ray_threads=ray_threads,
        )
        open_named = stack.enter_context(computers).open
        engines = stack.enter_context(Engines(open_named, model, weights, options))
        work = Work(
            engines=engines,
            options=options,
            overwrite=overwrite,
            restart=restart,
            disk_check=not no_disk_check,
            progress=progress,
            quiet=quiet,
            verbose=verbose,
            tells_time=ray in (None, "local"),
            raw=parse_raw(raw_size, raw_rate, raw_format),
            stdout_format=stdout_format,
        )
        given = Given.of(context)
        if STREAM not in paths and is_batch(sources, target, recursive=recursive):
            record = Record(target, engines.network_of, options)
            items = plan_batch(sources, target, codec=codec, suffix=suffix, recursive=recursive, stills=stills)
            check_words(given, sources, target, context.params)
            targets = [item.target for item in items]
            check_suffix(given, targets, suffix)
            check_outputs(given, targets, codec, encoder_options)
            if any(name in given for name in BY_KIND):
                kinds = {kind_of(item.source, None) for item in items}
                check_inputs(given, kinds, context.params)
            if dry_run:
                show_plans(items, record, work, as_json=as_json, debug=debug)
                return
            run_batch(items, record, work, debug=debug)
            return
        source = sources[0]
        work.check_kept(source, target)
        check_words(given, sources, target, context.params)
        given.refuse("it names the outputs in a folder, and the output is a single one", "suffix", "stills")
        if target != STREAM:
            check_outputs(given, [target], codec, encoder_options)
        if source != STREAM and any(name in given for name in BY_KIND):
            check_inputs(given, {kind_of(source, engines.probe(source))}, context.params)
        if dry_run:
            work.show_plan(source, target, as_json=as_json)
            return
        finished = work.run(source, target, source.name)
        if not quiet:
            show(finished.summary, errors if target == STREAM else console)
