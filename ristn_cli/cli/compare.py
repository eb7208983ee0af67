"""`ristn compare`."""

from __future__ import annotations

import os
import re
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import typer

from ristn_cli.cli.arguments import DebugOption, parse_time
from ristn_cli.cli.effects import Given
from ristn_cli.cli.terminal import build_upscaler, progress_bar, reported_errors, show

IMAGE_SUFFIXES = (".png", ".jpg")
DEFAULT_OUTPUT = Path("compare.html")


def parse_crop(text: str) -> tuple[int, int, int, int]:
    """Parse `x,y,w,h` to left, top, width and height.

    Raises:
        typer.BadParameter: the text has another form.
    """
    found = re.fullmatch(r"\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*", text)
    if found is None:
        raise typer.BadParameter(f"{text!r} is not a crop; expected x,y,width,height in pixels, such as 100,80,64,64")
    x, y, width, height = (int(group) for group in found.groups())
    return x, y, width, height


def check_targets(targets: list[Path], sources: list[Path], overwrite: bool) -> None:
    """Refuse outputs that cannot be written.

    Raises:
        typer.BadParameter: two outputs have one name, an output is an input, or it exists already.
    """
    from ristn_cli.own_files import is_device
    from ristn_cli.video import InputFiles

    resolved = [target.resolve() for target in targets]
    inputs = InputFiles(sources)
    for target, path in zip(targets, resolved, strict=True):
        if resolved.count(path) > 1:
            raise typer.BadParameter(f"{target} is the name of two outputs; give each its own name")
        if inputs.find(target) is not None:
            raise typer.BadParameter(f"{target} is one of the inputs; give the output another name")
        if os.path.lexists(target) and not overwrite and not is_device(target):
            raise typer.BadParameter(f"{target} already exists; use --overwrite to replace it")


def upscale_excerpt(source: Path, folder: Path, detail: float, *, start: Fraction | None, end: Fraction | None) -> Path:
    """Upscale a range of the source losslessly into the folder. Returns the output, whose name states the detail."""
    from ristn_cli.job.options import UpscaleOptions
    from ristn_cli.job.progress import Progress
    from ristn_cli.job.run import upscale_video
    from ristn_cli.video import probe
    from ristn_cli.weights import choose_detail

    info = probe(source)
    is_still = info.is_still
    target = folder / f"detail {detail:g}{'.png' if is_still else '.mkv'}"
    options = UpscaleOptions(
        codec="auto" if is_still else "ffv1", start=start, end=end, with_audio=False, with_subtitles=False
    )
    with progress_bar() as bar:
        task = bar.add_task(target.stem, total=None, note="")
        for event in upscale_video(info, target, build_upscaler(choose_detail(detail), "auto", "auto"), options):
            if isinstance(event, Progress):
                bar.update(task, completed=event.frames)
    return target


