"""Records the finished parts of a job between runs. Does not read frames.

A job's folder is beside its output. The manifest in it is replaced atomically. Finished parts are verified by their
SHA-256.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO

from ristn_cli.job.border import MOST_FRAMES, Border
from ristn_cli.own_files import TEMPORARY_PATTERN, ForeignFileError, check_owner, open_if_own, open_own, write_text
from ristn_cli.typed import MOST_SHOWN, MalformedError, brief, build, read_json
from ristn_cli.video import check_interruption
from ristn_cli.weights import REPLACED, Release, file_sha256

EDGE_BYTES = 2**20

LOCK_NAME = "lock"
OWN_NAMES = (
    "manifest.json",
    "manifest.tmp",
    LOCK_NAME,
    "publishing",
    "unverified",
    "part-*",
    "making-*",
    "joined*",
    "ristn-mux-*",
    TEMPORARY_PATTERN,
)
"""Names of the files that a job writes into its folder: manifest, parts, and temporary files of the mux."""

PART_NAME = re.compile(r"part-[0-9]{5,9}\.[0-9a-z]+")


class JobError(Exception):
    """A job that cannot start or resume."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A scene cut within a part: the index of the scene's first frame in the part, and its time in seconds."""

    frame: int
    time: Fraction


@dataclass(frozen=True, kw_only=True)
class Part:
    """A finished part: its file in the job's folder, frames, SHA-256, and the border after it.

    `cuts` are the positions within the part at which a window reads no earlier frames: scene cuts, if they are
    detected.
    """

    file: str
    frames: int
    sha256: str
    border: Border
    cuts: list[Cut] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raise ValueError for an implausible number of frames."""
        if not 1 <= self.frames <= MOST_FRAMES:
            raise ValueError(f"a part has {self.frames} frames, expected 1 to {MOST_FRAMES}")


def fingerprint(path: Path) -> dict[str, Any]:
    """Return values that identify a file: size, modification time, and hash of the first and last MiB."""
    stat = path.stat()
    with path.open("rb") as file:
        edges = file.read(EDGE_BYTES)
        file.seek(max(0, stat.st_size - EDGE_BYTES))
        edges += file.read(EDGE_BYTES)
    return {"size": stat.st_size, "modified": stat.st_mtime_ns, "edges": hashlib.sha256(edges).hexdigest()}


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Lock the file `path` while the context is active. The system releases the lock when the process ends.

    Raises:
        JobError: another process has locked it.
        ForeignFileError: it does not belong to this user.
    """
    with open_own(path) as file:
        try:
            _lock(file)
        except OSError as error:
            raise JobError(
                f"{path.parent}: another ristn process is working on this output; wait for it to finish"
            ) from error
        yield


def _lock(file: BinaryIO) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_job_folder(folder: Path) -> bool:
    """Remove the files that a job wrote into its folder, and the folder unless it contains other files.

    Call it while the job is locked, because another process may start the same job. Return whether the lock file
    remains: Windows cannot remove open files. Then call `remove_lock` after the lock is released.
    """
    try:
        check_owner(folder)
    except OSError:  # it was removed or replaced
        return False
    for pattern in OWN_NAMES:
        for path in folder.glob(pattern):
            with contextlib.suppress(OSError):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()
    with contextlib.suppress(OSError):
        folder.rmdir()
    return (folder / LOCK_NAME).exists()


def remove_lock(folder: Path) -> None:
    """Remove the lock file that `remove_job_folder` could not remove, and the folder, unless another process needs
    them.
    """
    with contextlib.suppress(OSError):
        (folder / LOCK_NAME).unlink(missing_ok=True)
        folder.rmdir()


def describe_replaced(old: Release) -> str:
    """Return the message about an unfinished run with weights that newer ones replaced."""
    return (
        f"an unfinished run with {old.name} {old.revision}, which newer weights replaced; to finish it, run "
        f"`ristn download-weights {old.name} --revision {old.revision} --dir DIR` and use --model DIR/{old.file_name}; "
        "or use --restart to start again"
    )


def read_identity(folder: Path) -> dict[str, Any]:
    """Return the identity of the unfinished run in a job's folder; empty if it cannot be read."""
    try:
        check_owner(folder)
        return _read_state(folder / "manifest.json").identity
    except (OSError, MalformedError):
        return {}


