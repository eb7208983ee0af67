"""Images as the output: stills and numbered images, whole, resumed, verified, and never beside what was there."""

import zipfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_clip, make_picture, stop_after
from jobs import plan_run, run_job, short

from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.job import job_folder
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.video import VideoError, encode_image, list_images, probe, read_frames, read_image, write_image
from ristn_cli.video.writing.sequence import image_name, is_numbered


@pytest.fixture
def upscaler(random_model: RISTN) -> Upscaler:
    return Upscaler(random_model, Backend(torch.device("cpu"), "fp32"), Tiling(window=6, context=2))


def run(source: Path, target: Path, upscaler: Upscaler, options: UpscaleOptions | None = None, **more: object) -> int:
    return list(run_job(source, target, upscaler, options or short(), **more))[-1].frames  # type: ignore[arg-type]


def images(folder: Path) -> np.ndarray:
    return np.stack([read_image(path) for path in list_images(folder)])


@pytest.mark.parametrize(("suffix", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".tif", np.uint16)])
def test_lossless_kinds_are(tmp_path: Path, suffix: str, dtype: type) -> None:
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (9, 14, 3)).astype(dtype)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode_image(image, suffix))
    assert np.array_equal(read_image(path), image)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".tiff"])
def test_the_other_kinds_are_close(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode_image(make_picture(2, 40, 32), suffix))
    assert np.abs(read_image(path).astype(int) - make_picture(2, 40, 32)).mean() < 2


def test_a_stopped_and_resumed_run_gives_the_same_images(upscaler: Upscaler, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=14, width=32, height=32, audio_tracks=1)
    whole, target = tmp_path / "whole" / "%03d.png", tmp_path / "out" / "%03d.png"
    assert run(source, whole, upscaler) == 14
    with pytest.raises(Interrupted):
        run(source, target, upscaler, should_stop=stop_after(target))
    assert list(target.parent.iterdir()) == [job_folder(target)]
    (part,) = job_folder(target).glob("part-*")
    assert plan_run(source, target, upscaler).resumed_frames == 4
    assert run(source, target, upscaler) == 14
    assert [path.name for path in list_images(target.parent)] == [f"{k:03}.png" for k in range(1, 15)]
    assert np.array_equal(images(target.parent), images(whole.parent))
    assert sorted(target.parent.iterdir()) == sorted(list_images(target.parent))
    assert [path.name for path in (tmp_path / "whole").glob("timestamps*")] == []  # 25 a second tells all
    assert part.suffix == ".zip"


def test_a_damaged_part_is_made_anew(upscaler: Upscaler, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=9, width=32, height=32)
    target = tmp_path / "out" / "%d.png"
    with pytest.raises(Interrupted):
        run(source, target, upscaler, should_stop=stop_after(target))
    (part,) = job_folder(target).glob("part-*")
    with zipfile.ZipFile(part, "w") as archive:
        archive.writestr("00000000.png", b"half")
    progress = list(run_job(source, target, upscaler, short()))
    assert progress[0].resumed_frames == 0
    assert len(images(target.parent)) == 9


def test_uneven_times_are_kept_beside_the_images(upscaler: Upscaler, tmp_path: Path) -> None:
    ticks = [100, 140, 180, 400, 440]
    source = make_clip(tmp_path / "in.mkv", times=ticks, time_base=Fraction(1, 1000), width=32, height=32)
    run(source, tmp_path / "out" / "%05d.png", upscaler)
    lines = (tmp_path / "out" / "timestamps.txt").read_text().splitlines()
    assert lines[0] == "# timestamp format v2"
    assert [float(line) for line in lines[1:]] == [0, 40, 80, 300, 340]


def test_images_that_are_there_are_safe(upscaler: Upscaler, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3, width=32, height=32)
    folder = tmp_path / "out"
    folder.mkdir()
    write_image(folder / "00007.png", make_picture(0, 8, 8))
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(VideoError, match=r"%05d\.png: images of this pattern already exist; use --overwrite"):
        run(source, folder / "%05d.png", upscaler)
    for name in ("7.png", "000008.png", "٩٩٩٩٩.png"):
        (folder / name).write_text("not of the pattern")
    (folder / "20240131.png").write_text("a date, which would be an image of a very long video")
    (folder / "00002.png").write_text("of an earlier run")
    run(source, folder / "%05d.png", upscaler, overwrite=True)
    kept = {"7.png", "000008.png", "٩٩٩٩٩.png", "20240131.png", "00007.png", "notes.txt"}
    written = {"00001.png", "00002.png", "00003.png"}
    assert {path.name for path in folder.iterdir()} == kept | written
    assert all(read_image(folder / name).shape == (128, 128, 3) for name in written)
    (warning,) = caplog.messages
    assert warning.endswith("%05d.png: kept 2 other files that this run did not write: 00007.png, 20240131.png")


