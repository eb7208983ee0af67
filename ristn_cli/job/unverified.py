"""Keeps a result that fails verification beside the output, once per job."""

import contextlib
import json
import re
from itertools import count
from pathlib import Path
from typing import Any

from ristn_cli.own_files import is_link, open_if_own, write_text
from ristn_cli.typed import build, read_json
from ristn_cli.video import VideoError

UNVERIFIED = "unverified"
"""A file in the job's folder with the name and state of the kept result."""


def keep_unverified(made: Path, target: Path, error: VideoError) -> VideoError:
    """Move a file or a folder of images that fails verification beside `target`. Return the error to raise.

    It gets an unused name such as `OUT.unverified.mkv`. The finished parts stay in the job's folder, so that the job
    can be resumed. A result that an earlier run kept is replaced, unless it has been changed.
    """
    wanted = target.parent.resolve() if made.is_dir() else target
    note = made.parent / UNVERIFIED
    kept = read_unverified(note, wanted) or reserve_name(wanted, is_folder=made.is_dir())
    if made.is_dir():
        for path in made.iterdir():
            path.replace(kept / path.name)
    else:
        made.replace(kept)
    write_text(note, json.dumps({"name": kept.name, "state": state_of(kept)}))
    return VideoError(f"{str(error).replace(str(made), str(target))}; the unverified result is kept as {kept}")


def reserve_name(wanted: Path, *, is_folder: bool) -> Path:
    """Create an empty file or folder with an unused name: `NAME.unverified.mkv`, or with the first free number."""
    for number in count(1):
        mark = ".unverified" if number == 1 else f".unverified-{number}"
        kept = wanted.with_name(f"{wanted.stem}{mark}{wanted.suffix}")
        with contextlib.suppress(FileExistsError):
            kept.mkdir() if is_folder else kept.touch(exist_ok=False)
            break
    return kept


def read_unverified(note: Path, wanted: Path) -> Path | None:
    """Return the result that an earlier run of the job kept, by its `note`; None if it was removed or changed."""
    form = f"{re.escape(wanted.stem)}\\.unverified(-[0-9]+)?{re.escape(wanted.suffix)}"
    try:
        values = build(dict[str, Any], read_json(note, opener=open_if_own))
        name = build(str, values.get("name"))
        if re.fullmatch(form, name) is None:  # never replace another file
            return None
        kept = wanted.with_name(name)
        return kept if not is_link(kept) and state_of(kept) == values.get("state") else None
    except (OSError, ValueError):
        return None


def state_of(kept: Path) -> list[list[str | int]]:
    """Return name, size and modification time of a file, or of each file in a folder, to detect changes."""
    paths = sorted(kept.iterdir()) if kept.is_dir() else [kept]
    return [[path.name, path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
