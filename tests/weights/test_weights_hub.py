"""Released weights fetched from a Hub of the tests' own: fresh, cached, continued, damaged, refused, offline."""

import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hub import SURPLUS_PIECE, Hub, serve_hub
from huggingface_hub import close_session, constants
from typer.testing import CliRunner

from ristn_cli.cli import app
from ristn_cli.model import CONFIGS, RISTN
from ristn_cli.weights import (
    RELEASES,
    REPLACED,
    Release,
    WeightsError,
    cached_file,
    file_sha256,
    find_weights,
    finding,
    load_weights,
    locate,
    obtain,
    save_weights,
)
from ristn_cli.weights import hub as hub_module


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The Hub that huggingface_hub asks; waiting before another try is left out."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(hub_module, "PAUSE_SECONDS", 0)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    with serve_hub() as served:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, served.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", served.url)
        yield served
        close_session()


@pytest.fixture
def release(hub: Hub, tiny_model: RISTN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Release:
    """A tiny network, released on that Hub and nowhere here; the cache is empty."""
    path = tmp_path / "origin.safetensors"
    save_weights(tiny_model, path, metrics={})
    data = path.read_bytes()
    made = Release(
        name="tiny",
        sha256=hashlib.sha256(data).hexdigest(),
        size=len(data),
        config="ristn-lite",
        repository="someone/tiny",
        revision="v1",
    )
    hub.files["someone/tiny/v1/tiny.safetensors"] = data
    monkeypatch.setitem(RELEASES, "tiny", made)
    monkeypatch.setattr(finding, "bundled_folder", lambda: tmp_path / "bundled")
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    return made


def bundle(release: Release, hub: Hub, folder: Path) -> Path:
    """The released file where the program carries its own."""
    folder.mkdir()
    path = folder / release.file_name
    path.write_bytes(hub.files["someone/tiny/v1/tiny.safetensors"])
    return path


def run(*arguments: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `ristn download-weights`."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    result = CliRunner().invoke(app, ["download-weights", *map(str, arguments)])
    for number, handler in before.items():
        signal.signal(number, handler)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_fresh_then_cached(release: Release, hub: Hub, tiny_model: RISTN) -> None:
    assert locate(release) is None
    path = find_weights("tiny")
    assert path == cached_file(release)
    assert file_sha256(path) == release.sha256
    assert load_weights(path).config == tiny_model.config
    assert [(method, where) for method, where, _ in hub.requests] == [
        ("HEAD", "/someone/tiny/resolve/v1/tiny.safetensors"),
        ("GET", "/someone/tiny/resolve/v1/tiny.safetensors"),
    ]
    assert find_weights("tiny") == path
    assert len(hub.requests) == 2
    assert [entry.suffix for entry in path.parent.iterdir() if not entry.name.startswith(".")] == [".safetensors"]


def test_bundled_weights_are_not_downloaded(release: Release, hub: Hub, tmp_path: Path) -> None:
    path = bundle(release, hub, tmp_path / "bundled")
    assert find_weights("tiny") == path
    code, stdout, _ = run("tiny")
    assert (code, stdout) == (0, f"tiny: {path}, SHA-256 {release.sha256[:12]}...\n")
    code, stdout, _ = run("tiny", "--dir", tmp_path / "there")
    assert code == 0
    assert file_sha256(tmp_path / "there" / "tiny.safetensors") == release.sha256
    assert sorted(entry.name for entry in (tmp_path / "there").iterdir()) == ["tiny.safetensors"]
    assert hub.requests == []
    assert run("tiny", "--force")[0] == 0
    assert len(hub.requests) == 2


def test_a_damaged_copy_in_the_cache_is_fetched_again(release: Release, hub: Hub) -> None:
    cached = cached_file(release)
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"\0" * release.size)
    assert locate(release) is None
    assert file_sha256(find_weights("tiny")) == release.sha256
    assert len(hub.requests) == 2


def test_a_transfer_that_drops_is_continued_at_once(release: Release, hub: Hub, tmp_path: Path) -> None:
    hub.cuts, hub.cut_after = 1, release.size // 2
    seen: list[int] = []
    target = obtain(release, tmp_path / "out.safetensors", on_progress=seen.append)
    assert file_sha256(target) == release.sha256
    assert hub.ranges() == [None, f"bytes={release.size // 2}-"]
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0, release.size)
    assert release.size // 2 in seen


