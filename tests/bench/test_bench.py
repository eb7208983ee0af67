"""`ristn bench`: counts, consistency and form of what it reports, and what a sweep chooses and saves. No timings."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from clips import make_clip, make_picture
from commands import in_process
from conftest import TINY
from outputs import open_writer

from ristn_cli.bench import end_to_end as clip
from ristn_cli.bench.arithmetic import count_arithmetic, count_window
from ristn_cli.bench.machine import copy_rate, matrix_rate, sizes_for
from ristn_cli.bench.measure import Request, measure_case
from ristn_cli.bench.networks import NAMED, Network, open_network
from ristn_cli.bench.results import (
    STAGES,
    BenchError,
    Case,
    Machine,
    Report,
    compare_reports,
    read_report,
    summarize,
)
from ristn_cli.bench.scene import PAN, make_scene
from ristn_cli.bench.suite import make_report
from ristn_cli.engine.device import Backend, choose_backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.scenes import difference, scene_windows
from ristn_cli.engine.transfer import Arrival
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.engine.windows import Window
from ristn_cli.model import RISTN
from ristn_cli.typed import build
from ristn_cli.video import Color, Frame, probe

SCHEMA = json.loads((Path(__file__).parents[2] / "ristn_cli/bench/schema.json").read_text(encoding="utf-8"))
CPU = torch.device("cpu")


@pytest.fixture
def _quick_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's rates by the smallest measurements."""
    for name in ("matrix_rate", "convolution_rate", "copy_rate"):
        monkeypatch.setattr(f"ristn_cli.bench.measure.{name}", lambda backend: 1e9)


@pytest.fixture
def case(_quick_rates: None, tiny_weights: Path, tmp_path: Path) -> Case:
    request = Request(
        network=str(tiny_weights),
        width=24,
        height=16,
        precision="fp32",
        window=6,
        frames=7,
        preset="ultrafast",
        seconds=0.1,
        with_reference=True,
    )
    return measure_case(request, tmp_path)


@pytest.fixture
def report(case: Case) -> Report:
    return make_report([case], "cpu")


def test_a_case_agrees_with_itself(case: Case) -> None:
    assert (case.model, case.weights, case.width, case.height, case.precision) == ("tiny", "file", 24, 16, "fp32")
    assert (case.window, case.context, case.tiles) == (6, 2, 1)
    assert case.parameters == RISTN(TINY).count_parameters()
    assert case.frames_per_second == pytest.approx(1 / case.network.median)
    assert 0 < case.network.lowest <= case.network.median <= case.network.highest
    assert tuple(case.stages) == STAGES
    assert all(value is not None and value >= 0 for value in case.stages.values())
    if case.network.repeats == 1:  # then the stages are those of the very window that was timed
        inside = sum(case.stages[name] or 0 for name in ("spatial", "temporal", "reconstruction"))
        assert inside <= case.network.median
    assert case.executed_share == pytest.approx(case.arithmetic.executed_flops / case.network.median / 1e9)
    assert case.network_share == pytest.approx(case.arithmetic.network_flops / case.network.median / 1e9)
    assert case.end_to_end is not None
    assert case.end_to_end.frames == 7
    assert case.end_to_end.ratio == pytest.approx(
        case.end_to_end.seconds_per_frame / case.end_to_end.network_seconds_per_frame
    )
    assert case.end_to_end.total_seconds >= 7 * case.end_to_end.seconds_per_frame * 0.99
    assert case.reference is not None
    assert case.reference.ratio == pytest.approx(case.network.median / case.reference.seconds_per_frame.median)
    assert case.bicubic_seconds_per_frame is not None
    assert case.bicubic_seconds_per_frame > 0


def test_a_report_has_the_stated_form_and_survives_a_file(report: Report, tmp_path: Path) -> None:
    jsonschema.validate(report.to_dict(), SCHEMA)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report.to_dict()), encoding="utf-8")
    assert read_report(path) == report
    wrong = report.to_dict()
    del wrong["cases"][0]["stages"]["decode"]
    path.write_text(json.dumps(wrong), encoding="utf-8")
    with pytest.raises(BenchError, match=r"is not a complete report .*cases\[0\]: stages"):
        read_report(path)
    broken = report.to_dict()
    del broken["cases"][0]["network"]["median"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, SCHEMA)


def test_a_report_against_itself_is_1(report: Report) -> None:
    rows = compare_reports(report, report)
    assert {row.ratio for row in rows if row.now} == {1.0}
    assert {"network, s per frame", "decode, s per frame", "peak memory, bytes"} <= {row.figure for row in rows}
    slower = replace(report.cases[0], network=summarize([2 * report.cases[0].network.median]))
    ratios = compare_reports(replace(report, cases=[slower]), report)
    assert ratios[0].ratio == pytest.approx(2)
    assert compare_reports(report, replace(report, cases=[replace(slower, width=25)])) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no JSON", "not a report of ristn bench"),
        ("[]", "not a report of ristn bench"),
        ('{"schema": "ristn-bench/0"}', "ristn-bench/0"),
        ('{"schema": "ristn-bench/2", "cases": []}', "is not a complete report"),
        ('{"schema": 5}', "not a report of ristn bench"),
        ('{"schema": "ristn-bench/2", "cases": 1e999}', "not a report of ristn bench"),
        ("[" * 100_000, "not a report of ristn bench"),
    ],
)
def test_files_that_are_not_reports_are_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BenchError, match=said):
        read_report(path)


