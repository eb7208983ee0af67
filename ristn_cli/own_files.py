"""Creates and opens private files and folders, even where other users can write.

Never follows a link that another user created, and never takes an existing name.
"""

import atexit
import contextlib
import errno
import functools
import importlib
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

TEMPORARY_PATTERN = ".ristn-*.tmp"
"""Names of the temporary files of `writing`. A process that is killed while writing leaves one."""

OTHERS = stat.S_IRWXG | stat.S_IRWXO
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


class ForeignFileError(PermissionError):
    """A file or folder is a link, or belongs to another user. The message is one line."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EPERM, message)

    def __str__(self) -> str:
        return str(self.strerror)


def cache_folder() -> Path:
    """Return this platform's folder for caches of the user. Raises RuntimeError without a home folder."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "ristn" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ristn"
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (named if named.is_absolute() else Path.home() / ".cache") / "ristn"


@functools.cache
def own_folder(name: str) -> Path:
    """Return the folder `name` in the user's cache, or a temporary folder if that cannot be private."""
    try:
        folder = cache_folder() / name
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        if is_own(folder):
            return folder
    except (OSError, RuntimeError):  # read-only disk, or no home folder
        pass
    return temporary_folder(name)


@functools.cache
def temporary_folder(name: str) -> Path:
    """Return a private temporary folder, deleted when the program ends."""
    folder = Path(tempfile.mkdtemp(prefix=f"ristn-{name}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def empty_folder() -> Path:
    """Return an empty, private folder whose path other users cannot change."""
    folder = own_folder("empty")
    return temporary_folder("empty") if any(folder.iterdir()) else folder


@contextlib.contextmanager
def in_empty_folder() -> Iterator[None]:
    """Use an empty working folder in this context, because some libraries read code or settings from it on import."""
    with contextlib.chdir(empty_folder()):
        yield


def import_apart(name: str) -> None:
    """Import a library that reads settings from the working folder. Call it before other threads start.

    For example, settings can make Matplotlib run LaTeX.
    """
    if name not in sys.modules:
        with in_empty_folder():
            importlib.import_module(name)


def is_own(folder: Path) -> bool:
    """Return whether a folder is not a link, belongs to this user, and is not writable for others except root.

    On Windows, folders of different users are separate anyway.
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


def make_private_folder(folder: Path, *, parents: bool = False) -> None:
    """Create a folder that only this user can enter, or make an existing one private.

    Raises:
        ForeignFileError: it is a link or a file, belongs to another user, or contains a link or another user's file.
        OSError: it cannot be created.
    """
    check_place(folder.parent)
    try:
        folder.mkdir(mode=0o700, parents=parents)
    except FileExistsError:
        found = check_owner(folder)
        if os.name == "posix" and found.st_mode & OTHERS:
            with contextlib.suppress(OSError):
                folder.chmod(0o700)
            usual = _probe(folder.parent)  # disks without modes report all bits
            if folder.lstat().st_mode & OTHERS & ~(usual.st_mode if usual else 0):
                raise ForeignFileError(f"{folder}: cannot be closed to other users; move or remove it") from None
        _check_content(folder, found.st_uid)


def check_owner(folder: Path) -> os.stat_result:
    """Return the status of a folder that is not a link and belongs to this user.

    Raises:
        ForeignFileError: it is a link or a file, or belongs to another user.
        OSError: it does not exist or is not accessible.
    """
    found = folder.lstat()
    if is_link(folder):
        raise ForeignFileError(f"{folder}: is a link, expected a folder; remove it")
    if not stat.S_ISDIR(found.st_mode):
        raise ForeignFileError(f"{folder}: is a file, expected a folder; move or remove it")
    if not _is_ours(found, folder):
        raise ForeignFileError(
            f"{folder}: belongs to {_user(found.st_uid)}, expected a folder of yours; "
            "have it removed, or give the output another name or place"
        )
    return found


def _check_content(folder: Path, owner: int) -> None:
    """Raise ForeignFileError if a folder contains, at any depth, a link or another user's file."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # removed by another process of this user
                continue
            if is_link(Path(entry.path)):
                raise ForeignFileError(f"{entry.path}: is a link, expected a file that ristn made; remove it")
            if os.name == "posix" and found.st_uid != owner:
                raise ForeignFileError(
                    f"{entry.path}: belongs to {_user(found.st_uid)}, expected a file of yours; remove it"
                )
            if stat.S_ISDIR(found.st_mode):
                _check_content(Path(entry.path), owner)


def check_place(folder: Path) -> None:
    """Refuse a folder whose path contains a link that another user created in a shared folder.

    Raises:
        ForeignFileError: there is such a link. Linux itself does not follow one in folders like /tmp.
    """
    if os.name != "posix":
        return
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            found = place.lstat()
            if not stat.S_ISLNK(found.st_mode) or found.st_uid in (0, os.geteuid()):
                continue
            above = place.parent.stat()
        except OSError:  # writing there will report the reason
            continue
        if above.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and found.st_uid != above.st_uid:
            raise ForeignFileError(f"{place}: is a link by {_user(found.st_uid)}; name what it points to")


def is_link(path: Path) -> bool:
    """Return whether a path is a symbolic link or a junction of Windows."""
    try:
        found = path.lstat()
    except OSError:
        return False
    junction = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
    return stat.S_ISLNK(found.st_mode) or getattr(found, "st_reparse_tag", 0) == junction


def _is_ours(found: os.stat_result, path: Path) -> bool:
    """Return whether `path` has the owner that new files of this user have.

    That is another user on disks without owners, and for root on network disks.
    """
    if os.name != "posix" or found.st_uid == os.geteuid():
        return True
    usual = _probe(path.parent)
    return usual is not None and found.st_uid == usual.st_uid


def _probe(parent: Path) -> os.stat_result | None:
    """Return the status of a new private folder in `parent`; None if none can be created."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".ristn-", dir=parent))
    except OSError:
        return None
    try:
        return folder.lstat()
    finally:
        folder.rmdir()


def _user(number: int) -> str:
    try:
        import pwd

        return f"the user {pwd.getpwuid(number).pw_name}"
    except (ImportError, KeyError):
        return f"the user {number}"


def open_new(path: Path) -> BinaryIO:
    """Create an empty file at `path` for writing. An existing file or link with that name is removed.

    Raises:
        OSError: it cannot be created, or the existing one cannot be removed.
    """
    path.unlink(missing_ok=True)
    return path.open("xb")


def open_own(path: Path) -> BinaryIO:
    """Open a file of this user for reading and appending; create it if it does not exist.

    Raises:
        ForeignFileError: it belongs to another user, is a link, is not a regular file, or has a second name.
        OSError: it cannot be opened.
    """
    if path.is_symlink():  # Windows cannot refuse it when the file is opened
        raise ForeignFileError(f"{path}: is a link, expected a file; remove it")
    try:
        file = open(path, "a+b", opener=lambda name, flags: os.open(name, flags | NO_FOLLOW, 0o666))  # noqa: SIM115 - it is returned
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EACCES, None) and os.path.lexists(path):  # None of pipes
            raise ForeignFileError(f"{path}: is a link, a pipe, or belongs to another user; remove it") from error
        raise
    found = os.fstat(file.fileno())
    if stat.S_ISREG(found.st_mode) and found.st_nlink <= 1 and _is_ours(found, path):
        return file
    file.close()
    raise ForeignFileError(f"{path}: belongs to another user or has other names; remove it")


def open_if_own(name: str, flags: int) -> int:
    """Open a file of this user's earlier runs; an `opener` for Python's `open`. Does not wait for pipes.

    Raises:
        ForeignFileError: it belongs to another user, is a link, or is not a regular file.
        OSError: it does not exist or cannot be opened.
    """
    path = Path(name)
    if is_link(path):  # Windows cannot refuse it when the file is opened
        raise ForeignFileError(f"{path}: is a link, expected a file; remove it")
    descriptor = os.open(path, flags | NO_FOLLOW | getattr(os, "O_NONBLOCK", 0))
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and _is_ours(found, path):
        return descriptor
    os.close(descriptor)
    if stat.S_ISREG(found.st_mode):
        raise ForeignFileError(f"{path}: belongs to {_user(found.st_uid)}, expected a file of yours; have it removed")
    raise ForeignFileError(f"{path}: is not a regular file; remove it")


@contextlib.contextmanager
def writing(path: Path, *, overwrite: bool = True) -> Iterator[BinaryIO]:
    """Yield a temporary file beside `path`, which replaces `path` at the end, when its data is safely on the disk.

    After an error, `path` is unchanged. An existing link is replaced. The mode is that of any new file. Names in /dev,
    such as /dev/stdout, are written to directly.

    Raises:
        FileExistsError: `path` exists and `overwrite` is false.
        OSError: the file cannot be written.
    """
    if is_device(path):
        with path.open("wb") as file:
            yield file
        return
    check_place(path.parent)
    temporary = path.with_name(f".ristn-{secrets.token_hex(8)}.tmp")
    try:
        file = temporary.open("xb")
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        give_name(temporary, path, overwrite=overwrite)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_device(path: Path) -> bool:
    """Return whether a path is one of the system's names for devices and open files. Some are links."""
    path = path.absolute()
    return path.parent in (Path("/dev"), Path("/dev/fd")) or path.is_relative_to("/proc")


def write_text(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Write a text file in UTF-8 with `writing`."""
    with writing(path, overwrite=overwrite) as file:
        file.write(text.encode())


def give_name(made: Path, target: Path, *, overwrite: bool) -> None:
    """Rename a file to `target` on the same disk; without `overwrite`, only if `target` does not exist.

    Raises:
        FileExistsError: `target` exists and `overwrite` is false.
        OSError: the file cannot be renamed.
    """
    check_place(target.parent)
    try:
        if overwrite:
            made.replace(target)
        elif os.name == "nt":
            made.rename(target)  # does not replace files on Windows
        else:
            _move_to_free(made, target)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, "already exists", str(target)) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(target)) from error


def _move_to_free(made: Path, target: Path) -> None:
    try:
        target.hardlink_to(made)
    except FileExistsError:
        raise
    except OSError:  # FAT and some network disks have no hard links; an empty file reserves the name
        target.open("xb").close()
        try:
            made.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise
    else:
        made.unlink()
