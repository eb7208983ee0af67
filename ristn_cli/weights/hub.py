"""Downloads one file of known SHA-256 from the Hugging Face Hub, and resumes interrupted downloads.

Uses plain HTTP through huggingface_hub, which supports `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_HOME` and
proxies. Its own download function starts again in every process. Here the SHA-256 is known in advance, so that a
partial file of an earlier process is kept beside the target and continued.
"""

import errno
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import BinaryIO

from ristn_cli.own_files import ForeignFileError, give_name, is_link, open_own
from ristn_cli.weights.records import WeightsError

TRIES = 5
"""Number of retries after connections that brought no data."""

PAUSE_SECONDS = 1.0


def user_cache() -> Path:
    """Return the cache folder of downloaded weights, below the assets folder of huggingface_hub (`HF_HOME`)."""
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE) / "ristn" / "weights"


def is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def fetch_file(
    target: Path,
    *,
    repository: str,
    revision: str,
    file_name: str,
    size: int,
    sha256: str,
    endpoint: str | None,
    overwrite: bool,
    on_progress: Callable[[int], None],
) -> None:
    """Download a file to `target`, completely and with the expected content, or not at all. See `weights.obtain`.

    Raises:
        WeightsError: the Hub does not provide this file.
        OSError: writing failed.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    endpoint = endpoint or constants.ENDPOINT
    where = f"{repository} at {endpoint}"
    if is_offline():
        raise WeightsError(f"{file_name}: HF_HUB_OFFLINE is set: not downloaded from {where}")
    incomplete = target.with_name(f".{target.name}.{sha256[:12]}.incomplete")
    lock_file = target.with_name(f".{target.name}.lock")
    if is_link(lock_file):  # older versions of WeakFileLock truncate the link's target
        raise ForeignFileError(f"{lock_file}: is a link, expected a file; remove it")
    with quiet_hub(), exclusive_lock(lock_file):
        with hub_errors(file_name, where, revision):
            url = hf_hub_url(repository, file_name, revision=revision, endpoint=endpoint)
            headers = build_hf_headers(library_name="ristn", library_version=version("ristn"))
            offered = get_hf_file_metadata(url, headers=headers, endpoint=endpoint)
            # The ETag of a large file is its SHA-256; that of a small file is another hash.
            if offered.etag and re.fullmatch("[0-9a-f]{64}", offered.etag) and offered.etag != sha256:
                raise unexpected(file_name, where, revision, offered.etag, sha256)
            if offered.size is not None and offered.size != size:
                raise WeightsError(
                    f"{file_name}: {where}, revision {revision}, has {offered.size:,} bytes, expected {size:,}: "
                    "not the file that belongs to this version of ristn"
                )
            try:
                with open_own(incomplete) as file:
                    file.seek(0, os.SEEK_END)
                    if file.tell() > size:
                        discard_content(file)
                    receive(url, file, size=size, headers=headers, on_progress=on_progress)
            finally:
                if incomplete.exists() and incomplete.stat().st_size == 0:
                    incomplete.unlink()  # nothing to resume from
        with incomplete.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            incomplete.unlink()
            raise unexpected(file_name, where, revision, found, sha256)
        give_name(incomplete, target, overwrite=overwrite)


@contextmanager
def exclusive_lock(lock_file: Path) -> Iterator[None]:
    """Prevent other processes from downloading the same file; `lock_file` is removed afterwards."""
    from huggingface_hub.utils import WeakFileLock

    with WeakFileLock(lock_file):
        try:
            yield
        finally:
            # Remove the file before the lock is released: a waiting process then notices and creates a new one.
            with suppress(OSError):
                lock_file.unlink()
            is_left = lock_file.exists()
    if is_left:  # Windows cannot remove an open file
        with suppress(OSError):
            lock_file.unlink()


def receive(
    url: str, file: BinaryIO, *, size: int, headers: dict[str, str], on_progress: Callable[[int], None]
) -> None:
    """Append the missing part of `size` bytes to a file, with a new connection whenever one breaks off.

    huggingface_hub's own loop writes chunks of 10 MB, so it would lose all data of smaller files.
    """
    tries = TRIES
    while (received := file.tell()) < size:
        failure: Exception | None = None
        try:
            receive_once(url, file, size=size, headers=headers, on_progress=on_progress)
        except (OSError, WeightsError):  # from the disk, or the Hub's answer
            raise
        except Exception as error:
            # A broken connection. The HTTP library that raises this depends on the version of huggingface_hub.
            failure = error
        if file.tell() > received:
            tries = TRIES
            continue
        if tries == 0:
            raise failure or ConnectionError(f"the connection closed after {received:,} of {size:,} bytes")
        tries -= 1
        time.sleep(PAUSE_SECONDS)


def receive_once(
    url: str, file: BinaryIO, *, size: int, headers: dict[str, str], on_progress: Callable[[int], None]
) -> None:
    """Append what one connection delivers of the missing part, up to `size` bytes in total.

    Raises:
        WeightsError: the server compresses the file although it was asked not to.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import hf_raise_for_status, http_stream_backoff

    received = file.tell()
    wanted = headers | {"Accept-Encoding": "identity"} | ({"Range": f"bytes={received}-"} if received else {})
    with http_stream_backoff(
        "GET", url, headers=wanted, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT, retry_on_exceptions=()
    ) as response:
        hf_raise_for_status(response)
        encoding = response.headers.get("content-encoding", "identity")
        if encoding.strip().lower() not in ("", "identity"):
            raise WeightsError(
                f"{url}: the server sends the file compressed ({printable(encoding)}), expected it uncompressed; "
                "try another --repo or HF_ENDPOINT"
            )
        if received and response.status_code != 206:  # a server without range support sends the whole file
            discard_content(file)
        on_progress(file.tell())
        for piece in response.iter_raw():
            file.write(piece[: size - file.tell()])
            on_progress(file.tell())
            if file.tell() == size:
                return  # ignore any further data


