"""A stand-in for what records networks as CUDA graphs."""

from collections.abc import Callable

import torch
from torch import Tensor


class FakeRecorder:
    """Records nothing, counts, and holds as much memory as it is told."""

    def __init__(self, most_frames: int = 100, error: str | None = None) -> None:
        self.recorded: list[tuple[int, ...]] = []
        self.replayed = 0
        self.most_frames = most_frames
        self.error = error

    def record(self, function: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[Tensor], Tensor]:
        if self.error is not None:
            raise RuntimeError(self.error)
        if given.shape[1] > self.most_frames:
            raise torch.OutOfMemoryError("CUDA out of memory")
        self.recorded.append(tuple(given.shape))

        def replay(values: Tensor) -> Tensor:
            assert values.shape == given.shape
            self.replayed += 1
            return function(values)

        return replay
