"""The command line as people run it: output, exit codes, one clear line for bad input, signals."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import pytest
import typer
from clips import make_clip, make_sound
from commands import COMMAND, QUICK, SHORT_PARTS, in_process, ristn

from ristn_cli.cli.arguments import parse_time
from ristn_cli.cli.job_bar import JobBar, shown_progress
from ristn_cli.cli.terminal import format_seconds
from ristn_cli.engine.allocator import is_glibc
from ristn_cli.job.progress import Progress
from ristn_cli.video import probe, read_frames, write_image


def test_help_is_instant_because_it_imports_no_torch() -> None:
    script = (
        "import sys; from ristn_cli.cli import app; print([m for m in ('torch', 'av', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "upscale" in ristn("--help").stdout


KEPT = """
import re, threading, torch
from pathlib import Path
import ristn_cli.cli
from ristn_cli.__main__ import main

def work():
    address = torch.ones(4 << 20).data_ptr()
    found = re.search(r"(\\w+)-(\\w+) .*\\[heap\\]", Path("/proc/self/maps").read_text())
    print(int(found[1], 16) <= address < int(found[2], 16))

def app(**_):
    for _ in range(3):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()

ristn_cli.cli.app = app
main()
"""


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
def test_every_thread_of_a_command_keeps_its_memory() -> None:
    done = subprocess.run([sys.executable, "-c", KEPT], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n" * 3


BEGUN = """
import os, sys
import ristn_cli.cli
from ristn_cli.__main__ import main
from ristn_cli.engine.allocator import has_tcache_disabled

