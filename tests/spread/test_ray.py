"""Segments on a Ray cluster of this machine: the frames of one process, whatever dies on the way.

Every cluster here has two processor cores for workers and less than 1 GiB of object store.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from clips import make_clip, make_reordered_flv
from commands import in_process
from conftest import TINY
from film import make_edited_film
from jobs import make_job, run_job, segments_of

from ristn_cli.engine.auto_tiling import AutoTiling
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import MIB, PROGRAM_BYTES, Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.job import job_folder
from ristn_cli.job.manifest import JobError, Part, fingerprint
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.progress import Progress
from ristn_cli.model import RISTN
from ristn_cli.spread.pool import Pool
from ristn_cli.spread.scheduling import spread_over
from ristn_cli.spread.segments import Pulse, Segment
from ristn_cli.spread.tasks import SegmentJob
from ristn_cli.video import read_frames
from ristn_cli.weights import ModelChoice, load_weights, save_weights

ray = pytest.importorskip("ray", reason="Ray is an extra: pip install 'ristn[ray]'")

from ray.cluster_utils import Cluster as Machines  # noqa: E402 # only where there is Ray

from ristn_cli.spread.ray import (  # noqa: E402
    Cluster,
    RayWorker,
    WorkerNeeds,
    access,
    cluster,
    open_cluster,
    plan_for,
    ray_worker,
)
from ristn_cli.spread.ray.worker import Hello, Refused, Seen, SegmentWorker  # noqa: E402

pytestmark = [
    # Ray leaves the sockets, log files and processes that it opens in this process to the garbage collector.
    pytest.mark.filterwarnings("ignore:.*unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*subprocess .* is still running:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

CPU = Backend(torch.device("cpu"), "fp32")
NEEDS = WorkerNeeds(device="cpu", precision="fp32", threads=1)
TILING = Tiling(window=6, context=2)
OPTIONS = UpscaleOptions(codec="ffv1", segment_frames=2)
STORE_BYTES = 100 * MIB


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> RISTN:
    """A tiny network whose every part matters, with the weights that a file of it has."""
    generator = torch.Generator().manual_seed(1)
    network = RISTN(TINY).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * (0.5 / parameter[0].numel() ** 0.5))
    file = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(network, file, metrics={})
    return load_weights(file)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "in.mkv", frames=60, width=64, height=48)


@pytest.fixture(scope="module")
def expected(model: RISTN, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The frames of one process."""
    target = tmp_path_factory.mktemp("expected") / "out.mkv"
    torch.set_num_threads(1)
    list(run_job(clip, target, Upscaler(model, CPU, TILING), OPTIONS))
    return images(target)


@pytest.fixture
def _machine() -> Iterator[None]:
    """A cluster of this machine that outlives the workers of one test."""
    ray.shutdown()  # whatever an earlier test, of any file, left
    with cluster.connect(cluster.LOCAL, 2, NEEDS, STORE_BYTES):
        yield


def images(path: Path) -> np.ndarray:
    return np.stack([frame.image for frame in read_frames(path)])


def run(source: Path, target: Path, model: RISTN, workers: Cluster, watch: Callable[[Progress], None]) -> None:
    with Pool(workers.workers) as pool:
        for now in run_job(source, target, Upscaler(model, CPU, TILING), OPTIONS, make_parts=spread_over(pool)):
            watch(now)


def pids(workers: Cluster) -> dict[str, int]:
    return {worker.name: worker.hello.pid for worker in workers.workers if worker.hello is not None}


