"""Files and folders where other users can write: what they plant is neither followed nor replaced."""

import errno
import os
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_clip
from commands import in_process
from jobs import run_job
from PIL import Image

from ristn_cli import own_files
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.html_pages import write_page
from ristn_cli.job import batch, finishing
from ristn_cli.job import run as run_module
from ristn_cli.job.job import job_folder
from ristn_cli.job.manifest import JobError, Manifest, read_identity
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.own_files import (
    ForeignFileError,
    check_place,
    give_name,
    make_private_folder,
    open_if_own,
    open_new,
    open_own,
    writing,
)
from ristn_cli.training.journal import trim_log
from ristn_cli.training.state import TrainingError, read_checkpoint
from ristn_cli.video import VideoError, write_image
from ristn_cli.weights import save_weights

pytestmark = pytest.mark.skipif(os.name != "posix", reason="Windows keeps the folders of users apart")
needs_root = pytest.mark.skipif(getattr(os, "geteuid", lambda: 1)() != 0, reason="only root can act as another user")
FAST = UpscaleOptions(preset="ultrafast")
OTHER = 65534
KEPT = "what the user wrote\n"


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder that every user can write to."""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(folder.stat().st_mode | 0o011)  # else no other user reaches it
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    return folder


@pytest.fixture
def victim(tmp_path: Path) -> Iterator[Path]:
    """A file that nothing may change."""
    path = tmp_path / "victim"
    path.write_text(KEPT, encoding="utf-8")
    yield path
    assert path.read_text(encoding="utf-8") == KEPT


@pytest.fixture
def usual_umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


@pytest.fixture
def upscaler(tiny_model: RISTN) -> Upscaler:
    return Upscaler(tiny_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=6, context=2))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def as_other(script: str, folder: Path) -> None:
    """Run a shell script in a folder as another user."""
    subprocess.run(["sh", "-ec", script], cwd=folder, user=OTHER, group=OTHER, extra_groups=[], check=True)


def test_a_private_folder_is_closed_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_private_folder(tmp_path / "a" / "b", parents=True)
    finally:
        os.umask(before)
    assert mode(tmp_path / "a" / "b") == 0o700
    assert mode(tmp_path / "a") == 0o777


@pytest.mark.parametrize("before", [0o755, 0o775, 0o777])
def test_a_folder_of_an_earlier_version_is_closed(tmp_path: Path, before: int) -> None:
    folder = tmp_path / "folder"
    (folder / "joined").mkdir(parents=True)
    (folder / "part-00001.mp4").touch()
    folder.chmod(before)
    make_private_folder(folder)
    assert mode(folder) == 0o700


def plant_link(folder: Path, victim: Path) -> None:
    elsewhere = victim.with_name("elsewhere")
    elsewhere.mkdir()
    folder.symlink_to(elsewhere)


def plant_file(folder: Path, victim: Path) -> None:
    folder.touch()


def plant_links(name: str) -> Callable[[Path, Path], None]:
    def plant(folder: Path, victim: Path) -> None:
        (folder / name).parent.mkdir(parents=True)
        folder.chmod(0o777)
        (folder / name).symlink_to(victim)

    return plant


PLANTS = {
    "link": (plant_link, r"\.out\.mkv\.ristn: is a link, expected a folder"),
    "file": (plant_file, r"\.out\.mkv\.ristn: is a file, expected a folder"),
} | {
    name: (plant_links(name), rf"{name}: is a link, expected a file that ristn made")
    for name in (
        "manifest.tmp",
        "manifest.json",
        "lock",
        "part-00001.unfinished.mp4",
        "part-00001.mp4",
        "joined.mkv",
        "joined/1.png",
        "publishing",
        "making-00001-0-abc.mp4",
    )
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_job_folder_is_refused(upscaler: Upscaler, shared: Path, victim: Path, plant: str) -> None:
    source, target = make_clip(shared / "in.mp4", frames=4, width=32, height=24), shared / "out.mkv"
    put, message = PLANTS[plant]
    put(job_folder(target), victim)
    for restart in (False, True):
        with pytest.raises((VideoError, JobError), match=message) as caught:
            list(run_job(source, target, upscaler, FAST, restart=restart))
        assert "\n" not in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize("name", ["lock", "manifest.json"])
def test_a_pipe_in_the_job_folder_is_refused_at_once(upscaler: Upscaler, shared: Path, name: str) -> None:
    source, target = make_clip(shared / "in.mp4", frames=2, width=32, height=24), shared / "out.mkv"
    job_folder(target).mkdir(mode=0o700)
    os.mkfifo(job_folder(target) / name)
    with pytest.raises((VideoError, JobError, ForeignFileError), match=f"{name}: is "):
        list(run_job(source, target, upscaler, FAST))


@needs_root
def test_the_job_folder_of_another_user_is_refused(upscaler: Upscaler, shared: Path, victim: Path) -> None:
    source, target = make_clip(shared / "in.mp4", frames=4, width=32, height=24), shared / "out.mkv"
    shared.chmod(0o1777)
    as_other(f"umask 0; mkdir .out.mkv.ristn; ln -s '{victim}' .out.mkv.ristn/part-00001.unfinished.mp4", shared)
    (job_folder(target) / "manifest.json").write_text('{"identity": {"segment_frames": "5"}, "parts": []}')
    with pytest.raises((VideoError, JobError), match=r"\.out\.mkv\.ristn: belongs to the user .*, expected a folder"):
        list(run_job(source, target, upscaler, FAST))
    assert read_identity(job_folder(target)) == {}
    with pytest.raises(JobError, match="belongs to the user"):
        Manifest(job_folder(target), {}).load()
    assert (job_folder(target) / "part-00001.unfinished.mp4").is_symlink()


@needs_root
def test_a_file_of_another_user_in_the_job_folder_is_refused(shared: Path) -> None:
    folder = shared / "folder"
    folder.mkdir()
    folder.chmod(0o777)
    as_other("echo > folder/part-00001.mp4", shared)
    with pytest.raises(ForeignFileError, match=r"part-00001\.mp4: belongs to the user"):
        make_private_folder(folder)


def test_on_a_disk_without_owners_the_own_folder_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this user makes there belongs to another one, and its mode cannot be changed."""
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o755)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    own_files.check_owner(folder)
    monkeypatch.setattr(Path, "chmod", lambda path, mode: None)
    with pytest.raises(ForeignFileError, match="cannot be closed to other users"):
        make_private_folder(folder)
    monkeypatch.setattr(own_files, "_probe", lambda parent: folder.stat())
    make_private_folder(folder)


