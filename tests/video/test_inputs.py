"""An input is never replaced or removed, whatever the flags and however it is named."""

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from clips import make_clip, make_picture
from commands import COMMAND, QUICK, in_process

from ristn_cli.job.job import job_folder
from ristn_cli.job.manifest import remove_job_folder
from ristn_cli.video import InputFiles, existing_images, write_image
from ristn_cli.video.writing.inputs import identify, would_match


def snapshot(folder: Path) -> dict[str, str]:
    """Every file below a folder, and what is in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a clip, a photograph, numbered images, and links to them."""
    room = tmp_path / "room"
    (room / "frames").mkdir(parents=True)
    for number in range(1, 6):
        write_image(room / "frames" / f"{number:05}.png", make_picture(number, 32, 24))
    write_image(room / "photo.png", make_picture(0, 32, 24))
    make_clip(tmp_path / "clip.mp4", frames=3, width=32, height=32).rename(room / "clip.mp4")
    (room / "other").mkdir()
    (room / "other" / "clip.mkv").hardlink_to(room / "clip.mp4")
    (room / "link.mp4").symlink_to("clip.mp4")
    (room / "linked").symlink_to("frames")
    (room / "hard").mkdir()
    for number in range(2, 4):
        (room / "hard" / f"{number:05}.png").hardlink_to(room / "frames" / f"{number:05}.png")
    (room / ".new.mp4.ristn" / "deep").mkdir(parents=True)
    (room / ".new.mp4.ristn" / "deep" / "clip.mp4").write_bytes((room / "clip.mp4").read_bytes())
    (room / ".new.mp4.ristn" / "joined.mp4").write_bytes((room / "clip.mp4").read_bytes())
    monkeypatch.chdir(room)
    return room


