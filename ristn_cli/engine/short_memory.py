"""The one error for memory that is short, whichever library runs out of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SHORTAGES = ("can't allocate memory", "not enough memory", "out of memory")
"""By these a plain RuntimeError of PyTorch tells of short memory: on Linux, on Windows, and of MPS."""


class OutOfMemory(Exception):
    """The device cannot hold what the tiling asks of it."""


@contextmanager
def typed_memory_errors() -> Iterator[None]:
    """Raise `OutOfMemory` for the several errors by which PyTorch and NumPy say that memory is short."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(str(error)) from error
    except RuntimeError as error:
        if not any(shortage in str(error) for shortage in SHORTAGES):
            raise
        raise OutOfMemory(str(error)) from error
