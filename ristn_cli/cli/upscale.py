"""`ristn upscale`."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import typer

from ristn_cli.cli.arguments import (
    MaxFramesOption,
    MemoryOption,
    PrecisionOption,
    TileOption,
    VideoStreamOption,
    WindowOption,
    parse_bytes,
    parse_drop,
    parse_encoder_arguments,
    parse_format,
    parse_grain,
    parse_images,
    parse_output_size,
    parse_place,
    parse_raw,
)
from ristn_cli.cli.completion import complete_codecs, complete_models, complete_presets
from ristn_cli.cli.effects import (
    BY_KIND,
    STREAM,
    Given,
    check_inputs,
    check_options,
    check_outputs,
    check_single,
    check_suffix,
    kind_of,
)
from ristn_cli.cli.engines import Engines
from ristn_cli.cli.job_bar import ProgressMode
from ristn_cli.cli.places import check_log_file, check_report, check_streams
from ristn_cli.cli.reports import ReportFile
from ristn_cli.cli.several import run_batch, show_plans
from ristn_cli.cli.terminal import console, errors, reported_errors, show
from ristn_cli.cli.work import Work
from ristn_cli.cli.workers import (
    Computers,
    DevicesOption,
    RayOption,
    RayWorkersOption,
    parse_ray_workers,
)


def upscale(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="IN... OUT",
            help="Videos, images or folders to upscale, then the file to write (its extension selects the container) "
            "or the folder for several outputs. - is standard input or output.",
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="Released weights or a .safetensors file. auto chooses by the compression of the source.",
            autocompletion=complete_models,
        ),
    ] = "auto",
    size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Size of the output: 2x, 3x, 4x, 1920x1080, or fit:1080p for the largest that fits, at most 4x. Other "
            "sizes than 4x are resampled with Lanczos. [default: 4x]",
        ),
    ] = None,
    codec: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Codec: h264, hevc, av1, prores, ffv1 or *_nvenc. auto is h264, or hevc for 10-bit sources.",
            autocompletion=complete_codecs,
        ),
    ] = "auto",
    crf: Annotated[
        float,
        typer.Option(
            min=0, max=63, metavar="N", help="Constant rate factor of the encoder. Lower is better and larger."
        ),
    ] = 17,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Start of the range: seconds, M:SS, H:MM:SS, timecode H:MM:SS:FF (drop frame H:MM:SS;FF), or frame "
            "240f. Default: first frame.",
        ),
    ] = None,
    end: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="First frame after the range, in the same forms. Default: the end."),
    ] = None,
    max_frames: MaxFramesOption = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Drop any of audio, subtitles, captions, alpha, attachments, chapters, covers, data, metadata, "
            "videos, e.g. audio,subtitles. Default: none.",
        ),
    ] = None,
    device: DevicesOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and the estimated time, and exit.")] = False,
    grain: Annotated[
        str | None,
        typer.Option(
            metavar="match|0..1",
            help="Share of the removed film grain to put back, or match for all. Default: 0.",
        ),
    ] = None,
    deinterlace: Annotated[
        Literal["auto", "ivtc", "field", "frame", "off"],
        typer.Option(
            help="Deinterlacing. auto: of interlaced frames, or inverse telecine if detected; ivtc: inverse telecine; "
            "field: make a frame of every field; frame: deinterlace all frames."
        ),
    ] = "auto",
    square_pixels: Annotated[bool, typer.Option("--square-pixels", help="Resample to square pixels.")] = False,
    video_stream: VideoStreamOption = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="RATE|stills",
            help="Frame rate of numbered images, e.g. 24 or 24000/1001; or stills to upscale each image of a folder "
            "separately. [default: 25]",
        ),
    ] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Also search the subfolders of input folders.")
    ] = False,
    raw: Annotated[
        str | None,
        typer.Option(
            metavar="WxH[@RATE][:FORMAT]",
            help="Format of raw frames on standard input, e.g. 1920x1080@24:rgb24. Default: RATE 25, FORMAT yuv420p.",
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail if the source is damaged or its frames change in size or format.")
    ] = False,
    preset: Annotated[
        str, typer.Option(metavar="NAME", help="Speed preset of the encoder.", autocompletion=complete_presets)
    ] = "medium",
    pix_fmt: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Pixel format by FFmpeg's name, e.g. yuv444p10le. Default: by codec."),
    ] = None,
    encoder_arg: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Encoder option by FFmpeg's name. May be repeated. Default: none."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="EXTENSION",
            help="Format of outputs in a folder, e.g. mkv or png, or of standard output: y4m or mkv. Default: that of "
            "the input, or y4m.",
        ),
    ] = None,
    memory_limit: MemoryOption = None,
    precision: PrecisionOption = "auto",
    tile: TileOption = None,
    window: WindowOption = None,
    still_tolerance: Annotated[
        int,
        typer.Option(
            min=0,
            max=8,
            metavar="N",
            help="Levels (of 255) by which a part may change and still be computed only once.",
        ),
    ] = 0,
    restart: Annotated[bool, typer.Option("--restart", help="Discard the finished parts of an earlier run.")] = False,
    ray: RayOption = None,
    ray_workers: RayWorkersOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show only warnings and errors.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the plan before starting.")] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json",
            help="Print the plan of --dry-run as one JSON object; without --dry-run, progress as JSON lines on stderr.",
        ),
    ] = False,
    log_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File to append a log to. Default: none.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON file to write: SHA-256 of files and weights, options, versions, cuts. Default: none.",
        ),
    ] = None,
    no_scene_cuts: Annotated[
        bool,
        typer.Option(
            "--no-scene-cuts", hidden=True, help="Ignore scene cuts, so that frames read neighbours of another shot."
        ),
    ] = False,
    compilation: Annotated[
        Literal["auto", "on", "off"],
        typer.Option("--compile", hidden=True, help="Compile the network. auto compiles on CUDA."),
    ] = "auto",
    segment_frames: Annotated[
        int | None,
        typer.Option(min=1, hidden=True, help="Frames per part, after which a job can resume. Default: by frame size."),
    ] = None,
    no_disk_check: Annotated[
        bool, typer.Option("--no-disk-check", hidden=True, help="Start even if the disk seems too small.")
    ] = False,
    progress: Annotated[
        ProgressMode,
        typer.Option(hidden=True, help="Progress on stderr. auto: a bar on terminals; json: one object per line."),
    ] = "auto",
    debug: Annotated[bool, typer.Option("--debug", hidden=True, help="Show the traceback of an error.")] = False,
) -> None:
    """Upscale videos 4x, and keep timestamps, audio, subtitles and everything else."""
    from ristn_cli.weights import weights_file

    *sources, target = paths
    if not sources:
        raise typer.BadParameter("expected an input and an output: IN... OUT")
    begin, stop = (None if text is None else parse_place(text) for text in (start, end))
    if isinstance(begin, Fraction) and isinstance(stop, Fraction) and stop <= begin:
        raise typer.BadParameter(f"--end {end} is not after --start {start}")
    given = Given.of(context)
    if as_json and not dry_run:
        if "progress" in given and progress != "json":
            raise typer.BadParameter(f"--json and --progress {progress} contradict each other; use one of them")
        progress = "json"
    if ray is None:
        given.refuse("it is for a cluster; use --ray, too", "ray_workers")
    elif "," in device:
        given.refuse("a list of devices is for a single process; with --ray, use --ray-workers", "device")
    workers, cores = parse_ray_workers(ray_workers)
    if STREAM in paths and (ray is not None or "," in device):
        raise typer.BadParameter("--ray and several devices need files, because - cannot be divided into segments")
    limit = parse_bytes(memory_limit)
    output_size = parse_output_size(size)
    share = parse_grain(grain)
    dropped = parse_drop(drop)
    suffix = parse_format(format)
    taken_as = parse_images(images)
    raw_format = parse_raw(raw)
    encoder_options = parse_encoder_arguments(encoder_arg or [])
    if STREAM in paths:
        check_streams(sources, target, dry_run=dry_run)
    if log_file is not None:
        check_log_file(log_file, [*sources, weights_file(model)])
    if report is not None:
        check_report(report, paths, weights_file(model), overwrite=overwrite)
    with reported_errors(debug, log_file), ExitStack() as stack:
        from ristn_cli.engine.auto_tiling import AutoTiling
        from ristn_cli.job.batch import Record, is_batch, plan_batch
        from ristn_cli.job.options import UpscaleOptions

        options = UpscaleOptions(
            codec=codec,
            crf=crf,
            preset=preset,
            pixel_format=pix_fmt,
            encoder_options=encoder_options,
            start=begin if isinstance(begin, Fraction) else None,
            end=stop if isinstance(stop, Fraction) else None,
            start_position=None if isinstance(begin, Fraction) else begin,
            end_position=None if isinstance(stop, Fraction) else stop,
            max_frames=max_frames,
            with_audio="audio" not in dropped,
            with_subtitles="subtitles" not in dropped,
            leave_out=tuple(sorted(dropped - {"audio", "subtitles", "alpha"})),  # type: ignore[arg-type]
            **output_size,
            square_pixels=square_pixels,
            grain=share,
            deinterlace=deinterlace,
            drop_alpha="alpha" in dropped,
            strict=strict,
            image_rate=taken_as if isinstance(taken_as, Fraction) else None,
            segment_frames=segment_frames,
            video_stream=video_stream,
        )
        computers = Computers(
            device=device,
            precision=precision,
            tiling=AutoTiling(
                window=window,
                tile=tile,
                detect_cuts=not no_scene_cuts,
                still_tolerance=still_tolerance,
                memory_bytes=limit,
            ),
            compilation=compilation,
            quiet=quiet,
            ray=None if dry_run else ray,
            ray_workers=workers,
            ray_threads=cores,
        )
        open_named = stack.enter_context(computers).open
        engines = stack.enter_context(Engines(open_named, model, options))
        work = Work(
            engines=engines,
            options=options,
            overwrite=overwrite,
            restart=restart,
            disk_check=not no_disk_check,
            progress=progress,
            quiet=quiet,
            verbose=verbose,
            estimates_time=ray in (None, "local"),
            raw=raw_format,
            stdout_format="matroska" if suffix == ".mkv" else "y4m",
            report=None if report is None else ReportFile(report, overwrite=overwrite),
        )
        values = context.params
        if STREAM not in paths and is_batch(sources, target, recursive=recursive):
            record = Record(target, engines.network_of, options)
            stills = taken_as == "stills"
            items = plan_batch(sources, target, codec=codec, suffix=suffix, recursive=recursive, stills=stills)
            check_options(given, sources, target, values)
            targets = [item.target for item in items]
            check_suffix(given, targets, suffix)
            check_outputs(given, targets, values, encoder_options)
            if any(name in given for name in BY_KIND):
                kinds = {kind_of(item.source, None) for item in items}
                check_inputs(given, kinds, values)
            if dry_run:
                show_plans(items, record, work, as_json=as_json, debug=debug)
                return
            run_batch(items, record, work, debug=debug)
            return
        source = sources[0]
        work.check_kept(source, target)
        check_options(given, sources, target, values)
        check_single(given, target, values)
        if target != STREAM:
            check_outputs(given, [target], values, encoder_options)
        if source != STREAM and any(name in given for name in BY_KIND):
            check_inputs(given, {kind_of(source, engines.probe(source))}, values)
        if dry_run:
            work.show_plan(source, target, as_json=as_json)
            return
        finished = work.run(source, target, source.name)
        if not quiet:
            show(f"{target}: {finished.summary}", errors if target == STREAM else console)
