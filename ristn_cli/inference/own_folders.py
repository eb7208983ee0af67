"""Folders that no other user can write to: for compiled code, which is executed, and for processes to begin in."""

import atexit
import functools
import os
import shutil
import stat
import sys
import tempfile
from pathlib import Path


def cache_folder() -> Path:
    """Where this platform keeps what a program can make again for a user. Raises RuntimeError without a home."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "ristn" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ristn"
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "ristn"


@functools.cache
def own_folder(name: str) -> Path:
    """The folder `name` in this user's cache. Where that cannot be ours alone, a temporary one, deleted at the end."""
    try:
        folder = cache_folder() / name
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if is_own(folder):
            return folder
    except (OSError, RuntimeError):  # a disk that cannot be written to; no home
        pass
    return temporary_folder(name)


@functools.cache
def temporary_folder(name: str) -> Path:
    """A temporary folder that only this user can read or write; deleted when the program ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"ristn-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def empty_folder() -> Path:
    """A folder of this user's with nothing in it, at a path where no other user can put anything."""
    folder = own_folder("empty")
    return temporary_folder("empty") if any(folder.iterdir()) else folder


def is_own(folder: Path) -> bool:
    """Whether a folder is no link, is this user's, and can be written to or replaced by no other but root.

    Windows keeps the folders of users apart by itself.
    """
    if os.name != "posix":
        return True
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        return False
    above = [parent.stat() for parent in folder.resolve().parents]
    return all(
        parent.st_uid in (0, os.geteuid()) and (not parent.st_mode & stat.S_IWOTH or parent.st_mode & stat.S_ISVTX)
        for parent in above
    )