@pytest.mark.parametrize(("moment", "name"), [("check_disk", "out.mkv"), ("finish", "out.mkv"), ("finish", "%d.png")])
def test_a_folder_that_is_exchanged_on_the_way_is_not_used(
    upscaler: Upscaler, shared: Path, monkeypatch: pytest.MonkeyPatch, moment: str, name: str
) -> None:
    source, target = make_clip(shared / "in.mp4", frames=4, width=32, height=24), shared / name
    documents = shared / "documents"
    documents.mkdir()
    for name in ("part-00001.mp4", "joined.mkv", "manifest.json"):
        (documents / name).write_text(KEPT, encoding="utf-8")
    step = getattr(run_module, moment)

    def exchange(*arguments: object, **options: object) -> None:
        job_folder(target).rename(shared / "away")
        job_folder(target).symlink_to(documents)
        step(*arguments, **options)

    monkeypatch.setattr(run_module, moment, exchange)
    with pytest.raises(ForeignFileError, match="is a link"):
        list(run_job(source, target, upscaler, FAST))
    assert sorted(path.name for path in documents.iterdir()) == ["joined.mkv", "manifest.json", "part-00001.mp4"]
    assert all(path.read_text(encoding="utf-8") == KEPT for path in documents.iterdir())


@pytest.mark.parametrize("name", ["../../in.mp4", "/etc/passwd", "part-00001.mp4/../../in.mp4", "joined.mkv", ""])
def test_a_manifest_names_only_parts(upscaler: Upscaler, tmp_path: Path, name: str) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=4, width=32, height=24), tmp_path / "out.mkv"
    with pytest.raises(Interrupted):
        list(run_job(source, target, upscaler, FAST, should_stop=(job_folder(target) / "manifest.json").exists))
    path = job_folder(target) / "manifest.json"
    path.write_text(path.read_text(encoding="utf-8").replace("part-00001.mp4", name), encoding="utf-8")
    with pytest.raises(JobError, match="is not the name of a part; use --restart"):
        list(run_job(source, target, upscaler, FAST))


