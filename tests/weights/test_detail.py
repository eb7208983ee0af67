"""`--detail`: weights between two released sets, in every command that has it, and what is recorded of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_clip
from commands import in_process

from ristn_cli.engine.device import choose_backend
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.events import PartFinished
from ristn_cli.job.manifest import JobError
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.run import upscale_video
from ristn_cli.model import RISTN
from ristn_cli.video import probe, read_frames
from ristn_cli.weights import (
    DEFAULT_DETAIL,
    DIAL,
    RELEASES,
    ModelChoice,
    WeightsError,
    choose_detail,
    choose_model,
    file_sha256,
    finding,
    interpolate,
    load_choice,
    save_weights,
)

BRIGHTER = 0.2
"""What the sharp weights of these tests add to each value."""


@pytest.fixture
def dial(tiny_model: RISTN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of released weights: the first of the dial are bicubic, the second ones are brighter."""
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    monkeypatch.setattr(finding, "bundled_folder", lambda: bundled)
    for name, brighter in zip(DIAL, (0.0, BRIGHTER), strict=True):
        with torch.no_grad():
            tiny_model.reconstruction.last.bias.fill_(brighter)
        path = bundled / f"{name}.safetensors"
        save_weights(tiny_model, path, metrics={})
        record = replace(RELEASES[DIAL[0]], name=name, sha256=file_sha256(path), size=path.stat().st_size)
        monkeypatch.setitem(RELEASES, name, record)
    return bundled


def mean_of(path: Path) -> float:
    return float(np.mean([frame.image for frame in read_frames(path)])) / 255


def test_tensors_are_interpolated(tiny_model: RISTN, dial: Path) -> None:
    for detail, bias in ((0.0, 0.0), (0.25, 0.05), (0.5, 0.1), (1.0, 0.2)):
        model = load_choice(choose_detail(detail))
        torch.testing.assert_close(model.reconstruction.last.bias, torch.full((3,), bias))
        torch.testing.assert_close(
            model.reconstruction.last.weight, load_choice(ModelChoice(DIAL[0])).reconstruction.last.weight
        )
        assert model.detail == (detail if detail < 1 else 0)
    with pytest.raises(WeightsError, match="weights of different networks cannot be interpolated"):
        interpolate(tiny_model, RISTN(replace(tiny_model.config, base_channels=8)), 0.5)


def test_the_ends_of_the_dial_are_the_released_weights() -> None:
    assert [choose_detail(detail).label for detail in (0, 0.5, 1)] == [
        DIAL[0],
        f"{DIAL[0]} with detail 0.5",
        DIAL[1],
    ]


def test_auto_uses_the_dial_for_compressed_sources_only(dial: Path, tmp_path: Path) -> None:
    lossy = probe(make_clip(tmp_path / "in.mp4", frames=30, options={"crf": "40"}))
    choice = choose_model(lossy, 1000)
    assert choice == ModelChoice(DIAL[0], choice.reason, DEFAULT_DETAIL)
    assert "leaves compression artefacts" in choice.reason
    assert choose_model(lossy, 1000, dict(reversed(RELEASES.items()))) == choice
    assert choose_model(replace(lossy, codec="ffv1"), 1000).label == "ristn-lite"
    assert choose_model(lossy, 1000, removes_grain=True).label == DIAL[0]


def test_upscale_follows_the_dial_and_says_so(dial: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=3, width=32, height=32, codec="ffv1")
    means = {}
    for detail in ("0", "0.5", "1"):
        out = tmp_path / f"{detail}.mkv"
        report = tmp_path / f"{detail}.json"
        code, stdout, stderr = in_process(
            *("upscale", source, out, "--detail", detail, "--codec", "ffv1", "--precision", "fp32", "--report", report)
        )
        assert code == 0, stderr
        assert f"by {choose_detail(float(detail)).label}; to compare" in stdout.replace("\n", " ")
        (job,) = json.loads(report.read_text())["jobs"]
        between = detail == "0.5"
        assert job["network"]["name"] == (DIAL[1] if detail == "1" else DIAL[0])
        assert job["network"]["detail"] == (0.5 if between else 0)
        assert (job["network"]["interpolated with"] or {}).get("sha256") == (
            RELEASES[DIAL[1]].sha256 if between else None
        )
        means[detail] = mean_of(out)
    assert means["1"] - means["0"] > 0.1
    assert means["0.5"] - means["0"] == pytest.approx(BRIGHTER / 2, abs=0.03)
    plan = json.loads(in_process("upscale", source, tmp_path / "x.mkv", "--detail", "0.5", "--dry-run", "--json")[1])
    assert (plan["model"], plan["detail"]) == (DIAL[0], 0.5)