def compare(
    context: typer.Context,
    sources: Annotated[
        list[Path],
        typer.Argument(help="Two or more videos, images or folders of images of one scene; or one, with --detail."),
    ],
    detail: Annotated[
        list[float] | None,
        typer.Option(
            min=0,
            max=1,
            metavar="0..1",
            help="Upscale the input between --start and --end with this detail and compare the result. May be "
            "repeated. Default: none.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="HTML page to write. Default: compare.html, unless --png or --video is given.")
    ] = None,
    png: Annotated[
        Path | None,
        typer.Option(help="Picture to write: the scene, and enlarged crops of every input. Default: none."),
    ] = None,
    video: Annotated[
        Path | None,
        typer.Option(help="Split-screen clip to write, with the audio of the first video. Default: none."),
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(help="Label of an input, in their order. May be repeated. Default: file names.")
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option(min=1, help="Number of frames in the page. Default: up to 12, as many as fit into --limit."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, help="Take every k-th frame. Default: frames spread over the range.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="Time to start at: seconds, M:SS or H:MM:SS. Default: 0.")] = None,
    end: Annotated[
        str | None, typer.Option(help="Time to stop at: seconds, M:SS or H:MM:SS. Default: the end.")
    ] = None,
    offset: Annotated[
        str | None, typer.Option(help="Time in the first input at which the others start. Default: 0.")
    ] = None,
    scaling: Annotated[
        Literal["nearest", "bicubic"],
        typer.Option(help="Method that enlarges smaller inputs to the size of the largest."),
    ] = "bicubic",
    crop: Annotated[
        list[str] | None,
        typer.Option(
            help="Crop that --png enlarges, as x,y,width,height in pixels of the largest input. May be repeated. "
            "Default: the places with the most detail."
        ),
    ] = None,
    limit: Annotated[float, typer.Option(min=0.1, help="Largest size of the page, in megabytes.")] = 20,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="JPEG quality of the page's pictures. Default: lossless PNG.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace existing outputs.")] = False,
    debug: DebugOption = False,
) -> None:
    """Show videos or images of one scene against each other: a page with a slider, a picture, a split-screen clip."""
    details = list(dict.fromkeys(detail or []))
    if details and len(sources) > 1:
        raise typer.BadParameter("--detail upscales a single input; name no others")
    if not details and len(sources) < 2:
        raise typer.BadParameter("expected two or more inputs")
    count = len(sources) + len(details)
    if label and len(label) > count:
        raise typer.BadParameter(
            f"--label is used {len(label)} times for {count} inputs; use it once per input at most"
        )
    if crop and png is None:
        raise typer.BadParameter("--crop is only for --png; use --png, too")
    if png is not None and png.suffix.lower() not in IMAGE_SUFFIXES:
        raise typer.BadParameter(f"--png {png}: expected a name that ends in {' or '.join(IMAGE_SUFFIXES)}")
    crops = [parse_crop(text) for text in crop or []]
    first, last = (None if text is None else parse_time(text) for text in (start, end))
    shift: Fraction | None = None if offset is None else parse_time(offset)
    if output is None and png is None and video is None:
        output = DEFAULT_OUTPUT
    given = Given.of(context)
    if output is None:
        given.refuse("it is for the page; use --output to write one", "limit", "quality")
        if png is None:
            given.refuse("the clip contains every frame of the range", "frames", "every")
    if details:
        given.refuse("outputs of --detail start with --start", "offset")
        shift = first
    check_targets([path for path in (output, png, video) if path is not None], sources, overwrite)
    with reported_errors(debug), tempfile.TemporaryDirectory(prefix="ristn-compare-") as folder:
        from ristn_cli.comparison.alignment import Crop
        from ristn_cli.comparison.clip import write_clip
        from ristn_cli.comparison.matching import open_comparison
        from ristn_cli.comparison.page import DEFAULT_FRAMES, MEGABYTE, PageOptions, save_page
        from ristn_cli.comparison.strip import save_strip

        made = [upscale_excerpt(sources[0], Path(folder), value, start=first, end=last) for value in details]
        comparison = open_comparison([*sources, *made], labels=label or (), offset=shift)
        if comparison.is_still:
            given.refuse("the inputs are single images", "frames", "every", "start", "end", "offset")
        what = f"{count} inputs at {comparison.width}x{comparison.height}"
        if output is not None:
            options = PageOptions(
                start=first,
                end=last,
                every=every,
                most=frames,
                limit_bytes=round(limit * MEGABYTE),
                quality=quality,
                scaling=scaling,
            )
            pages = save_page(comparison, output, options, overwrite=overwrite)
            size = output.stat().st_size / MEGABYTE
            show(f"{output}: {pages} frame{'s' * (pages != 1)} of {what}, {size:.1f} MB")
        if png is not None:
            moments = comparison.moments(start=first, end=last, every=every, most=frames or DEFAULT_FRAMES)
            places = [Crop(*values) for values in crops]
            moment = save_strip(comparison, png, moments, crops=places, scaling=scaling, overwrite=overwrite)
            at = "" if comparison.is_still else f" at {float(moment.time):.3f} s"
            show(f"{png}: {what}{at}")
        if video is not None:
            written = 0
            with progress_bar() as bar:
                task = bar.add_task(video.name, total=None, note="")
                for written in write_clip(
                    comparison, video, start=first, end=last, scaling=scaling, overwrite=overwrite
                ):
                    bar.update(task, completed=written)
            show(f"{video}: {written} frames of {what}")