def appear_late(monkeypatch: pytest.MonkeyPatch, path: Path, text: str = KEPT) -> None:
    """Let `path` appear right after the last check of the target."""
    check_target = finishing.check_target

    def check(*arguments: object) -> None:
        check_target(*arguments)  # type: ignore[arg-type]
        path.write_text(text, encoding="utf-8")

    monkeypatch.setattr(finishing, "check_target", check)


@pytest.mark.parametrize("has_links", [True, False])
@pytest.mark.parametrize("name", ["out.mkv", "out.png", "images/%d.png"])
def test_an_output_that_appears_late_is_not_replaced(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", lambda path, other: (_ for _ in ()).throw(OSError(errno.EPERM, "no")))
    frames = 1 if name == "out.png" else 2
    source, target = make_clip(tmp_path / "in.mp4", frames=frames, width=32, height=24), tmp_path / name
    taken = target.with_name("2.png") if "%" in name else target
    with monkeypatch.context() as patch:
        appear_late(patch, taken)
        with pytest.raises(VideoError, match=rf"{taken}: already exists; use --overwrite"):
            list(run_job(source, target, upscaler, FAST))
    assert taken.read_text(encoding="utf-8") == KEPT
    with pytest.raises(VideoError, match="already exist"):  # nor by the same command again
        list(run_job(source, target, upscaler, FAST))
    assert taken.read_text(encoding="utf-8") == KEPT
    list(run_job(source, target, upscaler, FAST, overwrite=True))
    assert taken.read_bytes() != KEPT.encode()
    assert not job_folder(target).exists()


def test_images_that_a_killed_run_has_named_are_no_obstacle(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=3, width=32, height=24), tmp_path / "images" / "%d.png"
    publish_images = finishing.publish_images

    def publish_one(folder: Path, place: Path, *, overwrite: bool) -> None:
        (folder / "1.png").replace(place.with_name("1.png"))
        raise KeyboardInterrupt

    monkeypatch.setattr(finishing, "publish_images", publish_one)
    with pytest.raises(KeyboardInterrupt):
        list(run_job(source, target, upscaler, FAST))
    monkeypatch.setattr(finishing, "publish_images", publish_images)
    list(run_job(source, target, upscaler, FAST))
    assert sorted(path.name for path in target.parent.iterdir()) == ["1.png", "2.png", "3.png"]


@pytest.mark.usefixtures("usual_umask")
def test_new_files_have_the_mode_of_any_program(upscaler: Upscaler, tmp_path: Path, tiny_model: RISTN) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=2, width=32, height=24)
    for name in ("out.mkv", "images/%d.png"):
        list(run_job(clip, tmp_path / name, upscaler, FAST))
    write_page(tmp_path / "page.html", "<p>")
    write_image(tmp_path / "picture.png", np.zeros((4, 4, 3), np.uint8))
    save_weights(tiny_model, tmp_path / "tiny.safetensors", metrics={})
    record = batch.Record(tmp_path, lambda source: "", FAST)
    item = batch.Item(clip, tmp_path / "out.mkv")
    record.begin(item)
    record.add(item, 2)
    made = ["out.mkv", "images/1.png", "page.html", "picture.png", "tiny.safetensors", batch.RECORD_NAME]
    assert {name: oct(mode(tmp_path / name)) for name in made} == dict.fromkeys(made, "0o640")
    assert mode(tmp_path / "images") == 0o750


