"""The devices of `ristn upscale`: one device, several devices, or the workers of a Ray cluster."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from ristn_cli.cli.completion import complete_devices
from ristn_cli.cli.terminal import build_upscaler, note

if TYPE_CHECKING:
    from ristn_cli.engine.auto_tiling import AutoTiling
    from ristn_cli.engine.upscaler import Upscaler
    from ristn_cli.job.parts import PartMaker
    from ristn_cli.job.progress import Progress
    from ristn_cli.spread.local_worker import LocalWorker
    from ristn_cli.spread.pool import Pool
    from ristn_cli.spread.ray import Cluster
    from ristn_cli.weights import ModelChoice

DevicesOption = Annotated[
    str,
    typer.Option(
        metavar="NAMES",
        help="Device: auto, cpu, cuda, cuda:N or mps. Several of one kind, e.g. cuda:0,cuda:1, share the work.",
        autocompletion=complete_devices,
    ),
]
RayOption = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDRESS]",
        help="Use a Ray cluster: auto, HOST:PORT or ray://HOST:PORT. Without ADDRESS, start one here. Default: no "
        "cluster.",
    ),
]
RayWorkersOption = Annotated[
    str | None,
    typer.Option(
        metavar="N[xCORES]",
        help="Number of workers, and CPU cores of each, e.g. 4x2. Default: as many as fit, at most 16 per machine.",
    ),
]


class RayCommand(TyperCommand):
    """A command whose `--ray` needs no value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give `--ray` the value `local` if no address follows. `ctx` is a Context of Typer's Click."""
        return super().parse_args(ctx, complete_ray(args))


def complete_ray(arguments: list[str]) -> list[str]:
    """Replace `--ray` by `--ray=local` if no address follows. File names are not addresses."""
    completed = list(arguments)
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        if argument == "--ray" and not re.fullmatch(r"auto|local|ray://.+|[\w.-]+:\d+|\[[\da-fA-F:]+\]:\d+", following):
            completed[index] = "--ray=local"
    return completed


def parse_ray_workers(text: str | None) -> tuple[int | None, int | None]:
    """Parse `4`, `4x2` or `x2` to workers and cores per worker; None for missing numbers.

    Raises:
        typer.BadParameter: the text has another form.
    """
    if text is None:
        return None, None
    found = re.fullmatch(r"([1-9]\d{0,4})?(?:x([1-9]\d{0,4}))?", text)
    if found is None or not text:
        raise typer.BadParameter(
            f"--ray-workers {text!r} is not a number of workers; expected for example 4, 4x2 or x2"
        )
    workers, cores = found.groups()
    return int(workers) if workers else None, int(cores) if cores else None


@dataclass(frozen=True)
class Devices:
    """The upscaler that plans jobs, and what makes their parts if that is not the upscaler itself.

    `speedup` is the speed of all local devices relative to `upscaler`.
    """

    upscaler: Upscaler
    make_parts: PartMaker | None = None
    workers: int = 1
    speedup: int = 1


