"""A worker of a pool in a Ray actor, on this or another machine."""

from __future__ import annotations

import contextlib
import itertools
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError

from ristn_cli.engine.device import DeviceError
from ristn_cli.job.manifest import Part, fingerprint
from ristn_cli.own_files import open_new
from ristn_cli.spread.ray.worker import Hello, Refused, Seen, source_files, versions
from ristn_cli.spread.segments import Pulse, Segment, WorkerLost
from ristn_cli.spread.tasks import SegmentJob
from ristn_cli.video import VideoError

PIECE_BYTES = 8 << 20
"""Size of the pieces in which files are sent. Two are in flight between the driver and a worker."""

POLL_SECONDS = 0.5
POLLS_PER_LOOK = 20
"""Polls between queries of Ray's machines, because hundreds of workers may be waiting."""


class RayWorker:
    """A worker in an actor, which is created again after a loss.

    Args:
        name: name in messages and progress.
        make: creates an actor with a SegmentWorker when the cluster has room.
        stall_seconds: see `WorkerNeeds`.
        networks: Ray's references to the networks of jobs, by fingerprint; more can be added later.
    """

    def __init__(
        self, name: str, make: Callable[[], Any], stall_seconds: float, networks: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self.hello: Hello | None = None
        self._label = name
        self._make, self._stall_seconds = make, stall_seconds
        self._networks = {} if networks is None else networks
        self._actor: Any = None
        self._key = self._network = ""
        self._seen = Seen(False, False)
        self._is_stopped = False

    def launch(self) -> None:
        """Request the actor without waiting for it."""
        if self._actor is None:
            self._actor, self._key, self._network = self._make(), "", ""

    def start(self) -> None:
        """Wait for the actor, without limit if the cluster has no room. Raises WorkerLost if it is not usable."""
        self.launch()
        with self._losses():
            hello = self._wait(self._actor.hello.remote())
        if isinstance(hello, Hello) and hello.versions != versions():
            hello = Refused("", f"it has {', '.join(hello.versions)}, here are {', '.join(versions())}")
        if isinstance(hello, Hello) and not hello.needs_token:
            hello = Refused(
                "", "its cluster does not require a token; restart the whole cluster with RAY_AUTH_MODE=token"
            )
        if isinstance(hello, Refused):
            self._drop()
            raise WorkerLost(hello.message)
        self.hello = hello
        self.name = f"{self._label} ({hello.host})"

    def compute(self, work: SegmentJob, segment: Segment, path: Path, pulse: Pulse) -> Part:
        """Compute a segment and fetch its part to `path`. Raises WorkerLost, or the errors of the job."""
        with self._losses():
            if self._key != work.key:
                self._open(work)
            made = self._watch(self._actor.compute.remote(segment, path.name), pulse)
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
        """Kill the actor and cancel pending calls."""
        self._is_stopped = True
        if self._actor is not None and self.hello is not None:
            with contextlib.suppress(RayError, AttributeError):  # its own thread may drop it at the same time
                ray.get(self._actor.close.options(concurrency_group="signs").remote(), timeout=2)
        self._drop()

    def _drop(self) -> None:
        actor, self._actor, self._key, self.hello = self._actor, None, "", None
        if actor is not None:
            with contextlib.suppress(RayError, ValueError):
                ray.kill(actor)

    @contextlib.contextmanager
    def _losses(self) -> Iterator[None]:
        """Convert Ray's various errors for lost actors into WorkerLost, and drop the actor."""
        try:
            yield
        except RayError as error:
            self._drop()
            cause = getattr(error, "cause", None) or error
            lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
            raise WorkerLost(f"{type(cause).__name__}: {lines[0] if lines else 'no further information'}") from error
        except WorkerLost:
            self._drop()
            raise

    def _wait(self, reference: Any) -> Any:
        """Return the result of a call. Waits without limit for room, as long as there is a machine in the cluster."""
        for polls in itertools.count(1):
            if ray.wait([reference], timeout=POLL_SECONDS)[0]:
                break
            self._check()
            if polls % POLLS_PER_LOOK == 0 and not any(node["Alive"] for node in ray.nodes()):
                raise WorkerLost("the Ray cluster has no machines left; see Ray's logs")
        return ray.get(reference)

    def _check(self) -> None:
        if self._is_stopped:
            raise WorkerLost("stopped")

    def _watch(self, reference: Any, pulse: Pulse) -> Any:
        """Return the result of a computation, as long as it shows activity."""
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
                    pulse.frames = signs[0]
            if time.monotonic() - changed > self._stall_seconds:
                raise WorkerLost(f"has shown no activity for {self._stall_seconds:g} s")
        return ray.get(reference)

    def _open(self, work: SegmentJob) -> None:
        """Prepare the actor for a job: send the network, and the source unless the actor sees the same file."""
        if work.network in self._networks and work.network != self._network:
            self._wait(self._actor.use.remote(self._networks[work.network]))
            self._network = work.network
        # Workers have another working folder, so relative paths would be wrong.
        source, target = work.job.source, work.job.target.absolute()
        job = work.job.with_source_files(source.path.absolute(), tuple(path.absolute() for path in source.images))
        work = replace(work, job=replace(job, target=target))
        token = make_token(work.job.folder)
        files = source_files(work.job.source)
        try:
            self._seen = self._wait(self._actor.open.remote(work, [fingerprint(file) for file in files], token))
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
        self._key = work.key

    def _fetch(self, path: Path) -> None:
        """Fetch a part in pieces, the next one in flight while one is written."""
        offset = 0
        coming = self._actor.read.remote(path.name, 0, PIECE_BYTES)
        with open_new(path) as file:
            while piece := self._wait(coming):
                offset += len(piece)
                coming = self._actor.read.remote(path.name, offset, PIECE_BYTES)
                file.write(piece)
        self._wait(self._actor.discard.remote(path.name))


def make_token(folder: Path) -> Path:
    """Create a file that contains its own name, to detect whether a worker sees the same folder."""
    token = folder / f"making-{uuid.uuid4().hex}"
    with open_new(token) as file:
        file.write(token.name.encode())
    return token


def read_pieces(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield a file in pieces with their offsets; one empty piece for an empty file."""
    with file.open("rb") as stream:
        offset = 0
        while (piece := stream.read(PIECE_BYTES)) or not offset:
            yield offset, piece
            offset += len(piece)
            if not piece:
                return