class Gate:
    """Lets as many segments be begun as it was told to, however far behind the progress is that a test reads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at_first: int) -> None:
        self._left = at_first
        self._changed = threading.Condition()
        gate = self

        class Held(RayWorker):
            def compute(self, work: SegmentJob, segment: Segment, path: Path, pulse: Pulse) -> Part:
                gate.pass_one()
                return super().compute(work, segment, path, pulse)

        monkeypatch.setattr(cluster, "RayWorker", Held)

    def pass_one(self) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._left > 0, 60)
            self._left -= 1

    def let(self, count: int) -> None:
        """Let as many be begun from now on."""
        with self._changed:
            self._left = count
            self._changed.notify_all()


class Striker:
    """Does something once to the process of a worker, when some segments are finished and the gate holds the others."""

    def __init__(self, workers: Cluster, gate: Gate, strike: Callable[[int], None]) -> None:
        self.workers, self.gate, self.strike = workers, gate, strike
        self.struck: list[str] = []

    def __call__(self, now: Progress) -> None:
        if self.struck or now.segments is None or not now.segments[0]:
            return
        running = pids(self.workers)
        for worker in now.workers:
            if worker.name in running:
                self.strike(running[worker.name])
                self.struck.append(worker.name)
                self.gate.let(1000)
                return


@pytest.mark.usefixtures("_machine")
def test_two_workers_give_the_frames_of_one_process(
    model: RISTN, clip: Path, expected: np.ndarray, tmp_path: Path
) -> None:
    told: list[Progress] = []
    with open_cluster(model, workers=2, needs=NEEDS) as workers:
        assert (workers.first.device, workers.first.precision) == ("cpu", "fp32")
        planner = plan_for(workers, model, AutoTiling(free_bytes=workers.free_bytes))
        assert planner.backend == CPU
        assert planner.fingerprint == Upscaler(model, CPU).fingerprint
        workers.workers[1].start()  # or the first might finish before the second is ready
        if sys.platform == "linux":
            for pid in pids(workers).values():
                assert b"GLIBC_TUNABLES=glibc.malloc.tcache_count=0" in Path(f"/proc/{pid}/environ").read_bytes()
        run(clip, tmp_path / "out.mkv", model, workers, told.append)
    assert np.array_equal(images(tmp_path / "out.mkv"), expected)
    planned = len(list(segments_of(clip, tmp_path, Upscaler(model, CPU, TILING), OPTIONS)))
    assert planned > 20
    assert told[-1].segments == (planned, planned)
    assert [worker.name.split(" (")[0] for worker in told[-1].workers] == ["worker 1", "worker 2"]
    assert sum(worker.frames for worker in told[-1].workers) == 60
    assert all(worker.frames > 0 for worker in told[-1].workers)


@pytest.mark.usefixtures("_machine")
@pytest.mark.parametrize("kind", ["reordered", "film"])
def test_workers_give_frames_the_times_of_one_process(model: RISTN, tmp_path: Path, kind: str) -> None:
    """Where they depend on what was decoded before a segment: on broken composition times, or on telecine."""
    if kind == "reordered":
        source, count = make_reordered_flv(tmp_path / "in.flv", frames=21, width=32, height=32), 21
    else:
        source, count = make_edited_film(tmp_path / "in.mp4"), 65
    list(run_job(source, tmp_path / "one.mkv", Upscaler(model, CPU, TILING), OPTIONS))
    with open_cluster(model, workers=2, needs=NEEDS) as workers:
        run(source, tmp_path / "out.mkv", model, workers, lambda _: None)
    times = [[frame.time for frame in read_frames(tmp_path / name)] for name in ("one.mkv", "out.mkv")]
    assert times[0] == times[1]
    assert len(times[0]) == count
    assert np.array_equal(images(tmp_path / "out.mkv"), images(tmp_path / "one.mkv"))


@pytest.mark.usefixtures("_machine")
def test_without_a_shared_disk_source_and_parts_travel_in_pieces(
    model: RISTN,
    clip: Path,
    expected: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    notices: list[str],
) -> None:
    monkeypatch.setattr(ray_worker, "PIECE_BYTES", 10_000)
    monkeypatch.setattr(ray_worker, "fingerprint", lambda file: {})
    monkeypatch.setattr(ray_worker, "make_token", lambda folder: folder / "making-unseen")
    targets = [tmp_path / "a.mkv", tmp_path / "b.mkv"]
    options = replace(OPTIONS, segment_frames=20)
    with open_cluster(model, workers=1, needs=NEEDS) as workers, Pool(workers.workers) as pool:

        def run_one(target: Path) -> None:
            list(run_job(clip, target, Upscaler(model, CPU, TILING), options, make_parts=spread_over(pool)))

        runs = [threading.Thread(target=run_one, args=(target,)) for target in targets]
        for thread in runs:
            thread.start()
        for thread in runs:
            thread.join()
        assert workers.workers[0]._seen == Seen(False, False)
    assert notices == []
    for target in targets:
        assert np.array_equal(images(target), expected)


def test_a_batch_that_needs_two_networks_begins_one_cluster(
    model: RISTN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clean and compressed sources in turn, on a cluster of this machine, whose workers stay."""
    other = RISTN(TINY).eval()
    files = {}
    for name, network in (("clean", model), ("compressed", other)):
        files[name] = tmp_path / f"{name}.safetensors"
        save_weights(network, files[name], metrics={})
    sources = [make_clip(tmp_path / f"{name}.mkv", frames=5, width=32, height=32) for name in "abc"]
    names = {source: ("clean", "compressed")[index % 2] for index, source in enumerate(sources)}
    monkeypatch.setattr("ristn_cli.weights.interpolation.find_weights", files.__getitem__)
    monkeypatch.setattr(
        "ristn_cli.cli.work.Engines.choose", lambda self, source: ModelChoice(names[source], "it is its turn")
    )
    begun: list[str] = []
    workers: set[int] = set()
    connect, compute = cluster.connect, RayWorker.compute

    def count_cluster(*arguments: object) -> AbstractContextManager[None]:
        begun.append("cluster")
        return connect(*arguments)  # type: ignore[arg-type]

    def count_worker(self: RayWorker, *arguments: object) -> Part:
        assert self.hello is not None
        workers.add(self.hello.pid)
        return compute(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(cluster, "connect", count_cluster)
    monkeypatch.setattr(RayWorker, "compute", count_worker)
    options = ["--ray", "--ray-workers", "1x1", "--device", "cpu", "--precision", "fp32"]
    options += ["--codec", "ffv1", "--window", "5", "--progress", "none"]
    code, stdout, stderr = in_process("upscale", *sources, tmp_path / "out", *options)
    assert code == 0, stderr
    assert "3 done" in stdout
    assert begun == ["cluster"]
    assert len(workers) == 1
    for source in sources:
        network = load_weights(files[names[source]])
        for _ in run_job(
            source,
            tmp_path / "one.mkv",
            Upscaler(network, CPU, Tiling(window=5)),
            UpscaleOptions(codec="ffv1"),
            overwrite=True,
        ):
            pass
        assert np.array_equal(images(tmp_path / "out" / source.name), images(tmp_path / "one.mkv"))


@pytest.mark.usefixtures("_machine")
def test_a_worker_killed_or_hung_in_the_middle_changes_nothing(
    model: RISTN,
    clip: Path,
    expected: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    notices: list[str],
) -> None:
    for number, reason in ((signal.SIGKILL, "Died"), (signal.SIGSTOP, "no activity for 5 s")):
        notices.clear()
        target = tmp_path / f"{number}.mkv"
        gate = Gate(monkeypatch, 3)
        with open_cluster(model, workers=2, needs=replace(NEEDS, stall_seconds=5)) as workers:
            strike = Striker(workers, gate, lambda pid, number=number: os.kill(pid, number))
            run(clip, target, model, workers, strike)
        assert np.array_equal(images(target), expected)
        assert any(notice.startswith(f"{strike.struck[0]} is lost") and reason in notice for notice in notices), notices


def test_machines_that_leave_are_waited_for(
    model: RISTN,
    clip: Path,
    expected: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    notices: list[str],
) -> None:
    """One of two machines leaves, then the other; the work waits, says so, and goes on with a third.

    No segment is begun while Ray has not noticed yet, or the processes that are left might finish the job.
    """
    gate = Gate(monkeypatch, 3)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    access.read_again()
    monkeypatch.setattr("ristn_cli.spread.pool.WAITING_SECONDS", 1.0)
    # Not so quick that the machine of the driver counts as dead while this one is busy: then the driver would exit.
    quick = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 12}
    head = {"num_cpus": 0, "object_store_memory": STORE_BYTES, "_system_config": quick, "include_dashboard": False}
    machines = Machines(initialize_head=True, head_node_args=head)
    try:
        nodes = [machines.add_node(num_cpus=1, object_store_memory=STORE_BYTES) for _ in range(2)]

        def remove_one() -> None:
            gate.let(0)
            machines.remove_node(nodes.pop(), allow_graceful=False)
            while sum(node["Alive"] for node in ray.nodes()) > 1 + len(nodes):
                time.sleep(0.1)
            gate.let(8 if nodes else 1000)

        with open_cluster(model, machines.address, needs=NEEDS) as workers:
            assert len(workers.workers) == 2
            workers.workers[1].start()  # or it might be on no machine yet when that leaves

            def change(now: Progress) -> None:
                assert now.segments is not None
                if nodes and now.segments[0] >= 1 + 4 * (2 - len(nodes)):
                    remove_one()
                elif "added" not in notices and any("no worker is available" in notice for notice in notices):
                    machines.add_node(num_cpus=1, object_store_memory=STORE_BYTES)
                    notices.append("added")

            run(clip, tmp_path / "out.mkv", model, workers, change)
    finally:
        ray.shutdown()
        machines.shutdown()
    assert np.array_equal(images(tmp_path / "out.mkv"), expected)
    assert sum("is lost" in notice for notice in notices) >= 2
    assert "added" in notices  # that a worker is available again is only said if the job is not done at once


