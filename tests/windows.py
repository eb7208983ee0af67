"""A stand-in for Windows, which neither removes nor renames a file that a process has open."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

DESCRIPTORS = Path("/proc/self/fd")
needs_descriptors = pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="only Linux lists the open files of a process")


def is_open(path: Any, dir_fd: int | None = None) -> bool:
    """Whether this process has a file open, by whatever name."""
    try:
        wanted = os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    for descriptor in DESCRIPTORS.iterdir():
        try:
            found = os.fstat(int(descriptor.name))
        except OSError:  # of the listing itself
            continue
        if os.path.samestat(found, wanted):
            return True
    return False


@contextmanager
def open_files_stay() -> Iterator[list[str]]:
    """Within, `os` refuses to remove or rename open files, as it does on Windows; yields the names it refused."""
    refused: list[str] = []

    def check(path: Any, dir_fd: int | None = None) -> None:
        if is_open(path, dir_fd):
            refused.append(os.fsdecode(path))
            raise PermissionError(errno.EACCES, "is being used by another process", os.fsdecode(path))

    def removing(remove: Callable[..., None]) -> Callable[..., None]:
        def wrapped(path: Any, *, dir_fd: int | None = None) -> None:
            check(path, dir_fd)
            remove(path, dir_fd=dir_fd)

        return wrapped

    def renaming(rename: Callable[..., None]) -> Callable[..., None]:
        def wrapped(source: Any, target: Any, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
            check(source, src_dir_fd)
            check(target, dst_dir_fd)
            rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        supported = set(os.supports_dir_fd)
        for name, wrap in (("unlink", removing), ("remove", removing), ("replace", renaming), ("rename", renaming)):
            wrapped = wrap(getattr(os, name))
            patch.setattr(os, name, wrapped)
            supported.add(wrapped)
        patch.setattr(os, "supports_dir_fd", supported)
        yield refused
