"""A Ray cluster is closed to others: a token, loopback, and folders that only this user can read."""

import os
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
from clips import make_clip
from jobs import make_job

from ristn_cli.engine.memory import MIB, Tiling
from ristn_cli.job.manifest import JobError
from ristn_cli.spread.segments import WorkerLost
from ristn_cli.spread.tasks import SegmentJob

ray = pytest.importorskip("ray", reason="Ray is an extra: pip install 'ristn[ray]'")

from ristn_cli.spread.ray import (  # noqa: E402 # only where there is Ray
    RayWorker,
    WorkerNeeds,
    access,
    cluster,
    ray_worker,
)
from ristn_cli.spread.ray.worker import Hello, Seen, versions  # noqa: E402

pytestmark = [
    # As in test_distributed.py: Ray leaves these to the garbage collector.
    pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

NEEDS = WorkerNeeds(device="cpu", precision="fp32", threads=1)
HELLO = Hello(
    host="a",
    pid=1,
    device="cpu",
    precision="fp32",
    is_compiled=False,
    free_bytes=None,
    versions=versions(),
    needs_token=True,
)

KNOCK = """
import sys
from ray._raylet import GcsClient
try:
    print("written", GcsClient(address=sys.argv[1]).internal_kv_put(b"ristn", b"1", True, None, timeout=10))
except Exception as error:
    print(type(error).__name__)
"""
"""Writes to the cluster's table, with which Ray finds functions to execute."""


def children_of(pid: int) -> set[int]:
    """All processes below one."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening_addresses(pids: set[int]) -> set[str]:
    """The addresses, as the kernel writes them, at which processes accept connections over TCP."""
    sockets: dict[str, str] = {}
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        rows = [row.split() for row in table.read_text().splitlines()[1:]] if table.exists() else []
        sockets |= {row[9]: row[1].split(":")[0] for row in rows if row[3] == "0A"}
    found = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").glob("*"):
            try:
                name = str(link.readlink())
            except OSError:
                continue
            if name.startswith("socket:[") and name[8:-1] in sockets:
                found.add(sockets[name[8:-1]])
    return found


def test_a_cluster_of_this_machine_is_closed_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "b" * 64)
    with cluster.connect(cluster.LOCAL, 1, NEEDS, 100 * MIB):
        token = Path(os.environ["RAY_AUTH_TOKEN_PATH"])
        assert "RAY_AUTH_TOKEN" not in os.environ
        assert len(token.read_text(encoding="ascii")) == 64
        if os.name == "posix":
            assert stat.S_IMODE(token.stat().st_mode) == 0o600
            assert stat.S_IMODE(token.parent.stat().st_mode) == 0o700
        assert list(token.parent.glob("ray/session_*/sockets"))  # all that Ray writes is in there
        context = ray.get_runtime_context()
        outcomes = []
        for settings in ({}, {"RAY_AUTH_MODE": "disabled"}, {"RAY_AUTH_TOKEN": "c" * 64}):
            command = [sys.executable, "-c", KNOCK, context.gcs_address]
            environment = os.environ | settings
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
            outcomes.append(done.stdout.strip())
        assert outcomes == ["written 1", "AuthenticationError", "AuthenticationError"]
        if sys.platform == "linux":
            addresses = listening_addresses(children_of(os.getpid()))
            assert addresses
            assert addresses <= {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert not token.parent.exists()
    assert (os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN"]) == ("disabled", "b" * 64)
    assert "RAY_AUTH_TOKEN_PATH" not in os.environ


def test_the_folder_of_a_failed_cluster_stays_without_its_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(access, "LONGEST_BASE", 1000)

    def fail() -> None:
        with access.own_cluster() as folder:
            folder.with_name("log").touch()
            raise JobError("no")

    with pytest.raises(JobError):
        fail()
    assert [file.name for file in tmp_path.glob("ristn-ray-*/*")] == ["log"]


@pytest.mark.skipif(os.name != "posix", reason="Windows has no modes")
def test_a_token_that_others_can_read_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notices: list[str]
) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for name in access.TOKEN_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(JobError, match=r"\.ray/auth_token does not exist; copy the token of the cluster into it"):
        access.use_token()
    token = tmp_path / ".ray" / "auth_token"
    token.parent.mkdir()
    token.write_text("d" * 64, encoding="ascii")
    token.chmod(0o644)
    access.use_token()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    assert notices == [
        f"other users could read {token}, Ray's token; ristn changed its mode, but they may already have a copy"
    ]
    access.use_token()
    assert len(notices) == 1
    assert os.environ["RAY_AUTH_MODE"] == "token"


def test_no_cluster_is_joined_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(cluster.ray, "init", MagicMock(side_effect=AssertionError))
    with (
        pytest.raises(JobError, match="RAY_AUTH_MODE is disabled; ristn only uses clusters that require a token"),
        cluster.connect("10.0.0.1:6379", 1, NEEDS, 100 * MIB),
    ):
        pass


def answering(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> tuple[RayWorker, dict[str, Any]]:
    """A worker whose actor gives the answers, and what its methods were called with."""
    asked: dict[str, Any] = {}

    def method(name: str) -> MagicMock:
        def remote(*arguments: Any) -> Any:
            asked[name] = arguments
            return answers.get(name)

        return MagicMock(remote=remote)

    actor = MagicMock(**{name: method(name) for name in ("hello", "open", "receive")})
    monkeypatch.setattr(RayWorker, "_wait", lambda self, reference: reference)
    monkeypatch.setattr(ray_worker.ray, "kill", lambda actor: None)
    return RayWorker("worker 1", lambda: actor, 1.0), asked


def test_a_worker_of_a_cluster_that_asks_for_no_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    worker, _ = answering(monkeypatch, {"hello": HELLO})
    worker.start()
    worker, _ = answering(monkeypatch, {"hello": replace(HELLO, needs_token=False)})
    with pytest.raises(
        WorkerLost, match="its cluster does not require a token; restart the whole cluster with RAY_AUTH_MODE=token"
    ):
        worker.start()


def test_workers_are_given_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in another folder than the driver."""
    monkeypatch.chdir(tmp_path)
    make_clip(Path("in.mkv"), frames=2)
    job = make_job(Path("in.mkv"), Path("out.mkv"))
    job.folder.mkdir()
    work = SegmentJob(key="a", job=job, tiling=Tiling(window=6, context=2), network="")
    worker, asked = answering(monkeypatch, {"hello": HELLO, "open": Seen(True, True)})
    worker.start()
    worker._open(work)
    sent, _, token = asked["open"]
    assert (sent.job.source.path, sent.job.folder) == (tmp_path / "in.mkv", tmp_path / ".out.mkv.ristn")
    assert token.parent == sent.job.folder
