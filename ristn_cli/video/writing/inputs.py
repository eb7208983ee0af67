"""The files that a command reads, so that no output ever replaces one of them, however either is named."""

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
"""Device and number of a file: the same for all its names, be they links, hard links or in another case."""


class InputFiles:
    """The files that inputs consist of.

    Args:
        sources: files, and folders and patterns of images. An integer is an open file descriptor, such as that of
            standard input. A source that is not there has no files.
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
            with contextlib.suppress(VideoError):  # it has no images, which its own reader reports
                images = list_images(source)
            if images and not source.is_dir():
                self._patterns.append(source)
            for path in images or (source,):
                if (found := identify(path)) is not None:
                    self._files.setdefault(found, path)

    def find(self, path: Path | int) -> Path | None:
        """The input that is the same file as `path`, or as an open file descriptor."""
        found = identify_descriptor(path) if isinstance(path, int) else identify(path)
        return None if found is None else self._files.get(found)

    def find_in(self, folder: Path) -> Path | None:
        """An input that lies in `folder`, at any depth."""
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
        """Refuse an output that would replace an input, or whose `work_folder`, which is removed, holds one.

        Args:
            target: a file, or a pattern of numbered images.
            work_folder: where the unfinished output lies.

        Raises:
            VideoError: it would.
        """
        if is_numbered(target):
            written = [*existing_images(target), target.parent / SIDECAR_NAME]
            if any(map(self.find, written)) or any(would_match(source, target) for source in self._patterns):
                raise VideoError(
                    f"{target}: the output and the input are the same images; give the output another folder"
                )
        elif (found := self.find(target)) is not None:
            what = "the input itself" if len(self._files) == 1 else f"one of the inputs ({found})"
            raise VideoError(f"{target}: is {what}; give the output another name")
        if (found := self.find_in(work_folder)) is not None:
            raise VideoError(
                f"{found}: lies in {work_folder}, the folder for the unfinished {target.name}, which is removed at the "
                "end; move the input, or give the output another name"
            )


def identify(path: Path) -> FileId | None:
    """What all names of a file or folder have in common; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def identify_descriptor(descriptor: int) -> FileId | None:
    """The same of an open file; None where it is not a file but a pipe, a socket, a terminal or closed."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def would_match(source: Path, target: Path) -> bool:
    """Whether the numbered images of the pattern `target` would be images of the pattern `source`, too."""
    form = re.sub(r"%\d*d", "[0-9]+", re.escape(source.name))
    folder = identify(target.parent)
    is_same_folder = folder is not None and folder == identify(source.parent)
    return is_same_folder and re.fullmatch(form, image_name(target, 1)) is not None