def test_flops_are_those_of_a_count_by_hand(tiny_model: RISTN) -> None:
    # Multiply-accumulates a pixel: of every frame that is read ...
    spatial = 2 * 9 * (8 * 4 + 4 * 4 + 4 * 8)  # two blocks, one bottleneck each, of 8 > 4 > 4 > 8 channels
    gates = 9 * (32 * 32 + 8 * 32)  # 32 and then 8 channels in; two directions, four gates, four channels each
    # ... of every frame but the first of each direction ...
    hidden = 2 * 2 * 9 * 4 * 16
    # ... and of every frame that is kept.
    fusion = 16 * 32 + 32 * 32 + 32 * 32  # of the layers, what they read, and the spatial features
    refine = 9 * (16 * 8 + 8 * 8 + 8 * 16)
    upsampling = 4 * 32 * 8 + 4 * 4 * 8 * 8 + 4 * 16 * 8 * 12  # the last in four phases
    expected = 3 * (spatial + gates) + 2 * hidden + 1 * (fusion + refine + upsampling)
    borders = 2 * 16 * (3 * 3) * 9  # once: what of a folded bias is missing beyond a frame of any size
    assert count_window(tiny_model, 3, 1, 16, 24) == 2 * (16 * 24 * expected + borders)


def test_executed_flops_count_context_and_overlap(tiny_model: RISTN) -> None:
    whole = count_arithmetic(tiny_model, Tiling(tile=64), 64, 32, frames=8, kept=4)
    tiled = count_arithmetic(tiny_model, Tiling(tile=40), 64, 32, frames=8, kept=4)  # two tiles of 40x32
    assert whole.network_flops == tiled.network_flops
    assert tiled.executed_flops == pytest.approx(whole.executed_flops * 80 / 64, rel=1e-4)
    assert whole.executed_flops == count_window(tiny_model, 8, 4, 32, 64) / 4


def test_median_and_spread() -> None:
    assert vars(summarize([3.0, 1.0, 2.0])) == {"median": 2.0, "lowest": 1.0, "highest": 3.0, "repeats": 3}
    assert summarize([4.0, 1.0]).median == 2.5
    assert summarize([0.25]).frames_per_second == 4


def test_the_scene_moves_and_has_no_cut() -> None:
    images = list(make_scene(48, 32, 6))
    assert {(image.shape, image.dtype) for image in images} == {((32, 48, 3), np.dtype(np.uint8))}
    assert len(list(scene_windows(images, lambda image: image, 6, 1))) == 1
    assert all(difference(a, b) > 1 for a, b in pairwise(images))
    moved = images[1][: -PAN[1], : -PAN[0]] == images[0][PAN[1] :, PAN[0] :]
    assert moved.mean() > 0.7  # all but the disc
    assert images[0].std() > 30


def test_networks_have_names(tiny_weights: Path) -> None:
    assert open_network("ristn-lite").weights == "released"
    random = open_network("paper-2x2")
    assert (random.weights, random.model.config.deconvolution_kernel) == ("random", 2)
    assert NAMED["paper"].deconvolution_kernel == 3
    assert open_network(str(tiny_weights)).name == "tiny"
    with pytest.raises(BenchError, match="paper-2x2"):
        open_network("other")


@pytest.mark.usefixtures("_quick_rates")
def test_a_given_video_is_measured(tiny_weights: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=5, width=32, height=24)
    request = Request(network=str(tiny_weights), width=0, height=0, source=str(source), precision="fp32", frames=5)
    request = replace(request, seconds=0.1)
    found = measure_case(request, tmp_path)
    assert (found.width, found.height, found.window, found.context) == (32, 24, 5, 0)
    assert found.end_to_end is not None
    assert found.end_to_end.frames == 5
    quick = measure_case(replace(request, network_only=True), tmp_path)
    assert quick.end_to_end is None
    assert quick.stages["decode"] is None
    assert quick.stages["spatial"] is not None


