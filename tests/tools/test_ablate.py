"""Ablations: the paper's figures, equal recipes, a micro run that is resumed, and the check of orderings."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ablate import ablation_tables, check_orderings, main, ordering_table, state_budget
from ablation_runs import RESULT, VARIANTS, Ablation, AblationResult, read_results, run_ablation

from ristn_cli.engine.device import Backend
from ristn_cli.model import RISTN
from ristn_cli.video import write_image

CPU = Backend(torch.device("cpu"), "fp32")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One photograph of waves to train on, and a clip of it moving to score on."""
    y, x = np.mgrid[:260, :300]

    def wave(shift: int) -> np.ndarray:
        planes = [np.sin((x + shift) / 4 + y / (5 + 2 * channel)) for channel in range(3)]
        return (127 + 100 * np.stack(planes, axis=-1)).astype(np.uint8)

    photos, clip = tmp_path / "data" / "train" / "photos", tmp_path / "data" / "validation" / "clips" / "wave"
    photos.mkdir(parents=True)
    clip.mkdir(parents=True)
    write_image(photos / "wave.png", wave(0))
    for shift in range(3):
        write_image(clip / f"{shift}.png", wave(shift)[:48, :48].copy())
    return tmp_path / "data"


def make_ablation(data: Path, **changes: object) -> Ablation:
    values = {"data": data, "test": data / "validation" / "clips", "output": data.parent / "runs", "frames": 2}
    return Ablation(**(values | changes))  # type: ignore[arg-type]


def test_the_variants_are_the_papers() -> None:
    assert [(v.name, v.psnr, v.ssim) for v in VARIANTS if v.table == 1] == [
        ("IB", 31.30, 0.872),
        ("RB", 31.49, 0.885),
        ("RIB", 31.65, 0.897),
    ]
    third = {(v.name, v.layers): v.psnr for v in VARIANTS if v.table == 3}
    assert len(third) == 16
    assert (third["C-LSTM", 8], third["RC-LSTM", 3], third["RDC-LSTM", 10]) == (21.98, 25.18, 25.60)
    # RISTN-NF is the RDC-LSTM of 10 layers without fusion: one network in two tables.
    assert len({v.key for v in VARIANTS}) == len(VARIANTS) - 1


def test_variants_differ_only_in_the_field_of_their_name(data: Path) -> None:
    ablation = make_ablation(data)
    recipes = {v.key: ablation.make_recipe(v) for v in VARIANTS}
    for variant in VARIANTS:
        recipe = recipes[variant.key]
        (stage,) = recipe.stages
        assert stage.iterations == 600
        assert stage.frames * stage.batch == 10  # windows of as many frames in all
        base = recipes["rib-0"] if variant.table == 1 else recipes["sparse-rdc-10"]
        differing = {k for k, v in recipe.model.to_dict().items() if base.model.to_dict()[k] != v}
        assert differing <= ({"block"} if variant.table == 1 else {"fusion", "pattern", "lstm_layers"})
    sizes = {key: RISTN(recipes[key].model).count_parameters() for key in ("ib-0", "rb-0", "rib-0")}
    assert sizes["ib-0"] == sizes["rib-0"] < sizes["rb-0"] / 3  # as the paper's 1.21, 1.21 and 6.08 M


def test_a_micro_run_is_resumed_and_reported(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--data", str(data), "--output", str(data.parent / "runs"), "--table", "1", "--iterations", "2"]
    options += ["--frames", "2", "--precision", "fp32"]
    assert main([*options, "--minutes", "0"]) == 0
    stdout, stderr = capsys.readouterr()
    assert "time is up with 0 networks finished" in stderr
    assert "| RIB | 31.65 / 0.897 | - | - | - |" in stdout
    assert main(options) == 0
    found, stderr = capsys.readouterr()
    assert "network 3 of 3: rib-0" in stderr
    cells = [line.strip("| ").split(" | ") for line in found.splitlines()[:6]]
    assert [row[0] for row in cells[3:]] == ["IB", "RB", "RIB"]
    psnrs = [float(row[2].split(" / ")[0]) for row in cells[2:]]
    assert all(abs(psnr - psnrs[0]) < 6 for psnr in psnrs)  # 45 dB on so smooth a clip
    assert "| Table 1 | IB < RB < RIB |" in found
    times = {path: path.stat().st_mtime_ns for path in (data.parent / "runs").rglob("*.safetensors")}
    assert len(times) == 3
    assert main(options) == 0
    assert capsys.readouterr().out == found
    assert {path: path.stat().st_mtime_ns for path in times} == times  # nothing was trained again


def test_a_missing_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "none")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "none" in line


