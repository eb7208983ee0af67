"""Joins or starts a Ray cluster, determines how many workers fit, and starts them."""

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
from ristn_cli.engine.auto_tiling import AutoTiling
from ristn_cli.engine.compilation import CompileName
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import MIB, PROGRAM_BYTES
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
"""Address of a cluster on this machine that exists as long as the command."""

STORE_BYTES = 256 << 20
"""Size of the object store of a local cluster, which transfers pieces of files and networks."""

STALL_SECONDS = 900.0
"""A worker has hung if it has read no packet, started no layer and encoded no frame for this long."""

RAY_BYTES = 512 * MIB
"""Memory of the services of a local cluster without its object store: eight processes of 25 to 54 MiB each, and their
shared memory.
"""

MOST_WORKERS = 16
"""Default limit per machine. Each worker has its own network and windows in memory; further cores become its threads.
"""


@dataclass(frozen=True, kw_only=True)
class WorkerNeeds:
    """Requirements of each worker.

    Attributes:
        device: see `choose_backend`; `auto` uses GPUs if the cluster has any.
        precision: see `choose_backend`; with `auto`, the first worker chooses.
        compilation: see `choose_compilation`.
        threads: processor cores and PyTorch threads; None to use all cores with at most MOST_WORKERS workers per
            machine.
        stall_seconds: a worker without activity for this long counts as hung.
    """

    device: str = "auto"
    precision: str = "auto"
    compilation: CompileName = "auto"
    threads: int | None = None
    stall_seconds: float = STALL_SECONDS


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Workers that are being started, and properties of the first one.

    Attributes:
        workers: for a `Pool`.
        first: the first worker that was ready. All others use the same kind of device and the same precision.
        free_bytes: free memory per worker; None if unknown.
        sharers: largest number of workers that share the memory of a machine or a GPU.
        other_bytes: memory of the workers' processes and, for a local cluster, of Ray's.
        networks: Ray's references to the networks that workers received, by fingerprint.
    """

    workers: list[RayWorker]
    first: Hello
    free_bytes: int | None
    sharers: int
    other_bytes: int
    networks: dict[str, Any]

    def add(self, model: RISTN) -> None:
        """Add a network for jobs. Workers load it with their first segment of such a job."""
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
    """Connect to a Ray cluster, or start one on this machine, and start workers.

    Args:
        model: the network.
        address: address of the cluster in Ray's format; `local` starts one on this machine and ends it with the
            context.
        workers: number of workers; None for as many as the cluster has room for now.
        needs: requirements of each worker.
        store_bytes: size of Ray's object store in a local cluster.

    Raises:
        JobError: the cluster cannot be reached, or no worker is usable.
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
            concurrency_groups={"signs": 1},  # answers while a segment is computed
            scheduling_strategy="SPREAD",
            # An existing cluster does not pass on the variables of this process.
            runtime_env={"env_vars": WITHOUT_TCACHE | limit_variables()},
        )(SegmentWorker)

        def make() -> Any:
            return actor_class.remote(shared, device, precision, threads, needs.compilation)

        made = [RayWorker(f"worker {number}", make, needs.stall_seconds, networks) for number in range(1, count + 1)]
        # The first worker chooses the precision for all.
        first = await_first(made[0])
        precision = first.precision
        for worker in made[1:]:
            worker.launch()
        together = max(1, min(count, max(rooms, default=1)))  # on one machine
        sharers = 1 if uses_gpus else together
        # The other workers of the first one's machine have not started yet.
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
    """Return an upscaler for planning and identifying the jobs of a cluster. It never computes.

    Args:
        cluster: provides device and precision.
        model: the network.
        tiling: windows and tiles for the memory of a worker, not of this machine.
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
    """Join the cluster at `address`, or start it for LOCAL. Raises JobError."""
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
            # Its workers first import modules from the folder in which it was started.
            with in_empty_folder(), on_loopback() if address == LOCAL else contextlib.nullcontext():
                ray.init(address=address, **options)
        except JobError:
            raise
        except Exception as error:  # Ray raises a bare Exception if its processes start too slowly
            hint = "" if address == LOCAL else "; the token here must be the token of the cluster"
            raise JobError(f"cannot join the Ray cluster at {address}: {error}{hint}") from error
        yield


def await_first(worker: RayWorker) -> Hello:
    """Wait until a worker is ready and return its properties. Raises JobError if it is not usable."""
    waiting = threading.Timer(
        30, log.warning, ["no worker is ready yet; waiting for free resources in the cluster (see `ray status`)"]
    )
    waiting.daemon = True
    waiting.start()
    try:
        worker.start()
    except WorkerLost as error:
        raise JobError(f"the cluster's first worker is not usable: {error}") from error
    finally:
        waiting.cancel()
    assert worker.hello is not None
    return worker.hello


def default_threads(machines: list[dict[str, float]]) -> int:
    """Return the threads per worker with which MOST_WORKERS use the largest machine fully."""
    cores = max((machine.get("CPU", 1.0) for machine in machines), default=1.0)
    return max(1, math.ceil(cores / MOST_WORKERS))


def machine_room(machine: dict[str, float], threads: int, uses_gpus: bool) -> int:
    room = int(machine.get("CPU", 0) // threads)
    return min(room, int(machine.get("GPU", 0))) if uses_gpus else room
