"""The work of `ristn upscale`: one job after its options were read, and what is told of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from ristn_cli.cli.ahead import Ahead
from ristn_cli.cli.damage import FoldedWarnings
from ristn_cli.cli.effects import STREAM
from ristn_cli.cli.info import (
    describe_conversions,
    describe_losses,
    describe_plan,
    describe_shortage,
    describe_taken_of,
    write_json,
)
from ristn_cli.cli.terminal import (
    EXIT_CODES,
    errors,
    format_seconds,
    log,
    note,
    progress_bar,
    show,
    stop_requests,
    warn,
)
from ristn_cli.cli.workers import Devices, describe_workers

if TYPE_CHECKING:
    from ristn_cli.job.batch import Item
    from ristn_cli.job.plan import JobPlan, UpscaleOptions
    from ristn_cli.job.progress import Progress
    from ristn_cli.job.streams import Ends
    from ristn_cli.video import RawFormat
    from ristn_cli.weights import ModelChoice

ProgressMode = Literal["auto", "bar", "json", "none"]


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
            speed += describe_workers(done)
            bar.update(task, completed=done.frames, total=done.total, note=speed)

        yield update


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


def choose_for(source: Path, video_stream: int | None = None) -> ModelChoice:
    """The released weights that suit a source, or one of its video streams. Raises VideoError if it cannot be read."""
    from ristn_cli.video import probe
    from ristn_cli.weights import CLEAN_MODEL, ModelChoice, choose_model

    if source == STREAM:
        return ModelChoice(CLEAN_MODEL, "standard input does not tell how it was compressed")
    found = probe(source, video_stream=video_stream)
    return choose_model(found, 0 if found.is_image_sequence else found.path.stat().st_size)


class Engines(AbstractContextManager["Engines"]):
    """The engines of a command, one for each set of weights that a source needs, kept for those that follow.

    Args:
        open_named: opens the engine of released weights by their name, once for each.
        model: their name, or `auto` for what suits each source.
        weights: a file that is used instead.
        video_stream: which video stream of the sources is meant; None for the film.
    """

    def __init__(
        self,
        open_named: Callable[[str], AbstractContextManager[Devices]],
        model: str,
        weights: Path | None,
        video_stream: int | None = None,
    ) -> None:
        self._open, self._model, self._weights, self._video_stream = open_named, model, weights, video_stream
        self._opened: dict[str, Devices] = {}
        self._stack = ExitStack()
        self._networks: dict[str, str] = {}
        self.is_unusable = False
        """Whether the engine could not be opened, for a reason that concerns every source."""

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def _is_chosen(self) -> bool:
        """Whether the weights depend on the source."""
        return self._weights is None and self._model == "auto"

    def choose(self, source: Path) -> ModelChoice:
        """The weights for a source, and why these."""
        from ristn_cli.weights import ModelChoice

        if not self._is_chosen:
            return ModelChoice(str(self._weights or self._model), "it was asked for")
        return choose_for(source, self._video_stream)

    def open(self, choice: ModelChoice) -> Devices:
        """The engine with these weights. Others that were opened keep their weights, and no memory beside these."""
        from ristn_cli.weights import WeightsError

        for name, devices in self._opened.items():
            if name != choice.name:
                devices.upscaler.rest()
        if choice.name not in self._opened:
            try:
                self._opened[choice.name] = self._stack.enter_context(self._open(choice.name))
            except Exception as error:
                self.is_unusable = not (isinstance(error, WeightsError) and self._is_chosen)
                raise
        return self._opened[choice.name]

    def network_of(self, source: Path) -> str:
        """Fingerprint of the network for a source, without opening the engine."""
        from ristn_cli.engine.upscaler import fingerprint
        from ristn_cli.weights import WeightsError, find_weights, load_weights

        name = self.choose(source).name
        if name not in self._networks:
            try:
                self._networks[name] = fingerprint(load_weights(self._weights or find_weights(name)))
            except WeightsError:
                self.is_unusable = not self._is_chosen
                raise
        return self._networks[name]


@dataclass(frozen=True)
class Finished:
    """A finished job: the frames of its output, and a summary in a line."""

    frames: int
    summary: str


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

    def show_plan(self, source: Path, target: Path, *, as_json: bool, makes_folder: bool = False) -> None:
        """What a job would do, on stdout; `makes_folder`: in a folder that need not be there yet."""
        from ristn_cli.job.forecast import plan_job

        choice = self.engines.choose(source)
        devices = self.engines.open(choice)
        plan = plan_job(
            source,
            target,
            devices.upscaler,
            self.settle(source, target, devices),
            overwrite=self.overwrite,
            restart=self.restart,
            makes_folder=makes_folder,
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
        from ristn_cli.job.checks import check_target
        from ristn_cli.job.streams import check_inputs_kept

        if STREAM in (source, target):
            check_inputs_kept(self.ends(source, target))
        else:
            check_target(source, target, overwrite=True, makes_folder=True)

    def ends(self, source: Path, target: Path) -> Ends:
        """Where a job reads and writes, with the standard streams of this process for `-`."""
        from ristn_cli.job.streams import Ends

        return Ends(
            source=source,
            target=target,
            stdin=sys.stdin.buffer,
            stdout=sys.stdout.buffer,
            raw=self.raw,
            stdout_format=self.stdout_format,
        )

    def settle(self, source: Path, target: Path, devices: Devices) -> UpscaleOptions:
        """The options with segments for as many workers as there are; see `settle_segments`."""
        from ristn_cli.spread.scheduling import settle_segments

        return settle_segments(source, target, self.options, workers=devices.workers, restart=self.restart)

    def begin(self, source: Path, target: Path, devices: Devices, **told: Any) -> Generator[Progress, None, None]:
        """The job of two files, or, where one of them is `-`, of a standard stream."""
        from ristn_cli.job.job import upscale_video
        from ristn_cli.job.streams import upscale_stream

        if STREAM in (source, target):
            ends = self.ends(source, target)
            return upscale_stream(ends, devices.upscaler, self.options, overwrite=self.overwrite, on_loss=warn, **told)
        return upscale_video(
            source,
            target,
            devices.upscaler,
            self.settle(source, target, devices),
            overwrite=self.overwrite,
            restart=self.restart,
            disk_check=self.disk_check,
            make_parts=devices.make_parts,
            **told,
        )

    @contextmanager
    def looking_ahead(
        self, items: Sequence[Item], *, is_to_do: Callable[[Item], bool], on_begin: Callable[[Item], None]
    ) -> Iterator[Callable[[Path, Path, str], Finished]]:
        """Within, `run` for jobs that are done in the order of `items`: over several workers, each before its turn.

        Where a source needs other weights, its job follows the one before. Of a source nothing is read before the job
        before it is at work. `is_to_do` tells whether an item would be begun, `on_begin` is called before it is.
        """
        ahead: Ahead | None = None
        with ExitStack() as stack:

            def run(source: Path, target: Path, name: str) -> Finished:
                nonlocal ahead
                if ahead is None or (source, target) not in ahead:
                    stack.close()
                    choice = self.engines.choose(source)
                    devices = self.engines.open(choice)
                    ahead = None
                    if devices.make_parts is not None:
                        known = {(item.source, item.target): item for item in items}

                        def begin(source: Path, target: Path, **told: Any) -> Generator[Progress, None, None]:
                            on_begin(known[source, target])
                            return self.begin(source, target, devices, **told)

                        rest = items[list(known).index((source, target)) + 1 :]
                        pairs = chain([(source, target)], self._pairs_for(choice, rest, is_to_do))
                        ahead = stack.enter_context(Ahead(begin, pairs))
                return self.run(source, target, name, ahead=ahead)

            yield run

    def _pairs_for(
        self, choice: ModelChoice, items: Sequence[Item], is_to_do: Callable[[Item], bool]
    ) -> Iterator[tuple[Path, Path]]:
        """Source and target of the items to be done, up to the first that needs other weights."""
        for item in items:
            try:
                if not is_to_do(item):
                    continue
                needed = self.engines.choose(item.source)
            except Exception:  # of what cannot be read the error is shown when it is its turn
                continue
            if needed.name != choice.name:
                return
            yield item.source, item.target

    def run(self, source: Path, target: Path, name: str, *, ahead: Ahead | None = None) -> Finished:
        """Do a job under a `name` for the bar, telling of it on stderr. With `ahead` the job is one of those there."""
        from ristn_cli.job.job import Interrupted
        from ristn_cli.job.progress import Progress

        note(f"{source} to {target}", is_shown=False)
        choice = self.engines.choose(source)
        if ahead is None:
            begin: Callable[..., Generator[Progress, None, None]] = partial(
                self.begin, devices=self.engines.open(choice)
            )
        else:
            begin = ahead.follow
        done, damage = Progress(frames=0), FoldedWarnings()

        def tell_plan(plan: JobPlan) -> None:
            for line in (describe_model(choice), *describe_plan(plan)):
                note(line, is_shown=self.verbose and not self.quiet)
            if not self.verbose:
                for line in (*describe_taken_of(plan), *describe_conversions(plan)):
                    note(f"{source}: {line}", is_shown=not self.quiet)
            for line in describe_losses(plan.streams):
                note(f"{source}: {line}", is_shown=not self.quiet)
            warn_of_shortage(plan)

        mode = "none" if self.quiet and self.progress == "auto" else self.progress
        labels = {} if name == source.name else {"input": str(source)}  # one of several
        with shown_progress(mode, name, labels) as show, stop_requests() as received:
            job = begin(
                source,
                target,
                should_stop=lambda: bool(received),
                on_plan=tell_plan,
                on_damage=damage.add,
            )
            try:
                for now in job:
                    show(now)
                    damage.show()
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
                damage.finish()
        if damage.total:
            places = "1 place, which was" if damage.total == 1 else f"{damage.total} places, which were"
            warn(f"{source}: damaged in {places} concealed; --strict fails instead")
        summary = (
            f"{done.frames} frames in {format_seconds(done.elapsed_seconds)} ({done.mean_frames_per_second:.2f} fps) "
            f"by {choice.name}"
        )
        log.info("%s: %s", target, summary)
        return Finished(done.frames, f"{target}: {summary}")