def test_a_stop_leaves_the_rest_for_later(data: Path) -> None:
    ablation = make_ablation(data, tables=(1,), iterations=2)
    finished: list[str] = []
    for done in run_ablation(ablation, CPU, should_stop=lambda: bool(finished)):  # true as soon as one is finished
        if done.iteration == done.iterations:
            finished.append(done.name)
    assert list(read_results(ablation)) == ["ib-0"]
    list(run_ablation(ablation, CPU))
    assert list(read_results(ablation)) == ["ib-0", "rb-0", "rib-0"]
    # Another budget or other test frames are another result.
    assert read_results(make_ablation(data, tables=(1,), iterations=3)) == {}
    assert read_results(make_ablation(data, tables=(1,), iterations=2, frames=1)) == {}
    path = ablation.output / "rib-0" / RESULT
    assert json.loads(path.read_text(encoding="utf-8"))["clips"] == {"wave": 2}


def test_orderings_are_checked_pair_by_pair(data: Path) -> None:
    ablation = make_ablation(data)
    # RISTN-NF is Table 3's last RDC-LSTM: that has the figure of Table 3 here, which keeps the order of Table 2.
    papers = {v.key: AblationResult(psnr_y=v.psnr, ssim_y=0.5) for v in VARIANTS}
    checks = {check.name: check for check in check_orderings(ablation, papers)}
    assert len(checks) == 2 + 4 + 4
    assert checks["Table 2"].order == ("RISTN-NF", "RISTN-DF", "RISTN")
    assert checks["Table 3, 3 layers"].order == ("C-LSTM", "DC-LSTM", "RDC-LSTM", "RC-LSTM")
    assert checks["Table 3, C-LSTM"].order == ("8", "10", "3", "5")
    assert all(check.holds for check in checks.values())
    assert checks["Table 1"].extent == pytest.approx(0.35)
    swapped = papers | {"ib-0": AblationResult(psnr_y=31.6, ssim_y=0.5)}
    check = check_orderings(ablation, swapped)[0]
    assert (check.holds, check.agreeing, check.pairs) == (False, 2, 3)
    assert ordering_table([check]).rows[0] == ("Table 1", "IB < RB < RIB", "RB < IB < RIB", "2 of 3 pairs", "0.16 dB")
    tied = papers | {"ib-0": AblationResult(psnr_y=31.49, ssim_y=0.5)}
    assert check_orderings(ablation, tied)[0].agreeing == 2  # a tie is not an order
    assert check_orderings(make_ablation(data, tables=(1,)), {}) == []


def test_tables_show_the_paper_and_our_figures(data: Path) -> None:
    ablation = make_ablation(data)
    results = {"none-rc-5": AblationResult(psnr_y=24.5, ssim_y=0.5, parameters=10, seconds=90)}
    first, second, third = ablation_tables(ablation, results, AblationResult(psnr_y=24, ssim_y=0.25))
    assert first.rows[0][:3] == ("bicubic", "28.42 / 0.810", "24.00 / 0.2500")
    assert second.rows[3] == ("RISTN", "26.13 / 0.792", "-", "-", "-")
    assert third.headings == ("layers", *(h for p in ("C", "RC", "DC", "RDC") for h in (f"{p} paper", "ours")))
    assert third.rows[2] == ("5", "24.90", "-", "25.26", "24.50", "25.13", "-", "25.35", "-")
    words = " ".join(state_budget(ablation, results))
    assert "Budgets differ" in words
    assert "600 steps of 5760 LR pixels" in words
    assert "took 1.5 minutes" in words
