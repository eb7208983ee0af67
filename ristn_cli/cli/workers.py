"""What `ristn upscale` computes on: one device, several of them, or the workers of a Ray cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from ristn_cli.cli.terminal import build_upscaler, note, warn

if TYPE_CHECKING:
    from ristn_cli.distributed import WorkerNeeds
    from ristn_cli.inference.job import PartMaker
    from ristn_cli.inference.memory import AutoTiling
    from ristn_cli.inference.progress import Progress
    from ristn_cli.inference.upscaler import Upscaler
    from ristn_cli.model import RISTN

DevicesOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda, cuda:N or mps; several of a kind, as cuda:0,cuda:1, share the work.")
]
RayOption = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDRESS]", help="Work on a Ray cluster: auto, HOST:PORT, ray://HOST:PORT; without, on this machine's."
    ),
]
RayWorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Workers on the cluster; else all that it has room for.")
]
RayThreadsOption = Annotated[
    int | None, typer.Option(min=1, help="Processor cores of each worker; else at most 16 workers share a machine.")
]


class RayCommand(TyperCommand):
    """A command whose `--ray` may stand without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give `--ray` the value `local` where none follows it; `ctx` is the Context of Typer's click."""
        return super().parse_args(ctx, complete_ray(args))


def complete_ray(arguments: list[str]) -> list[str]:
    """Arguments with `--ray` as `--ray=local` where no address follows; a file's name is none."""
    completed = list(arguments)
    for index, argument in enumerate(arguments):
        if argument == "--":
            break
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        if argument == "--ray" and not re.fullmatch(r"auto|local|ray://.+|[\w.-]+:\d+|\[[\da-fA-F:]+\]:\d+", following):
            completed[index] = "--ray=local"
    return completed


def check_ray_options(ray: str | None, workers: int | None, threads: int | None) -> None:
    """Raise typer.BadParameter for options of a cluster without one."""
    if ray is None and (workers or threads):
        raise typer.BadParameter("--ray-workers and --ray-threads go with --ray")


@dataclass(frozen=True)
class Devices:
    """What computes: the upscaler by which jobs are planned, and what makes their parts if it is not that alone.

    `speedup` is how many times as fast as `upscaler` they are, where they are here.
    """

    upscaler: Upscaler
    make_parts: PartMaker | None = None
    workers: int = 1
    speedup: int = 1


@contextmanager
def open_devices(
    model: str,
    weights: Path | None,
    device: str,
    precision: str,
    tile: int | None,
    window: int | None,
    *,
    detect_cuts: bool,
    memory_limit: int | None,
    compilation: Literal["auto", "on", "off"],
    quiet: bool,
    ray: str | None,
    ray_workers: int | None,
    ray_threads: int | None,
) -> Iterator[Devices]:
    """The devices that the options describe, with their workers at work until the end of the context."""
    if ray is not None:
        from ristn_cli.distributed import WorkerNeeds
        from ristn_cli.inference.memory import AutoTiling
        from ristn_cli.weights import find_weights, load_weights

        network = load_weights(weights if weights is not None else find_weights(model))
        tiling = AutoTiling(window=window, tile=tile, detect_cuts=detect_cuts, memory_bytes=memory_limit)
        needs = WorkerNeeds(device=device, precision=precision, threads=ray_threads, compilation=compilation)
        with open_ray_devices(network, tiling, ray, ray_workers, needs, quiet=quiet) as devices:
            yield devices
        return
    names = device.split(",")
    upscalers = [
        build_upscaler(
            model,
            weights,
            name,
            precision,
            tile,
            window,
            detect_cuts=detect_cuts,
            memory_limit=memory_limit,
            with_default=True,
            compilation=compilation,
            quiet=quiet,
        )
        for name in names
    ]
    if len(names) == 1:
        yield Devices(upscalers[0])
        return
    from ristn_cli.inference.device import DeviceError
    from ristn_cli.inference.pool import LocalWorker, Pool
    from ristn_cli.inference.spread import spread_over

    kinds = {f"{upscaler.backend.device.type} in {upscaler.backend.precision}" for upscaler in upscalers}
    if len(kinds) > 1:
        raise DeviceError(f"--device {device}: expected devices of one kind, found {' and '.join(sorted(kinds))}")
    workers = [LocalWorker(name, upscaler) for name, upscaler in zip(names, upscalers, strict=True)]
    with Pool(workers, on_notice=warn) as pool:
        share_cores = upscalers[0].backend.device.type == "cpu"
        yield Devices(upscalers[0], spread_over(pool), len(workers), 1 if share_cores else len(workers))


@contextmanager
def open_ray_devices(
    network: RISTN, tiling: AutoTiling, address: str, workers: int | None, needs: WorkerNeeds, *, quiet: bool
) -> Iterator[Devices]:
    """The same with the workers of a Ray cluster, whose memory decides on the tiling unless a limit is given."""
    from ristn_cli.distributed import open_cluster, plan_for
    from ristn_cli.inference.pool import Pool
    from ristn_cli.inference.spread import spread_over

    with open_cluster(network, address, workers=workers, needs=needs, on_notice=warn) as cluster:
        first = cluster.first
        note(f"{len(cluster.workers)} workers, the first on {first.host} ({first.device})", is_shown=not quiet)
        tiling = replace(tiling, free_bytes=cluster.free_bytes)
        with Pool(cluster.workers, on_notice=warn) as pool:
            yield Devices(plan_for(cluster, network, tiling), spread_over(pool), len(cluster.workers))


def describe_workers(done: Progress) -> str:
    """How far several workers are, for the end of a line; nothing with one device."""
    if done.segments is None:
        return ""
    finished, planned = done.segments
    speeds = sorted(worker.frames_per_second for worker in done.workers if worker.is_ready)
    if not speeds:
        return f", segments {finished}/{planned}, no worker"
    lowest, highest = f"{speeds[0]:.2f}", f"{speeds[-1]:.2f}"
    each = lowest if lowest == highest else f"{lowest} to {highest}"
    return f", segments {finished}/{planned}, {len(speeds)} of {len(done.workers)} workers at {each} fps"