def test_an_abandoned_download_is_resumed_by_the_next_run(release: Release, hub: Hub, tmp_path: Path) -> None:
    target, half = tmp_path / "out.safetensors", release.size // 2
    hub.cuts, hub.cut_after = 1, half
    served = hub.files.copy()

    class Vanishes(dict[str, bytes]):
        """Files that are gone after the first half of the first one was sent."""

        def get(self, key: str, default: bytes | None = None) -> bytes | None:  # type: ignore[override]
            return default if hub.ranges()[1:] else served.get(key, default)

    hub.files = Vanishes(served)
    with pytest.raises(WeightsError, match=r"someone/tiny at http.*, revision v1, does not contain this file"):
        obtain(release, target)
    assert not target.exists()
    hub.files, hub.requests = served, []
    seen: list[int] = []
    obtain(release, target, on_progress=seen.append)
    assert file_sha256(target) == release.sha256
    assert hub.ranges() == [f"bytes={half}-"]
    assert seen[0] == half
    assert not list(tmp_path.glob(".*incomplete"))


def test_too_much_of_an_earlier_transfer_is_thrown_away(release: Release, hub: Hub, tmp_path: Path) -> None:
    leftover = tmp_path / f".out.safetensors.{release.sha256[:12]}.incomplete"
    leftover.write_bytes(b"x" * (release.size + 1))
    assert file_sha256(obtain(release, tmp_path / "out.safetensors")) == release.sha256
    assert hub.ranges() == [None]


def test_a_silent_server_times_out(release: Release, hub: Hub, tmp_path: Path) -> None:
    hub.cuts, hub.cut_after = 100, 0
    with pytest.raises(
        WeightsError, match=r"not downloaded from someone/tiny at .* \(.*\); run the same command again"
    ):
        obtain(release, tmp_path / "out.safetensors")
    assert len(hub.ranges()) == 1 + hub_module.TRIES


def test_a_server_without_ranges_sends_all_again(release: Release, hub: Hub, tmp_path: Path) -> None:
    hub.knows_ranges = False
    hub.cuts, hub.cut_after = 1, release.size // 2
    assert file_sha256(obtain(release, tmp_path / "out.safetensors")) == release.sha256
    assert len(hub.ranges()) == 2


def test_a_file_that_is_another_by_its_tag_or_size_is_not_even_fetched(
    release: Release, hub: Hub, tmp_path: Path
) -> None:
    target = tmp_path / "out.safetensors"
    hub.files["someone/tiny/v1/tiny.safetensors"] = b"\1" * release.size
    with pytest.raises(WeightsError, match=f"SHA-256 is .*, expected {release.sha256[:12]}.*--repo or --revision"):
        obtain(release, target)
    hub.tells_sha256 = False
    hub.files["someone/tiny/v1/tiny.safetensors"] = b"short"
    with pytest.raises(WeightsError, match=f"has 5 bytes, expected {release.size:,}: not the file that belongs"):
        obtain(release, target)
    assert hub.ranges() == []
    assert not target.exists()


def test_damaged_bytes_are_thrown_away(release: Release, hub: Hub, tmp_path: Path) -> None:
    good = hub.files["someone/tiny/v1/tiny.safetensors"]
    hub.tells_sha256 = False
    hub.files["someone/tiny/v1/tiny.safetensors"] = good[:-1] + bytes([good[-1] ^ 1])
    code, _, stderr = run("tiny", "--dir", tmp_path / "there")
    assert code == 1
    assert len(stderr.splitlines()) == 1
    assert f"expected {release.sha256[:12]}...: not kept; try again" in stderr
    assert not list((tmp_path / "there").iterdir())
    hub.files["someone/tiny/v1/tiny.safetensors"] = good
    assert run("tiny", "--dir", tmp_path / "there")[0] == 0


