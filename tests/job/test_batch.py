"""Several inputs into a folder: names, what is done already, failures on the way, stops."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from clips import make_clip, make_picture
from commands import QUICK, in_process
from PIL import Image

from ristn_cli.cli import terminal
from ristn_cli.cli.engines import Engines
from ristn_cli.cli.several import run_batch
from ristn_cli.cli.terminal import EXIT_CODES, Stopped, stop_requests
from ristn_cli.cli.work import Finished
from ristn_cli.job import run as run_module
from ristn_cli.job.batch import Item, Record, is_batch, plan_batch
from ristn_cli.job.manifest import JobError
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.video import VideoError, probe, read_frames, read_image, write_image
from ristn_cli.video.reading import source
from ristn_cli.weights import ModelChoice, weights_file

EXACT = ["--precision", "fp32"]


def names(folder: Path, target: Path, **options: object) -> dict[str, str]:
    """Inputs of `folder` to outputs, both as paths in their folders."""
    items = plan_batch([folder], target, **({"codec": "auto", "suffix": None} | options))  # type: ignore[arg-type]
    return {str(item.source.relative_to(folder)): str(item.target.relative_to(target)) for item in items}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Names alone: nothing of a file is read before its turn."""
    root = tmp_path / "in"
    for name in ("a.mp4", "b.webm", "c.AVI", "cover.jpg", "sub/d.mkv", "shot/1.png", "shot/2.png", ".x.mp4", "n.txt"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_outputs_are_named_by_rule(tree: Path, tmp_path: Path) -> None:
    flat = {"a.mp4": "a.mp4", "b.webm": "b.mkv", "c.AVI": "c.mkv"}
    deep = flat | {"sub/d.mkv": "sub/d.mkv", "shot": "shot/%05d.png"}
    rules = {"recursive": False, "stills": False}
    assert names(tree, tmp_path / "out", **rules) == flat
    assert names(tree, tmp_path / "out", **rules | {"recursive": True}) == deep
    # An output folder inside the input is no input.
    (tree / "out" / "done").mkdir(parents=True)
    (tree / "out" / "a.mp4").touch()
    assert names(tree, tree / "out", **rules | {"recursive": True}) == deep
    assert names(tree, tmp_path / "out", **rules, suffix=".mkv")["a.mp4"] == "a.mkv"
    assert names(tree, tmp_path / "out", **rules, codec="av1")["b.webm"] == "b.webm"
    assert names(tree, tmp_path / "out", **rules, suffix=".png")["a.mp4"] == "a/%05d.png"
    with_stills = names(tree, tmp_path / "out", recursive=True, stills=True)
    assert with_stills["cover.jpg"] == "cover.jpg"
    assert with_stills["shot/2.png"] == "shot/2.png"
    assert names(tree / "shot", tmp_path / "out", **rules) == {".": "%05d.png"}
    assert names(tree / "shot", tmp_path / "out", **rules, suffix=".mkv") == {".": "shot.mkv"}


def test_what_is_no_batch_is_refused(tree: Path, tmp_path: Path) -> None:
    plain = {"codec": "auto", "suffix": None, "recursive": False, "stills": False}
    (tree / "a.mkv").touch()
    with pytest.raises(VideoError, match=r"would both become .*a\.mkv; rename"):
        plan_batch([tree], tmp_path / "out", **plain | {"suffix": ".mkv"})  # type: ignore[arg-type]
    with pytest.raises(VideoError, match="no such file"):
        plan_batch([tree / "none.mp4"], tmp_path / "out", **plain)  # type: ignore[arg-type]
    (tmp_path / "empty" / "below").mkdir(parents=True)
    with pytest.raises(VideoError, match="no videos and no images; --recursive"):
        plan_batch([tmp_path / "empty"], tmp_path / "out", **plain)  # type: ignore[arg-type]
    with pytest.raises(VideoError, match=r"--format txt"):
        plan_batch([tree], tmp_path / "out", **plain | {"suffix": ".txt"})  # type: ignore[arg-type]
    assert not is_batch([tree / "a.mp4"], tmp_path / "out.mp4", recursive=False)
    assert not is_batch([tree / "shot"], tmp_path / "out.mp4", recursive=False)
    assert is_batch([tree / "a.mp4"], tmp_path, recursive=False)
    assert is_batch([tree], tmp_path / "out", recursive=False)


def test_a_folder_goes_on_after_a_failure_and_does_nothing_twice(tiny_weights: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    (source / "sub").mkdir(parents=True)
    make_clip(tmp_path / "a.mp4", frames=3, width=32, height=32).rename(source / "a.mp4")
    (source / "bad.mp4").write_text("no video")
    make_clip(tmp_path / "c.mkv", frames=2, width=32, height=32).rename(source / "sub" / "c.mkv")
    command = ["upscale", source, target, "--model", tiny_weights, *QUICK, "--recursive"]
    code, stdout, stderr = in_process(*command, "--progress", "json")
    assert code == 1
    assert "bad.mp4: is not a video" in stderr
    assert "3 inputs: 2 done, 1 failed" in stdout
    told = [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]
    assert {line["input"] for line in told} == {str(source / "a.mp4"), str(source / "sub" / "c.mkv")}
    assert len(list(read_frames(target / "a.mp4"))) == 3
    assert probe(target / "sub" / "c.mkv").width == 128
    before = (target / "a.mp4").stat().st_mtime_ns

    make_clip(source / "bad.mp4", frames=2, width=32, height=32)
    (source / "bad.video.mp4").unlink()
    code, stdout, _ = in_process(*command)
    assert code == 0
    assert "3 inputs: 2 done already, 1 done" in stdout
    assert (target / "a.mp4").stat().st_mtime_ns == before

    code, stdout, stderr = in_process(*command, "--crf", "30")
    assert code == 1
    assert "with other options; use --overwrite" in stderr
    assert (target / "a.mp4").stat().st_mtime_ns == before
    code, stdout, _ = in_process(*command, "--dry-run", "--overwrite", "--crf", "30", "--json")
    assert code == 0
    plans = [json.loads(line) for line in stdout.splitlines()]
    assert [Path(plan["output"]).name for plan in plans] == ["a.mp4", "bad.mp4", "c.mkv"]


def test_what_does_not_change_an_output_does_not_make_another_job(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    plain = make_clip(tmp_path / "plain.mkv", frames=1, width=32, height=32)
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (16, 16), (200, 0, 0, 90)).save(clear)
    items = [Item(source, target / source.name) for source in (plain, clear)]

    def record(**options: object) -> Record:
        return Record(target, lambda source: "the network", UpscaleOptions(**options))  # type: ignore[arg-type]

    for item in items:
        item.target.write_bytes(b"made")
        first = record(crf=17)
        first.begin(item)
        first.add(item, 1)
    same: list[dict[str, object]] = [{"crf": 17.0}, {"segment_frames": 9}, {"strict": True}]
    for options in same:
        assert all(record(**options).is_done(item) for item in items)
    assert record(drop_alpha=True).is_done(items[0])  # which has no alpha channel
    for item, other in ((items[0], {"crf": 18}), (items[1], {"drop_alpha": True})):
        with pytest.raises(JobError, match="with other options; use --overwrite"):
            record(**other).is_done(item)


class Nothing:
    """The record of a batch that has finished nothing."""

    def is_done(self, item: Item) -> bool:
        return False

    def begin(self, item: Item) -> None:
        pass

    def add(self, item: Item, frames: int) -> None:
        pass

    def was_left(self, item: Item) -> bool:
        return False

    def at_work(self, item: Item) -> nullcontext[None]:
        return nullcontext()


def run_two(
    tmp_path: Path, run: Callable[[Path, Path, str], Finished], *, begins_next: bool = False, debug: bool = False
) -> None:
    """A batch of `a.mp4` and `b.mp4`; the second may begin before its turn."""

    def run_item(source: Path, target: Path, name: str, *, begun: object, on_begun: Callable[[], None]) -> Finished:
        if begins_next:
            on_begun()
        return run(source, target, name)

    engines = SimpleNamespace(
        choose=lambda source: ModelChoice("a", ""),
        open=lambda choice: SimpleNamespace(make_parts=run),
        is_unusable=False,
    )
    work = SimpleNamespace(
        overwrite=False, restart=False, quiet=False, run=run_item, engines=engines, begin=lambda *arguments: iter(())
    )
    items = [Item(Path(name), tmp_path / name) for name in ("a.mp4", "b.mp4")]
    run_batch(items, Nothing(), work, debug=debug)  # type: ignore[arg-type]


def test_a_stop_ends_the_batch_and_tells_of_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stop(source: Path, target: Path, name: str) -> Finished:
        assert name == "1/2 a.mp4"
        raise typer.Exit(130)

    with pytest.raises(typer.Exit) as stopped:
        run_two(tmp_path, stop)
    assert stopped.value.exit_code == 130
    assert "1 stopped, 1 not begun" in capsys.readouterr().out


@pytest.mark.parametrize(("begins_next", "counts"), [(False, "1 stopped, 1 not begun"), (True, "2 stopped")])
def test_a_second_signal_stops_what_was_begun(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], begins_next: bool, counts: str
) -> None:
    def stop_at_once(source: Path, target: Path, name: str) -> Finished:
        raise Stopped(signal.SIGINT)

    with pytest.raises(Stopped):
        run_two(tmp_path, stop_at_once, begins_next=begins_next)
    assert f"2 inputs: {counts}" in capsys.readouterr().out


def test_an_unexpected_error_is_shown_in_the_table_with_debug(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(source: Path, target: Path, name: str) -> Finished:
        raise KeyError("a fault")

    with pytest.raises(KeyError):
        run_two(tmp_path, fail, debug=True)
    assert "1 failed, 1 not begun" in capsys.readouterr().out


def test_a_stop_that_comes_too_late_for_a_file_ends_the_batch_behind_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "late_requests", [])

    def finish(source: Path, target: Path, name: str) -> Finished:
        assert name == "1/2 a.mp4"
        with stop_requests():
            signal.raise_signal(signal.SIGTERM)  # the output is about to get its name
        return Finished(1, "done all the same")

    before = {number: signal.getsignal(number) for number in EXIT_CODES}
    try:
        with pytest.raises(typer.Exit) as stopped:
            run_two(tmp_path, finish)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stopped.value.exit_code == 143
    assert "1 done, 1 not begun" in capsys.readouterr().out


CRASH = """
import os
import sys
from ristn_cli.cli import app
from ristn_cli.video.reading import source

def crash(path, *others, **named):
    if "bad" in str(path):
        os.abort()
    return open_container(path, *others, **named)

open_container = source._open_container
source._open_container = crash
app(sys.argv[1:])
"""
"""The command, with a crash inside FFmpeg's libraries for a certain file."""


def test_the_other_inputs_are_done_after_a_crash(tiny_weights: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for name in ("a.mp4", "bad.mp4", "c.mp4"):
        make_clip(tmp_path / name, frames=2, width=32, height=32).rename(source / name)
    command = ["upscale", source, target, "--model", tiny_weights, *QUICK]
    words = [sys.executable, "-c", CRASH, *map(str, command)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGABRT
    assert (target / "a.mp4").exists()
    assert json.loads((target / ".ristn-at-work.json").read_text()) == ["bad.mp4"]
    # As long as the file makes the program crash, the others come first; here it no longer does.
    code, stdout, stderr = in_process(*command, "--progress", "json")
    assert code == 0
    assert "3 inputs: 1 done already, 2 done" in stdout
    assert "bad.mp4: an earlier run crashed or was killed during this input, so it comes last" in stderr
    inputs = [Path(json.loads(line)["input"]).name for line in stderr.splitlines() if line.startswith("{")]
    assert list(dict.fromkeys(inputs)) == ["c.mp4", "bad.mp4"]
    assert not (target / ".ristn-at-work.json").exists()


def test_a_failure_leaves_no_mark_of_a_crash(tiny_weights: Path, tmp_path: Path) -> None:
    for name in ("one.mp4", "two.mp4"):
        (tmp_path / name).write_text("no video")
    target = tmp_path / "out"
    code, _, _ = in_process("upscale", *tmp_path.glob("*.mp4"), target, "--model", tiny_weights, *QUICK)
    assert code == 1
    assert not list(target.glob(".ristn-at-work*"))


@pytest.fixture
def three(tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of three clips; whatever weights suit them are the tiny ones."""
    monkeypatch.setattr("ristn_cli.weights.find_weights", lambda name: weights_file(name) or tiny_weights)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        make_clip(tmp_path / f"{name}.mkv", frames=4, width=48, height=32).rename(folder / f"{name}.mkv")
    return folder


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_an_output_begins_when_the_checks_of_its_own_source_are_done(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: str
) -> None:
    opened: list[str] = []
    known: list[set[str]] = []
    before, check = source._open_container, run_module.check_disk

    def open_container(url: str, *others: object) -> object:
        opened.append(Path(url).name)
        return before(url, *others)

    def check_disk(*arguments: object) -> None:  # the last of the checks
        known.append({name for name in opened if name in ("a.mkv", "b.mkv", "c.mkv")})
        check(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(source, "_open_container", open_container)
    monkeypatch.setattr(run_module, "check_disk", check_disk)
    code, stdout, stderr = in_process("upscale", three, tmp_path / "out", *QUICK, "--device", devices)
    assert code == 0, stderr
    assert "3 inputs: 3 done" in stdout
    assert known == [{"a.mkv"}, {"a.mkv", "b.mkv"}, {"a.mkv", "b.mkv", "c.mkv"}]


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_a_source_that_fails_in_an_unexpected_way_costs_only_itself(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: str
) -> None:
    before = Engines.choose

    def choose(self: Engines, path: Path) -> ModelChoice:
        if path.name == "b.mkv":
            raise ZeroDivisionError("nobody thought of this")
        return before(self, path)

    monkeypatch.setattr(Engines, "choose", choose)
    command = ("upscale", three, tmp_path / "out", *QUICK, "--device", devices)
    for state in ("done", "done already"):
        code, stdout, stderr = in_process(*command)
        assert code == 1
        assert "error: unexpected ZeroDivisionError: nobody thought of this" in stderr
        assert f"3 inputs: 2 {state}, 1 failed" in stdout
    code, stdout, stderr = in_process(*command, "--dry-run", "--overwrite", "--crf", "30")
    assert code == 1
    assert "error: unexpected ZeroDivisionError: nobody thought of this" in stderr
    assert stdout.count("output: 192x128") == 2


@pytest.mark.parametrize("devices", ["cpu", "cpu,cpu"])
def test_other_weights_on_the_way_are_other_engines(
    three: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, devices: str
) -> None:
    monkeypatch.setattr(Engines, "choose", lambda self, path: ModelChoice(f"for {path.name}", "of the test"))
    code, _, stderr = in_process("upscale", three, tmp_path / "out", *QUICK, "--device", devices, "--verbose")
    assert code == 0, stderr
    for name in ("a.mkv", "b.mkv", "c.mkv"):
        assert f"model: for {name}, because of the test" in stderr
        assert len(list(read_frames(tmp_path / "out" / name))) == 4


@pytest.mark.parametrize("option", [("--device", "cuda:7"), ("--model", "none.safetensors")])
def test_what_concerns_all_sources_is_told_once(three: Path, tmp_path: Path, option: tuple[str, str]) -> None:
    code, stdout, stderr = in_process("upscale", three, tmp_path / "out", *QUICK, *option)
    assert code == 1
    assert len(stderr.splitlines()) == 1
    assert "3 inputs: 1 failed, 2 not begun" in stdout


def test_images_that_an_earlier_run_left_may_be_removed(tiny_weights: Path, tmp_path: Path) -> None:
    source, target = tmp_path / "shot", tmp_path / "out"
    source.mkdir()
    for number in range(3):
        write_image(source / f"{number}.png", make_picture(number, 16, 16))
    command = ("upscale", source, target, "--model", tiny_weights, "--precision", "fp32")
    code, _, stderr = in_process(*command)
    assert code == 0, stderr
    (source / "2.png").unlink()
    code, _, stderr = in_process(*command, "--overwrite")  # shorter: the third image stays
    assert code == 0, stderr
    assert "00003.png" in stderr
    for left in (target / "00003.png", None):
        code, stdout, stderr = in_process(*command)
        assert code == 0, stderr
        assert "1 inputs: 1 done already" in stdout
        if left is not None:
            left.unlink()
    (target / "00002.png").unlink()  # of the output itself
    assert in_process(*command)[0] == 1


def test_photographs_stay_what_they_are(tiny_weights: Path, tmp_path: Path) -> None:
    """Stills of several sizes and depths; the tiny network is bicubic, so that flat pictures stay flat."""
    deep = np.full((18, 20, 3), 1000, np.uint16)
    write_image(tmp_path / "a.jpg", make_picture(3, 33, 17))
    write_image(tmp_path / "b.png", deep)
    sources = [tmp_path / "a.jpg", tmp_path / "b.png"]
    code, _, stderr = in_process("upscale", *sources, tmp_path / "out", "--model", tiny_weights, *EXACT)
    assert code == 0, stderr
    large = read_image(tmp_path / "out" / "a.jpg")
    assert large.shape == (68, 132, 3)
    assert np.abs(large[2::4, 2::4].astype(int) - make_picture(3, 33, 17)).mean() < 3
    large = read_image(tmp_path / "out" / "b.png")
    assert large.dtype == np.uint16
    assert large.shape == (72, 80, 3)
    assert np.abs(large.astype(int) - 1000).max() <= 1


def test_a_photograph_with_exif_is_turned_upright(tiny_weights: Path, tmp_path: Path) -> None:
    """Orientation 6, as a telephone held upright writes it: the left edge of the file is the top of the picture."""
    pixels = np.full((24, 32, 3), 40, np.uint8)
    pixels[:, :16] = 200
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    code, _, stderr = in_process("upscale", tmp_path / "a.jpg", tmp_path / "b.png", "--model", tiny_weights, *EXACT)
    assert code == 0, stderr
    large = read_image(tmp_path / "b.png")
    assert large.shape == (128, 96, 3)
    assert abs(int(large[:40].mean()) - 200) <= 2
    assert abs(int(large[-40:].mean()) - 40) <= 2
