"""Where released weights lie: beside the program, in the cache, on the Hub; never taken without their SHA-256.

Asks the network for nothing that is already there.
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
    """Where released weights lie: inside an installed wheel, or at the top of a checkout."""
    installed = Path(__file__).parents[1] / "_weights"
    return installed if installed.is_dir() else Path(__file__).parents[2] / "weights"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_file(release: Release) -> Path:
    """Where the cache keeps a release; versions of ristn with other bytes of the same name share the folder."""
    return user_cache() / f"{release.name}-{release.sha256[:12]}.safetensors"


def is_released(path: Path, release: Release) -> bool:
    """Whether a file is there and holds the released bytes."""
    return path.is_file() and path.stat().st_size == release.size and file_sha256(path) == release.sha256


def locate(release: Release) -> Path | None:
    """The bundled or the cached file of a release, checked; None where neither is there to be used."""
    return next(
        (path for path in (bundled_folder() / release.file_name, cached_file(release)) if is_released(path, release)),
        None,
    )


def find_weights(name: str) -> Path:
    """File of released weights, checked by its SHA-256: bundled, cached, or fetched from the Hub.

    Raises:
        WeightsError: unknown, damaged where it is bundled, or not to be had.
    """
    release = find_release(name)
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
    """Put the released bytes at `target`: left if they are there, copied if they are at hand, else fetched.

    Args:
        release: which.
        target: file to write; its folder is made.
        repository: on the Hub, instead of the release's own; one that is named is asked before copies at hand.
        revision: of the repository: branch, tag or commit; likewise.
        endpoint: URL of the Hub, instead of `HF_ENDPOINT`.
        force: fetch, whatever is there.
        overwrite: replace another file at `target`.
        on_progress: told the bytes received, those of an earlier, broken transfer included.

    Raises:
        WeightsError: offline, no such repository, revision or file, no network, no space, other bytes, or another file
            at `target` that is not to be replaced.
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
    """Copy a file under its name whole or not at all. Raises FileExistsError as `writing` does."""
    with source.open("rb") as original, writing(target, overwrite=overwrite) as copy:
        shutil.copyfileobj(original, copy)
