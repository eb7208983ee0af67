"""Files and folders that stay this user's, wherever they are made: other users may be able to write there, too.

Nothing here follows a link that another user planted, and no name is taken that something else has.
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
"""Names of the files that `writing` makes. A process that is killed while it writes leaves one."""

OTHERS = stat.S_IRWXG | stat.S_IRWXO
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)


class ForeignFileError(PermissionError):
    """A file or folder that is another user's, or a link, where one of this user's is needed. One line says which."""

    def __init__(self, message: str) -> None:
        super().__init__(errno.EPERM, message)

    def __str__(self) -> str:
        return str(self.strerror)


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


@contextlib.contextmanager
def in_empty_folder() -> Iterator[None]:
    """Within, the working folder is an empty one: some libraries read code or settings from it when they begin."""
    with contextlib.chdir(empty_folder()):
        yield


def import_apart(name: str) -> None:
    """Import a library that reads settings from the working folder; call it before there are other threads.

    Matplotlib's settings can have it run LaTeX.
    """
    if name not in sys.modules:
        with in_empty_folder():
            importlib.import_module(name)


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


def make_private_folder(folder: Path, *, parents: bool = False) -> None:
    """Make a folder that only this user can enter, or make it so if it exists.

    Raises:
        ForeignFileError: it is another user's, a link or a file, or something in it is another user's or a link.
        OSError: it cannot be made.
    """
    check_place(folder.parent)
    try:
        folder.mkdir(mode=0o700, parents=parents)
    except FileExistsError:
        found = check_owner(folder)
        if os.name == "posix" and found.st_mode & OTHERS:
            with contextlib.suppress(OSError):
                folder.chmod(0o700)
            usual = _probe(folder.parent)  # all bits are set on disks without modes
            if folder.lstat().st_mode & OTHERS & ~(usual.st_mode if usual else 0):
                raise ForeignFileError(f"{folder}: cannot be closed to other users; move or remove it") from None
        _check_content(folder, found.st_uid)


def check_owner(folder: Path) -> os.stat_result:
    """The state of a folder that is this user's and no link.

    Raises:
        ForeignFileError: it is another user's, a link or a file.
        OSError: it is missing, or cannot be looked at.
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
    """Raise ForeignFileError for a link, or a file of another user, in a folder or those in it."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # another process of this user removed it
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
    """Refuse a folder that is reached through a link which another user put where many can write.

    Raises:
        ForeignFileError: there is such a link; Linux itself follows none in folders like /tmp.
    """
    if os.name != "posix":
        return
    for place in (folder.absolute(), *folder.absolute().parents):
        try:
            found = place.lstat()
            if not stat.S_ISLNK(found.st_mode) or found.st_uid in (0, os.geteuid()):
                continue
            above = place.parent.stat()
        except OSError:  # whoever writes there finds out why
            continue
        if above.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and found.st_uid != above.st_uid:
            raise ForeignFileError(f"{place}: is a link by {_user(found.st_uid)}; name what it points to")


def is_link(path: Path) -> bool:
    """Whether a path is a link, or a junction, which Windows has for folders."""
    try:
        found = path.lstat()
    except OSError:
        return False
    junction = getattr(stat, "IO_REPARSE_TAG_MOUNT_POINT", -1)
    return stat.S_ISLNK(found.st_mode) or getattr(found, "st_reparse_tag", 0) == junction


def _is_ours(found: os.stat_result, path: Path) -> bool:
    """Whether the owner of `path` is who owns what this user makes there.

    That is another user on disks without owners, and for root on network disks.
    """
    if os.name != "posix" or found.st_uid == os.geteuid():
        return True
    usual = _probe(path.parent)
    return usual is not None and found.st_uid == usual.st_uid


def _probe(parent: Path) -> os.stat_result | None:
    """The state of a new private folder in `parent`; None where none can be made."""
    try:
        folder = Path(tempfile.mkdtemp(prefix=".ristn-", dir=parent))
    except OSError:
        return None
    try:
        return folder.lstat()
    finally:
        folder.rmdir()


def _user(number: int) -> str:
    """A user as messages name them."""
    try:
        import pwd

        return f"the user {pwd.getpwuid(number).pw_name}"
    except (ImportError, KeyError):
        return f"the user {number}"


def open_new(path: Path) -> BinaryIO:
    """A new, empty file at `path`, open for writing; a file or link that has the name is removed.

    Raises:
        OSError: it cannot be made, or what has the name cannot be removed.
    """
    path.unlink(missing_ok=True)
    return path.open("xb")


def open_own(path: Path) -> BinaryIO:
    """A file of this user, open to be read and appended to; made if it is missing.

    Raises:
        ForeignFileError: it is another user's, a link, not a regular file, or also has another name.
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
    """An `opener` for Python's `open`, to read what this user's earlier runs wrote; a pipe is not waited for.

    Raises:
        ForeignFileError: it is another user's, a link, or not a regular file.
        OSError: it is missing, or cannot be opened.
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
    """A temporary file beside `path`, which gets its name when all is written and safe from a power cut.

    What has the name is replaced, links too; after an error it stays as it was. The mode is that of any new file.
    Names in /dev, such as /dev/stdout, are written to as they are.

    Raises:
        FileExistsError: something has the name, and `overwrite` is false.
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
    """Whether a path is one of the system's names for devices and open files, some of which are links."""
    path = path.absolute()
    return path.parent in (Path("/dev"), Path("/dev/fd")) or path.is_relative_to("/proc")


def write_text(path: Path, text: str, *, overwrite: bool = True) -> None:
    """Write a text file in UTF-8 as `writing` does."""
    with writing(path, overwrite=overwrite) as file:
        file.write(text.encode())


def give_name(made: Path, target: Path, *, overwrite: bool) -> None:
    """Move a file to `target` on the same disk; without `overwrite` only if nothing has that name at that moment.

    Raises:
        FileExistsError: something has the name, and `overwrite` is false.
        OSError: the file cannot be moved.
    """
    check_place(target.parent)
    try:
        if overwrite:
            made.replace(target)
        elif os.name == "nt":
            made.rename(target)  # which replaces nothing there
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
    except OSError:  # FAT and some network disks have no hard links: an empty file takes the name first
        target.open("xb").close()
        try:
            made.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise
    else:
        made.unlink()
