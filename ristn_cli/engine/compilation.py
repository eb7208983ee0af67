"""Ways to launch a network: directly, compiled, or as a CUDA graph. The result is the same.

Only the recurrent step is compiled, which fuses its many small operations. It does not depend on the length of a
window, so it is compiled once. Compiling the whole network would take minutes for each length.
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
"""Most CUDA graphs to keep: first, middle and last window of a shot, two sizes of still tiles, and one more."""


def choose_compilation(name: str, device: torch.device) -> bool:
    """Return whether to compile. `auto` compiles on CUDA, where launching an operation takes as long as computing
    it.

    Raises:
        DeviceError: the name is unknown.
    """
    if name not in get_args(CompileName):
        raise DeviceError(f"--compile {name!r} is unknown; expected auto, on or off")
    return device.type == "cuda" if name == "auto" else name == "on"


def keep_compiled_code() -> None:
    """Make PyTorch cache compiled code where no other user can change it. Call it before compiling.

    PyTorch executes code from its caches. Most of it goes to this user's cache, or to the absolute path in
    `TORCHINDUCTOR_CACHE_DIR`. Headers and some tuning results always go to a folder with this user's name in the shared
    temporary folder.

    Raises:
        DeviceError: another user can write to that folder.
    """
    if not Path(os.environ.get("TORCHINDUCTOR_CACHE_DIR", "")).is_absolute():
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(own_folder("compiled"))
    if not Path(os.environ.get("TRITON_CACHE_DIR", "/")).is_absolute():
        del os.environ["TRITON_CACHE_DIR"]  # its default is in the other folder
    # Import it only now, because the import reads the variables.
    shared = Path(import_module("torch._inductor.runtime.runtime_utils").default_cache_dir())
    try:
        shared.mkdir(mode=0o700, exist_ok=True)
        if is_own(shared):
            return
    except OSError as error:
        raise DeviceError(f"PyTorch cannot cache compiled code in {shared}: {error}") from error
    raise DeviceError(
        f"other users can change compiled code in {shared}; delete this folder, or set TMPDIR to another one"
    )


def compile_steps(network: FoldedRISTN | RISTN, *, backend: str = "inductor") -> None:
    """Compile the recurrent steps of the folded form. The trained form is not changed.

    A new shape is compiled when it first occurs, and the time is logged. If compilation fails, for example without a
    compiler, the reason is logged and the steps run uncompiled. `backend` is a backend of `torch.compile`.
    """
    try:
        keep_compiled_code()
    except DeviceError as error:
        log.warning(f"continuing without compilation: {error}")
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
        except Exception as error:  # three packages and a compiler raise many kinds
            has_failed = True
            reason = str(error).strip().splitlines()
            log.warning(f"compilation failed, continuing without it: {reason[0] if reason else type(error).__name__}")
        if has_failed:  # outside of `except`, whose traceback keeps the tensors of the failed attempt
            return advance(gates, candidate, half_cell, hidden)
        if shape not in seen:
            seen.add(shape)
            log.info(f"compiled in {time.monotonic() - began:.1f} s")
        return result

    for module in network.modules():
        if isinstance(module, Direction):
            module.advance = step


class Recorder(Protocol):
    """Records the operations that a function launches on a device."""

    def record(self, function: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[Tensor], Tensor]:
        """Return `function` for inputs of the shape of `given`, with all its operations launched at once."""
        ...


CAPTURING = threading.Lock()
"""PyTorch allows one recording at a time per process."""


class CudaRecorder:
    """Records CUDA graphs. They share memory, because results are copied before another graph runs.

    Uses its own stream, because PyTorch's capture stream is on the first GPU that recorded. Operations of other
    threads, such as decoding on the same GPU, are not recorded.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        with torch.cuda.device(device):
            self.pool = torch.cuda.graph_pool_handle()

    def record(self, function: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[Tensor], Tensor]:
        """See `Recorder`."""
        input_buffer = given.clone()
        graph = torch.cuda.CUDAGraph()
        recording = torch.cuda.graph(graph, pool=self.pool, stream=self.stream, capture_error_mode="thread_local")
        with CAPTURING, torch.cuda.device(self.device), recording:
            output_buffer = function(input_buffer)

        def replay(values: Tensor) -> Tensor:
            input_buffer.copy_(values)
            graph.replay()
            return output_buffer.clone()

        return replay


class RecordedNetwork:
    """A network that is recorded when a shape occurs for the second time, and then replayed.

    Args:
        network: the network; it is not changed.
        recorder: recorder of its device.
    """

    def __init__(self, network: FoldedRISTN | RISTN, recorder: Recorder) -> None:
        self.network = network
        self.recorder: Recorder | None = recorder
        self.seen: set[tuple[object, ...]] = set()
        self.recordings: dict[tuple[object, ...], Callable[[Tensor], Tensor]] = {}

    def __call__(self, lr: Tensor, keep: slice | Sequence[int] = slice(None)) -> Tensor:
        """See `RISTN.forward`."""
        keep = range(lr.shape[1])[keep] if isinstance(keep, slice) else keep
        key = (tuple(lr.shape), lr.dtype, tuple(keep))
        recording = self.recordings.pop(key, None)
        if recording is None and self.recorder is not None and key in self.seen:
            recording = self.record(self.recorder, lr, keep)
        self.seen.add(key)
        if recording is None:
            result: Tensor = self.network(lr, keep)
            return result
        self.recordings[key] = recording  # last: the first one is the least recently used
        return recording(lr)

    def record(self, recorder: Recorder, lr: Tensor, keep: Sequence[int]) -> Callable[[Tensor], Tensor] | None:
        """Record a shape after deleting an old recording if needed; return None on failure."""
        while len(self.recordings) >= RECORDED_SHAPES:
            del self.recordings[next(iter(self.recordings))]
        try:
            return recorder.record(lambda values: self.network(values, keep), lr)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self.forget()
            self.recorder = None
            log.warning(f"recording the network failed, continuing without it: {str(error).splitlines()[0]}")
            return None

    def forget(self) -> None:
        """Delete all recordings to release their memory."""
        self.recordings.clear()
        self.seen.clear()