def test_the_same_command_resumes_after_a_killed_driver(model: RISTN, tmp_path: Path) -> None:
    # Long enough for the driver to be killed well before its end, on a busy machine too.
    clip = make_clip(tmp_path / "in.mkv", frames=360, width=96, height=64)
    weights, target = tmp_path / "tiny.safetensors", tmp_path / "out.mkv"
    save_weights(model, weights, metrics={})
    command = [sys.executable, "-m", "ristn_cli", "upscale", str(clip), str(target), "--ray", "--model", str(weights)]
    command += ["--ray-workers", "2x1", "--device", "cpu", "--precision", "fp32", "--window", "6"]
    command += ["--codec", "ffv1", "--segment-frames", "2", "--progress", "json"]
    expected = tmp_path / "expected.mkv"
    for _ in run_job(clip, expected, Upscaler(model, CPU, TILING), OPTIONS):
        pass
    killed = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert killed.stderr is not None
    finished = 0
    for line in killed.stderr:
        if line.startswith("{") and (finished := json.loads(line)["segments"]["finished"]) >= 1:
            killed.send_signal(signal.SIGKILL)
            break
    assert killed.wait(60) == -signal.SIGKILL
    killed.stderr.close()
    assert finished >= 1
    assert not target.exists()
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert lines[-1]["frames"] == 360
    assert [worker["name"].split(" (")[0] for worker in lines[-1]["workers"]] == ["worker 1", "worker 2"]
    # A segment has two frames at least. A fast machine may have finished all before the driver died.
    assert sum(worker["frames"] for worker in lines[-1]["workers"]) <= 360 - 2 * finished
    assert np.array_equal(images(target), images(expected))
    assert not job_folder(target).exists()