SAME_IMAGES = "the output would replace images of the input"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["frames/%05d.png", "frames/%05d.png"], SAME_IMAGES),
        (["frames/%05d.png", "frames/%05d.png", "--max-frames", "2"], SAME_IMAGES),
        (["frames/%05d.png", "./other/../frames/%05d.png"], SAME_IMAGES),
        (["frames/%05d.png", "linked/%05d.png"], SAME_IMAGES),
        (["linked/%05d.png", "frames/%05d.png"], SAME_IMAGES),
        (["frames/%05d.png", "hard/%05d.png"], SAME_IMAGES),
        (["frames/%d.png", "frames/%06d.png"], SAME_IMAGES),
        (["frames", "frames/%05d.png"], SAME_IMAGES),
        (["frames", "frames/new%05d.png"], "is the input itself"),
        (["frames", "frames"], SAME_IMAGES),
        (["frames", "frames/00002.png", "--max-frames", "1"], "is one of the inputs"),
        (["frames/%05d.png", "hard/00002.png", "--max-frames", "1"], "is one of the inputs"),
        (["clip.mp4", "clip.mp4"], "is the input itself"),
        (["clip.mp4", "./frames/../clip.mp4"], "is the input itself"),
        (["clip.mp4", "link.mp4"], "is the input itself"),
        (["link.mp4", "clip.mp4"], "is the input itself"),
        (["clip.mp4", "other/clip.mkv"], "is the input itself"),
        (["photo.png", "photo.png"], "is the input itself"),
        (["photo.png", "clip.mp4", "."], "photo.png: is one of the inputs"),
        (["clip.mp4", "other/clip.mkv", "other", "--format", "mkv"], "would both become"),
        (["link.mp4", "other/clip.mkv", "."], "is the input itself"),
        (["other/clip.mkv", "frames/%05d.png", "."], SAME_IMAGES),
        (["frames/%05d.png", "clip.mp4", "frames/%05d.png"], "several inputs need a folder"),
        (["frames/00001.png", "frames/%05d.png"], SAME_IMAGES),
        (["photo.png", ".", "."], "photo.png: is one of the inputs"),
        ([".new.mp4.ristn/joined.mp4", "new.mp4"], "the folder for the unfinished new.mp4"),
        ([".new.mp4.ristn/deep/clip.mp4", "new.mp4"], "the folder for the unfinished new.mp4"),
        (["clip.mp4", "new.mp4", "--log-file", "other/clip.mkv"], "is an input"),
        (["frames", "new.mp4", "--log-file", "linked/00003.png"], "is an input"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("flags", [[], ["--overwrite", "--restart"]], ids=["plain", "overwrite"])
def test_an_output_that_is_an_input_is_refused(
    tiny_weights: Path, room: Path, arguments: list[str], words: str, flags: list[str]
) -> None:
    before = snapshot(room)
    code, _, stderr = in_process("upscale", *arguments, "--model", tiny_weights, *QUICK, *flags)
    assert code in (1, 2)
    assert words in " ".join(stderr.replace("│", "").split())
    assert "use --overwrite" not in stderr
    assert snapshot(room) == before


def test_an_output_of_a_batch_that_is_another_input_is_refused(tiny_weights: Path, room: Path) -> None:
    """clip.mov would become other/clip.mov, which is a film of its own and would become other/other/clip.mov."""
    (room / "clip.mov").write_bytes((room / "clip.mp4").read_bytes())
    (room / "other" / "clip.mov").write_bytes((room / "clip.mp4").read_bytes() + b"another")
    before = snapshot(room)
    arguments = ["clip.mov", "other", "other", "--model", tiny_weights, *QUICK]
    for flag in ("--overwrite", "--restart", "--dry-run"):
        code, _, stderr = in_process("upscale", *arguments, flag)
        assert code == 1
        assert "other/clip.mov: is one of the inputs" in stderr
    assert snapshot(room) == before


def test_standard_streams_of_the_same_file_are_refused(tiny_weights: Path, room: Path) -> None:
    """A shell opens the files; `>>` and `<` do not empty them first."""
    before = snapshot(room)
    options = ["--model", str(tiny_weights), *QUICK, "--overwrite"]
    for given, source, target in (("clip.mp4", "-", "link.mp4"), ("clip.mp4", "-", "-"), (None, "link.mp4", "-")):
        with Path(given or "/dev/null").open("rb") as stdin, Path("clip.mp4").open("ab") as stdout:
            command = [*COMMAND, "upscale", source, target, *options]
            to = stdout if target == "-" else subprocess.DEVNULL
            done = subprocess.run(command, stdin=stdin, stdout=to, stderr=subprocess.PIPE, check=False, timeout=120)
        assert done.returncode == 1, done.stderr
        assert b"is the input itself" in done.stderr
    assert snapshot(room) == before


def test_overwrite_replaces_the_name_and_not_what_a_link_names(tiny_weights: Path, room: Path) -> None:
    (room / "precious.mp4").write_text("precious")
    (room / "out.mp4").symlink_to("precious.mp4")
    code, _, stderr = in_process("upscale", "clip.mp4", "out.mp4", "--model", tiny_weights, *QUICK, "--overwrite")
    assert code == 0, stderr
    assert not (room / "out.mp4").is_symlink()
    assert (room / "precious.mp4").read_text() == "precious"


def test_a_link_to_nothing_is_an_output_that_exists(tiny_weights: Path, room: Path) -> None:
    (room / "out.mp4").symlink_to("nothing.mp4")
    code, _, stderr = in_process("upscale", "clip.mp4", "out.mp4", "--model", tiny_weights, *QUICK)
    assert code == 1
    assert "already exists" in stderr
    assert (room / "out.mp4").is_symlink()


def test_other_files_in_the_work_folder_stay(tiny_weights: Path, room: Path) -> None:
    """They are none of the job's own."""
    folder = job_folder(room / "out.mp4")
    (folder / "notes").mkdir(parents=True)
    (folder / "notes" / "joined.mp4").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    code, _, stderr = in_process("upscale", "clip.mp4", "out.mp4", "--model", tiny_weights, *QUICK)
    assert code == 0, stderr
    assert sorted(snapshot(folder)) == ["notes.txt", "notes/joined.mp4"]


def test_a_work_folder_behind_a_link_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "film.mp4").write_text("mine")
    (tmp_path / "real" / "part-00001.mp4").write_text("of the job")
    (tmp_path / "link").symlink_to("real")
    remove_job_folder(tmp_path / "link")
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == ["film.mp4", "part-00001.mp4"]


