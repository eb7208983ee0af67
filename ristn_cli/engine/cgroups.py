"""Memory that Linux control groups leave to this process: containers, systemd scopes, Slurm jobs, nested ones included.

Reads small files only; knows nothing of what needs the memory.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

NO_LIMIT = 1 << 60
"""Version 1 writes a number of about 2^63 where there is no limit; version 2 writes `max`."""


@dataclass(frozen=True)
class Files:
    """Names of a version's files, and of the entry of `memory.stat` for cached files that can be given back."""

    limit: str
    used: str
    reclaimable: str


VERSION_1 = Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = Files("memory.max", "memory.current", "inactive_file")


def free_in_groups(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Bytes that the tightest of all groups around this process leaves; None where no group limits it.

    Args:
        root: where the control groups are mounted.
        membership: lines of `number:controllers:path`; version 2 has no controllers.
    """
    free = []
    for folder, files in find_groups(root, membership):
        with contextlib.suppress(OSError, ValueError):  # no such file, or "max", which is no number
            limit = int((folder / files.limit).read_text(encoding="ascii"))
            if limit < NO_LIMIT:
                used = int((folder / files.used).read_text(encoding="ascii"))
                free.append(max(0, limit - max(0, used - read_reclaimable(folder, files))))
    return min(free) if free else None


def find_groups(root: Path, membership: Path) -> Iterator[tuple[Path, Files]]:
    """Folders of the groups that this process is in, each with all groups around it, up to the root.

    In a container the path may be the host's; what is not there is left out by whoever reads it.
    """
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
    """Bytes of a group's cached files that are given back when memory is needed; 0 where nothing tells."""
    with contextlib.suppress(OSError, ValueError):
        for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines():
            name, _, value = line.partition(" ")
            if name == files.reclaimable:
                return int(value)
    return 0