class Computers(AbstractContextManager["Computers"]):
    """Opens the devices for the options of a command and the weights of a source.

    Threads and a cluster are started once and serve all weights until the end of the context. Replaced networks stay in
    memory, because weights are small compared with a window.

    Args:
        device: names of devices, separated by commas. For other options see `build_upscaler`.
        tiling: rules that choose windows and tiles for one worker.
        ray: address of a cluster; None for this process.
        ray_workers: number of workers; None for as many as fit.
        ray_threads: cores per worker; None for the cluster's choice.
    """

    def __init__(
        self,
        *,
        device: str,
        precision: str,
        tiling: AutoTiling,
        compilation: Literal["auto", "on", "off"],
        quiet: bool,
        ray: str | None,
        ray_workers: int | None,
        ray_threads: int | None,
    ) -> None:
        self._device, self._precision = device, precision
        self._tiling, self._compilation = tiling, compilation
        self._quiet, self._ray, self._ray_workers, self._ray_threads = quiet, ray, ray_workers, ray_threads
        self._stack = ExitStack()
        self._local: tuple[list[LocalWorker], Pool] | None = None
        self._cluster: tuple[Cluster, Pool] | None = None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        self._stack.__exit__(kind, error, trace)

    @contextmanager
    def open(self, choice: ModelChoice) -> Iterator[Devices]:
        """Yield the devices with the chosen weights."""
        yield self._choose(choice)

    def _choose(self, choice: ModelChoice) -> Devices:
        if self._ray is not None:
            return self._open_cluster(choice, self._ray)
        names = self._device.split(",")
        if len(names) == 1:
            return Devices(self._build(choice, names[0], 1))
        return self._open_local(choice, names)

    def _build(self, choice: ModelChoice, name: str, sharers: int) -> Upscaler:
        return build_upscaler(
            choice,
            name,
            self._precision,
            tiling=replace(self._tiling, workers=sharers),
            compilation=self._compilation,
            quiet=self._quiet,
        )

    def _open_local(self, choice: ModelChoice, names: list[str]) -> Devices:
        from ristn_cli.engine.device import DeviceError
        from ristn_cli.spread.local_worker import LocalWorker
        from ristn_cli.spread.pool import Pool
        from ristn_cli.spread.scheduling import spread_over

        upscalers = [self._build(choice, name, count_sharers(names)) for name in names]
        kinds = {f"{upscaler.backend.device.type} in {upscaler.backend.precision}" for upscaler in upscalers}
        if len(kinds) > 1:
            found = " and ".join(sorted(kinds))
            raise DeviceError(f"--device {self._device}: expected devices of one kind, found {found}")
        if self._local is None:
            if upscalers[0].backend.device.type == "cpu":
                self._stack.enter_context(shared_cores(len(names)))
            workers = [LocalWorker(name, upscaler) for name, upscaler in zip(names, upscalers, strict=True)]
            self._local = workers, self._stack.enter_context(Pool(workers))
        workers, pool = self._local
        for worker, upscaler in zip(workers, upscalers, strict=True):
            worker.add(upscaler)
        return Devices(upscalers[0], spread_over(pool), len(workers), count_at_once(upscalers[0], len(workers)))

    def _open_cluster(self, choice: ModelChoice, address: str) -> Devices:
        from ristn_cli.spread.pool import Pool
        from ristn_cli.spread.ray import WorkerNeeds, open_cluster, plan_for
        from ristn_cli.spread.scheduling import spread_over
        from ristn_cli.weights import load_choice

        network = load_choice(choice)
        if self._cluster is None:
            needs = WorkerNeeds(
                device=self._device,
                precision=self._precision,
                threads=self._ray_threads,
                compilation=self._compilation,
            )
            cluster = self._stack.enter_context(open_cluster(network, address, workers=self._ray_workers, needs=needs))
            first = cluster.first
            note(
                f"{len(cluster.workers)} workers, the first on {first.host} ({first.device})", is_shown=not self._quiet
            )
            self._cluster = cluster, self._stack.enter_context(Pool(cluster.workers))
        cluster, pool = self._cluster
        cluster.add(network)
        tiling = replace(
            self._tiling,
            workers=cluster.sharers,
            other_bytes=cluster.other_bytes,
            free_bytes=cluster.free_bytes,
        )
        return Devices(plan_for(cluster, network, tiling), spread_over(pool), len(cluster.workers))


def count_sharers(names: list[str]) -> int:
    """Return the largest number of named devices that share memory: all CPUs, or a GPU that is named twice."""
    from ristn_cli.engine.device import choose_device

    devices = [choose_device(name) for name in names]
    return max(Counter((device.type, device.index or 0) for device in devices).values())


def count_at_once(upscaler: Upscaler, workers: int) -> int:
    """Return how many workers compute at the same time at the speed of `upscaler`. On a CPU, each needs its cores."""
    import torch

    from ristn_cli.video import usable_cores

    if upscaler.backend.device.type != "cpu":
        return workers
    return max(1, min(workers, usable_cores() // torch.get_num_threads()))


@contextmanager
def shared_cores(workers: int) -> Iterator[None]:
    """Divide the cores among the computing threads of PyTorch while the context is active."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe_workers(done: Progress) -> str:
    """Describe the progress of several workers for the end of a line; empty with one device."""
    if done.segments is None:
        return ""
    finished, planned = done.segments
    speeds = sorted(worker.frames_per_second for worker in done.workers if worker.is_ready)
    if not speeds:
        return f", segments {finished}/{planned}, no worker"
    lowest, highest = f"{speeds[0]:.2f}", f"{speeds[-1]:.2f}"
    each = lowest if lowest == highest else f"{lowest} to {highest}"
    return f", segments {finished}/{planned}, {len(speeds)} of {len(done.workers)} workers at {each} fps"