def test_nothing_but_the_file_is_left_in_the_folder(release: Release, hub: Hub, tmp_path: Path) -> None:
    """Also where another process waits for the lock meanwhile: it makes a lock file of its own."""
    folder = tmp_path / "there"
    code, _, stderr = run("tiny", "--dir", folder)
    assert (code, stderr) == (0, "")
    assert [path.name for path in folder.iterdir()] == ["tiny.safetensors"]
    lock_file = tmp_path / ".lock"
    order: list[str] = []

    def wait() -> None:
        with hub_module.exclusive_lock(lock_file):
            order.append("second")
            assert lock_file.exists()

    with hub_module.exclusive_lock(lock_file):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join(30)
    assert order == ["first", "second"]
    assert not lock_file.exists()


def test_a_server_that_sends_more_than_it_said_is_cut_off(release: Release, hub: Hub, tmp_path: Path) -> None:
    hub.surplus = 256 * SURPLUS_PIECE
    seen: list[int] = []
    target = obtain(release, tmp_path / "out.safetensors", on_progress=seen.append)
    assert target.stat().st_size == max(seen) == release.size
    assert file_sha256(target) == release.sha256
    assert hub.sent < hub.surplus  # the rest was not even received
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
def test_a_server_that_compresses_the_file_is_refused(
    release: Release, hub: Hub, tmp_path: Path, encoding: str
) -> None:
    hub.encoding = encoding
    with pytest.raises(WeightsError, match=rf"sends the file compressed \({encoding}\), expected it uncompressed"):
        obtain(release, tmp_path / "out.safetensors")
    assert len(hub.ranges()) == 1
    assert {headers["accept-encoding"] for method, _, headers in hub.requests if method == "GET"} == {"identity"}
    assert not list(tmp_path.glob("*out*"))


def test_missing_repositories_revisions_and_files_are_named(release: Release, hub: Hub, tmp_path: Path) -> None:
    target = tmp_path / "out.safetensors"
    with pytest.raises(
        WeightsError, match=r"repository someone/else at http://127.* does not exist or is private.*TOKEN"
    ):
        obtain(release, target, repository="someone/else")
    with pytest.raises(WeightsError, match=r"someone/tiny at http.* has no revision 'v7': use another --revision"):
        obtain(release, target, revision="v7")
    hub.files["someone/tiny/v2/other"] = b""
    with pytest.raises(WeightsError, match=r"someone/tiny at http.*, revision v2, does not contain this file"):
        obtain(release, target, revision="v2")
    with pytest.raises(WeightsError, match="--repo 'a/b/c' is not a repository name; expected owner/name"):
        obtain(release, target, repository="a/b/c")
    hub.status = 403
    with pytest.raises(WeightsError, match="answered with HTTP status 403"):
        obtain(release, target)
    hub.error_code = "GatedRepo"
    with pytest.raises(WeightsError, match="is gated: request access there"):
        obtain(release, target)
    assert not target.exists()


def test_a_mirror_of_another_name_serves(release: Release, hub: Hub, tmp_path: Path) -> None:
    bundle(release, hub, tmp_path / "bundled")
    hub.files = {"mirror/all/main/tiny.safetensors": hub.files["someone/tiny/v1/tiny.safetensors"]}
    assert run("tiny", "--repo", "mirror/all", "--revision", "main", "--dir", tmp_path / "there")[0] == 0
    assert file_sha256(tmp_path / "there" / "tiny.safetensors") == release.sha256
    assert hub.requests[-1][1] == "/mirror/all/resolve/main/tiny.safetensors"