def test_many_images_that_stay_are_one_warning(
    upscaler: Upscaler, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3, width=32, height=32)
    (tmp_path / "out").mkdir()
    for number in range(1, 31):
        (tmp_path / "out" / f"{number}.png").touch()
    (tmp_path / "out" / "timestamps.txt").write_text("of an earlier run")
    run(source, tmp_path / "out" / "%d.png", upscaler, short(max_frames=2), overwrite=True)
    assert len(list((tmp_path / "out").iterdir())) == 31
    (warning,) = caplog.messages
    assert "kept 29 other files that this run did not write: 3.png, 4.png, 5.png" in warning
    assert warning.endswith("..., timestamps.txt")


def test_a_file_of_times_that_is_there_is_safe(upscaler: Upscaler, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", times=[0, 40, 300], time_base=Fraction(1, 1000), width=32, height=32)
    (tmp_path / "out").mkdir()
    times = tmp_path / "out" / "timestamps.txt"
    times.write_text("mine")
    with pytest.raises(VideoError, match=r"timestamps\.txt: already exists.*--overwrite"):
        run(source, tmp_path / "out" / "%d.png", upscaler)
    assert times.read_text() == "mine"
    run(source, tmp_path / "out" / "%d.png", upscaler, overwrite=True)
    assert times.read_text().startswith("# timestamp format v2")


def test_a_folder_in_the_place_of_an_image_is_refused(upscaler: Upscaler, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3, width=32, height=32)
    (tmp_path / "out" / "00002.png").mkdir(parents=True)
    with pytest.raises(VideoError, match=r"00002\.png: is a folder"):
        run(source, tmp_path / "out" / "%05d.png", upscaler, overwrite=True)


def test_a_failure_leaves_the_folder_that_was_there(
    upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3, width=32, height=32)
    (tmp_path / "out").mkdir()

    def fail(*_: object) -> bytes:
        raise VideoError("no room")

    monkeypatch.setattr("ristn_cli.video.writing.sequence.encode_image", fail)
    with pytest.raises(VideoError, match="no room"):
        run(source, tmp_path / "out" / "%05d.png", upscaler)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_failure_leaves_nothing(upscaler: Upscaler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3, width=32, height=32)

    def fail(*_: object) -> bytes:
        raise VideoError("no room")

    monkeypatch.setattr("ristn_cli.video.writing.sequence.encode_image", fail)
    with pytest.raises(VideoError, match="no room"):
        run(source, tmp_path / "out" / "%05d.png", upscaler)
    assert not (tmp_path / "out").exists()


def test_one_image_holds_one_frame(upscaler: Upscaler, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=3, width=32, height=32)
    with pytest.raises(VideoError, match=r"a\.png: is one image, .*a_%05d\.png, or --max-frames 1"):
        run(source, tmp_path / "a.png", upscaler)
    assert run(source, tmp_path / "a.png", upscaler, short(max_frames=1, start=Fraction(1, 25))) == 1
    assert read_image(tmp_path / "a.png").shape == (128, 128, 3)
    with pytest.raises(VideoError, match="already exists"):
        run(source, tmp_path / "a.png", upscaler, short(max_frames=1))


def test_deep_pictures_need_a_deep_kind(upscaler: Upscaler, tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", np.full((16, 16, 3), 40000, np.uint16))
    with pytest.raises(VideoError, match=r"\.jpg has 8 bits per sample, but the input has 16; use \.png or \.tif"):
        run(tmp_path / "a.png", tmp_path / "b.jpg", upscaler)


def test_images_become_images_and_a_video_at_a_given_rate(upscaler: Upscaler, tmp_path: Path) -> None:
    for index in range(5):
        (tmp_path / "in").mkdir(exist_ok=True)
        write_image(tmp_path / "in" / f"shot{index}.png", make_picture(index, 32, 24))
    assert run(tmp_path / "in", tmp_path / "out" / "a%d.jpg", upscaler) == 5
    assert images(tmp_path / "out").shape == (5, 96, 128, 3)
    options = short(image_rate=Fraction(24000, 1001), preset="ultrafast")
    run(tmp_path / "in" / "shot%d.png", tmp_path / "out.mp4", upscaler, options)
    assert probe(tmp_path / "out.mp4").rate == Fraction(24000, 1001)
    assert [frame.time for frame in read_frames(tmp_path / "out.mp4")] == [k * Fraction(1001, 24000) for k in range(5)]


def test_names_of_numbered_images() -> None:
    assert image_name(Path("x/a_%04d.png"), 12) == "a_0012.png"
    assert image_name(Path("x/%d.png"), 12) == "12.png"
    assert image_name(Path("x/a.png"), 1) == "a.png"
    assert is_numbered(Path("a_%d.tif"))
    assert not is_numbered(Path("a_%d.mp4"))