def test_the_network_alone_computes_the_windows_of_the_program(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeated pictures once; and no more is in memory when its peak is read than what the program itself holds."""
    happened: list[object] = []

    class Counting(Upscaler):
        def launch_window(self, window: Window[np.ndarray]) -> Iterator[Arrival]:
            happened.append(len(window.frames))
            return super().launch_window(window)

    def read_peaks(backend: Backend) -> tuple[int, None]:
        happened.append("peaks")
        return 1, None

    monkeypatch.setattr(clip, "read_peaks", read_peaks)
    pictures = [make_picture(index // 3, 32, 24) for index in range(12)]
    source = tmp_path / "in.mkv"
    with open_writer(
        source, width=32, height=24, rate=Fraction(25), time_base=Fraction(1, 25), color=Color(), codec="ffv1"
    ) as writer:
        for index, picture in enumerate(pictures):
            writer.write(Frame(picture, Fraction(index, 25), Fraction(1, 25)))
    upscaler = Counting(network.model, FP32, Tiling(window=5))
    found, _, peaks = clip.measure_end_to_end(upscaler, probe(source), 12, tmp_path, "ultrafast", 0)
    assert (found.frames, peaks) == (12, (1, None))
    assert happened == [4, "peaks", 4]


@pytest.fixture
def network(tiny_model: RISTN) -> Network:
    return Network("tiny", "random", tiny_model)


FP32 = Backend(CPU, "fp32")


def test_bench_end_to_end(tiny_weights: Path, tmp_path: Path) -> None:
    options = ["--model", tiny_weights, "--size", "32x24", "--precision", "fp32", "--window", "6", "--seconds", "1"]
    files = ["--output", tmp_path / "report.json"]
    code, stdout, stderr = in_process("bench", *options, "--threads", "1", *files, "--json")
    assert code == 0, stderr
    values = json.loads(stdout)
    jsonschema.validate(values, SCHEMA)
    assert read_report(tmp_path / "report.json").to_dict() == values
    assert (values["cases"][0]["model"], values["cases"][0]["width"]) == ("tiny", 32)
    assert values["cases"][0]["peak_memory_bytes"] is None or values["cases"][0]["peak_memory_bytes"] > 50 << 20
    assert values["machine"]["threads"] == 1


def test_bench_shows_a_table_and_ratios(
    case: Case, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = tmp_path / "old.json"
    older.write_text(json.dumps(report.to_dict()), encoding="utf-8")
    monkeypatch.setattr("ristn_cli.bench.suite.measure_apart", lambda request: case)
    code, stdout, stderr = in_process("bench", "--compare", older)
    assert code == 0, stderr
    assert f"{case.frames_per_second:.2f}" in stdout
    for word in ("fusion and reconstruction", "share of the matrix rate", "1.000"):
        assert word in stdout


def test_errors_of_the_measuring_process_are_reported(tmp_path: Path) -> None:
    code, _, stderr = in_process("bench", "--model", tmp_path / "none.safetensors")
    assert code == 1
    assert "no such weights file" in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--size", "wide"],
        ["--size", "0x10"],
        ["clip.mp4", "--size", "32x32"],
    ],
)
def test_wrong_usage(arguments: list[str]) -> None:
    assert in_process("bench", *arguments)[0] == 2


def test_an_older_report_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("mine")
    code, _, stderr = in_process("bench", "--output", path)
    assert (code, path.read_text()) == (2, "mine")
    assert "already exists; use --overwrite" in " ".join(stderr.replace("│", "").split())


def test_the_network_is_measured_without_pyav(tiny_weights: Path, tmp_path: Path) -> None:
    """In a process that cannot import it, nor the ffmpeg program."""
    blocked = ("av", "ffmpeg", "imageio", "imageio_ffmpeg")
    asked, told = tmp_path / "request.json", tmp_path / "result.json"
    request = Request(network=str(tiny_weights), width=24, height=16, device="cpu", window=6, seconds=0.1)
    asked.write_text(json.dumps(asdict(replace(request, network_only=True))), encoding="utf-8")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked}))\n"
        f"from ristn_cli.bench import child, machine, suite\n"
        f"for name in ('matrix_rate', 'convolution_rate', 'copy_rate'):\n"
        f"    setattr(child.sys.modules['ristn_cli.bench.measure'], name, lambda backend: 1e9)\n"
        f"child.main({str(asked)!r}, {str(told)!r})\n"
        f"assert suite.make_report([], 'cpu').machine.cores >= 1\n"
        f"assert 'ristn_cli.video' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    case = build(Case, json.loads(told.read_text(encoding="utf-8")))
    assert (case.window, case.end_to_end) == (6, None)


def test_rates_of_a_gpu_are_measured_on_larger_sizes() -> None:
    assert sizes_for(Backend(torch.device("cuda"), "fp16")).matrix == 8192
    assert sizes_for(FP32).matrix == 2048
    assert matrix_rate(FP32, 64, 0.001) > 0
    assert copy_rate(FP32, 1024, 0.001) > 0


def test_the_machine_is_described(report: Report) -> None:
    machine = report.machine
    assert isinstance(machine, Machine)
    assert machine.torch == torch.__version__
    assert machine.device.startswith("cpu: ")
    assert machine.threads >= 1
    assert choose_backend("cpu", "fp32").device == CPU