def test_the_token_is_sent(release: Release, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    obtain(release, tmp_path / "out.safetensors")
    assert {headers.get("authorization") for _, _, headers in hub.requests} == {"Bearer hf_of_the_test"}
    assert all(headers["user-agent"].startswith("ristn/") for _, _, headers in hub.requests)


def test_large_storage_is_followed_without_the_token(
    release: Release, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_test")
    hub.has_storage, hub.cuts, hub.cut_after = True, 1, release.size // 2
    assert file_sha256(obtain(release, tmp_path / "out.safetensors")) == release.sha256
    stored = [(path, headers) for _, path, headers in hub.requests if path.startswith("/store/")]
    assert [headers.get("range") for _, headers in stored] == [None, f"bytes={release.size // 2}-"]
    assert not any("authorization" in headers for _, headers in stored)
    assert all("authorization" in headers for _, path, headers in hub.requests if not path.startswith("/store/"))


def test_a_dead_network_is_one_line(release: Release, hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"not downloaded from someone/tiny at http://127\.0\.0\.1:9 \(") as caught:
        obtain(release, tmp_path / "out.safetensors", endpoint="http://127.0.0.1:9")
    assert "\n" not in str(caught.value)
    assert hub.requests == []


def test_offline_mode_sends_no_requests(
    release: Release, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match=r"tiny: not bundled, not in the cache \(.*\), and HF_HUB_OFFLINE is set"):
        find_weights("tiny")
    code, _, stderr = run("tiny", "--force")
    assert code == 1
    assert "HF_HUB_OFFLINE is set: not downloaded from someone/tiny" in stderr
    path = bundle(release, hub, tmp_path / "bundled")
    assert find_weights("tiny") == path
    assert run("tiny")[0] == 0
    assert hub.requests == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_one_line(release: Release, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    monkeypatch.setattr(hub_module, "open_own", lambda path: Path("/dev/full").open("ab"))  # noqa: SIM115
    code, _, stderr = run("tiny", "--dir", folder)
    assert code == 1
    assert stderr == f"error: {folder / 'tiny.safetensors'}: cannot be written: {os.strerror(errno.ENOSPC)}\n"


@pytest.mark.parametrize("kind", ["incomplete", "copying", "lock"])
def test_planted_links_are_not_followed(release: Release, hub: Hub, tmp_path: Path, kind: str) -> None:
    folder, victim = tmp_path / "there", tmp_path / "victim"
    folder.mkdir()
    victim.write_text("kept", encoding="utf-8")
    if kind == "copying":
        bundle(release, hub, tmp_path / "bundled")
    middle = f".{release.sha256[:12]}" if kind == "incomplete" else ""
    link = folder / f".tiny.safetensors{middle}.{kind}"
    link.symlink_to(victim)
    code, _, stderr = run("tiny", "--dir", folder)
    assert victim.read_text(encoding="utf-8") == "kept"
    if kind == "copying":
        assert code == 0
        assert file_sha256(folder / "tiny.safetensors") == release.sha256
    else:
        assert code == 1
        assert stderr.count("\n") == 1
        assert f"{link}: is a link, expected a file; remove it" in stderr


@pytest.mark.parametrize("is_bundled", [True, False])
def test_another_file_of_the_name_is_replaced_only_by_force(
    release: Release, hub: Hub, tmp_path: Path, is_bundled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "there"
    folder.mkdir()
    target = folder / "tiny.safetensors"
    if is_bundled:
        bundle(release, hub, tmp_path / "bundled")
    exists = os.path.lexists

    def appears_late(path: Path) -> bool:
        if path == target and not exists(target):
            target.write_text("mine", encoding="utf-8")
            return False
        return exists(path)

    with monkeypatch.context() as patch:
        patch.setattr(os.path, "lexists", appears_late)
        for _ in range(2):  # it appears after the first check, and before the second one
            code, _, stderr = run("tiny", "--dir", folder)
            assert code == 1
            assert stderr == (
                f"error: {target}: already exists and is not the released file; use --force to replace it, or another "
                "--dir\n"
            )
            assert target.read_text(encoding="utf-8") == "mine"
    assert run("tiny", "--dir", folder, "--force")[0] == 0
    assert file_sha256(target) == release.sha256
    assert list(folder.iterdir()) == [target]


def test_a_cache_that_cannot_be_written_is_one_line(
    release: Release, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mkdir = Path.mkdir

    def read_only(path: Path, *arguments: object, **options: object) -> None:
        if path.is_relative_to(tmp_path / "assets"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        mkdir(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(WeightsError, match="cannot be written: Read-only file system") as caught:
        find_weights("tiny")
    assert str(caught.value).startswith(str(cached_file(release)))
    (tmp_path / "a file").touch()
    code, _, stderr = run("tiny", "--dir", tmp_path / "a file" / "there")
    assert code == 1
    assert "cannot be written: Not a directory" in stderr
    assert hub.requests == []


def test_the_list_shows_local_files(release: Release, hub: Hub, tmp_path: Path) -> None:
    code, stdout, _ = run("--list")
    assert code == 0
    lines = stdout.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(RELEASES)
    assert f"{release.size:,} bytes, SHA-256 {release.sha256}; someone/tiny at v1; not on this machine" in lines[-1]
    path = bundle(release, hub, tmp_path / "bundled")
    assert run("--list")[1].splitlines()[-1].endswith(f"; {path}")
    assert hub.requests == []
    assert run()[0] == 2
    assert run("tiny", "--all")[0] == 2
    code, _, stderr = run("tiny", "nonsense")
    assert code == 1
    assert "unknown weights 'nonsense': expected one of ristn-lite" in stderr
    assert hub.requests == []


def test_an_earlier_release_is_fetched_by_its_revision(
    release: Release, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"newer"
    newer = replace(release, sha256=hashlib.sha256(data).hexdigest(), size=len(data), revision="v2")
    hub.files["someone/tiny/v2/tiny.safetensors"] = data
    monkeypatch.setitem(RELEASES, "tiny", newer)
    monkeypatch.setitem(REPLACED, "fingerprint", release)
    assert run("tiny", "--dir", tmp_path / "new")[0] == 0
    assert run("tiny", "--revision", "v1", "--dir", tmp_path / "old")[0] == 0
    assert file_sha256(tmp_path / "new" / "tiny.safetensors") == newer.sha256
    assert file_sha256(tmp_path / "old" / "tiny.safetensors") == release.sha256


def test_replaced_releases_have_newer_ones() -> None:
    for old in REPLACED.values():
        new = RELEASES[old.name]
        assert (old.sha256, old.revision) != (new.sha256, new.revision)
        assert old.config in CONFIGS


def test_all_are_fetched(release: Release, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in RELEASES.keys() - {"tiny"}:
        monkeypatch.delitem(RELEASES, name)
    code, stdout, stderr = run("--all", "--dir", tmp_path / "there")
    assert (code, stderr) == (0, "")
    assert stdout.startswith(f"tiny: {tmp_path / 'there' / 'tiny.safetensors'}, SHA-256")


def test_the_environment_is_honoured(tmp_path: Path) -> None:
    """In processes of their own: huggingface_hub reads its environment once, when it is imported."""
    data = (Path(__file__).parents[2] / "weights" / "ristn-lite.safetensors").read_bytes()
    command = [sys.executable, "-W", "error", "-m", "ristn_cli", "download-weights", "ristn-lite", "--force"]
    with serve_hub() as hub:
        release = RELEASES["ristn-lite"]
        hub.files[f"{release.repository}/{release.revision}/{release.file_name}"] = data
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "HF_TOKEN": "hf_of_the_test",
            "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1",
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
        (fetched,) = (tmp_path / "home").rglob("ristn-lite*.safetensors")
        assert fetched.read_bytes() == data
        assert {headers["authorization"] for _, _, headers in hub.requests} == {"Bearer hf_of_the_test"}
        asked = len(hub.requests)
        environment["HF_HUB_OFFLINE"] = "1"
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 1
        assert "HF_HUB_OFFLINE is set" in done.stderr
        assert len(hub.requests) == asked
