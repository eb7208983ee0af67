"""`--report`: files, weights, options, versions and cuts, the same after a run that was stopped."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import make_clip
from commands import QUICK, in_process

from ristn_cli.video import write_image


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    """Numbered images of 32x32: three shots of 9, 11 and 10, in each of which waves move."""
    folder = tmp_path / "shots"
    folder.mkdir()
    x, y = np.meshgrid(np.arange(32), np.arange(32))
    for index in range(30):
        shot = 0 if index < 9 else 1 if index < 20 else 2
        waves = 60 + 70 * shot + 40 * np.sin((x + index / 2) / (3 + shot)) * np.cos(y / (4 - shot))
        write_image(folder / f"{index:02}.png", np.repeat(waves[..., None], 3, axis=2).astype(np.uint8))
    return folder


@pytest.fixture
def upscale(tiny_weights: Path, tmp_path: Path) -> Any:
    def run(*arguments: object) -> tuple[int, str]:
        code, _, stderr = in_process(
            "upscale", *arguments, "--weights", tiny_weights, "--device", "cpu", "--scale", "2", *QUICK
        )
        return code, " ".join(stderr.split())

    return run


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_report_of_a_video(upscale: Any, tmp_path: Path, tiny_weights: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=8, audio_tracks=1, width=32, height=32)
    target, report = tmp_path / "b.mkv", tmp_path / "b.json"
    code, stderr = upscale(clip, target, "--report", report, "--start", "2f", "--end", "7f", "--no-audio")
    assert code == 0, stderr
    values = json.loads(report.read_text())
    assert {"ristn", "torch", "av", "libavcodec"} <= values["versions"].keys()
    (job,) = values["jobs"]
    assert job["input"]["files"] == [
        {"file": str(clip), "bytes": clip.stat().st_size, "sha256": sha256(clip)},
    ]
    assert job["output"]["files"] == [
        {"file": str(target), "bytes": target.stat().st_size, "sha256": sha256(target)},
    ]
    assert (job["output"]["frames"], job["output"]["width"]) == (5, 64)
    assert job["network"]["sha256"] == sha256(tiny_weights)
    assert job["network"]["precision"] == "fp32"
    assert (job["options"]["with_audio"], job["options"]["scale"], job["options"]["preset"]) == (False, 2, "ultrafast")
    assert job["range"]["start timecode"] == "00:00:00:02"
    assert job["range"]["end timecode"] == "00:00:00:07"
    assert [entry["action"] for entry in job["streams"]] == ["upscale", "drop"]
    assert job["warnings"] == []


def test_cuts_are_the_same_from_parts(upscale: Any, tmp_path: Path, shots: Path) -> None:
    """Where a part ends with a scene, and where a scene ends within a part."""
    for name, more in (("long", ("--segment-frames", 100)), ("short", ("--segment-frames", 4))):
        report = tmp_path / f"{name}.json"
        code, stderr = upscale(shots, tmp_path / f"{name}.mkv", "--report", report, "--window", 6, *more)
        assert code == 0, stderr
        (job,) = json.loads(report.read_text())["jobs"]
        assert job["cuts"] == [{"frame": 9, "time": "9/25"}, {"frame": 20, "time": "4/5"}]
        assert len(job["input"]["files"]) == 30


def test_a_report_of_several(upscale: Any, tmp_path: Path) -> None:
    clips = [make_clip(tmp_path / f"{name}.mkv", frames=2, width=32, height=32) for name in "ab"]
    report = tmp_path / "all.json"
    code, stderr = upscale(*clips, tmp_path / "out", "--report", report)
    assert code == 0, stderr
    jobs = json.loads(report.read_text())["jobs"]
    assert [Path(job["output"]["files"][0]["file"]).name for job in jobs] == ["a.mkv", "b.mkv"]


def test_reports_that_are_refused(upscale: Any, tmp_path: Path) -> None:
    clip, report = make_clip(tmp_path / "a.mkv", frames=2, width=32, height=32), tmp_path / "there.json"
    report.write_text("mine")
    target = tmp_path / "b.mkv"
    for name, words in (
        (report, "already exists; use --overwrite"),
        (clip, "is an input"),
        (target, "is the output"),
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "a.json", "does not exist"),
    ):
        code, stderr = upscale(clip, target, "--report", name)
        assert (code, words in stderr) == (2, True), stderr
    assert upscale(clip, target, "--dry-run", "--report", tmp_path / "c.json")[0] == 2
    assert report.read_text() == "mine"
    assert not target.exists()
    assert upscale(clip, target, "--report", report, "--overwrite")[0] == 0
    assert json.loads(report.read_text())["jobs"]