@dataclass(frozen=True, kw_only=True)
class _State:
    """The content of a manifest's file. Keys of `ahead` are part numbers."""

    identity: dict[str, Any]
    parts: list[Part]
    ahead: dict[str, Part] = field(default_factory=dict)


def _read_state(path: Path) -> _State:
    """Read a manifest. Raises MalformedError for another format, OSError for an unreadable file."""
    values = read_json(path, opener=open_if_own)
    state: _State = build(_State, values, str(path))
    if any(re.fullmatch(r"[1-9][0-9]{0,8}", number) is None for number in state.ahead):
        raise MalformedError(f"{path}: a key of ahead is not a part number")
    return state


class Manifest:
    """The finished parts of one job: `parts` without gaps from the first, and `ahead` those after a gap, by number.

    `earlier` contains such parts of an earlier run, until they are confirmed to match the plan.

    Args:
        folder: the job's folder.
        identity: everything that shapes the frames, as plain values.
    """

    def __init__(self, folder: Path, identity: dict[str, Any]) -> None:
        self.folder = folder
        self.path = folder / "manifest.json"
        self.identity: dict[str, Any] = json.loads(json.dumps(identity))
        self.parts: list[Part] = []
        self.ahead: dict[int, Part] = {}
        self.earlier: dict[int, Part] = {}

    @property
    def files(self) -> list[Path]:
        """Files of the finished parts, in order."""
        return [self.folder / part.file for part in self.parts]

    @property
    def frames(self) -> int:
        """Number of frames in the finished parts."""
        return sum(part.frames for part in self.parts)

    @property
    def border(self) -> Border | None:
        """The border after the finished parts; None if there are none."""
        return self.parts[-1].border if self.parts else None

    def load(self) -> None:
        """Load the parts that an earlier run of the same job finished. Missing and damaged parts are dropped.

        Raises:
            JobError: the earlier run had another input, network or option, or the folder belongs to another user.
        """
        try:
            check_owner(self.folder)
            state = _read_state(self.path)
        except ForeignFileError as error:
            raise JobError(str(error)) from error
        except (FileNotFoundError, NotADirectoryError):
            return
        except MalformedError as error:
            raise JobError(
                f"{error}: expected a manifest of this version of ristn; use --restart to start again"
            ) from error
        for name in sorted(self.identity.keys() | state.identity.keys()):
            before, now = state.identity.get(name), self.identity.get(name)
            if before != now:
                if name == "network" and isinstance(before, str) and before in REPLACED:
                    raise JobError(f"{self.folder}: contains {describe_replaced(REPLACED[before])}")
                was = before if isinstance(before, str) and len(before) <= MOST_SHOWN else brief(before)
                shown = "" if isinstance(now, dict) else f" ({was}, now {now})"
                raise JobError(
                    f"{self.folder}: contains an unfinished run with another {name[:MOST_SHOWN]}{shown}; "
                    "use --restart to start again"
                )
        for number, part in enumerate(state.parts, start=1):
            if not self.is_whole(part):
                self.earlier = self._whole_parts(enumerate(state.parts[number:], start=number + 1))
                break
            self.parts.append(part)
        self.earlier |= self._whole_parts((int(number), part) for number, part in state.ahead.items())

    def _whole_parts(self, parts: Iterable[tuple[int, Part]]) -> dict[int, Part]:
        return {number: part for number, part in parts if self.is_whole(part)}

    def is_whole(self, part: Part) -> bool:
        """Return whether the part's file exists unchanged. Raises JobError if its name is not that of a part."""
        check_interruption()
        if PART_NAME.fullmatch(part.file) is None:
            raise JobError(f"{self.path}: {part.file!r} is not the name of a part; use --restart to start again")
        file = self.folder / part.file
        return file.is_file() and file_sha256(file) == part.sha256

    def add(self, part: Part) -> None:
        """Record the part after `parts`."""
        self.record(len(self.parts) + 1, part)

    def record(self, number: int, part: Part) -> None:
        """Record a finished part under its number."""
        self.earlier.pop(number, None)
        self.ahead[number] = part
        while (following := len(self.parts) + 1) in self.ahead:
            self.parts.append(self.ahead.pop(following))
        ahead = {str(number): part for number, part in sorted((self.earlier | self.ahead).items())}
        state = asdict(_State(identity=self.identity, parts=self.parts, ahead=ahead))
        write_text(self.path, json.dumps(state, indent=1, default=str))  # fractions as text
