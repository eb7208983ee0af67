"""Closed captions through a whole job: resumed, in parts, with codecs that cannot carry them, not wanted, and told."""

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from captions import captions_of, make_captioned, make_hdr10_plus, pop_on, text_of
from clips import stop_after
from commands import QUICK, in_process
from jobs import make_job, plan_run, run_job, segments_of, short

from ristn_cli.cli.info import describe_losses, describe_plan
from ristn_cli.engine.device import Backend
from ristn_cli.engine.memory import Tiling
from ristn_cli.engine.upscaler import Upscaler
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.parts import Interrupted
from ristn_cli.model import RISTN
from ristn_cli.spread.segments import Pulse, compute_segment
from ristn_cli.video import CAPTIONS, InputStream, probe

CPU = Backend(torch.device("cpu"), "fp32")
SHOWN = pop_on("GOOD DAY", 8, 15)


@pytest.fixture
def upscaler(tiny_model: RISTN) -> Upscaler:
    return Upscaler(tiny_model, CPU, Tiling(window=6, context=1))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """MPEG-2 with B-frames, of which some frames have captions."""
    return make_captioned(tmp_path / "in.ts", SHOWN, frames=20, width=32, height=32)


def finish(source: Path, target: Path, upscaler: Upscaler, **options: object) -> None:
    list(run_job(source, target, upscaler, short(preset="ultrafast", **options)))


@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_captions_are_the_same_in_one_run_and_in_two(
    codec: str, source: Path, upscaler: Upscaler, tmp_path: Path
) -> None:
    target = tmp_path / "out.mkv"
    with pytest.raises(Interrupted):
        list(run_job(source, target, upscaler, short(preset="ultrafast", codec=codec), should_stop=stop_after(target)))
    finish(source, target, upscaler, codec=codec)
    assert captions_of(target) == SHOWN


def test_a_worker_writes_the_captions_of_its_segment(source: Path, upscaler: Upscaler, tmp_path: Path) -> None:
    options = short(preset="ultrafast")
    job = make_job(source, tmp_path / "planned.mkv", options)
    found: dict[int, bytes] = {}
    begin = 0
    for segment in segments_of(source, tmp_path, upscaler, options):
        part = tmp_path / f"part-{segment.number}.mp4"
        compute_segment(job, segment, upscaler, part, Pulse())
        found |= {begin + number: data for number, data in captions_of(part).items()}
        begin += segment.frames
    assert segment.number > 2
    assert found == SHOWN


@pytest.mark.parametrize(("suffix", "codec"), [(".mov", "prores"), (".mkv", "ffv1"), (".mkv", "prores")])
def test_where_pictures_cannot_carry_them_captions_become_subtitles(
    suffix: str, codec: str, source: Path, upscaler: Upscaler, tmp_path: Path
) -> None:
    target = tmp_path / f"out{suffix}"
    finish(source, target, upscaler, codec=codec)
    assert captions_of(target) == {}
    # The first frame is at 0, and frame 8 at 0.32 s.
    assert "00:00:00,320 --> 00:00:00,600\nGOOD DAY" in text_of(target)
    part = tmp_path / f"part{suffix}"
    finish(source, part, upscaler, codec=codec, start=Fraction(10, 25), end=Fraction(18, 25))
    assert "00:00:00,000 --> 00:00:00,200\nGOOD DAY" in text_of(part)
    before = tmp_path / f"before{suffix}"
    finish(source, before, upscaler, codec=codec, end=Fraction(5, 25))
    assert [stream.kind for stream in probe(before).streams] == ["video"]


def test_captions_without_text_make_no_subtitles(upscaler: Upscaler, tmp_path: Path) -> None:
    padding = dict.fromkeys(range(8), b"\xfc\x80\x80")
    source = make_captioned(tmp_path / "in.ts", padding, frames=8, width=32, height=32)
    finish(source, tmp_path / "out.mkv", upscaler, codec="ffv1")
    assert [stream.kind for stream in probe(tmp_path / "out.mkv").streams] == ["video"]


@pytest.mark.parametrize("codec", ["h264", "ffv1"])
def test_captions_that_are_not_wanted_are_dropped(codec: str, source: Path, tiny_weights: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.mkv"
    code, _, stderr = in_process(
        *("upscale", source, target, "--model", tiny_weights, "--drop", "captions", "--codec", codec, "-v"),
        *(QUICK if codec == "h264" else QUICK[2:]),
    )
    assert code == 0, stderr
    assert "closed captions in the pictures: dropped (not wanted)" in stderr
    assert captions_of(target) == {}
    assert [stream.kind for stream in probe(target).streams] == ["video"]


def test_the_plan_tells_what_becomes_of_captions(source: Path, upscaler: Upscaler, tmp_path: Path) -> None:
    def tell(name: str, **options: object) -> str:
        plan = plan_run(source, tmp_path / name, upscaler, UpscaleOptions(**options), speedup=None)  # type: ignore[arg-type]
        lines = [line for line in (*describe_losses(plan.streams), *describe_plan(plan)) if "closed captions" in line]
        assert sum(entry.stream.index == CAPTIONS.index for entry in plan.streams) == 1
        return lines[0]

    kept = "closed captions in the pictures: kept in the pictures"
    assert [tell("out.mp4"), tell("out.webm", codec="av1")] == [kept, kept]
    assert "convert to mov_text subtitles" in tell("out.mov", codec="prores")
    assert tell("%02d.png") == "dropped: closed captions in the pictures (images hold only frames)"
    assert "subtitles are not wanted" in tell("out.mkv", codec="ffv1", with_subtitles=False)


def test_captions_that_standard_input_has_later_are_not_lost_without_a_word(
    source: Path, upscaler: Upscaler, tmp_path: Path, notices: list[str]
) -> None:
    for name, codec in (("out.mp4", "h264"), ("out.mkv", "ffv1")):
        with source.open("rb") as file:
            list(run_job(InputStream(file), tmp_path / name, upscaler, short(preset="ultrafast", codec=codec)))
    assert captions_of(tmp_path / "out.mp4") == SHOWN
    assert captions_of(tmp_path / "out.mkv") == {}
    assert ["closed captions from 0.08 s on, which are lost: ffv1" in line for line in notices] == [True]


def test_info_tells_of_captions(source: Path) -> None:
    code, stdout, _ = in_process("info", source)
    assert code == 0
    assert "closed captions: in the pictures" in stdout


def test_dynamic_hdr_metadata_that_is_lost_is_named_before_the_first_frame(tiny_weights: Path, tmp_path: Path) -> None:
    source = make_hdr10_plus(tmp_path / "in.ts")
    code, stdout, _ = in_process("info", source)
    assert code == 0
    assert "dynamic HDR metadata: HDR10+" in stdout
    code, stdout, _ = in_process("upscale", source, tmp_path / "out.mkv", "--model", tiny_weights, "--dry-run")
    assert code == 0
    assert "dynamic HDR: HDR10+ metadata is not kept" in stdout
    code, _, stderr = in_process("upscale", source, tmp_path / "out.mkv", "--model", tiny_weights, *QUICK)
    assert code == 0
    assert f"warning: {source}: HDR10+ metadata is not kept" in stderr