def test_an_address_where_nothing_is_is_an_error(model: RISTN, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    ray.shutdown()  # whatever an earlier test left: a program that has joined a cluster does not join another
    monkeypatch.setattr(cluster.ray, "init", lambda **_: (_ for _ in ()).throw(Exception("refused")))
    with (
        pytest.raises(
            JobError, match=r"cannot join the Ray cluster at 127.0.0.1:1: refused; the token here must be the token of"
        ),
        open_cluster(model, "127.0.0.1:1"),
    ):
        pass


def test_a_cluster_whose_last_machine_died_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when Ray's own processes do not come up on a machine."""
    monkeypatch.setattr(ray_worker, "POLLS_PER_LOOK", 1)
    monkeypatch.setattr(cluster.ray, "wait", lambda references, timeout: ([], references))
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [{"Alive": False}])
    worker = RayWorker("worker 1", MagicMock(), 1.0)
    with pytest.raises(
        JobError, match="the cluster's first worker is not usable: the Ray cluster has no machines left"
    ):
        cluster.await_first(worker)


def test_a_worker_reads_files_that_it_sees_and_receives_the_others(model: RISTN, clip: Path, tmp_path: Path) -> None:
    job = make_job(clip, tmp_path / "planned.mkv", OPTIONS)
    job.folder.mkdir()
    work = SegmentJob(key="a", job=job, tiling=TILING, network="")
    worker = SegmentWorker(model, "cpu", "fp32", 1)
    token = ray_worker.make_token(job.folder)
    assert worker.open(work, [fingerprint(clip)], token) == Seen(source=True, folder=True)
    linked = replace(job, target=tmp_path / "linked.mkv")
    linked.folder.symlink_to(job.folder)  # parts are written only into a folder of the worker's own user
    seen = worker.open(replace(work, job=linked), [fingerprint(clip)], linked.folder / token.name)
    assert seen == Seen(True, False)
    assert worker.open(work, [fingerprint(clip) | {"size": 1}], tmp_path / "nothing") == Seen(False, False)
    for offset, piece in ray_worker.read_pieces(clip):
        worker.receive(0, offset, piece)
    segment = next(segments_of(clip, tmp_path, Upscaler(model, CPU, TILING), OPTIONS))
    part = worker.compute(segment, "made.mkv")
    assert not isinstance(part, Refused)
    assert worker.signs()[0] == segment.frames
    assert worker.signs()[1] > 0
    assert not (tmp_path / "made.mkv").exists()
    received = worker.read("made.mkv", 0, 1 << 30)
    assert len(received) > 1000
    assert worker.read("made.mkv", len(received), 10) == b""
    worker.close()
    assert isinstance(SegmentWorker(model, "cpu", "fp16", 1).hello(), Refused)


