"""Runs one job of `ristn upscale`, and prints its events."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from ristn_cli.cli.ahead import Background
from ristn_cli.cli.damage import FoldedWarnings
from ristn_cli.cli.effects import STREAM
from ristn_cli.cli.engines import Engines
from ristn_cli.cli.info import (
    describe_conversions,
    describe_dynamic_hdr,
    describe_losses,
    describe_plan,
    describe_shortage,
    describe_taken_of,
    describe_telecine,
    write_json,
)
from ristn_cli.cli.job_bar import JobBar, ProgressMode, describe_memory, shown_progress
from ristn_cli.cli.made import comparison_command, describe_made
from ristn_cli.cli.reports import ReportFile
from ristn_cli.cli.terminal import StopRequest, log, note, show, stop_requests, warn
from ristn_cli.cli.workers import Devices

if TYPE_CHECKING:
    from ristn_cli.job.checks import OutputStream
    from ristn_cli.job.events import Event
    from ristn_cli.job.options import RunOptions, UpscaleOptions
    from ristn_cli.job.plan import JobPlan
    from ristn_cli.video import InputStream, RawFormat
    from ristn_cli.weights import ModelChoice


def describe_model(choice: ModelChoice) -> str:
    """Describe the weights and why they were chosen."""
    return f"model: {choice.label}, because {choice.reason}"


def warn_of_shortage(plan: JobPlan) -> None:
    """Warn if there may be too little memory."""
    shortage = describe_shortage(plan)
    if shortage is not None:
        warn(shortage)


@dataclass(frozen=True)
class Begun:
    """A job that started early, and its stop request."""

    job: Background
    stop: StopRequest


@dataclass(frozen=True)
class Finished:
    """A finished job: the frames of its output, a description, and the command that compares it with its source, if
    possible.
    """

    frames: int
    made: str
    compare: str | None = None

    @property
    def summary(self) -> str:
        """Description and command in one line."""
        return self.made if self.compare is None else f"{self.made}; to compare: {self.compare}"


@dataclass(frozen=True, kw_only=True)
class Work:
    """The options that all jobs of a command share."""

    engines: Engines
    options: UpscaleOptions
    overwrite: bool
    restart: bool
    disk_check: bool
    progress: ProgressMode
    quiet: bool
    verbose: bool
    estimates_time: bool = True  # false if other machines compute
    raw: RawFormat | None = None
    stdout_format: Literal["y4m", "matroska"] = "y4m"
    report: ReportFile | None = None

    def run_options(self, devices: Devices, stop: StopRequest, *, makes_folder: bool = False) -> RunOptions:
        """Return the options of a run on these devices."""
        from ristn_cli.job.options import RunOptions

        return RunOptions(
            overwrite=self.overwrite,
            restart=self.restart,
            disk_check=self.disk_check,
            makes_folder=makes_folder,
            workers=devices.workers,
            stop=stop,
        )

    def show_plan(self, source: Path, target: Path, *, as_json: bool, makes_folder: bool = False) -> None:
        """Print the plan of a job; `makes_folder`: its folder need not exist."""
        from ristn_cli.job.forecast import plan_job

        choice = self.engines.choose(source)
        devices = self.engines.open(choice)
        plan = plan_job(
            self.engines.probe(source),
            target,
            devices.upscaler,
            self.options,
            self.run_options(devices, StopRequest(), makes_folder=makes_folder),
            speedup=devices.speedup if self.estimates_time else None,
        )
        warn_of_shortage(plan)
        if as_json:
            write_json(
                {"input": source, "output": target, "model": choice.name, "detail": choice.detail, **asdict(plan)}
            )
            return
        for line in (describe_model(choice), *describe_plan(plan)):
            show(line)

    def check_kept(self, source: Path, target: Path) -> None:
        """Refuse an output that would replace its input, before other errors are reported.

        Raises:
            VideoError: it would replace its input.
        """
        from ristn_cli.job.checks import check_inputs_kept, check_target
        from ristn_cli.job.options import RunOptions

        if STREAM in (source, target):
            check_inputs_kept(self.source_of(source), self.target_of(target))
        else:
            check_target(source, target, RunOptions(overwrite=True, makes_folder=True))

    def source_of(self, source: Path) -> Path | InputStream:
        """Return the file, or this process's standard input for `-`."""
        from ristn_cli.video import InputStream

        return InputStream(sys.stdin.buffer, self.raw) if source == STREAM else source

    def target_of(self, target: Path) -> Path | OutputStream:
        """Return the file, or this process's standard output for `-`."""
        from ristn_cli.job.checks import OutputStream

        return OutputStream(file=sys.stdout.buffer, format=self.stdout_format) if target == STREAM else target

    def begin(self, source: Path, target: Path, devices: Devices, stop: StopRequest) -> Generator[Event, None, None]:
        """Start a job from file or standard input to file or standard output."""
        from ristn_cli.job.run import upscale_video

        return upscale_video(
            self.source_of(source) if source == STREAM else self.engines.probe(source),
            self.target_of(target),
            devices.upscaler,
            self.options,
            self.run_options(devices, stop),
            devices.make_parts,
        )

    def run(
        self,
        source: Path,
        target: Path,
        name: str,
        *,
        begun: Begun | None = None,
        on_begun: Callable[[], None] = lambda: None,
    ) -> Finished:
        """Run a job and print its events on stderr.

        Args:
            source: a file, or `-`.
            target: a file, or `-`.
            name: name of the job for the progress bar.
            begun: the job, if it has started.
            on_begun: called when the first progress arrives.
        """
        from ristn_cli.job.events import Completed, PartFinished, Planned, Warned
        from ristn_cli.job.job_report import describe_weights
        from ristn_cli.job.parts import Interrupted
        from ristn_cli.job.progress import Progress

        note(f"{source} to {target}", is_shown=False)
        choice = self.engines.choose(source)
        stop = StopRequest() if begun is None else begun.stop
        done, damage = Progress(frames=0), FoldedWarnings()
        mode = "none" if self.quiet and self.progress == "auto" else self.progress
        labels = {} if name == source.name else {"input": str(source)}  # in a batch, the name has a number
        # The memory of workers on other machines is unknown.
        bar = JobBar(name, Path(choice.label).name, describe_memory if self.estimates_time else str)
        made: JobPlan | None = None
        last_progress_at = time.monotonic()
        with shown_progress(mode, bar, labels) as show, stop_requests(stop):
            job = self.begin(source, target, self.engines.open(choice), stop) if begun is None else begun.job
            is_begun = False
            completed: Completed | None = None
            messages: list[str] = []
            try:
                for event in job:
                    match event:
                        case Planned(plan):
                            made = plan
                            self.show_planned(source, choice, plan)
                        case Warned(message, is_damage):
                            messages.append(message)
                            (damage.add if is_damage else warn)(message)
                        case Completed():
                            completed = event
                        case PartFinished(number, frames):
                            log.info("part %d is finished, %d frames", number, frames)
                        case Progress():
                            show(event)
                            damage.show()
                            done, last_progress_at = event, time.monotonic()
                            if not is_begun:
                                is_begun = True
                                on_begun()
            except Interrupted:
                if STREAM in (source, target):
                    note(f"stopped after {done.frames} frames; a pipe cannot be resumed")
                    raise typer.Exit(stop.exit_code) from None
                same = "the same command without --restart" if self.restart else "the same command"
                note(f"stopped after {done.frames} frames; {same} resumes it")
                raise typer.Exit(stop.exit_code) from None
            finally:
                job.close()  # stop all stages after an error
                damage.finish()
        if damage.total:
            places = "1 place, which was" if damage.total == 1 else f"{damage.total} places, which were"
            warn(f"{source}: damaged in {places} concealed; --strict fails instead")
        done = replace(
            done, elapsed_seconds=done.elapsed_seconds + time.monotonic() - last_progress_at
        )  # including the mux
        words = f"{describe_made(target, made, done)} by {choice.label}"
        log.info("%s: %s", target, words)
        if self.report is not None and completed is not None:
            upscaler = self.engines.open(choice).upscaler
            self.report.add(completed, describe_weights(choice, upscaler), messages)
        return Finished(done.frames, words, comparison_command(source, target, self.options, self.engines.probe, made))

    def show_planned(self, source: Path, choice: ModelChoice, plan: JobPlan) -> None:
        """Print the plan: all of it with --verbose, else only what the user may not expect."""
        for line in (describe_model(choice), *describe_plan(plan)):
            note(line, is_shown=self.verbose and not self.quiet)
        if not self.verbose:
            for line in (*describe_taken_of(plan), *describe_telecine(plan), *describe_conversions(plan)):
                note(f"{source}: {line}", is_shown=not self.quiet)
        for line in describe_losses(plan.streams):
            note(f"{source}: {line}", is_shown=not self.quiet)
        if (lost := describe_dynamic_hdr(plan)) is not None:
            warn(f"{source}: {lost}")
        warn_of_shortage(plan)
