"""The input files of a command, to ensure that no output replaces one of them under any name."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from ristn_cli.video.reading.source import list_images
from ristn_cli.video.types import VideoError
from ristn_cli.video.writing.sequence import SIDECAR_NAME, existing_images, image_name, is_numbered

FileId = tuple[int, int]
"""Device and inode of a file. All its names, such as links and hard links, share them."""


class InputFiles:
    """The files of all inputs.

    Args:
        sources: files, folders and patterns of images. An integer is an open file descriptor, such as that of standard
            input. A source that does not exist is ignored.
    """

    def __init__(self, sources: Iterable[Path | int]) -> None:
        self._files: dict[FileId, Path] = {}
        self._patterns: list[Path] = []
        for source in sources:
            if isinstance(source, int):
                if (found := identify_descriptor(source)) is not None:
                    self._files[found] = Path("-")
                continue
            images: tuple[Path, ...] = ()
            with contextlib.suppress(VideoError):  # the reader reports that there are no images
                images = list_images(source)
            if images and not source.is_dir():
                self._patterns.append(source)
            for path in images or (source,):
                if (found := identify(path)) is not None:
                    self._files.setdefault(found, path)

    def find(self, path: Path | int) -> Path | None:
        """Return the input that is the same file as `path` or an open file descriptor; None if there is none."""
        found = identify_descriptor(path) if isinstance(path, int) else identify(path)
        return None if found is None else self._files.get(found)

    def find_in(self, folder: Path) -> Path | None:
        """Return an input in `folder`, at any depth; None if there is none."""
        wanted = identify(folder)
        if wanted is None:
            return None
        seen: dict[Path, bool] = {}
        for path in self._files.values():
            for parent in (*path.absolute().parents, *path.resolve().parents):
                if parent not in seen:
                    seen[parent] = identify(parent) == wanted
                if seen[parent]:
                    return path
        return None

    def check_kept(self, target: Path, work_folder: Path) -> None:
        """Refuse an output that would replace an input, or whose `work_folder`, which is removed, contains one.

        Args:
            target: a file, or a pattern of numbered images.
            work_folder: folder of the unfinished output.

        Raises:
            VideoError: an input would be replaced or removed.
        """
        if is_numbered(target):
            written = [*existing_images(target), target.parent / SIDECAR_NAME]
            if any(map(self.find, written)) or any(would_match(source, target) for source in self._patterns):
                raise VideoError(
                    f"{target}: the output would replace images of the input; use another folder for the output"
                )
        elif (found := self.find(target)) is not None:
            what = "the input itself" if len(self._files) == 1 else f"one of the inputs ({found})"
            raise VideoError(f"{target}: is {what}; use another name for the output")
        if (found := self.find_in(work_folder)) is not None:
            raise VideoError(
                f"{found}: is in {work_folder}, the folder for the unfinished {target.name}, which is removed at the "
                "end; move the input, or use another name for the output"
            )


def identify(path: Path) -> FileId | None:
    """Return the identity that all names of a file or folder share; None if it does not exist."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def identify_descriptor(descriptor: int) -> FileId | None:
    """Return the identity of an open file; None for a pipe, a socket, a terminal or a closed descriptor."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def would_match(source: Path, target: Path) -> bool:
    """Return whether images of the pattern `target` would also match the pattern `source`."""
    form = re.sub(r"%\d*d", "[0-9]+", re.escape(source.name))
    folder = identify(target.parent)
    is_same_folder = folder is not None and folder == identify(source.parent)
    return is_same_folder and re.fullmatch(form, image_name(target, 1)) is not None