def test_a_comparison_does_not_replace_an_input(room: Path) -> None:
    before = snapshot(room)
    for target in ("frames/00002.png", "linked/00001.png", "hard/00003.png"):
        code, _, stderr = in_process("compare", "frames", "photo.png", "--png", target, "--overwrite")
        assert code == 2
        assert "is one of the inputs" in " ".join(stderr.replace("│", "").split())
    assert snapshot(room) == before


def test_names_of_the_same_file_in_another_case(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for a file system without case: there every case of a name exists."""
    write_image(tmp_path / "Shot1.PNG", make_picture(0, 8, 8))
    assert existing_images(tmp_path / "shot%d.png") == []

    def exists(path: Path) -> bool:
        return path.name.lower() in {name.name.lower() for name in path.parent.iterdir()}

    monkeypatch.setattr("ristn_cli.video.writing.sequence.os.path.lexists", exists)
    assert existing_images(tmp_path / "shot%d.png") == [tmp_path / "shot1.png"]


def test_what_an_input_is(room: Path) -> None:
    inputs = InputFiles([Path("frames"), Path("clip.mp4"), Path("missing.mp4")])
    assert inputs.find(Path("hard/00002.png")) == Path("frames/00002.png")
    assert inputs.find(Path("photo.png")) is None
    assert inputs.find(Path("missing.mp4")) is None
    assert inputs.find_in(room) is not None
    assert inputs.find_in(Path("linked")) is not None
    assert inputs.find_in(Path("hard")) is None
    assert identify(Path("link.mp4")) == identify(Path("other/clip.mkv"))
    assert would_match(Path("frames/%d.png"), Path("linked/%09d.png"))
    assert not would_match(Path("frames/%d.png"), Path("frames/new%d.png"))
    assert not would_match(Path("frames/%d.png"), Path("hard/%d.png"))


def upscale_one(
    tmp_path: Path, change: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch, weights: Path
) -> tuple[list[str], tuple[int, str, str]]:
    """A batch of one file, which `change` happens to at the end of its work; then the same command again."""
    from ristn_cli.cli.work import Work

    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    make_clip(tmp_path / "a.mp4", frames=2, width=32, height=32).rename(source / "a.mp4")
    run = Work.run

    def run_and_change(self: Work, *arguments: object, **more: object) -> str:
        summary = run(self, *arguments, **more)  # type: ignore[arg-type]
        change(source / "a.mp4")
        return summary

    command = ["upscale", str(source / "a.mp4"), str(target), "--model", str(weights), *QUICK]
    with monkeypatch.context() as patched:
        target.mkdir()
        patched.setattr(Work, "run", run_and_change)
        first = in_process(*command)
    return command, first


def test_a_source_that_is_moved_at_the_end_of_its_work_is_done(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = tmp_path / "away.mp4"
    command, (code, stdout, stderr) = upscale_one(tmp_path, lambda path: path.rename(away), monkeypatch, tiny_weights)
    assert code == 0, stderr
    assert "1 inputs: 1 done" in stdout
    away.rename(tmp_path / "in" / "a.mp4")
    code, stdout, _ = in_process(*command)
    assert (code, "1 done already" in stdout) == (0, True)


def test_a_source_that_is_replaced_at_the_end_of_its_work_is_not_done(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(path: Path) -> None:
        make_clip(tmp_path / "b.mp4", frames=3, width=32, height=32).replace(path)

    command, (code, _, stderr) = upscale_one(tmp_path, replace, monkeypatch, tiny_weights)
    assert code == 0, stderr
    code, stdout, stderr = in_process(*command)
    assert (code, "done already" in stdout) == (1, False)
    assert "was made from another input or with other options; use --overwrite" in stderr
    code, stdout, stderr = in_process(*command, "--overwrite")
    assert code == 0, stderr
