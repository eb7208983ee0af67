"""What runs on a machine of a cluster: computes segments of a source that it sees, or was sent in pieces.

Knows nothing of the cluster: any process may hold one and call it.
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
    """What a worker is. `versions` must be the driver's, or the frames would not be the same.

    `needs_token` tells whether the cluster that the worker is in asks those who use it for a token.
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
        """Memory that is free for each of as many workers that share this one's; None when nothing tells."""
        return None if self.free_bytes is None else max(1, self.free_bytes // workers)


@dataclass(frozen=True)
class Refused:
    """An expected error of a worker: its kind by the name of its class, and its message."""

    kind: str
    message: str


@dataclass(frozen=True)
class Seen:
    """What of a job a worker sees where the driver does: its source, and the folder of its parts."""

    source: bool
    folder: bool


def versions() -> tuple[str, ...]:
    """Of everything that shapes frames."""
    return (*(f"{name} {version(name)}" for name in ("ristn", "torch", "av")), platform.machine())


def source_files(info: VideoInfo) -> tuple[Path, ...]:
    """The files that a source is in."""
    return info.images or (info.path,)


class SegmentWorker:
    """One device of one machine.

    Args:
        model: the network.
        device: as `choose_backend` takes it; so is `precision`.
        precision: the same for all workers of a job.
        threads: that PyTorch may use.
        compilation: as of `choose_compilation`.
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
        """What this worker is, once it is ready."""
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
        """Take up a job, and tell what of it is seen here.

        Args:
            work: the job, with the paths of the driver.
            fingerprints: of each file of the source, there.
            token: a file that the driver has just made in the job's folder; its name is what it holds.
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
        """Compute with another network, on the same device and in the same precision, from the next segment on."""
        assert self._upscaler is not None
        key = fingerprint_network(model)
        if key not in self._upscalers:
            self._upscalers[key] = Upscaler(model, self._upscaler.backend, compilation=self._compilation)
        if self._upscalers[key] is not self._upscaler:
            self._upscaler.rest()
            self._upscaler = self._upscalers[key]

    def receive(self, index: int, offset: int, data: bytes) -> None:
        """Write a piece of a file of the source; the pieces of a file come in order."""
        assert self._job is not None
        file = source_files(self._job.source)[index]
        with file.open("r+b" if offset else "wb") as output:
            output.seek(offset)
            output.write(data)

    def compute(self, segment: Segment, name: str) -> Part | Refused:
        """Make the part of a segment of the open job, as the file `name` in the folder of the parts."""
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
        """Frames encoded of the segment at work, and a number that grows while anything is computed."""
        return self._pulse.frames, self._pulse.beats

    def read(self, name: str, offset: int, size: int) -> bytes:
        """A piece of a part; empty behind its end."""
        with (self._parts / name).open("rb") as part:
            part.seek(offset)
            return part.read(size)

    def discard(self, name: str) -> None:
        """Delete a part that has arrived."""
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
        """Delete what was sent here."""
        self._clear()
