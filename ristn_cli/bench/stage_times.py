"""Times the stages of the network with hooks."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ristn_cli.bench.machine import synchronize
from ristn_cli.engine.device import Backend
from ristn_cli.model import RISTN
from ristn_cli.model.folded import FoldedRISTN


class StageClock:
    """Measures the seconds that the network spends in each stage, summed over tiles.

    Fusion counts as reconstruction, which starts after the last ConvLSTM layer.
    """

    def __init__(self, model: FoldedRISTN | RISTN, backend: Backend) -> None:
        self._model, self._backend = model, backend
        self._last = 0.0
        self.seconds: dict[str, float] = {}

    @contextmanager
    def attached(self) -> Iterator[dict[str, float]]:
        """Measure in this context: `spatial`, `temporal` and `reconstruction` start at 0 and increase."""
        self.seconds = dict.fromkeys(("spatial", "temporal", "reconstruction"), 0.0)
        spatial, temporal = self._model.stage_ends()
        ends: list[tuple[nn.Module, str]] = [
            (spatial, "spatial"),
            (temporal, "temporal"),
            (self._model, "reconstruction"),
        ]
        handles = [self._model.register_forward_pre_hook(lambda *_: self._mark(None))]
        handles += [module.register_forward_hook(lambda *_, stage=stage: self._mark(stage)) for module, stage in ends]
        try:
            yield self.seconds
        finally:
            for handle in handles:
                handle.remove()

    def _mark(self, stage: str | None) -> None:
        synchronize(self._backend)
        now = time.perf_counter()
        if stage is not None:
            self.seconds[stage] += now - self._last
        self._last = now
