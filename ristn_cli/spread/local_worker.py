"""A worker of a pool that computes in this process."""

from pathlib import Path

from ristn_cli.engine.short_memory import OutOfMemory
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.manifest import Part
from ristn_cli.spread.segments import Pulse, Segment, WorkerLost, compute_segment
from ristn_cli.spread.tasks import SegmentJob


class LocalWorker:
    """A worker for a device of this process.

    Args:
        name: name in messages and progress.
        upscaler: the engine on that device, used by this worker only.
    """

    def __init__(self, name: str, upscaler: Upscaler) -> None:
        self.name = name
        self.upscaler = upscaler
        self._upscalers = {upscaler.fingerprint: upscaler}
        self._key = ""
        self._pulse: Pulse | None = None
        self._is_stopped = False

    def add(self, upscaler: Upscaler) -> None:
        self._upscalers[upscaler.fingerprint] = upscaler

    def start(self) -> None:
        """Return at once: a device of this process is always ready."""

    def compute(self, work: SegmentJob, segment: Segment, path: Path, pulse: Pulse) -> Part:
        """Write the part of a segment. Raises WorkerLost if memory is short, because another device may have more."""
        if work.key != self._key:
            wanted = self._upscalers[work.network]
            if wanted is not self.upscaler:
                self.upscaler.rest()
            self._key, self.upscaler = work.key, wanted
            self.upscaler.tiling = work.tiling
        self._pulse = pulse
        if self._is_stopped:
            pulse.stopped.set()
        try:
            return compute_segment(work.job, segment, self.upscaler, path, pulse)
        except OutOfMemory as error:
            raise WorkerLost(str(error)) from error

    def stop(self) -> None:
        """Stop at the next layer of the network."""
        self._is_stopped = True
        if self._pulse is not None:
            self._pulse.stopped.set()