def discard_content(file: BinaryIO) -> None:
    file.seek(0)
    file.truncate()


def unexpected(file_name: str, where: str, revision: str, found: str, expected: str) -> WeightsError:
    """Return the error for a file whose SHA-256 differs from the released one."""
    return WeightsError(
        f"{file_name}: from {where}, revision {revision}: SHA-256 is {found[:12]}..., expected {expected[:12]}...: "
        "not kept; try again, or another --repo or --revision"
    )


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Suppress huggingface_hub's warnings about retries; the final failure is reported once by this module."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def hub_errors(file_name: str, where: str, revision: str) -> Iterator[None]:
    """Convert errors of the Hub and the network to WeightsError. Disk errors pass unchanged."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except WeightsError:
        raise
    except GatedRepoError as error:
        raise WeightsError(f"{file_name}: {where} is gated: request access there, and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            f"{file_name}: the repository {where} does not exist or is private: use another --repo, or set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise WeightsError(f"{file_name}: {where} has no revision {revision!r}: use another --revision") from error
    except EntryNotFoundError as error:
        raise WeightsError(f"{file_name}: {where}, revision {revision}, does not contain this file") from error
    except HFValidationError as error:
        raise WeightsError(f"--repo {repository_of(where)!r} is not a repository name; expected owner/name") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise WeightsError(f"{file_name}: {where} answered with HTTP status {status}: {first_line(error)}") from error
    except Exception as error:
        # The type of network errors depends on the HTTP library, which differs between versions of huggingface_hub.
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        raise WeightsError(
            f"{file_name}: not downloaded from {where} ({first_line(error)}); run the same command again to resume"
        ) from error


DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENOTDIR,
    errno.EISDIR,
}


def repository_of(where: str) -> str:
    """Return the repository in `owner/name at https://...`."""
    return where.partition(" at ")[0]


def printable(text: str) -> str:
    """Return the beginning of a text from a server, safe to show on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text[:40])


def first_line(error: Exception) -> str:
    """Return the name and the first line of a library's error."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:200]
