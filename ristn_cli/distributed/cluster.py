"""Workers of a pool that live in Ray's actors, on this machine or on any of a cluster's."""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ristn_cli.distributed.worker import Hello, Refused, Seen, SegmentWorker, source_files, versions
from ristn_cli.inference.device import Backend, DeviceError
from ristn_cli.inference.execution import CompileName
from ristn_cli.inference.manifest import JobError, Part, fingerprint
from ristn_cli.inference.memory import AutoTiling
from ristn_cli.inference.pool import SegmentJob, WorkerLost
from ristn_cli.inference.segments import Segment
from ristn_cli.inference.upscaler import Upscaler
from ristn_cli.model import RISTN
from ristn_cli.video import VideoError

# Read when Ray is imported or starts: nothing is reported to anyone, and workers without a GPU of their own keep their
# environment.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Workers would be starved by any other program that computes on this machine.
os.environ.setdefault("RAY_worker_niceness", "0")
# Ray prints pages of a dead machine's log on stdout; what of it concerns the work, the pool says.
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")

try:
    import ray
    from ray.exceptions import GetTimeoutError, RayError
except ImportError as error:
    raise JobError(f"a cluster needs Ray ({error}): pip install 'ristn[ray]'") from error

LOCAL = "local"
"""The address of a cluster of this machine alone, that lives as long as the command."""

PIECE_BYTES = 8 << 20
"""Of a file on its way; two of them are in flight between the driver and a worker."""

STORE_BYTES = 256 << 20
"""Ray's object store of a local cluster: pieces of files, and the network, pass through it."""

STALL_SECONDS = 900.0
"""A worker that has begun no layer of the network and written no frame for as long has hung. Reading up to the start
of a segment counts as silence, and takes minutes where a long video cannot be sought in."""

MOST_WORKERS = 16
"""On one machine by default: a worker has its own network and windows in memory; more cores are threads of them."""

POLL_SECONDS = 0.5
POLLS_PER_LOOK = 20
"""Ray is asked for its machines only so often: hundreds of workers may be waiting."""


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


