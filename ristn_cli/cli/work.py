"""The work of `ristn upscale`: one job after its options were read, and what is told of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer
from rich.markup import escape

from ristn_cli.cli.info import describe_plan, write_json
from ristn_cli.cli.terminal import (
    EXIT_CODES,
    console,
    errors,
    format_seconds,
    log,
    note,
    progress_bar,
    stop_requests,
    warn,
)

if TYPE_CHECKING:
    from ristn_cli.inference.plan import JobPlan, UpscaleOptions
    from ristn_cli.inference.progress import Progress
    from ristn_cli.inference.upscaler import Upscaler
    from ristn_cli.video import RawFormat
    from ristn_cli.weights import ModelChoice

ProgressMode = Literal["auto", "bar", "json", "none"]
STREAM = Path("-")


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


@dataclass(frozen=True)
class Engine:
    """What a source is upscaled with: the weights' name, and why these, in words that follow `model:`."""

    upscaler: Upscaler
    model: str
    reason: str


def choose_for(source: Path) -> ModelChoice:
    """The released weights that suit a source. Raises VideoError when it cannot be read."""
    from ristn_cli.video import probe
    from ristn_cli.weights import CLEAN_MODEL, ModelChoice, choose_model

    if source == STREAM:
        return ModelChoice(CLEAN_MODEL, "standard input does not tell how it was compressed")
    found = probe(source)
    return choose_model(found, 0 if found.is_image_sequence else found.path.stat().st_size)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is common to all jobs of a command; the fields are its options."""

    engine_for: Callable[[Path], Engine]
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

        engine = self.engine_for(source)
        plan = plan_job(
            source,
            target,
            engine.upscaler,
            self.options,
            overwrite=self.overwrite,
            restart=self.restart,
            makes_folder=makes_folder,
        )
        if as_json:
            write_json({"input": source, "output": target, "model": engine.model, **asdict(plan)})
            return
        for line in (f"model: {engine.model}, {engine.reason}", *describe_plan(plan)):
            console.print(escape(line))

    def begin(self, source: Path, target: Path, upscaler: Upscaler, **told: Any) -> Generator[Progress, None, None]:
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
            return upscale_stream(ends, upscaler, self.options, overwrite=self.overwrite, on_loss=warn, **told)
        return upscale_video(
            source,
            target,
            upscaler,
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
        engine = self.engine_for(source)
        done, damages = Progress(frames=0), 0

        def tell_plan(plan: JobPlan) -> None:
            for line in (f"model: {engine.model}, {engine.reason}", *describe_plan(plan)):
                note(line, is_shown=self.verbose and not self.quiet)

        def tell_damage(message: str) -> None:
            nonlocal damages
            damages += 1
            warn(message)

        mode = "none" if self.quiet and self.progress == "auto" else self.progress
        labels = {} if name == source.name else {"input": str(source)}  # one of several
        with shown_progress(mode, name, labels) as show, stop_requests() as received:
            job = self.begin(
                source,
                target,
                engine.upscaler,
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
                if STREAM in (source, target):
                    note(f"stopped after {done.frames} frames; what flows through a pipe cannot be resumed")
                    raise typer.Exit(EXIT_CODES[received[0]]) from None
                same = "the same command without --restart" if self.restart else "the same command"
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
        return f"{target}: {summary}"
