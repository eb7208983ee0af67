"""Finds released weights: bundled with the program, in the cache, or on the Hub. Always checks the SHA-256.

The network is only used for weights that are neither bundled nor cached.
"""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from ristn_cli.own_files import writing
from ristn_cli.weights.hub import fetch_file, is_offline, user_cache
from ristn_cli.weights.records import Release, WeightsError, find_release


def bundled_folder() -> Path:
    """Return the folder of bundled weights: in an installed wheel, or at the top of a source checkout."""
    installed = Path(__file__).parents[1] / "_weights"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "weights"


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_file(release: Release) -> Path:
    """Return the path of a release in the cache. It contains part of the SHA-256, so that versions of ristn can share
    the cache.
    """
    return user_cache() / f"{release.name}-{release.sha256[:12]}.safetensors"


def is_released(path: Path, release: Release) -> bool:
    """Return whether the file exists and has the released content."""
    return path.is_file() and path.stat().st_size == release.size and file_sha256(path) == release.sha256


def locate(release: Release) -> Path | None:
    """Return the bundled or cached file of a release after checking it, or None if neither is usable."""
    return next(
        (path for path in (bundled_folder() / release.file_name, cached_file(release)) if is_released(path, release)),
        None,
    )


def weights_file(model: str) -> Path | None:
    """Return the file that a model's name is the path of; None for the name of released weights."""
    is_path = model.lower().endswith(".safetensors") or "/" in model or os.sep in model
    return Path(model) if is_path else None


def find_weights(model: str) -> Path:
    """Return the path of released weights: bundled, cached, or downloaded from the Hub. Their SHA-256 is checked.

    Args:
        model: name of released weights. The path of a weights file is returned unchanged.

    Raises:
        WeightsError: the name is unknown, the bundled file is damaged, or the download failed.
    """
    if (file := weights_file(model)) is not None:
        return file
    release = find_release(model)
    bundled = bundled_folder() / release.file_name
    if bundled.is_file():
        found = file_sha256(bundled)
        if found != release.sha256:
            raise WeightsError(
                f"{bundled}: damaged: SHA-256 is {found[:12]}..., expected {release.sha256[:12]}...; "
                "install ristn again"
            )
        return bundled
    cached = cached_file(release)
    if not is_released(cached, release) and is_offline():
        raise WeightsError(f"{release.name}: not bundled, not in the cache ({cached}), and HF_HUB_OFFLINE is set")
    return obtain(release, cached)


def obtain(
    release: Release,
    target: Path,
    *,
    repository: str | None = None,
    revision: str | None = None,
    endpoint: str | None = None,
    force: bool = False,
    overwrite: bool = True,
    on_progress: Callable[[int], None] = lambda received: None,
) -> Path:
    """Make `target` the released file: keep it if it already is, else copy a local file, else download it.

    Args:
        release: the release.
        target: file to write. Its folder is created.
        repository: repository on the Hub. If given, local copies are not used.
        revision: branch, tag or commit of the repository. If given, local copies are not used.
        endpoint: URL of the Hub, instead of `HF_ENDPOINT`.
        force: download even if a local file exists.
        overwrite: whether to replace another file at `target`.
        on_progress: called with the number of bytes received so far, including earlier attempts.

    Raises:
        WeightsError: the Hub is offline, or lacks the repository, revision or file; the network or disk fails; the
            content differs; or `target` is another file and `overwrite` is false.
    """
    if not force and is_released(target, release):
        return target
    try:
        if not overwrite and os.path.lexists(target):
            raise FileExistsError
        target.parent.mkdir(parents=True, exist_ok=True)
        at_hand = None if force or repository or revision else locate(release)
        if at_hand is not None:
            copy_whole(at_hand, target, overwrite=overwrite)
            return target
        fetch_file(
            target,
            repository=repository or release.repository,
            revision=revision or release.revision,
            file_name=release.file_name,
            size=release.size,
            sha256=release.sha256,
            endpoint=endpoint,
            overwrite=overwrite,
            on_progress=on_progress,
        )
    except OSError as error:
        if isinstance(error, FileExistsError) and os.path.lexists(target):
            raise WeightsError(
                f"{target}: already exists and is not the released file; use --force to replace it, or another --dir"
            ) from error
        raise WeightsError(f"{target}: cannot be written: {error.strerror or error}") from error
    return target


def copy_whole(source: Path, target: Path, *, overwrite: bool = True) -> None:
    """Copy a file, completely or not at all. Raises FileExistsError as `writing` does."""
    with source.open("rb") as original, writing(target, overwrite=overwrite) as copy:
        shutil.copyfileobj(original, copy)
