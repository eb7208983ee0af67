"""Reads the memory limits of Linux control groups: containers, systemd scopes, Slurm jobs, also nested."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

NO_LIMIT = 1 << 60
"""Version 1 writes about 2^63 without a limit; version 2 writes `max`."""


@dataclass(frozen=True)
class Files:
    """Names of a version's files, and of the `memory.stat` entry for reclaimable cached files."""

    limit: str
    used: str
    reclaimable: str


VERSION_1 = Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = Files("memory.max", "memory.current", "inactive_file")


def free_in_groups(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return the free bytes in the tightest group around this process; None without a limit.

    Args:
        root: mount point of the control groups.
        membership: file with lines of `number:controllers:path`. Version 2 has no controllers.
    """
    free = []
    for folder, files in find_groups(root, membership):
        with contextlib.suppress(OSError, ValueError):  # a missing file, or "max"
            limit = int((folder / files.limit).read_text(encoding="ascii"))
            if limit < NO_LIMIT:
                used = int((folder / files.used).read_text(encoding="ascii"))
                free.append(max(0, limit - max(0, used - read_reclaimable(folder, files))))
    return min(free) if free else None


def find_groups(root: Path, membership: Path) -> Iterator[tuple[Path, Files]]:
    """Yield the folders of this process's groups and all their parents. In a container, some may not exist."""
    try:
        lines = membership.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            tops, files = [root / "memory"], VERSION_1
        elif not controllers:
            tops, files = [root, root / "unified"], VERSION_2
        else:
            continue
        inside = [part for part in PurePosixPath(path).parts if part not in ("/", "..")]
        for top in tops:
            for depth in range(len(inside), -1, -1):
                yield top.joinpath(*inside[:depth]), files


def read_reclaimable(folder: Path, files: Files) -> int:
    """Return the bytes of a group's cached files that can be reclaimed; 0 if unknown."""
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == files.reclaimable:
                return int(value)
    return 0
