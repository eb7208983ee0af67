"""A cluster of Ray, joined or made: how many workers it has room for, and their start."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import ray
import torch

from ristn_cli.engine.allocator import WITHOUT_TCACHE
from ristn_cli.engine.compilation import CompileName
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import MIB, PROGRAM_BYTES, AutoTiling
from ristn_cli.engine.upscaler import Upscaler, fingerprint
from ristn_cli.job.manifest import JobError
from ristn_cli.model import RISTN
from ristn_cli.own_files import in_empty_folder
from ristn_cli.spread.ray.access import on_loopback, own_cluster, use_token
from ristn_cli.spread.ray.ray_worker import RayWorker
from ristn_cli.spread.ray.worker import Hello, SegmentWorker
from ristn_cli.spread.segments import WorkerLost
from ristn_cli.video import limit_variables, usable_cores

log = logging.getLogger("ristn.job")

LOCAL = "local"
"""The address of a cluster of this machine alone, that lives as long as the command."""

STORE_BYTES = 256 << 20
"""Ray's object store of a local cluster: pieces of files, and the network, pass through it."""

STALL_SECONDS = 900.0
"""A worker that has read no packet, begun no layer of the network and written no frame for as long has hung."""

RAY_BYTES = 512 * MIB
"""What the services of a local cluster take, beside its object store: eight processes of 25 to 54 MiB of their own, and
what they share."""

MOST_WORKERS = 16
"""On one machine by default: a worker has its own network and windows in memory; more cores are threads of them."""


