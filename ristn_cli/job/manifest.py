"""The memory of a job between runs: which parts are finished, and of what. Knows nothing of pixels.

A job's folder lies beside its output. The manifest in it is written whole or not at all; finished parts are checked
against their SHA-256, not trusted.
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
from ristn_cli.weights import file_sha256

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
"""What a job writes into its folder: its manifest, parts, and what the mux makes of them."""

PART_NAME = re.compile(r"part-[0-9]{5,9}\.[0-9a-z]+")


class JobError(Exception):
    """A job that cannot begin or go on where it was."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A scene cut within a part: before which of its frames, counted from 0, and that one's time in seconds."""

    frame: int
    time: Fraction


@dataclass(frozen=True, kw_only=True)
class Part:
    """A finished part: its file in the job's folder, its frames, its SHA-256, and the border behind it.

    `cuts` are the places within it where a window reads nothing of the one before: scene cuts, if they are looked for.
    """

    file: str
    frames: int
    sha256: str
    border: Border
    cuts: list[Cut] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Raise ValueError for a part that cannot be."""
        if not 1 <= self.frames <= MOST_FRAMES:
            raise ValueError(f"a part of {self.frames} frames cannot be")


def fingerprint(path: Path) -> dict[str, Any]:
    """What tells a file from another: size, time of modification, first and last MiB."""
    stat = path.stat()
    with path.open("rb") as file:
        edges = file.read(EDGE_BYTES)
        file.seek(max(0, stat.st_size - EDGE_BYTES))
        edges += file.read(EDGE_BYTES)
    return {"size": stat.st_size, "modified": stat.st_mtime_ns, "edges": hashlib.sha256(edges).hexdigest()}


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, which the system gives back however the process ends.

    Raises:
        JobError: another process holds it.
        ForeignFileError: it is no file of this user.
    """
    with open_own(path) as file:
        try:
            _lock(file)
        except OSError as error:
            raise JobError(f"{path.parent}: another ristn is at work on this output") from error
        yield


def _lock(file: BinaryIO) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def remove_job_folder(folder: Path) -> bool:
    """Remove a job's folder and what the job wrote there. Any other file in it stays, and the folder with it.

    Call it while the job's lock is held, or another process may have begun the job anew. Windows removes no open file:
    there the lock file stays. The result is whether it does; then `remove_lock` comes after the lock.
    """
    try:
        check_owner(folder)
    except OSError:  # it is gone, or something else was put there
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
    """Remove the lock file that `remove_job_folder` had to leave, and the folder, unless another process has either."""
    with contextlib.suppress(OSError):
        (folder / LOCK_NAME).unlink(missing_ok=True)
        folder.rmdir()


def read_identity(folder: Path) -> dict[str, Any]:
    """What the unfinished run in a job's folder was recognised by; empty where there is none that can be read."""
    try:
        check_owner(folder)
        return _read_state(folder / "manifest.json").identity
    except (OSError, MalformedError):
        return {}


@dataclass(frozen=True, kw_only=True)
class _State:
    """What a manifest's file holds. `ahead` is by number."""

    identity: dict[str, Any]
    parts: list[Part]
    ahead: dict[str, Part] = field(default_factory=dict)


def _read_state(path: Path) -> _State:
    """Raises MalformedError for a file of another form, OSError for one that cannot be read."""
    values = read_json(path, opener=open_if_own)
    state: _State = build(_State, values, str(path))
    if any(re.fullmatch(r"[1-9][0-9]{0,8}", number) is None for number in state.ahead):
        raise MalformedError(f"{path}: ahead has a number that is none of a part")
    return state


class Manifest:
    """Finished parts of one job: `parts` from the first on without a gap, and by number those finished `ahead` of them.

    What an earlier run finished ahead is in `earlier`, until it proves to begin and end as the plan has it.

    Args:
        folder: the job's folder.
        identity: everything that shapes the result, as plain values.
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
        """Frames in the finished parts."""
        return sum(part.frames for part in self.parts)

    @property
    def border(self) -> Border | None:
        """The border behind the finished parts; None when there are none."""
        return self.parts[-1].border if self.parts else None

    def load(self) -> None:
        """Take up what an earlier run of the same job finished; parts that are missing or damaged go.

        Raises:
            JobError: the earlier run was of another input, network or option, or its folder is another user's.
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
                f"{error}: not a manifest of this version of ristn; use --restart to begin afresh"
            ) from error
        for name in sorted(self.identity.keys() | state.identity.keys()):
            before, now = state.identity.get(name), self.identity.get(name)
            if before != now:
                was = before if isinstance(before, str) and len(before) <= MOST_SHOWN else brief(before)
                shown = "" if isinstance(now, dict) else f" (it was {was}, now it is {now})"
                raise JobError(
                    f"{self.folder}: contains an unfinished run with another {name[:MOST_SHOWN]}{shown}; "
                    "use --restart to begin afresh"
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
        """Whether the part's file is there, as it was recorded. Raises JobError for a name that is not a part's."""
        check_interruption()
        if PART_NAME.fullmatch(part.file) is None:
            raise JobError(f"{self.path}: names {part.file!r}, which is no part; use --restart to begin afresh")
        file = self.folder / part.file
        return file.is_file() and file_sha256(file) == part.sha256

    def add(self, part: Part) -> None:
        """Record the part behind `parts`."""
        self.record(len(self.parts) + 1, part)

    def record(self, number: int, part: Part) -> None:
        """Record the finished part of a number."""
        self.earlier.pop(number, None)
        self.ahead[number] = part
        while (behind := len(self.parts) + 1) in self.ahead:
            self.parts.append(self.ahead.pop(behind))
        ahead = {str(number): part for number, part in sorted((self.earlier | self.ahead).items())}
        state = asdict(_State(identity=self.identity, parts=self.parts, ahead=ahead))
        write_text(self.path, json.dumps(state, indent=1, default=str))  # fractions as text
