"""Runs on a machine of a cluster: computes segments of a source that it sees or received in pieces.

Does not know Ray: any process can create one and call it.
"""

import os
import platform
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from ristn_cli.engine.compilation import CompileName
from ristn_cli.engine.device import DeviceError, PrecisionName, choose_backend, free_bytes
from ristn_cli.engine.short_memory import OutOfMemory
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.upscaler import fingerprint as fingerprint_network
from ristn_cli.isolation import isolate_children
from ristn_cli.job.job import Job
from ristn_cli.job.manifest import Part, fingerprint
from ristn_cli.model import RISTN
from ristn_cli.own_files import check_owner
from ristn_cli.spread.segments import Pulse, Segment, compute_segment
from ristn_cli.spread.tasks import SegmentJob
from ristn_cli.video import VideoError, VideoInfo


@dataclass(frozen=True, kw_only=True)
class Hello:
    """Properties of a worker. Its `versions` must equal the driver's, because others may give different frames.

    `needs_token` states whether the worker's cluster requires a token.
    """

    host: str
    pid: int
    device: str
    precision: PrecisionName
    is_compiled: bool
    free_bytes: int | None
    versions: tuple[str, ...]
    needs_token: bool

    def free_for_each(self, workers: int) -> int | None:
        """Return the free memory for each of the workers that share this one's memory; None if unknown."""
        return None if self.free_bytes is None else max(1, self.free_bytes // workers)


@dataclass(frozen=True)
class Refused:
    """An expected error of a worker: the name of its class, and its message."""

    kind: str
    message: str


@dataclass(frozen=True)
class Seen:
    """What a worker sees at the driver's paths: the source, and the folder of the parts."""

    source: bool
    folder: bool


def versions() -> tuple[str, ...]:
    """Return the versions of everything that affects frames."""
    return (*(f"{name} {version(name)}" for name in ("ristn", "torch", "av")), platform.machine())


def source_files(info: VideoInfo) -> tuple[Path, ...]:
    return info.images or (info.path,)


class SegmentWorker:
    """One device of one machine.

    Args:
        model: the network.
        device: see `choose_backend`.
        precision: see `choose_backend`; the same for all workers of a job.
        threads: number of PyTorch threads.
        compilation: see `choose_compilation`.
    """

    def __init__(
        self, model: RISTN, device: str, precision: str, threads: int, compilation: CompileName = "auto"
    ) -> None:
        torch.set_num_threads(threads)
        isolate_children()
        self._upscaler: Upscaler | None = None
        self._refusal = ""
        try:
            self._upscaler = Upscaler(model, choose_backend(device, precision), compilation=compilation)
        except DeviceError as error:
            self._refusal = str(error)
        self._upscalers = {} if self._upscaler is None else {self._upscaler.fingerprint: self._upscaler}
        self._compilation = compilation
        self._job: Job | None = None
        self._parts = self._sources = Path()
        self._scratch: Path | None = None
        self._pulse = Pulse()

    def hello(self) -> Hello | Refused:
        if self._upscaler is None:
            return Refused("DeviceError", self._refusal)
        backend = self._upscaler.backend
        return Hello(
            host=platform.node(),
            pid=os.getpid(),
            device=backend.device.type,
            precision=backend.precision,
            is_compiled=self._upscaler.is_compiled,
            free_bytes=free_bytes(backend.device),
            versions=versions(),
            needs_token=os.environ.get("RAY_AUTH_MODE", "").lower() == "token",
        )

    def open(self, work: SegmentJob, fingerprints: Sequence[dict[str, Any]], token: Path) -> Seen:
        """Prepare for a job, and return what this worker sees of it.

        Args:
            work: the job, with the paths of the driver.
            fingerprints: fingerprint of each file of the source on the driver.
            token: a file that the driver has just created in the job's folder; see `make_token`.
        """
        self._clear()
        job = work.job
        files = source_files(job.source)
        try:
            sees_source = all(fingerprint(file) == there for file, there in zip(files, fingerprints, strict=True))
        except OSError:
            sees_source = False
        try:
            check_owner(job.folder)
            sees_folder = token.read_text(encoding="utf-8") == token.name
        except OSError:
            sees_folder = False
        self._parts = job.folder if sees_folder else self._scratch_folder() / "parts"
        self._sources = self._scratch_folder() / "source" if not sees_source else Path()
        for folder in (self._parts, self._sources):
            folder.mkdir(mode=0o700, exist_ok=True)
        if not sees_source:
            here = tuple(self._sources / f"{index:06}-{file.name}" for index, file in enumerate(files))
            job = job.with_source_files(here[0], here if job.source.images else ())
        self._job = job
        if self._upscaler is not None:
            self._upscaler.tiling = work.tiling
        return Seen(sees_source, sees_folder)

    def use(self, model: RISTN) -> None:
        """Use another network from the next segment on, with the same device and precision."""
        assert self._upscaler is not None
        key = fingerprint_network(model)
        if key not in self._upscalers:
            self._upscalers[key] = Upscaler(model, self._upscaler.backend, compilation=self._compilation)
        if self._upscalers[key] is not self._upscaler:
            self._upscaler.rest()
            self._upscaler = self._upscalers[key]

    def receive(self, index: int, offset: int, data: bytes) -> None:
        """Append a piece to a file of the source. The pieces of a file arrive in order."""
        assert self._job is not None
        file = source_files(self._job.source)[index]
        with file.open("r+b" if offset else "wb") as output:
            output.seek(offset)
            output.write(data)

    def compute(self, segment: Segment, name: str) -> Part | Refused:
        """Write the part of a segment of the open job to the file `name` in the folder of the parts."""
        assert self._job is not None and self._upscaler is not None
        self._pulse = Pulse()
        try:
            return compute_segment(self._job, segment, self._upscaler, self._parts / name, self._pulse)
        except OutOfMemory as error:
            return Refused("OutOfMemory", str(error))
        except DeviceError as error:
            return Refused("DeviceError", str(error))
        except VideoError as error:
            return Refused("VideoError", str(error))

    def signs(self) -> tuple[int, int]:
        """Return the encoded frames of the current segment, and a number that grows with any activity."""
        return self._pulse.frames, self._pulse.beats

    def read(self, name: str, offset: int, size: int) -> bytes:
        """Return a piece of a part; empty after its end."""
        with (self._parts / name).open("rb") as part:
            part.seek(offset)
            return part.read(size)

    def discard(self, name: str) -> None:
        """Delete a part that the driver has received."""
        (self._parts / name).unlink(missing_ok=True)

    def _scratch_folder(self) -> Path:
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="ristn-"))
        return self._scratch

    def _clear(self) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)
            self._scratch = None

    def close(self) -> None:
        self._clear()
