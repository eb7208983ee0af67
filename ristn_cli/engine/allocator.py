"""Settings of the C library and of OpenMP that speed up large tensors and several computing threads.

Does not import PyTorch, so that the program can start with it.
"""

import contextlib
import ctypes
import mmap
import os
import sys
from pathlib import Path

THREAD_CACHE = "glibc.malloc.tcache_count"
"""The glibc tunable for the number of freed blocks that a thread caches per size; see the glibc manual, Tunables."""

WITHOUT_TCACHE = {"GLIBC_TUNABLES": f"{THREAD_CACHE}=0"}
"""Environment variables with the effect of `restart_without_tcache` on a new process."""


def keep_memory() -> None:
    """Let glibc keep freed memory in this process.

    By default, glibc returns each large tensor to the system. Then the system must find and clear pages for the next
    tensor, which takes 20 to 33 % of the time of a network. Call it before other threads allocate memory: glibc counts
    its heaps only once.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        trim_threshold, mmap_max, arena_max = -1, -4, -8  # M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX of malloc.h
        mallopt(mmap_max, 0)
        mallopt(arena_max, 1)  # arenas of threads have small heaps and return them anyway
        mallopt(trim_threshold, -1)  # never trim


def is_glibc() -> bool:
    """Return whether the C library is glibc."""
    name = "CS_GNU_LIBC_VERSION"
    return name in getattr(os, "confstr_names", {}) and (os.confstr(name) or "").startswith("glibc")


def has_tcache_disabled() -> bool:
    """Return whether glibc's caches per thread are disabled, so that freed memory can be reused."""
    return is_glibc() and f"{THREAD_CACHE}=0" in os.environ.get("GLIBC_TUNABLES", "")


def restart_without_tcache() -> None:
    """Restart this program, once, with glibc's caches per thread disabled. Call it before anything else.

    PyTorch allocates aligned memory, for which glibc cuts some bytes off both ends of a larger block. A thread caches
    these pieces. While they exist, the freed block between them is slightly too small for the next tensor of the same
    size, and the memory of the process grows. glibc reads the setting only when a process starts.
    """
    settings = os.environ.get("GLIBC_TUNABLES", "")
    if not is_glibc() or THREAD_CACHE in settings:
        return
    environment = os.environ | {"GLIBC_TUNABLES": f"{settings}:{THREAD_CACHE}=0".lstrip(":")}
    with contextlib.suppress(OSError):  # continue with the caches
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def map_memory(size: int) -> mmap.mmap:
    """Allocate `size` zero bytes that return to the system when unused, even after `keep_memory`.

    Raises:
        MemoryError: there is not enough memory.
    """
    # Private, because shared memory, the default, counts against other limits.
    flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if os.name == "posix" else {}
    try:
        return mmap.mmap(-1, size, **flags)
    except OSError as error:
        raise MemoryError(str(error)) from error


class MallInfo(ctypes.Structure):
    """`struct mallinfo2` of glibc 2.33 and later, in bytes."""

    _fields_ = (
        ("others", ctypes.c_size_t * 8),
        ("fordblks", ctypes.c_size_t),  # freed but not returned
        ("keepcost", ctypes.c_size_t),
    )


def kept_bytes() -> int:
    """Return the freed memory that this process keeps, an upper bound; 0 if unknown. The system does not report it
    as free.
    """
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None
    if mallinfo is None:
        return 0
    mallinfo.restype = MallInfo
    try:
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0
    return min(resident, int(mallinfo().fordblks))


def stop_openmp_threads() -> None:
    """End the GNU OpenMP threads of the calling thread. They restart when needed.

    Each computing thread has its own team. If all teams together have more threads than there are cores, GNU OpenMP
    makes threads sleep at every barrier, which costs a network a few percent of its time. Call this before another
    thread computes.
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