class RayWorker:
    """A worker of a pool, in an actor that is made anew when it is lost.

    Args:
        name: by which people know it.
        make: makes an actor around a SegmentWorker, wherever the cluster has room, now or later.
        stall_seconds: as in `WorkerNeeds`.
    """

    def __init__(self, name: str, make: Callable[[], Any], stall_seconds: float) -> None:
        self.name = name
        self.hello: Hello | None = None
        self._label = name
        self._make, self._stall_seconds = make, stall_seconds
        self._actor: Any = None
        self._job = ""
        self._seen = Seen(False, False)
        self._is_stopped = False

    def launch(self) -> None:
        """Ask for the actor without waiting for it."""
        if self._actor is None:
            self._actor, self._job = self._make(), ""

    def start(self) -> None:
        """Wait for the actor, for ever if the cluster has no room. Raises WorkerLost for one that cannot be used."""
        self.launch()
        with self._losses():
            hello = self._wait(self._actor.hello.remote())
        if isinstance(hello, Hello) and hello.versions != versions():
            hello = Refused("", f"it has {', '.join(hello.versions)}, here are {', '.join(versions())}")
        if isinstance(hello, Refused):
            self._drop()
            raise WorkerLost(hello.message)
        self.hello = hello
        self.name = f"{self._label} ({hello.host})"

    def compute(self, job: SegmentJob, segment: Segment, path: Path, tell: Callable[[int], None]) -> Part:
        """Have a segment made, and its part brought to `path`. Raises WorkerLost, or the errors of the job."""
        with self._losses():
            if self._job != job.key:
                self._open(job)
            made = self._watch(self._actor.compute.remote(segment, path.name), tell)
            if isinstance(made, Part) and not self._seen.folder:
                self._fetch(path)
        if isinstance(made, Refused):
            error = {"DeviceError": DeviceError, "VideoError": VideoError}.get(made.kind, WorkerLost)
            if error is WorkerLost:
                self._drop()
            raise error(f"{made.message} (on {self.name})")
        assert isinstance(made, Part)
        return made

    def stop(self) -> None:
        """End the actor and what waits for it."""
        self._is_stopped = True
        if self._actor is not None and self.hello is not None:
            with contextlib.suppress(RayError, AttributeError):  # its own thread may drop it meanwhile
                ray.get(self._actor.close.options(concurrency_group="signs").remote(), timeout=2)
        self._drop()

    def _drop(self) -> None:
        actor, self._actor, self._job, self.hello = self._actor, None, "", None
        if actor is not None:
            with contextlib.suppress(RayError, ValueError):
                ray.kill(actor)

    @contextlib.contextmanager
    def _losses(self) -> Iterator[None]:
        """Turn Ray's errors, which tell of the actor's end in many ways, into WorkerLost; drop the actor."""
        try:
            yield
        except RayError as error:
            self._drop()
            cause = getattr(error, "cause", None) or error
            lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
            raise WorkerLost(f"{type(cause).__name__}: {lines[0] if lines else 'no more is known'}") from error
        except WorkerLost:
            self._drop()
            raise

    def _wait(self, reference: Any) -> Any:
        """The result of a call. An actor may wait for room for ever, but not without any machine that could have it."""
        for polls in itertools.count(1):
            if ray.wait([reference], timeout=POLL_SECONDS)[0]:
                break
            self._check()
            if polls % POLLS_PER_LOOK == 0 and not any(node["Alive"] for node in ray.nodes()):
                raise WorkerLost("no machine is left in the Ray cluster, not even its first; Ray's logs say why")
        return ray.get(reference)

    def _check(self) -> None:
        if self._is_stopped:
            raise WorkerLost("stopped")

    def _watch(self, reference: Any, tell: Callable[[int], None]) -> Any:
        """The result of a computation that gives signs of life until then."""
        last, changed = (0, 0), time.monotonic()
        asked: Any = None
        while not ray.wait([reference], timeout=POLL_SECONDS)[0]:
            self._check()
            if asked is None:
                asked = self._actor.signs.options(concurrency_group="signs").remote()
            with contextlib.suppress(GetTimeoutError):
                signs = ray.get(asked, timeout=POLL_SECONDS)
                asked = None
                if signs != last:
                    last, changed = signs, time.monotonic()
                    tell(signs[0])
            if time.monotonic() - changed > self._stall_seconds:
                raise WorkerLost(f"has given no sign of life for {self._stall_seconds:g} s")
        return ray.get(reference)

    def _open(self, job: SegmentJob) -> None:
        """Make the actor ready for a job: send it the source, unless it sees the same file."""
        token = make_token(job.folder)
        files = source_files(job.info)
        try:
            self._seen = self._wait(self._actor.open.remote(job, [fingerprint(file) for file in files], token))
        finally:
            token.unlink(missing_ok=True)
        if not self._seen.source:
            sent: deque[Any] = deque()
            for index, file in enumerate(files):
                for offset, piece in read_pieces(file):
                    if len(sent) == 2:
                        self._wait(sent.popleft())
                    sent.append(self._actor.receive.remote(index, offset, piece))
            while sent:
                self._wait(sent.popleft())
        self._job = job.key

    def _fetch(self, path: Path) -> None:
        """Bring a part here, piece by piece, the next one on its way while one is written."""
        offset = 0
        coming = self._actor.read.remote(path.name, 0, PIECE_BYTES)
        with path.open("wb") as file:
            while piece := self._wait(coming):
                offset += len(piece)
                coming = self._actor.read.remote(path.name, offset, PIECE_BYTES)
                file.write(piece)
        self._wait(self._actor.discard.remote(path.name))


def make_token(folder: Path) -> Path:
    """A new file that holds its own name: who reads that under the same path sees the same folder."""
    token = folder / f"making-{uuid.uuid4().hex}"
    token.write_text(token.name, encoding="utf-8")
    return token


