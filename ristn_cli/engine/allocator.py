"""Settings of the C library and of OpenMP, so that large tensors and several computing threads cost nothing extra.

Without PyTorch, so that the program can begin with it.
"""

import contextlib
import ctypes
import mmap
import os
import sys
from pathlib import Path

THREAD_CACHE = "glibc.malloc.tcache_count"
"""The setting of glibc for how many freed blocks of each size a thread keeps for itself; see its manual, Tunables."""

WITHOUT_TCACHE = {"GLIBC_TUNABLES": f"{THREAD_CACHE}=0"}
"""Environment variables that start a process as `restart_without_tcache` does."""


def keep_memory() -> None:
    """Let this process keep memory that it has freed, where the C library is glibc.

    Left to itself, glibc gives every large tensor back to the system and asks for it again, and for each page of each
    tensor the system then has to find and clear memory: a fifth to a third of the time of a network like this one.
    It counts the heaps of threads once, when the first thread asks for memory: later than that, this works in part.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max, arena_max = -1, -4, -8  # M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX of malloc.h
        mallopt(mmap_max, 0)
        mallopt(arena_max, 1)  # a thread's own arena, of small heaps, gives them back all the same
        mallopt(trim_threshold, -1)  # none


def is_glibc() -> bool:
    """Whether the C library is glibc."""
    name = "CS_GNU_LIBC_VERSION"
    return name in getattr(os, "confstr_names", {}) and (os.confstr(name) or "").startswith("glibc")


def has_tcache_disabled() -> bool:
    """Whether glibc keeps no freed blocks per thread in this process, so that freed memory can be used again."""
    return is_glibc() and f"{THREAD_CACHE}=0" in os.environ.get("GLIBC_TUNABLES", "")


def restart_without_tcache() -> None:
    """Restart this program, once, without glibc's caches of freed blocks per thread. Call it before anything else.

    PyTorch asks for aligned memory, for which glibc cuts some bytes off both ends of a larger block. A thread keeps
    these bits in its cache. While they are there, the block between them, when freed, is a little too small for the
    next tensor of the same size, and the memory of the process grows. glibc reads the setting that turns the caches
    off only when a process starts.
    """
    settings = os.environ.get("GLIBC_TUNABLES", "")
    if not is_glibc() or THREAD_CACHE in settings:
        return
    environment = os.environ | {"GLIBC_TUNABLES": f"{settings}:{THREAD_CACHE}=0".lstrip(":")}
    with contextlib.suppress(OSError):  # the program goes on with the caches
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def map_memory(size: int) -> mmap.mmap:
    """Zeros, `size` bytes, that are the system's again once nothing refers to them, whatever `keep_memory` has told.

    Raises:
        MemoryError: there are not as many.
    """
    # Private: what is shared, as otherwise, counts against other limits.
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    try:
        return mmap.mmap(-1, size, **flags)
    except OSError as error:
        raise MemoryError(str(error)) from error


class MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc's malloc.h, since 2.33; all in bytes."""

    _fields_ = (
        ("others", ctypes.c_size_t * 8),
        ("fordblks", ctypes.c_size_t),  # free, within what the system gave
        ("keepcost", ctypes.c_size_t),
    )


def kept_bytes() -> int:
    """Memory that was freed and is kept for this process, which nobody else sees as free; 0 where none can be told.

    An upper bound: what was never written to counts too, up to what the process holds.
    """
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if mallinfo is None:
        return 0
    mallinfo.restype = MallInfo
    try:
        held = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
    return min(held, int(mallinfo().fordblks))


def stop_openmp_threads() -> None:
    """End the threads that have computed for the calling one, where they are GNU OpenMP's; they come again when needed.

    Each thread that computes has a team of its own. Once all teams together have more threads than there are cores, GNU
    OpenMP puts threads to sleep at every barrier rather than let them wait a while, which costs a network some
    hundredths of its time: call this before another thread is to compute.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        maps = Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines()
        for library in {line.split(maxsplit=5)[5] for line in maps if "/libgomp" in line}:
            pause = getattr(ctypes.CDLL(library), "omp_pause_resource_all", None)  # OpenMP 5.0
            if pause is not None:
                soft = 1
                pause(soft)
