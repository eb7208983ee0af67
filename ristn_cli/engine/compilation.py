"""How a network is started on a device: as it is, compiled, or recorded once and replayed. The result is the same.

What is compiled is the step of the recurrence, whose many small operations become one or two. It does not depend on the
length of a window, so one compilation serves all of them; of the whole network each length would take minutes.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Literal, Protocol, get_args

import torch
from torch import Tensor

from ristn_cli.engine.device import DeviceError
from ristn_cli.model import RISTN
from ristn_cli.model.folded import FoldedRISTN
from ristn_cli.model.recurrence import Direction, advance
from ristn_cli.own_files import is_own, own_folder

CompileName = Literal["auto", "on", "off"]

log = logging.getLogger("ristn.engine")

RECORDED_SHAPES = 6
"""Recordings that are kept: the first, the middle and the last window of a shot, two sizes of still tiles, one more."""


def choose_compilation(name: str, device: torch.device) -> bool:
    """Whether to compile; `auto` does where starting operations takes as long as computing them, which is on CUDA.

    Raises:
        DeviceError: an unknown name.
    """
    if name not in get_args(CompileName):
        raise DeviceError(f"unknown compilation {name!r}: expected auto, on or off")
    return device.type == "cuda" if name == "auto" else name == "on"


def keep_compiled_code() -> None:
    """Have PyTorch keep what it compiles where no other user can change it; call it before compiling.

    It loads and executes what it finds in its caches: most of it now in this user's cache, or in the folder that
    `TORCHINDUCTOR_CACHE_DIR` names by an absolute path. Headers and some results of tuning are always below the
    temporary folder that all users share, under this user's name.

    Raises:
        DeviceError: another user can write there.
    """
    if not Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", "")).is_absolute():
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(own_folder("compiled"))
    if not Path(os.environ.get("TRITON_CACHE_DIR", "/")).is_absolute():
        del os.environ["TRITON_CACHE_DIR"]  # it is then below the other one
    # Only now: its import, too, looks for the folder.
    shared = Path(import_module("torch._inductor.runtime.runtime_utils").default_cache_dir())
    try:
        shared.mkdir(mode=0o700, exist_ok=True)
        if is_own(shared):
            return
    except OSError as error:
        raise DeviceError(f"PyTorch cannot keep compiled code in {shared}: {error}") from error
    raise DeviceError(f"other users can change compiled code in {shared}; delete it, or set TMPDIR to another folder")


def compile_steps(network: FoldedRISTN | RISTN, *, backend: str = "inductor") -> None:
    """Let the recurrent steps of the folded form run compiled; the trained form stays as it is.

    Compilation happens when a new shape comes, and the log says how long it took. Where it fails, for want of a
    compiler, say, the log says why, and the steps run as they were. `backend` is one of `torch.compile`'s.
    """
    try:
        keep_compiled_code()
    except DeviceError as error:
        log.warning(f"going on without compilation: {error}")
        return
    compiled: Callable[..., Tensor] = torch.compile(advance, dynamic=False, backend=backend)
    seen: set[tuple[object, ...]] = set()
    has_failed = False

    def step(gates: Tensor, candidate: Tensor | None, half_cell: Tensor | None, hidden: Tensor) -> Tensor:
        nonlocal has_failed
        if has_failed:
            return advance(gates, candidate, half_cell, hidden)
        shape = (tuple(gates.shape), gates.stride(), half_cell is None)
        began = time.monotonic()
        try:
            result = compiled(gates, candidate, half_cell, hidden)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # any of a dozen, from three packages and the compiler they call
            has_failed = True
            reason = str(error).strip().splitlines()
            log.warning(f"compilation failed, going on without it: {reason[0] if reason else type(error).__name__}")
        if has_failed:  # not in `except`, where the traceback keeps the tensors of the failed attempt
            return advance(gates, candidate, half_cell, hidden)
        if shape not in seen:
            seen.add(shape)
            log.info(f"compiled in {time.monotonic() - began:.1f} s")
        return result

    for module in network.modules():
        if isinstance(module, Direction):
            module.advance = step


class Recorder(Protocol):
    """What records the operations that a function starts on a device."""

    def record(self, function: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[Tensor], Tensor]:
        """`function` for inputs of the shape of `given`, with all its operations started at once."""
        ...


CAPTURING = threading.Lock()
"""One recording at a time in this process, as PyTorch asks."""


class CudaRecorder:
    """Records CUDA graphs. They share their memory, because what one leaves there is copied before the next begins.

    On a stream of its own: PyTorch's is on the card of the first recording of the process. What other threads do
    meanwhile, as decode or encode on the same card, is no part of the recording, and no error.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.device(device):
            self.pool = torch.cuda.graph_pool_handle()

    def record(self, function: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[Tensor], Tensor]:
        """As in `Recorder`."""
        standing = given.clone()
        graph = torch.cuda.CUDAGraph()
        recording = torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local")
        with CAPTURING, torch.cuda.device(self.device), recording:
            made = function(standing)

        def replay(values: Tensor) -> Tensor:
            standing.copy_(values)
            graph.replay()
            return made.clone()

        return replay


class RecordedNetwork:
    """A network whose operations are recorded when a shape comes for the second time, and replayed from then on.

    Args:
        network: the network; it is not changed.
        recorder: of its device.
    """

    def __init__(self, network: FoldedRISTN | RISTN, recorder: Recorder) -> None:
        self.network = network
        self.recorder: Recorder | None = recorder
        self.seen: set[tuple[object, ...]] = set()
        self.recordings: dict[tuple[object, ...], Callable[[Tensor], Tensor]] = {}

    def __call__(self, lr: Tensor, keep: slice | Sequence[int] = slice(None)) -> Tensor:
        """As `RISTN.forward`."""
        keep = range(lr.shape[1])[keep] if isinstance(keep, slice) else keep
        key = (tuple(lr.shape), lr.dtype, tuple(keep))
        recording = self.recordings.pop(key, None)
        if recording is None and self.recorder is not None and key in self.seen:
            recording = self.record(self.recorder, lr, keep)
        self.seen.add(key)
        if recording is None:
            result: Tensor = self.network(lr, keep)
            return result
        self.recordings[key] = recording  # behind all others: the first is the one longest unused
        return recording(lr)

    def record(self, recorder: Recorder, lr: Tensor, keep: Sequence[int]) -> Callable[[Tensor], Tensor] | None:
        """Make room for a recording, and make it; None when it fails."""
        while len(self.recordings) >= RECORDED_SHAPES:
            del self.recordings[next(iter(self.recordings))]
        try:
            return recorder.record(lambda values: self.network(values, keep), lr)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.forget()
            self.recorder = None
            log.warning(f"recording the network failed, going on without it: {str(error).splitlines()[0]}")
            return None

    def forget(self) -> None:
        """Give back the memory of all recordings: other shapes will come."""
        self.recordings.clear()
        self.seen.clear()