def read_pieces(file: Path) -> Iterator[tuple[int, bytes]]:
    """A file in pieces with their offsets; an empty one as one empty piece."""
    with file.open("rb") as stream:
        offset = 0
        while (piece := stream.read(PIECE_BYTES)) or not offset:
            yield offset, piece
            offset += len(piece)
            if not piece:
                return


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Workers that are being started, and what the first of them is.

    Attributes:
        workers: for a `Pool`.
        first: the first one that was ready; all others compute on the same kind of device in the same precision.
        free_bytes: memory that is free for one worker; None when nothing tells.
    """

    workers: list[RayWorker]
    first: Hello
    free_bytes: int | None


@contextlib.contextmanager
def open_cluster(
    model: RISTN,
    address: str = LOCAL,
    *,
    workers: int | None = None,
    needs: WorkerNeeds | None = None,
    store_bytes: int = STORE_BYTES,
    on_notice: Callable[[str], None] = lambda message: None,
) -> Iterator[Cluster]:
    """Connect to a Ray cluster, or make one of this machine, and start workers there.

    Args:
        model: the network.
        address: of the cluster, as Ray takes it; `local` makes one of this machine, and ends it with the context.
        workers: how many; None for all that the cluster has room for now.
        needs: what each is given.
        store_bytes: Ray's object store, where the cluster is made.
        on_notice: told when there is nothing to do but wait.

    Raises:
        JobError: the cluster cannot be reached, or no worker can be used.
    """
    needs = needs or WorkerNeeds()
    is_ours = not ray.is_initialized()
    if is_ours:
        connect(address, workers, needs, store_bytes)
    try:
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        uses_gpus = needs.device.startswith("cuda") or (
            needs.device == "auto" and any(machine.get("GPU", 0) >= 1 for machine in machines)
        )
        device = "cuda" if uses_gpus else "cpu" if needs.device == "auto" else needs.device
        threads = needs.threads or default_threads(machines)
        rooms = [machine_room(machine, threads, uses_gpus) for machine in machines]
        count = workers or max(1, sum(rooms))
        shared = ray.put(model)
        precision = needs.precision
        actor_class = ray.remote(
            num_cpus=threads,
            num_gpus=1 if uses_gpus else 0,
            max_restarts=0,
            concurrency_groups={"signs": 1},  # answered while a segment is computed
            scheduling_strategy="SPREAD",
        )(SegmentWorker)

        def make() -> Any:
            return actor_class.remote(shared, device, precision, threads, needs.compilation)

        made = [RayWorker(f"worker {number}", make, needs.stall_seconds) for number in range(1, count + 1)]
        # The first decides on the precision, which the others are then told.
        first = await_first(made[0], on_notice)
        precision = first.precision
        for worker in made[1:]:
            worker.launch()
        room = 1 if uses_gpus else max(1, min(count, max(rooms, default=1)))
        try:
            free = None if first.free_bytes is None else max(1, first.free_bytes // room)
            yield Cluster(workers=made, first=first, free_bytes=free)
        finally:
            for worker in made:
                worker.stop()
    finally:
        if is_ours:
            ray.shutdown()


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


def connect(address: str, workers: int | None, needs: WorkerNeeds, store_bytes: int) -> None:
    """Join the cluster at `address`. Raises JobError."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        if address != LOCAL:
            ray.init(address=address, **quiet)
            return
        cores = os.cpu_count() or 1
        asked = (workers or 0) * (needs.threads or 1)
        ray.init(
            address=LOCAL,
            num_cpus=max(cores, asked),
            object_store_memory=store_bytes,
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            **quiet,
        )
    except (RayError, ConnectionError, ValueError, RuntimeError, OSError, TimeoutError) as error:
        raise JobError(f"cannot join the Ray cluster at {address}: {error}") from error


def await_first(worker: RayWorker, on_notice: Callable[[str], None]) -> Hello:
    """What a worker is, when it is ready. Raises JobError when it cannot be used."""
    waiting = threading.Timer(
        30, on_notice, ["no worker is ready yet; waiting for room in the cluster (`ray status` tells of it)"]
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