@dataclass(frozen=True, kw_only=True)
class WorkerNeeds:
    """What each worker is given.

    Attributes:
        device: as in `choose_backend`; `auto` takes GPUs where the cluster has any.
        precision: as in `choose_backend`; `auto` is what the first worker chooses.
        compilation: as of `choose_compilation`.
        threads: processor cores and PyTorch threads; None for as many as leave MOST_WORKERS a machine.
        stall_seconds: without a sign of life for as long a worker counts as hung.
    """

    device: str = "auto"
    precision: str = "auto"
    compilation: CompileName = "auto"
    threads: int | None = None
    stall_seconds: float = STALL_SECONDS


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Workers that are being started, and what the first of them is.

    Attributes:
        workers: for a `Pool`.
        first: the first one that was ready; all others compute on the same kind of device in the same precision.
        free_bytes: memory that is free for one worker; None when nothing tells.
        sharers: how many workers share a machine's memory, or a GPU's, at most.
        other_bytes: what the workers' processes, and Ray's own where the cluster is ours, take of a machine's memory.
        networks: where Ray keeps the networks that workers were given, by their fingerprints.
    """

    workers: list[RayWorker]
    first: Hello
    free_bytes: int | None
    sharers: int
    other_bytes: int
    networks: dict[str, Any]

    def add(self, model: RISTN) -> None:
        """Let jobs use another network; workers get it when they take up the first of these."""
        key = fingerprint(model)
        if key not in self.networks:
            self.networks[key] = ray.put(model)


@contextlib.contextmanager
def open_cluster(
    model: RISTN,
    address: str = LOCAL,
    *,
    workers: int | None = None,
    needs: WorkerNeeds | None = None,
    store_bytes: int = STORE_BYTES,
) -> Iterator[Cluster]:
    """Connect to a Ray cluster, or make one of this machine, and start workers there.

    Args:
        model: the network.
        address: of the cluster, as Ray takes it; `local` makes one of this machine, and ends it with the context.
        workers: how many; None for all that the cluster has room for now.
        needs: what each is given.
        store_bytes: Ray's object store, where the cluster is made.

    Raises:
        JobError: the cluster cannot be reached, or no worker can be used.
    """
    needs = needs or WorkerNeeds()
    with contextlib.ExitStack() as stack:
        is_ours = not ray.is_initialized()
        if is_ours:
            stack.enter_context(connect(address, workers, needs, store_bytes))
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        uses_gpus = needs.device.startswith("cuda") or (
            needs.device == "auto" and any(machine.get("GPU", 0) >= 1 for machine in machines)
        )
        device = "cuda" if uses_gpus else "cpu" if needs.device == "auto" else needs.device
        threads = needs.threads or default_threads(machines)
        rooms = [machine_room(machine, threads, uses_gpus) for machine in machines]
        count = workers or max(1, sum(rooms))
        shared = ray.put(model)
        networks = {fingerprint(model): shared}
        precision = needs.precision
        actor_class = ray.remote(
            num_cpus=threads,
            num_gpus=1 if uses_gpus else 0,
            max_restarts=0,
            concurrency_groups={"signs": 1},  # answered while a segment is computed
            scheduling_strategy="SPREAD",
            # A cluster that others began does not pass the variables on.
            runtime_env={"env_vars": WITHOUT_TCACHE | limit_variables()},
        )(SegmentWorker)

        def make() -> Any:
            return actor_class.remote(shared, device, precision, threads, needs.compilation)

        made = [RayWorker(f"worker {number}", make, needs.stall_seconds, networks) for number in range(1, count + 1)]
        # The first decides on the precision, which the others are then told.
        first = await_first(made[0])
        precision = first.precision
        for worker in made[1:]:
            worker.launch()
        together = max(1, min(count, max(rooms, default=1)))  # on one machine
        sharers = 1 if uses_gpus else together
        # The others of the first one's machine have yet to begin.
        beginning = 0 if first.free_bytes is None else first.free_bytes - (sharers - 1) * PROGRAM_BYTES
        free = replace(first, free_bytes=None if first.free_bytes is None else beginning).free_for_each(sharers)
        services = RAY_BYTES + store_bytes if is_ours and address == LOCAL else 0
        try:
            yield Cluster(
                workers=made,
                first=first,
                free_bytes=free,
                sharers=sharers,
                other_bytes=together * PROGRAM_BYTES + services,
                networks=networks,
            )
        finally:
            for worker in made:
                worker.stop()


def plan_for(cluster: Cluster, model: RISTN, tiling: AutoTiling) -> Upscaler:
    """An upscaler by which jobs for a cluster are planned and recognised. It is never asked to compute here.

    Args:
        cluster: whose device and precision it claims.
        model: the network.
        tiling: with the memory of a worker, not of this machine.
    """
    first = cluster.first
    upscaler = Upscaler(model, Backend(torch.device("cpu"), first.precision), tiling, compilation="off")
    upscaler.backend = Backend(torch.device(first.device), first.precision)
    upscaler.is_compiled = first.is_compiled
    return upscaler


@contextlib.contextmanager
def connect(
    address: str,
    workers: int | None,
    needs: WorkerNeeds,
    store_bytes: int,
) -> Iterator[None]:
    """Be in the cluster at `address`, which is made if it is LOCAL. Raises JobError."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with contextlib.ExitStack() as stack:
        try:
            if address == LOCAL:
                folder = stack.enter_context(own_cluster())
                cores = usable_cores()
                asked = (workers or 0) * (needs.threads or 1)
                options |= {
                    "num_cpus": max(cores, asked),
                    "object_store_memory": store_bytes,
                    "include_dashboard": False,
                    "_node_ip_address": "127.0.0.1",
                    "_temp_dir": str(folder),
                }
            else:
                use_token()
            stack.callback(ray.shutdown)
            # Its workers import modules from the folder that it was begun in before any others.
            with in_empty_folder(), on_loopback() if address == LOCAL else contextlib.nullcontext():
                ray.init(address=address, **options)
        except JobError:
            raise
        except Exception as error:  # Ray raises Exception itself when its processes are slow to start
            hint = "" if address == LOCAL else "; the token here must be the token of the cluster"
            raise JobError(f"cannot join the Ray cluster at {address}: {error}{hint}") from error
        yield


def await_first(worker: RayWorker) -> Hello:
    """What a worker is, when it is ready. Raises JobError when it cannot be used."""
    waiting = threading.Timer(
        30, log.warning, ["no worker is ready yet; waiting for room in the cluster (`ray status` tells of it)"]
    )
    waiting.daemon = True
    waiting.start()
    try:
        worker.start()
    except WorkerLost as error:
        raise JobError(f"the cluster's first worker cannot be used: {error}") from error
    finally:
        waiting.cancel()
    assert worker.hello is not None
    return worker.hello


def default_threads(machines: list[dict[str, float]]) -> int:
    """Threads of a worker that leave the largest machine MOST_WORKERS of them."""
    cores = max((machine.get("CPU", 1.0) for machine in machines), default=1.0)
    return max(1, math.ceil(cores / MOST_WORKERS))


def machine_room(machine: dict[str, float], threads: int, uses_gpus: bool) -> int:
    """How many workers a machine has room for."""
    room = int(machine.get("CPU", 0) // threads)
    return min(room, int(machine.get("GPU", 0))) if uses_gpus else room
