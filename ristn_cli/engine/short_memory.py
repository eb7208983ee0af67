"""One exception type for all out-of-memory errors."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SHORTAGES = ("can't allocate memory", "not enough memory", "out of memory")
"""Texts of out-of-memory errors that PyTorch raises as plain RuntimeError, on Linux, on Windows and on MPS."""


class OutOfMemory(Exception):
    """There is not enough memory for the tiling."""


@contextmanager
def typed_memory_errors() -> Iterator[None]:
    """Raise `OutOfMemory` for all out-of-memory errors of PyTorch and NumPy."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        if not any(shortage in str(error) for shortage in SHORTAGES):
            raise
        raise OutOfMemory(str(error)) from error
