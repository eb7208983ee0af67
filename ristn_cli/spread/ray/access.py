"""Access control of Ray clusters: tokens, loopback, private folders, and where processes import code from."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ray._private import ray_constants

from ristn_cli.isolation import isolate_children
from ristn_cli.job.manifest import JobError

log = logging.getLogger("ristn.job")

TOKEN_VARIABLES = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")

LONGEST_BASE = 16
"""Largest length of the folder that contains Ray's. A socket path below it may have at most 104 characters on macOS."""


@contextlib.contextmanager
def own_cluster() -> Iterator[Path]:
    """Provide a folder and settings for a local cluster that other users cannot access, while the context lasts.

    Its processes require a new token, listen on loopback, and keep their sockets and logs in the folder that this
    yields, which only this user can enter. The folder is deleted at the end, except after a JobError, which its logs
    may explain.
    """
    base = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if os.name == "posix" and len(base) > LONGEST_BASE:
        base = "/tmp"
    folder = Path(tempfile.mkdtemp(prefix="ristn-ray-", dir=base))
    token = folder / "token"
    token.touch(0o600, exist_ok=False)
    token.write_text(secrets.token_hex(32), encoding="ascii")
    before = {name: os.environ.pop(name, None) for name in TOKEN_VARIABLES}
    isolate_children()
    os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
    read_again()
    needs_logs = False
    try:
        yield folder / "ray"  # Ray makes its own folder accessible to all users, but not the parent
    except JobError:
        needs_logs = True
        raise
    finally:
        token.unlink(missing_ok=True)
        if not needs_logs:
            shutil.rmtree(folder, ignore_errors=True)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        read_again()


def use_token() -> None:
    """Make Ray send its token to the cluster that is joined, and protect the token's file from other users.

    Raises:
        JobError: tokens are disabled, or there is none.
    """
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode.lower() != "token":
        raise JobError(
            f"RAY_AUTH_MODE is {mode}; ristn only uses clusters that require a token, because anyone who reaches "
            "another cluster can run programs on it; unset RAY_AUTH_MODE here, and start the cluster with "
            "RAY_AUTH_MODE=token"
        )
    read_again()
    if os.environ.get("RAY_AUTH_TOKEN"):
        return
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        is_open = os.name == "posix" and file.stat().st_mode & 0o077
        if is_open:
            file.chmod(0o600)
    except FileNotFoundError as error:
        raise JobError(
            f"{file} does not exist; copy the token of the cluster into it, or set RAY_AUTH_TOKEN_PATH to its file"
        ) from error
    except OSError as error:
        raise JobError(f"{file}, Ray's token, cannot be protected from other users: {error}") from error
    if is_open:
        log.warning(
            f"other users could read {file}, Ray's token; ristn changed its mode, but they may already have a copy"
        )


def read_again() -> None:
    """Make Ray notice variables that were set after its import."""
    raylet = importlib.import_module("ray._raylet")
    raylet.Config.initialize("")
    raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextlib.contextmanager
def on_loopback() -> Iterator[None]:
    """Make Ray start clusters that listen on 127.0.0.1 only.

    Newer versions replace that address with an external one and then listen on all interfaces, except on macOS and
    Windows, where this constant restricts a cluster to one machine.
    """
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