@pytest.mark.parametrize("has_links", [True, False])
def test_a_name_is_given_only_if_it_is_free(
    tmp_path: Path, victim: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", lambda path, other: (_ for _ in ()).throw(OSError(errno.EPERM, "no")))
    made, free, link = tmp_path / "made", tmp_path / "free", tmp_path / "link"
    made.write_text("new", encoding="utf-8")
    link.symlink_to(tmp_path / "nothing")
    for taken in (victim, link, tmp_path):
        with pytest.raises(FileExistsError, match="already exists"):
            give_name(made, taken, overwrite=False)
    give_name(made, free, overwrite=False)
    assert not made.exists()
    assert free.read_text(encoding="utf-8") == "new"
    assert free.stat().st_nlink == 1
    give_name(free, link, overwrite=True)
    assert not link.is_symlink()
    assert not (tmp_path / "nothing").exists()


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, victim: Path) -> None:
    path = tmp_path / "file"
    path.symlink_to(victim)

    def write_half() -> None:
        with writing(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert path.is_symlink()
    with pytest.raises(FileExistsError), writing(path, overwrite=False) as file:
        file.write(b"whole")
    with writing(path) as file:
        file.write(b"whole")
    assert path.read_bytes() == b"whole"
    assert not path.is_symlink()
    assert not list(tmp_path.glob(".ristn-*"))
    with pytest.raises(OSError, match="nowhere/file"), writing(tmp_path / "nowhere" / "file"):
        pass


def test_a_new_file_takes_the_place_of_a_link(tmp_path: Path, victim: Path) -> None:
    path = tmp_path / "file"
    path.symlink_to(victim)
    with open_new(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"


def test_only_an_own_file_is_appended_to(tmp_path: Path, victim: Path) -> None:
    path = tmp_path / "file"
    for text in (b"one", b"two"):
        with open_own(path) as file:
            file.write(text)
    assert path.read_bytes() == b"onetwo"
    (tmp_path / "link").symlink_to(victim)
    (tmp_path / "hard").hardlink_to(victim)
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "hard", "pipe"):
        with pytest.raises(ForeignFileError, match=f"{name}: "):
            open_own(tmp_path / name)
    if os.geteuid() == 0:
        os.chown(path, OTHER, OTHER)
        with pytest.raises(ForeignFileError, match="belongs to another user"):
            open_own(path)


def read_own(path: Path) -> bytes:
    with open(path, "rb", opener=open_if_own) as file:
        return file.read()


def test_only_an_own_file_is_read_back(tmp_path: Path, victim: Path) -> None:
    own = tmp_path / "own"
    own.write_text("own", encoding="utf-8")
    assert read_own(own) == b"own"
    (tmp_path / "link").symlink_to(own)
    (tmp_path / "dead").symlink_to(tmp_path / "nothing")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name, what in (
        ("link", "is a link"),
        ("dead", "is a link"),
        ("pipe", "is not a regular"),
        ("folder", "is not a regular"),
    ):
        with pytest.raises(ForeignFileError, match=f"{name}: {what}"):
            read_own(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        read_own(tmp_path / "nothing")
    if os.geteuid() == 0:
        os.chown(own, OTHER, OTHER)
        with pytest.raises(ForeignFileError, match=r"own: belongs to the user .*, expected a file of yours"):
            read_own(own)


def plant_record(path: Path, plant: str) -> str:
    """What another user may put where ristn keeps a file of its own; how it is refused."""
    if plant == "link":
        path.symlink_to(path.with_name("elsewhere"))
    elif plant == "pipe":
        os.mkfifo(path)
    else:
        if os.geteuid() != 0:
            pytest.skip("only root can act as another user")
        path.parent.chmod(0o1777)
        as_other(f"echo '{{}}' > {path.name}", path.parent)
    return {"link": "is a link", "pipe": "is not a regular file", "foreign": "belongs to the user"}[plant]


@pytest.mark.parametrize("plant", ["link", "pipe", "foreign"])
@pytest.mark.parametrize("name", [batch.RECORD_NAME, batch.AT_WORK_NAME])
def test_a_planted_record_of_a_batch_is_refused_before_the_work(
    shared: Path, tmp_path: Path, tiny_weights: Path, name: str, plant: str
) -> None:
    make_clip(tmp_path / "in.mp4", frames=2, width=32, height=24)
    reason = plant_record(shared / name, plant)
    code, _, stderr = in_process("upscale", tmp_path / "in.mp4", shared, "--model", tiny_weights)
    assert code == 1
    (line,) = stderr.splitlines()
    assert line.startswith(f"error: {shared / name}: {reason}")
    assert line.endswith("or use another output folder")
    assert [path.name for path in shared.iterdir()] == [name]


@pytest.mark.parametrize("plant", ["link", "pipe", "foreign"])
def test_a_planted_state_of_a_training_run_is_refused(shared: Path, plant: str) -> None:
    for name, read in (
        ("checkpoint.pt", lambda path: read_checkpoint(path, advice="", opener=open_if_own)),
        ("log.jsonl", lambda path: trim_log(path, 5)),
    ):
        reason = plant_record(shared / name, plant)
        if plant == "link":
            (shared / "elsewhere").touch()
        with pytest.raises((TrainingError, ForeignFileError), match=f"{name}: {reason}"):
            read(shared / name)


@needs_root
def test_a_link_of_another_user_on_the_way_is_refused(upscaler: Upscaler, shared: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=2, width=32, height=24)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    as_other(f"ln -s '{elsewhere}' season1", shared)
    with pytest.raises(VideoError, match=r"season1: is a link by the user .*; name what it points to"):
        list(run_job(source, shared / "season1" / "out.mkv", upscaler, FAST))
    with pytest.raises(ForeignFileError), writing(shared / "season1" / "page.html"):
        pass
    assert not list(elsewhere.iterdir())
    shared.chmod(0o755)
    check_place(shared / "season1")  # now the folder's owner alone decides what is in it
    shared.chmod(0o777)
    (shared / "own").symlink_to(elsewhere)
    check_place(shared / "own" / "below")


def test_the_former_temporary_names_are_not_followed(tmp_path: Path, victim: Path, tiny_model: RISTN) -> None:
    names = ["page.html.tmp", "tiny.tmp", ".ristn-done.tmp", ".ristn-at-work.tmp", "picture.png"]
    for name in names:
        (tmp_path / name).symlink_to(victim)
    write_page(tmp_path / "page.html", "<p>")
    save_weights(tiny_model, tmp_path / "tiny.safetensors", metrics={})
    write_image(tmp_path / "picture.png", np.zeros((4, 4, 3), np.uint8))
    Image.new("RGB", (4, 4)).save(tmp_path / "in.png")
    record = batch.Record(tmp_path, lambda source: "", FAST)
    item = batch.Item(tmp_path / "in.png", tmp_path / "picture.png")
    record.begin(item)
    with record.at_work(item):
        record.add(item, 2)


def found_in(folder: Path) -> list[str]:
    """Inputs that a recursive batch finds in a folder, as paths in it."""
    target = folder.with_name("out")
    items = batch.plan_batch([folder], target, codec="auto", suffix=None, recursive=True, stills=False)
    return sorted(str(item.source.relative_to(folder)) for item in items)


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "in"
    (root / "sub" / "deep").mkdir(parents=True)
    for name in ("a.mp4", "sub/b.mp4", "sub/deep/c.mp4"):
        (root / name).touch()
    for place in (root, root / "sub", root / "sub" / "deep"):
        for k in range(3):
            (place / f"up-{k}").symlink_to(root)
    (root / "sub" / "d.mp4").symlink_to(root / "a.mp4")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "e.mp4").touch()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    assert found_in(root) == ["a.mp4", "sub/b.mp4", "sub/d.mp4", "sub/deep/c.mp4"]
    # A link that is an input itself is followed.
    assert found_in(root / "up-0") == found_in(root)


def test_each_folder_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a folder is mounted a second time below itself."""
    (tmp_path / "in" / "a" / "b").mkdir(parents=True)
    (tmp_path / "in" / "v.mp4").touch()
    (tmp_path / "in" / "a" / "w.mp4").touch()
    (tmp_path / "in" / "a" / "b" / "x.mp4").touch()
    identity = batch.identity
    monkeypatch.setattr(batch, "identity", lambda path: identity(tmp_path / "in" if path.name == "b" else path))
    assert found_in(tmp_path / "in") == ["a/w.mp4", "v.mp4"]
