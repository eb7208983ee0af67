"""The Hugging Face Hub: fetches one file of known bytes, and goes on with a transfer that broke off.

Plain HTTP by huggingface_hub, which brings `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_HOME` and proxies. Its own
download begins a file anew in every process; here the SHA-256 is known beforehand, so what an earlier process received
is kept beside the target and continued.
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
"""How often a transfer is begun again after one that brought nothing."""

PAUSE_SECONDS = 1.0


def user_cache() -> Path:
    """Folder of fetched weights: in the assets that huggingface_hub keeps for other programs (`HF_HOME`)."""
    from huggingface_hub import constants

    return Path(constants.HF_ASSETS_CACHE) / "ristn" / "weights"


def is_offline() -> bool:
    """Whether `HF_HUB_OFFLINE` forbids the network."""
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
    """Fetch a file to `target`, whole and of the expected bytes or not at all; see `weights.obtain`.

    Raises:
        WeightsError: the Hub does not give these bytes.
        OSError: the disk does not take them.
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    endpoint = endpoint or constants.ENDPOINT
    where = f"{repository} at {endpoint}"
    if is_offline():
        raise WeightsError(f"{file_name}: HF_HUB_OFFLINE is set: not fetched from {where}")
    incomplete = target.with_name(f".{target.name}.{sha256[:12]}.incomplete")
    lock_file = target.with_name(f".{target.name}.lock")
    if is_link(lock_file):  # older versions of the lock empty what it points to
        raise ForeignFileError(f"{lock_file}: is a link, expected a file; remove it")
    with quiet_hub(), sole_use(lock_file):
        with hub_errors(file_name, where, revision):
            url = hf_hub_url(repository, file_name, revision=revision, endpoint=endpoint)
            headers = build_hf_headers(library_name="ristn", library_version=version("ristn"))
            offered = get_hf_file_metadata(url, headers=headers, endpoint=endpoint)
            # The ETag of a file in large storage is its SHA-256, of a small one another hash.
            if offered.etag and re.fullmatch("[0-9a-f]{64}", offered.etag) and offered.etag != sha256:
                raise unexpected(file_name, where, revision, offered.etag, sha256)
            if offered.size is not None and offered.size != size:
                raise WeightsError(
                    f"{file_name}: {where}, revision {revision}, has {offered.size:,} bytes, expected {size:,}: "
                    "not the file that this version of ristn releases"
                )
            try:
                with open_own(incomplete) as file:
                    file.seek(0, os.SEEK_END)
                    if file.tell() > size:
                        start_afresh(file)
                    receive(url, file, size=size, headers=headers, on_progress=on_progress)
            finally:
                if incomplete.exists() and incomplete.stat().st_size == 0:
                    incomplete.unlink()  # there is nothing to go on with
        with incomplete.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            incomplete.unlink()
            raise unexpected(file_name, where, revision, found, sha256)
        give_name(incomplete, target, overwrite=overwrite)


@contextmanager
def sole_use(lock_file: Path) -> Iterator[None]:
    """Within, no other process fetches the same file; `lock_file` is removed afterwards."""
    from huggingface_hub.utils import WeakFileLock

    with WeakFileLock(lock_file):
        try:
            yield
        finally:
            # While the lock is held: another process that waits for it sees that the file is gone, and makes a new one.
            with suppress(OSError):
                lock_file.unlink()
            is_left = lock_file.exists()
    if is_left:  # Windows removes no open file, and that of another process stays
        with suppress(OSError):
            lock_file.unlink()


def receive(
    url: str, file: BinaryIO, *, size: int, headers: dict[str, str], on_progress: Callable[[int], None]
) -> None:
    """Append to a file what it lacks of `size` bytes, through as many connections as it takes while they bring any.

    Not by huggingface_hub's own loop: that writes pieces of 10 MB, so that of smaller files nothing outlives a cut.
    """
    tries = TRIES
    while (received := file.tell()) < size:
        failure: Exception | None = None
        try:
            receive_once(url, file, size=size, headers=headers, on_progress=on_progress)
        except (OSError, WeightsError):  # of the disk, or an answer of the Hub
            raise
        except Exception as error:
            # A connection that failed or dropped: the HTTP library, whose errors these are, changes with
            # versions of huggingface_hub.
            failure = error
        if file.tell() > received:
            tries = TRIES
            continue
        if tries == 0:
            raise failure or ConnectionError(f"it ends after {received:,} of {size:,} bytes")
        tries -= 1
        time.sleep(PAUSE_SECONDS)


def receive_once(
    url: str, file: BinaryIO, *, size: int, headers: dict[str, str], on_progress: Callable[[int], None]
) -> None:
    """Append what one connection brings of the rest of a file of `size` bytes, and never more than that.

    Raises:
        WeightsError: the server compresses what it sends, which it was asked not to do.
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
                f"{url}: the server sends the file compressed ({printable(encoding)}), expected it as it is; "
                "try another --repo or HF_ENDPOINT"
            )
        if received and response.status_code != 206:  # a server without ranges sends all again
            start_afresh(file)
        on_progress(file.tell())
        for piece in response.iter_raw():
            file.write(piece[: size - file.tell()])
            on_progress(file.tell())
            if file.tell() == size:
                return  # whatever else the server would send


def start_afresh(file: BinaryIO) -> None:
    """Throw away what is in a file."""
    file.seek(0)
    file.truncate()


def unexpected(file_name: str, where: str, revision: str, found: str, expected: str) -> WeightsError:
    """The error of other bytes than the released ones."""
    return WeightsError(
        f"{file_name}: from {where}, revision {revision}: SHA-256 is {found[:12]}..., expected {expected[:12]}...: "
        "not kept; try again, or another --repo or --revision"
    )


@contextmanager
def quiet_hub() -> Iterator[None]:
    """Within, huggingface_hub logs errors alone: it tries again by itself, and the end of it is one line of ours."""
    log = logging.getLogger("huggingface_hub")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def hub_errors(file_name: str, where: str, revision: str) -> Iterator[None]:
    """Within, what the Hub or the network does wrong is a WeightsError; errors of the disk pass."""
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
        raise WeightsError(f"{file_name}: {where} is gated: ask for access there, and set HF_TOKEN") from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            f"{file_name}: no repository {where}, or a private one: give another --repo, or set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise WeightsError(f"{file_name}: {where} has no revision {revision!r}: give another --revision") from error
    except EntryNotFoundError as error:
        raise WeightsError(f"{file_name}: {where}, revision {revision}, has no such file") from error
    except HFValidationError as error:
        raise WeightsError(
            f"{repository_of(where)!r} is no name of a repository; expected such as owner/name"
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        raise WeightsError(f"{file_name}: {where} answers {status}: {first_line(error)}") from error
    except Exception as error:
        # The HTTP library is not ours to name: it changes with versions of huggingface_hub.
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        raise WeightsError(
            f"{file_name}: not fetched from {where} ({first_line(error)}); the same command goes on where it stopped"
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
    """The repository in `owner/name at https://...`."""
    return where.partition(" at ")[0]


def printable(text: str) -> str:
    """The beginning of a server's own words, safe to show on a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text[:40])


def first_line(error: Exception) -> str:
    """Name and first line of an error of a library."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"[:200]
