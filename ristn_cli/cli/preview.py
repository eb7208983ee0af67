"""`ristn preview`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ristn_cli.cli.arguments import (
    DebugOption,
    DetailsOption,
    DeviceOption,
    PrecisionOption,
    VideoStreamOption,
    parse_time,
)
from ristn_cli.cli.bench_tables import make_table
from ristn_cli.cli.compare import check_targets, parse_crop
from ristn_cli.cli.completion import complete_weights
from ristn_cli.cli.effects import STREAM, Given
from ristn_cli.cli.terminal import build_upscaler, console, note, plain, progress_bar, reported_errors, show

if TYPE_CHECKING:
    from rich.table import Table

    from ristn_cli.engine.upscaler import Upscaler
    from ristn_cli.preview.choices import Choice
    from ristn_cli.preview.making import Preview

PAGE_SUFFIXES = (".html", ".htm")
STEPS_BEFORE = 2
"""Steps of a preview before the choices."""


def preview(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="Video, image, or folder of numbered images.")],
    page: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PAGE.html]", help="HTML page to write. Default: INPUT-preview.html in the current folder."
        ),
    ] = None,
    at: Annotated[
        list[str] | None,
        typer.Option(help="Moment to show: seconds, M:SS or H:MM:SS. May be repeated. Default: 4 interesting moments."),
    ] = None,
    crop: Annotated[
        str | None,
        typer.Option(
            help="Place to show, as x,y,width,height in source pixels. Default: 160x120 with the most detail."
        ),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Released weights to try. May be repeated. Default: all that are on this machine.",
            autocompletion=complete_weights,
        ),
    ] = None,
    detail: DetailsOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    video_stream: VideoStreamOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing page.")] = False,
    debug: DebugOption = False,
) -> None:
    """Compare all weights on a few moments of a video.

    Writes an HTML page with the source, a bicubic enlargement and each set of weights, and with time, file size and
    command for the whole video.
    """
    if source == STREAM:
        raise typer.BadParameter("a preview reads its input several times, but - can be read only once; name a file")
    times = [parse_time(text) for text in at or []]
    place = None if crop is None else parse_crop(crop)
    target = page or Path(f"{(source.resolve().name if source.is_dir() else source.stem) or 'video'}-preview.html")
    if target.suffix.lower() not in PAGE_SUFFIXES:
        raise typer.BadParameter(f"{target}: expected a name that ends in {' or '.join(PAGE_SUFFIXES)}")
    check_targets([target], [source], overwrite)
    with reported_errors(debug):
        from ristn_cli.comparison.alignment import Crop
        from ristn_cli.engine.device import choose_backend
        from ristn_cli.html_pages import write_page
        from ristn_cli.preview.choices import find_choices
        from ristn_cli.preview.commands import name_output, write_command
        from ristn_cli.preview.making import make_preview
        from ristn_cli.preview.notes import make_notes
        from ristn_cli.preview.preview_page import format_preview
        from ristn_cli.video import probe
        from ristn_cli.weights import choose_model

        info = probe(source, video_stream=video_stream)
        if info.is_image_sequence:
            Given.of(context).refuse("numbered images have a single video stream", "video_stream")
        if info.is_still:
            Given.of(context).refuse("the input is a single image", "at")
        automatic = choose_model(info, 0 if info.is_image_sequence else source.stat().st_size)
        choices, missing = find_choices(automatic, model, detail)
        backend = choose_backend(device, precision)  # fail before the work

        def open_upscaler(choice: Choice) -> Upscaler:
            return build_upscaler(choice.model, device, precision, compilation="off")

        with progress_bar() as bar:
            task = bar.add_task(source.name, total=STEPS_BEFORE + len(choices), note="")

            def show_step(step: str) -> None:
                bar.update(task, advance=1 if bar.tasks[0].fields["note"] else 0, note=step)

            made = make_preview(
                info,
                choices,
                open_upscaler,
                times=times,
                crop=None if place is None else Crop(*place),
                on_step=show_step,
            )
            shared = typed_options(context, "device", "precision", "video_stream")
            commands = [
                write_command(
                    source, name_output(source, choice.name, made.form), [*choice.options, *made.form.options, *shared]
                )
                for choice in choices
            ]
            notes = make_notes(made, f"{backend.device} in {backend.precision}", missing)
            write_page(target, format_preview(made, commands, notes), overwrite=overwrite)
        console.print(describe_preview(made))
        for command in commands:
            show(command)
        if missing:
            note(f"not on this machine: {', '.join(missing)}; use ristn download-weights NAME to download them")
        show(f"{target}: open this page in a browser")


def typed_options(context: typer.Context, *names: str) -> list[str]:
    """Return the given ones of these options, as command-line arguments."""
    flags = Given.of(context).flags
    return [word for name in names if name in flags for word in (flags[name], str(context.params[name]))]


def describe_preview(made: Preview) -> Table:
    """Make a table with a row per choice."""
    from ristn_cli.preview.costs import describe_bytes, describe_seconds

    table = make_table("", "weights", "time", "size", "")
    for result in made.results:
        table.add_row(
            plain(result.choice.name),
            plain(describe_seconds(result.seconds)),
            plain(describe_bytes(result.bytes)),
            plain("recommended" if result.choice.is_recommended else ""),
        )
    return table
