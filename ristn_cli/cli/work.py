"""The work of `ristn upscale`: one job after its options were read, and what is told of it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
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
from ristn_cli.cli.job_bar import JobBar, shown_bar
from ristn_cli.cli.made import describe_made, way_to_compare
from ristn_cli.cli.reports import ReportFile
from ristn_cli.cli.terminal import StopRequest, errors, log, note, show, stop_requests, warn
from ristn_cli.cli.workers import Devices

if TYPE_CHECKING:
    from ristn_cli.job.checks import OutputStream
    from ristn_cli.job.events import Event
    from ristn_cli.job.options import RunOptions, UpscaleOptions
    from ristn_cli.job.plan import JobPlan
    from ristn_cli.job.progress import Progress
    from ristn_cli.video import InputStream, RawFormat
    from ristn_cli.weights import ModelChoice

ProgressMode = Literal["auto", "bar", "json", "none"]


@contextmanager
def shown_progress(
    mode: ProgressMode, bar: JobBar, labels: Mapping[str, str] | None = None
) -> Iterator[Callable[[Progress], None]]:
    """Within, what to tell where the job stands: a bar (`auto`: on a terminal), JSON lines on stderr, or nothing.

    `labels` go into each JSON line.
    """
    if mode == "json":
        yield partial(write_progress, labels=labels or {})
        return
    with shown_bar(bar, is_shown=mode == "bar" or (mode == "auto" and errors.is_terminal)):
        yield bar.update


def describe_memory() -> str:
    """The memory that the program holds now, with its workers here; empty where nothing tells."""
    from ristn_cli.engine.memory_in_use import gpu_memory_in_use, main_memory_in_use
    from ristn_cli.job.plan import format_bytes

    main, gpu = main_memory_in_use(), gpu_memory_in_use()
    parts = [f"memory {format_bytes(main)}"] if main is not None else []
    parts += [f"GPU {format_bytes(gpu)}"] if gpu is not None else []
    return ", ".join(parts)


def write_progress(done: Progress, labels: Mapping[str, str]) -> None:
    """One JSON object on a line of stderr; null for what is unknown."""
    remaining = done.remaining_seconds
    values: dict[str, object] = {
        **labels,
        "frames": done.frames,
        "total": done.total,
        "fps": round(done.frames_per_second, 3),
        "elapsed": round(done.elapsed_seconds, 3),
        "remaining": None if remaining is None else round(remaining, 3),
        "part": done.part,
    }
    if done.segments is not None:
        values["segments"] = dict(zip(("finished", "planned"), done.segments, strict=True))
        values["workers"] = [
            asdict(worker) | {"frames_per_second": round(worker.frames_per_second, 3)} for worker in done.workers
        ]
    sys.stderr.write(json.dumps(values) + "\n")
    sys.stderr.flush()


def describe_model(choice: ModelChoice) -> str:
    """The weights and why these, in a line of the plan."""
    return f"model: {choice.name}, because {choice.reason}"


def warn_of_shortage(plan: JobPlan) -> None:
    """Say so where memory is likely to run short."""
    shortage = describe_shortage(plan)
    if shortage is not None:
        warn(shortage)


@dataclass(frozen=True)
class Begun:
    """A job that is at work before its turn, and what stops it."""

    job: Background
    stop: StopRequest


@dataclass(frozen=True)
class Finished:
    """A finished job: the frames of its output, what was made, and the command that shows it beside the source.

    There is no such command where nothing can be compared.
    """

    frames: int
    made: str
    compare: str | None = None

    @property
    def summary(self) -> str:
        """Both in one line."""
        return self.made if self.compare is None else f"{self.made}; to see it: {self.compare}"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What is common to all jobs of a command; the fields are its options."""

    engines: Engines
    options: UpscaleOptions
    overwrite: bool
    restart: bool
    disk_check: bool
    progress: ProgressMode
    quiet: bool
    verbose: bool
    tells_time: bool = True  # in plans: not where the speed of other machines decides
    raw: RawFormat | None = None
    stdout_format: Literal["y4m", "matroska"] = "y4m"
    report: ReportFile | None = None

    def run_options(self, devices: Devices, stop: StopRequest, *, makes_folder: bool = False) -> RunOptions:
        """How a run on these devices behaves."""
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
        """What a job would do, on stdout; `makes_folder`: in a folder that need not be there yet."""
        from ristn_cli.job.forecast import plan_job

        choice = self.engines.choose(source)
        devices = self.engines.open(choice)
        plan = plan_job(
            self.engines.probe(source),
            target,
            devices.upscaler,
            self.options,
            self.run_options(devices, StopRequest(), makes_folder=makes_folder),
            speedup=devices.speedup if self.tells_time else None,
        )
        warn_of_shortage(plan)
        if as_json:
            write_json({"input": source, "output": target, "model": choice.name, **asdict(plan)})
            return
        for line in (describe_model(choice), *describe_plan(plan)):
            show(line)

    def check_kept(self, source: Path, target: Path) -> None:
        """Refuse an output that would replace its input, whatever else is wrong with the command.

        Raises:
            VideoError: it would.
        """
        from ristn_cli.job.checks import check_inputs_kept, check_target
        from ristn_cli.job.options import RunOptions

        if STREAM in (source, target):
            check_inputs_kept(self.source_of(source), self.target_of(target))
        else:
            check_target(source, target, RunOptions(overwrite=True, makes_folder=True))

    def source_of(self, source: Path) -> Path | InputStream:
        """A file, or for `-` the standard input of this process."""
        from ristn_cli.video import InputStream

        return InputStream(sys.stdin.buffer, self.raw) if source == STREAM else source

    def target_of(self, target: Path) -> Path | OutputStream:
        """A file, or for `-` the standard output of this process."""
        from ristn_cli.job.checks import OutputStream

        return OutputStream(file=sys.stdout.buffer, format=self.stdout_format) if target == STREAM else target

    def begin(self, source: Path, target: Path, devices: Devices, stop: StopRequest) -> Generator[Event, None, None]:
        """The job of two files or standard streams."""
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
        """Do a job under a `name` for the bar, telling of it on stderr.

        Args:
            source: a file, or `-`.
            target: a file, or `-`.
            name: of the job.
            begun: the job, if it is at work already.
            on_begun: called when the job is at work.
        """
        from ristn_cli.job.events import Completed, PartFinished, Planned, Warned
        from ristn_cli.job.parts import Interrupted
        from ristn_cli.job.progress import Progress
        from ristn_cli.job.report import describe_weights

        note(f"{source} to {target}", is_shown=False)
        choice = self.engines.choose(source)
        stop = StopRequest() if begun is None else begun.stop
        done, damage = Progress(frames=0), FoldedWarnings()
        mode = "none" if self.quiet and self.progress == "auto" else self.progress
        labels = {} if name == source.name else {"input": str(source)}  # one of several
        # Workers on other machines have memory of their own.
        bar = JobBar(name, Path(choice.name).name, describe_memory if self.tells_time else str)
        made: JobPlan | None = None
        told_at = time.monotonic()
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
                            done, told_at = event, time.monotonic()
                            if not is_begun:
                                is_begun = True
                                on_begun()
            except Interrupted:
                if STREAM in (source, target):
                    note(f"stopped after {done.frames} frames; what flows through a pipe cannot be resumed")
                    raise typer.Exit(stop.exit_code) from None
                same = "the same command without --restart" if self.restart else "the same command"
                note(f"stopped after {done.frames} frames; {same} goes on from there")
                raise typer.Exit(stop.exit_code) from None
            finally:
                job.close()  # whatever ended the loop: no stage may be left at work
                damage.finish()
        if damage.total:
            places = "1 place, which was" if damage.total == 1 else f"{damage.total} places, which were"
            warn(f"{source}: damaged in {places} concealed; --strict fails instead")
        done = replace(done, elapsed_seconds=done.elapsed_seconds + time.monotonic() - told_at)  # with the mux
        words = f"{describe_made(target, made, done)} by {choice.name}"
        log.info("%s: %s", target, words)
        if self.report is not None and completed is not None:
            upscaler = self.engines.open(choice).upscaler
            self.report.add(completed, describe_weights(choice.name, self.engines.file_of(choice), upscaler), messages)
        return Finished(done.frames, words, way_to_compare(source, target, self.options, self.engines.probe, made))

    def show_planned(self, source: Path, choice: ModelChoice, plan: JobPlan) -> None:
        """What a job will do: all of it with --verbose, else what may surprise."""
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