def test_pieces_are_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_worker, "PIECE_BYTES", 4)
    file = tmp_path / "file"
    for content, pieces in (
        (b"", [(0, b"")]),
        (b"abcd", [(0, b"abcd")]),
        (b"abcdefghij", [(0, b"abcd"), (4, b"efgh"), (8, b"ij")]),
    ):
        file.write_bytes(content)
        assert list(ray_worker.read_pieces(file)) == pieces


def test_rooms_and_shares() -> None:
    assert cluster.default_threads([{"CPU": 2.0}, {"CPU": 64.0}]) == 4
    assert cluster.default_threads([{"CPU": 2.0}, {}]) == 1
    assert cluster.machine_room({"CPU": 9.0}, 4, False) == 2
    assert cluster.machine_room({"CPU": 64.0, "GPU": 8.0}, 4, True) == 8
    assert cluster.machine_room({"CPU": 8.0, "GPU": 8.0}, 4, True) == 2
    hello = Hello(
        host="a",
        pid=1,
        device="cpu",
        precision="fp32",
        is_compiled=False,
        free_bytes=1000,
        versions=(),
        needs_token=True,
    )
    assert (hello.free_for_each(1), hello.free_for_each(3)) == (1000, 333)
    assert replace(hello, free_bytes=None).free_for_each(3) is None


@pytest.mark.parametrize(("cores", "is_local", "sharers"), [((4.0, 2.0), True, 3), ((2.0, 1.0), False, 2)])
def test_workers_of_one_machine_share_its_memory(
    model: RISTN, monkeypatch: pytest.MonkeyPatch, cores: tuple[float, ...], is_local: bool, sharers: int
) -> None:
    """Three workers on two machines: as many as there may be on one, beside what their processes take."""
    hello = Hello(
        host="a",
        pid=1,
        device="cpu",
        precision="fp32",
        is_compiled=False,
        free_bytes=4000 * MIB,
        needs_token=True,
        versions=ray_worker.versions(),
    )
    fake = MagicMock(is_initialized=lambda: False)
    fake.nodes.return_value = [{"Alive": True, "Resources": {"CPU": count}} for count in cores]
    for module in (cluster, ray_worker):
        monkeypatch.setattr(module, "ray", fake)
    monkeypatch.setattr(cluster, "await_first", lambda worker: hello)
    address = cluster.LOCAL if is_local else "10.0.0.1:6379"
    with open_cluster(model, address, workers=3, needs=NEEDS, store_bytes=STORE_BYTES) as workers:
        assert workers.sharers == sharers
        services = cluster.RAY_BYTES + STORE_BYTES if is_local else 0
        assert workers.other_bytes == sharers * PROGRAM_BYTES + services
        left = 4000 * MIB - (sharers - 1) * PROGRAM_BYTES
        assert workers.free_bytes == left // sharers
