"""Files are closed before they are removed or renamed, without which a job leaves its files behind on Windows."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from clips import make_clip
from jobs import run_job, short
from PIL import Image
from windows import needs_descriptors, open_files_stay

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job import run
from ristn_cli.job.checks import OutputStream
from ristn_cli.job.manifest import lock
from ristn_cli.model import RISTN
from ristn_cli.video import VideoError, read_frames
from ristn_cli.weights.hub import exclusive_lock

pytestmark = needs_descriptors
FAST = short(preset="ultrafast")


@pytest.fixture
def upscaler(tiny_model: RISTN) -> Upscaler:
    return Upscaler(tiny_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=6, context=2))


@pytest.fixture
def refused() -> Iterator[list[str]]:
    with open_files_stay() as names:
        yield names


def test_the_stand_in_refuses_names_that_windows_refuses(tmp_path: Path, refused: list[str]) -> None:
    path = tmp_path / "a"
    with path.open("w"), pytest.raises(PermissionError, match="used by another process"):
        path.unlink()
    with path.open("a"), pytest.raises(PermissionError):
        path.replace(tmp_path / "b")
    path.unlink()
    assert len(refused) == 2


@pytest.mark.parametrize("name", ["out.mkv", "images/%03d.png"])
def test_a_finished_job_leaves_nothing(upscaler: Upscaler, tmp_path: Path, refused: list[str], name: str) -> None:
    source, target = make_clip(tmp_path / "in.mp4", frames=12, width=48, height=32), tmp_path / name
    list(run_job(source, target, upscaler, FAST))
    assert not list(target.parent.glob(".*"))
    assert {Path(path).name for path in refused} <= {"lock"}


def test_a_failed_job_leaves_nothing(
    upscaler: Upscaler, tmp_path: Path, refused: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=6, width=48, height=32)

    def fail(*_: object) -> Iterator[None]:
        raise VideoError("broken")
        yield

    monkeypatch.setattr(run, "write_parts", fail)
    with pytest.raises(VideoError, match="broken"):
        list(run_job(source, tmp_path / "out.mkv", upscaler, FAST))
    assert not list(tmp_path.glob(".*"))
    assert refused == []


def test_the_lock_of_a_job_that_begins_meanwhile_is_not_taken_away(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process takes the lock as soon as it is free."""
    source, target = make_clip(tmp_path / "in.mp4", frames=6, width=48, height=32), tmp_path / "out.mkv"
    folder = tmp_path / ".out.mkv.ristn"
    before = run.remove_lock
    other: list[str] = []

    def remove_lock(path: Path) -> None:
        with lock(path / "lock"):
            (path / "part-00001.mp4").touch()
            before(path)
            other.extend(sorted(entry.name for entry in path.iterdir()))

    monkeypatch.setattr(run, "remove_lock", remove_lock)
    with open_files_stay():
        list(run_job(source, target, upscaler, FAST))
    assert other == ["lock", "part-00001.mp4"]
    assert folder.is_dir()


def test_a_part_is_closed_when_the_mux_asks_for_the_next(
    upscaler: Upscaler, tmp_path: Path, refused: list[str]
) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=20, width=48, height=32)
    with (tmp_path / "out.mkv").open("wb") as sink:
        list(run_job(source, OutputStream(file=sink, format="matroska"), upscaler, FAST))
    assert [frame.time for frame in read_frames(tmp_path / "out.mkv")] == [Fraction(k, 25) for k in range(20)]
    assert refused == []


def test_the_lock_of_a_download_goes(tmp_path: Path, refused: list[str]) -> None:
    with exclusive_lock(tmp_path / "lock"):
        pass
    assert not list(tmp_path.iterdir())
    assert refused  # the first attempt, while it was held


def test_images_are_replaced_after_they_were_read(upscaler: Upscaler, tmp_path: Path, refused: list[str]) -> None:
    Image.new("RGB", (32, 24), (90, 90, 90)).save(tmp_path / "in.png")
    for _ in range(2):
        list(run_job(tmp_path / "in.png", tmp_path / "out.png", upscaler, FAST, overwrite=True))
    assert not list(tmp_path.glob(".*"))
    assert {Path(path).name for path in refused} <= {"lock"}