print("begun", flush=True)
ristn_cli.cli.app = lambda **_: print(os.environ["GLIBC_TUNABLES"], has_tcache_disabled(), sys.argv[1:])
main()
"""


@pytest.mark.skipif(not is_glibc(), reason="the C library is not glibc")
@pytest.mark.parametrize(
    ("before", "times", "after"),
    [
        ("", 2, "glibc.malloc.tcache_count=0 True"),
        ("glibc.malloc.perturb=0", 2, "glibc.malloc.perturb=0:glibc.malloc.tcache_count=0 True"),
        ("glibc.malloc.tcache_count=3", 1, "glibc.malloc.tcache_count=3 False"),
    ],
)
def test_a_command_begins_anew_with_an_allocator_that_joins_what_is_freed(before: str, times: int, after: str) -> None:
    command = [sys.executable, "-c", BEGUN, "a b", "-"]
    settings = os.environ | {"GLIBC_TUNABLES": before}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=settings)
    assert done.stdout == "begun\n" * times + f"{after} ['a b', '-']\n"


def test_the_version_is_told() -> None:
    done = ristn("--version")
    assert (done.returncode, done.stdout) == (0, f"ristn {version('ristn')}\n")


def test_upscale_end_to_end(tiny_weights: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=8, audio_tracks=1)
    done = ristn("upscale", source, tmp_path / "out.mp4", "--model", tiny_weights, *QUICK)
    assert done.returncode == 0, done.stderr
    assert "8 frames" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    info = probe(tmp_path / "out.mp4")
    assert (info.width, info.height) == (256, 192)
    assert "audio" in {stream.kind for stream in info.streams}
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def test_the_encoder_takes_its_options(tiny_weights: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=6)
    options = ["--pix-fmt", "yuv444p", "--encoder-arg", "g=2", "--encoder-arg", "bf=0"]
    code, _, stderr = in_process("upscale", source, tmp_path / "out.mp4", "--model", tiny_weights, *QUICK, *options)
    assert code == 0, stderr
    assert probe(tmp_path / "out.mp4").pixel_format == "yuv444p"
    with av.open(str(tmp_path / "out.mp4")) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    assert keys == [True, False] * 3


def test_info_tells_what_is_in_the_file(tmp_path: Path) -> None:
    source = make_clip(
        tmp_path / "in.mkv", times=[0, 40, 80, 300, 340], time_base=Fraction(1, 1000), audio_tracks=2, chapters=True
    )
    code, stdout, _ = in_process("info", source)
    assert code == 0
    assert "64x48 as shown" in stdout
    assert "variable" in stdout
    assert 'stream 2: audio aac, deu, "track 1", comment' in stdout
    assert "chapter 2: 0:00 second half" in stdout
    code, stdout, _ = in_process("info", source, "--json")
    found = json.loads(stdout)
    assert (found["width"], found["height"], found["bit_depth"], found["is_variable_rate"]) == (64, 48, 8, True)
    assert [stream["kind"] for stream in found["streams"]] == ["video", "audio", "audio"]
    assert in_process("info", tmp_path / "missing.mkv")[0] == 1


def test_info_knows_a_constant_rate_and_rotation(tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=9, rate=Fraction(24000, 1001), rotation=90)
    found = json.loads(in_process("info", source, "--json")[1])
    assert (found["width"], found["height"], found["rotation"]) == (48, 64, 90)
    assert found["is_variable_rate"] is False


def test_a_dry_run_shows_the_plan_and_writes_nothing(tiny_weights: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mkv", frames=20, audio_tracks=1, subtitles=True)
    before = set(tmp_path.iterdir())
    arguments = [
        "upscale",
        source,
        tmp_path / "out.mp4",
        "--model",
        tiny_weights,
        *QUICK,
        "--window",
        "10",
        "--dry-run",
    ]
    code, stdout, stderr = in_process(*arguments)
    assert code == 0, stderr
    for words in (
        "upscale to 256x192 h264",
        "convert to mov_text",
        "libx264",
        "frames: about 20",
        "windows: 3",
        "memory: about",
        "time:",
    ):
        assert words in stdout
    code, stdout, _ = in_process(*arguments, "--json")
    plan = json.loads(stdout)
    assert (plan["width"], plan["frames"], plan["windows"], plan["tiles"], plan["resumed_frames"]) == (256, 20, 3, 1, 0)
    assert [entry["action"] for entry in plan["streams"]] == ["upscale", "copy", "convert"]
    assert plan["seconds"] > 0
    assert 0 < plan["needed_bytes"] < plan["free_bytes"]
    assert set(tmp_path.iterdir()) == before
    assert in_process(*arguments[:5], "--codec", "ffv1", "--dry-run")[0] == 1


@pytest.mark.parametrize(("where", "tells_time"), [([], True), (["--ray"], True), (["--ray", "10.0.0.1:1"], False)])
def test_a_plan_tells_no_time_of_machines_elsewhere(
    tiny_weights: Path, tmp_path: Path, where: list[str], tells_time: bool
) -> None:
    """It asks no cluster."""
    source = make_clip(tmp_path / "in.mp4", frames=8)
    code, stdout, stderr = in_process(
        "upscale", source, tmp_path / "out.mp4", "--model", tiny_weights, *QUICK, "--dry-run", *where
    )
    assert code == 0, stderr
    times = re.findall(r"^time: (.+) for the network", stdout, re.MULTILINE)
    assert bool(times) is tells_time
    assert "about 0:00" not in times


def test_memory_that_is_too_short_is_refused_before_the_work(tiny_weights: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=8)
    plain = ["upscale", source, tmp_path / "out.mp4", "--model", tiny_weights, *QUICK, "--memory-limit"]

    def planned(limit: str, *more: str) -> tuple[dict[str, Any], str]:
        code, stdout, stderr = in_process(*plain, limit, *more, "--dry-run", "--json")
        assert code == 0, stderr
        return json.loads(stdout), stderr

    plan, stderr = planned("64GiB")
    assert stderr == ""
    slower, _ = planned("64GiB", "--preset", "slow")
    more = slower["encoder_bytes"] - plan["encoder_bytes"]
    assert more > 0
    assert slower["room_bytes"] == plan["room_bytes"] - more
    assert slower["memory_bytes"] == plan["memory_bytes"]
    for flags in (["--dry-run"], ["-q"], ["--overwrite"]):
        code, stdout, stderr = in_process(*plain, "100MiB", *flags)
        assert (code, stdout) == (1, "")
        (line,) = stderr.splitlines()
        assert line.startswith(f"error: {source}: needs ")
        assert "more memory than --memory-limit allows: windows need about" in line
        assert "the program 419" in line
        assert "libx264" in line
    assert list(tmp_path.glob("*out*")) == []


@pytest.mark.parametrize("has_instructions", [True, False])
def test_a_precision_that_is_emulated_is_told(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_instructions: bool
) -> None:
    monkeypatch.setattr("ristn_cli.engine.device.has_bfloat16_instructions", lambda: has_instructions)
    source = make_clip(tmp_path / "in.mp4", frames=2)
    arguments = ["upscale", source, tmp_path / "out.mp4", "--model", tiny_weights, "--precision", "bf16", "--dry-run"]
    code, _, stderr = in_process(*arguments)
    assert code == 0, stderr
    assert ("bf16 is emulated on this CPU" in stderr) != has_instructions


def test_a_plan_says_what_is_done_to_size_and_fields(tiny_weights: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=8, sample_aspect_ratio=Fraction(4, 3))
    plain = ["upscale", source, tmp_path / "out.mkv", "--model", tiny_weights, *QUICK]
    code, stdout, stderr = in_process(*plain, "--size", "2x", "--deinterlace", "field", "--dry-run")
    assert code == 0, stderr
    for words in (
        "output: 128x96 (pixel aspect ratio 4/3), 50 frames per second, libx264, frames: about 16",
        "resampled from 4x with Lanczos",
        "every field to a frame",
    ):
        assert words in stdout
    stdout = in_process(*plain, "--dry-run")[1]
    assert "Lanczos" not in stdout
    assert "interlaced" not in stdout
    assert in_process(*plain, "--size", "100x61")[0] == 1
    code, _, stderr = in_process(*plain, "--size", "100x60", "--square-pixels")
    assert code == 0, stderr
    found = probe(tmp_path / "out.mkv")
    assert (found.width, found.height, found.sample_aspect_ratio) == (100, 60, 1)


def test_progress_as_json_and_the_log(tiny_weights: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=16)
    plain = [
        "upscale",
        source,
        tmp_path / "out.mp4",
        "--model",
        tiny_weights,
        *QUICK,
        "--window",
        "10",
        "--overwrite",
    ]
    code, stdout, stderr = in_process(*plain, "--progress", "json", "--log-file", tmp_path / "log")
    assert code == 0
    lines = [json.loads(line) for line in stderr.splitlines()]
    assert [line["frames"] for line in lines] == list(range(17))
    assert {line["total"] for line in lines} == {16}
    assert lines[0]["remaining"] is None
    assert lines[-1]["remaining"] == 0
    assert all(set(line) == {"frames", "total", "fps", "elapsed", "remaining", "part"} for line in lines)
    logged = (tmp_path / "log").read_text()
    assert "upscale to 256x192 h264" in logged
    assert "16 frames of 256x192, " in logged
    code, stdout, stderr = in_process(*plain, "--quiet")
    assert (code, stdout, stderr) == (0, "", "")
    code, stdout, stderr = in_process(*plain, "--verbose", "--progress", "none")
    assert code == 0
    assert "upscale to 256x192 h264" in stderr
    assert "fp32 on cpu" in stderr


def test_progress_of_unknown_length(capsys: pytest.CaptureFixture[str]) -> None:
    done = Progress(frames=7, total=None, part=2, elapsed_seconds=3.5, frames_per_second=2.0)
    with shown_progress("json", JobBar("in.mp4", "tiny")) as show:
        show(done)
    line = capsys.readouterr().err
    assert json.loads(line) == {"frames": 7, "total": None, "fps": 2, "elapsed": 3.5, "remaining": None, "part": 2}
    for mode in ("bar", "auto", "none"):
        with shown_progress(mode, JobBar("in.mp4", "tiny")) as show:
            show(done)
        err = capsys.readouterr().err
        assert ("in.mp4" in err and "2.00 fps" in err) if mode == "bar" else err == ""


def test_errors_are_logged(tmp_path: Path) -> None:
    code, _, _ = in_process("upscale", tmp_path / "missing.mp4", tmp_path / "out.mp4", "--log-file", tmp_path / "log")
    assert code == 1
    assert "ERROR" in (tmp_path / "log").read_text()


def test_bad_input_gives_one_line_and_leaves_nothing(tiny_weights: Path, tmp_path: Path) -> None:
    good = make_clip(tmp_path / "good.mp4", frames=2)
    empty = tmp_path / "empty.mp4"
    empty.touch()
    text = tmp_path / "text.mp4"
    text.write_text("not a video\n" * 100)
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(good.read_bytes()[:600])
    sound = make_sound(tmp_path / "sound.wav", 440, 0.2)
    pickle = tmp_path / "weights.pth"
    pickle.write_bytes(b"\x80\x04.")
    target = tmp_path / "out.mp4"
    plain = ["--model", tiny_weights]
    cases = [
        ([tmp_path / "missing.mp4", target, *plain], "missing.mp4"),
        ([empty, target, *plain], "empty.mp4"),
        ([text, target, *plain], "text.mp4"),
        ([cut, target, *plain], "cut.mp4"),
        ([sound, target, *plain], "sound.wav"),
        ([good, tmp_path / "no" / "out.mp4", *plain], f"the folder {tmp_path / 'no'} does not exist"),
        ([good, tmp_path / "out.txt", *plain], ".txt"),
        ([good, good, *plain], "is the input itself"),
        ([good, target, "--model", text], "text.mp4"),
        ([good, target, "--model", pickle], "can execute code"),
        ([good, target, "--model", tmp_path / "none.safetensors"], "no such weights file"),
        ([good, target, "--model", "nonsense"], "unknown weights 'nonsense'"),
        ([good, target, *plain, "--device", "cuda:7"], "cuda:7"),
        ([good, target, *plain, "--device", "abacus"], "abacus"),
        ([good, target, *plain, "--precision", "fp16"], "fp16"),
        ([good, target, *plain, "--codec", "divx"], "divx"),
        ([good, target, *plain, "--codec", "h264_nvenc"], "h264_nvenc is not usable"),
        ([good, target, *plain, "--preset", "warp"], "no preset 'warp'"),
        ([good, target, *plain, "--pix-fmt", "foo"], "'foo'"),
        ([good, target, *plain, "--encoder-arg", "nonsense=1"], "no option 'nonsense'"),
        ([good, target, *plain, "--log-file", tmp_path / "no" / "log"], "log"),
        ([good, target, *plain, "--start", "100"], "no frames"),
    ]
    for arguments, words in cases:
        code, stdout, stderr = in_process("upscale", *arguments)
        assert code == 1, (arguments, stderr)
        assert words in stderr
        assert stderr.startswith("error: ")
        assert stdout == ""
        assert len(stderr.strip().splitlines()) == 1, stderr
        assert not target.exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["--tile", "3"],
        ["--start", "1:99"],
        ["--start", "5", "--end", "2"],
        ["--max-frames", "0"],
        ["--crf", "x"],
        ["--encoder-arg", "tune"],
        ["--json", "--progress", "bar"],
        ["--progress", "loud"],
        ["--size", "5x"],
        ["--size", "1920"],
        ["--size", "fit:999p"],
        ["--scale", "2", "--fit", "1080p"],
        ["--size", "640x360", "--fit", "2160p"],
        ["--drop", "audio,everything"],
        ["--deinterlace", "sometimes"],
    ],
)
def test_wrong_usage_exits_with_2(tmp_path: Path, arguments: list[str]) -> None:
    assert in_process("upscale", "in.mp4", tmp_path / "out.mp4", *arguments)[0] == 2


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    done = ristn("upscale", tmp_path / "missing.mp4", tmp_path / "out.mp4", "--debug")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_after_a_part_and_the_same_command_goes_on(
    tiny_weights: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=80, width=112, height=80)
    arguments = ["upscale", source, tmp_path / "out.mp4", "--model", tiny_weights, *QUICK, "--window", "6"]
    command = [*COMMAND, *map(str, arguments), *SHORT_PARTS]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / ".out.mp4.ristn"
    deadline = time.monotonic() + 60
    while not (folder / "manifest.json").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == code, stderr
    assert "the same command resumes it" in stderr
    assert not (tmp_path / "out.mp4").exists()
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert [frame.time for frame in read_frames(tmp_path / "out.mp4")] == [Fraction(k, 25) for k in range(80)]
    assert not folder.exists()


def test_a_killed_run_is_taken_up_again(tiny_weights: Path, tmp_path: Path) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=60, width=112, height=80)
    arguments = ["upscale", source, tmp_path / "out.mp4", "--model", tiny_weights, *QUICK, "--window", "6"]
    command = [*COMMAND, *map(str, arguments), *SHORT_PARTS]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    manifest = tmp_path / ".out.mp4.ristn" / "manifest.json"
    deadline = time.monotonic() + 60
    while not manifest.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert not (tmp_path / "out.mp4").exists()
    assert json.loads(manifest.read_text())["parts"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(list(read_frames(tmp_path / "out.mp4"))) == 60


def test_evaluate_prints_tables_and_json(tiny_weights: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=4, width=96, height=64)
    arguments = ["evaluate", clip, "--model", tiny_weights, "--precision", "fp32", "--temporal-gain"]
    code, table, _ = in_process(*arguments)
    assert code == 0
    assert "clip" in table
    assert "temporal gain" in table
    code, stdout, _ = in_process(*arguments, "--json", "--skip", "1", "--model", "lanczos")
    assert code == 0
    scores = json.loads(stdout)
    assert scores["clips"]["clip"] == {"frames": 4, "scored": 2}
    assert scores["protocol"]["skip"] == 1
    assert list(scores["methods"]) == ["bicubic", "tiny", "lanczos"]
    # The tiny network is exactly bicubic, and reads its neighbours to no effect.
    bicubic, tiny = scores["methods"]["bicubic"]["mean"], scores["methods"]["tiny"]["mean"]
    assert tiny["psnr_y"] == pytest.approx(bicubic["psnr_y"], abs=0.02)
    assert tiny["temporal_gain"] == 0


def test_evaluate_scores_outputs_and_writes_a_report(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mkv", frames=4, width=96, height=64, codec="ffv1")
    frames = tmp_path / "outputs" / "clip"
    frames.mkdir(parents=True)
    for number, frame in zip(range(3), read_frames(clip), strict=False):
        write_image(frames / f"frame_{number:04}.jpg", frame.image)
    arguments = ["evaluate", clip, "--sr", frames.parent, "--report", tmp_path / "report", "--markdown"]
    code, stdout, stderr = in_process(*arguments)
    assert code == 0, stderr
    assert "| clip | frames | bicubic | outputs |" in stdout
    assert "| clip | 3 of 4 |" in stdout
    assert "Only the first were scored: 3 of 4 for clip" in stdout
    assert (tmp_path / "report" / "index.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    code, stdout, stderr = in_process(
        "evaluate", frames, "--stills", "--model", "lanczos", "--json", "--report", tmp_path
    )
    assert code == 0, stderr
    assert list(json.loads(stdout)["clips"]) == [f"frame_{number:04}" for number in range(3)]
    assert "Temporal profiles" not in (tmp_path / "index.html").read_text(encoding="utf-8")
    code, _, stderr = in_process(*arguments)
    assert code == 2
    assert "index.html already exists; use --overwrite" in " ".join(stderr.replace("│", "").split())
    assert in_process(*arguments, "--overwrite")[0] == 0
    code, _, stderr = in_process("evaluate", clip, "--sr", frames.parent, "--skip", "2")
    assert code == 2
    assert "leaves none to score" in stderr


def test_evaluate_compresses_lr_and_says_so(tiny_weights: Path, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=3, width=96, height=64)
    arguments = ["evaluate", clip, "--model", tiny_weights, "--precision", "fp32", "--crf", "28"]
    stated = "x264 crf 28"
    for more in ([], ["--markdown", "--report", tmp_path]):
        code, stdout, stderr = in_process(*arguments, *more)
        assert code == 0, stderr
        assert stated in " ".join(stdout.split())
    assert stated in (tmp_path / "index.html").read_text(encoding="utf-8")
    code, stdout, _ = in_process(*arguments, "--json")
    assert json.loads(stdout)["protocol"]["crf"] == 28
    for option in ("--lr", "--sr"):
        code, _, stderr = in_process(*arguments, option, tmp_path)
        assert code == 2
        assert "--crf compresses degraded frames" in stderr
    code, _, stderr = in_process(*arguments, "--mpeg2", "8")
    assert code == 2
    assert "--crf cannot be used with --mpeg2" in stderr
    code, stdout, _ = in_process(*arguments[:-2], "--mpeg4", "8")
    assert code == 0
    assert "MPEG-4 at quantizer scale 8 (4:2:0" in " ".join(stdout.split())


def test_train_then_upscale_with_what_it_made(tmp_path: Path) -> None:
    data = tmp_path / "data" / "clips"
    data.mkdir(parents=True)
    make_clip(data / "a.mp4", frames=6, width=128, height=96)
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        'name = "small"\nvalidate_every = 4\n'
        '[model]\npreset = "ristn-lite"\nlstm_layers = 1\nrefine_bottlenecks = 1\nbranch_one = [1]\nbranch_two = [1]\n'
        '[data]\nphotos = ""\nclips = "clips"\nvalidation = "clips"\ntext_share = 0.0\nclip_share = 1.0\n'
        '[[stages]]\nname = "only"\niterations = 4\nframes = 2\npatch = 8\nbatch = 1\n'
    )
    arguments = ["train", recipe, "--data", data.parent, "--output", tmp_path / "run", "--workers", "0"]
    code, _, stderr = in_process(*arguments)
    assert code == 0, stderr
    assert "step 4: loss" in stderr
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"checkpoint.pt", "log.jsonl", "curve.png", "small.safetensors"}
    code, stdout, stderr = in_process(
        "upscale", data / "a.mp4", tmp_path / "out.mp4", "--model", tmp_path / "run" / "small.safetensors", *QUICK
    )
    assert code == 0, stderr
    assert "6 frames" in stdout


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1:30", 90), ("0:01:30", 90), ("1:30.5", Fraction(181, 2)), ("0", 0), ("1:00:00", 3600)],
)
def test_times(text: str, seconds: Fraction) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "x", "1:60", "1:2:3:4", "-5", "1:-2"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_time(text)


@pytest.mark.parametrize(("seconds", "text"), [(None, "-:--"), (5, "0:05"), (65, "1:05"), (3700, "1:01:40")])
def test_seconds_are_shown(seconds: float | None, text: str) -> None:
    assert format_seconds(seconds) == text