def test_other_weights_and_other_values_are_refused(dial: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=1, codec="ffv1")
    target = tmp_path / "out.mkv"
    for model in DIAL:
        assert in_process("upscale", source, target, "--detail", "0.5", "--model", model, "--dry-run")[0] == 0
    code, _, stderr = in_process("upscale", source, target, "--detail", "0.5", "--model", "ristn-lite", "--dry-run")
    assert code == 2
    assert "--detail has no effect" in stderr
    for value in ("-0.1", "1.5", "nan", "much"):
        assert in_process("upscale", source, target, "--detail", value, "--dry-run")[0] == 2


def test_another_detail_does_not_resume_a_run(dial: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=6, width=32, height=32)
    options = UpscaleOptions(preset="ultrafast", segment_frames=2)

    def begin(detail: float) -> None:
        engine = Upscaler(load_choice(choose_detail(detail)), choose_backend("cpu", "fp32"))
        run = upscale_video(source, tmp_path / "out.mkv", engine, options)
        next(event for event in run if isinstance(event, PartFinished))
        run.close()

    begin(0.5)
    with pytest.raises(JobError, match=r"unfinished run with another detail \(0\.5, now 0\.7\)"):
        begin(0.7)
    (manifest,) = tmp_path.glob(".*/manifest.json")
    assert json.loads(manifest.read_text())["identity"]["detail"] == "0.5"


def test_evaluate_scores_details(dial: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=2, width=64, height=64, codec="ffv1")
    code, stdout, stderr = in_process(
        *("evaluate", clip, "--detail", "0", "--detail", "0.5", "--precision", "fp32", "--json")
    )
    assert code == 0, stderr
    scores = {name: method["mean"]["psnr_y"] for name, method in json.loads(stdout)["methods"].items()}
    assert list(scores) == ["bicubic", "detail 0", "detail 0.5"]
    assert scores["detail 0"] == pytest.approx(scores["bicubic"], abs=0.05)
    assert scores["detail 0.5"] < scores["bicubic"] - 1


def test_a_preview_recommends_and_tries_details(dial: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "in.mp4", frames=30, width=64, height=48, options={"crf": "40"})
    code, stdout, stderr = in_process("preview", "in.mp4", "--precision", "fp32", "--at", "0")
    assert code == 0, stderr
    commands = [line for line in stdout.splitlines() if line.startswith("ristn upscale ")]
    assert [line.split()[4:6] for line in commands] == [
        *(["--model", name] for name in DIAL),
        ["--detail", f"{DEFAULT_DETAIL:g}"],
    ]
    (recommended,) = [line for line in stdout.splitlines() if "recommended" in line]
    assert f"detail-{DEFAULT_DETAIL:g}" in recommended
    code, stdout, stderr = in_process(
        *("preview", "in.mp4", "--precision", "fp32", "--at", "0", "--detail", "0.2", "--detail", "1", "--overwrite")
    )
    assert code == 0, stderr
    assert [line.split()[4:6] for line in stdout.splitlines() if line.startswith("ristn upscale ")] == [
        ["--detail", "0.2"],
        ["--model", DIAL[1]],
    ]
    (dial / f"{DIAL[1]}.safetensors").unlink()
    code, stdout, stderr = in_process("preview", "in.mp4", "--precision", "fp32", "--at", "0", "--overwrite")
    assert code == 0, stderr
    assert "--detail" not in stdout
    assert f"not on this machine: ristn-lite, {DIAL[1]}; use" in stderr.replace("\n", " ")


def test_compare_shows_details(dial: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=12, width=32, height=32, codec="ffv1")
    page = tmp_path / "page.html"
    details = ("--detail", "0", "--detail", "1")
    code, stdout, stderr = in_process("compare", source, *details, "--start", "0.1", "--end", "0.3", "--output", page)
    assert code == 0, stderr
    assert "of 3 inputs at 128x128" in stdout.replace("\n", " ")
    text = page.read_text(encoding="utf-8")
    assert '"detail 0"' in text
    assert '"detail 1"' in text
    assert in_process("compare", source, source, *details)[0] == 2
    assert in_process("compare", source, *details, "--offset", "1")[0] == 2
    assert in_process("compare", source)[0] == 2
