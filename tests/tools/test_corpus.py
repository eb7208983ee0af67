"""tools/corpus.py: it passes over what is well upscaled or well refused, and fails over everything else."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from clips import make_clip, make_picture, run_ffmpeg
from commands import load_tool

from ristn_cli.video import probe, write_image

TOOL = Path(__file__).parents[2] / "tools" / "corpus.py"


def read_rows(text: str) -> dict[str, list[str]]:
    """The cells of the table's rows, those without text left out, by the name of the file."""
    lines = text.splitlines()
    assert lines[0].split()[:3] == ["file", "exit", "frames"]
    return {line.split()[0]: [cell.strip() for cell in line.split("  ") if cell.strip()] for line in lines[1:-1]}


def make_corpus(folder: Path, scratch: Path) -> dict[str, str]:
    """A dozen small files of many kinds, and the verdict on each."""
    size = {"frames": 5, "width": 32, "height": 32}
    clips = [
        make_clip(scratch / "good.mp4", **size, audio_tracks=1, chapters=True, title="good"),
        make_clip(scratch / "silent.mov", **size),
        make_clip(scratch / "vfr.mkv", times=[0, 40, 300, 333, 1000], time_base=Fraction(1, 1000), width=32, height=24),
        make_clip(scratch / "turned.mp4", frames=3, width=48, height=32, rotation=90),
        make_clip(scratch / "odd.mkv", frames=3, width=33, height=17, codec="ffv1", pixel_format="yuv444p"),
        make_clip(scratch / "one.mkv", frames=1, width=32, height=32),
        make_clip(scratch / "deep.mkv", frames=3, width=32, height=32, codec="ffv1", pixel_format="yuv420p10le"),
        make_clip(scratch / "words.mkv", frames=25, width=16, height=16, audio_tracks=2, subtitles=True),
    ]
    for clip in clips:
        clip.rename(folder / clip.name)
    cut = make_clip(scratch / "cut.mp4", **size).read_bytes()
    (folder / "no-index.mp4").write_bytes(cut[: len(cut) * 2 // 3].replace(b"moov", b"free"))
    long = make_clip(scratch / "cut.mkv", frames=20, width=64, height=48).read_bytes()
    (folder / "cut.mkv").write_bytes(long[: len(long) * 6 // 10])
    run_ffmpeg("-i", folder / "good.mp4", "-c:v", "mpeg2video", "-c:a", "mp2", folder / "broadcast.ts")
    write_image(folder / "photo.png", make_picture(0, 24, 24))
    (folder / "zero.mp4").touch()
    (folder / "text.txt").write_text("This is no video.\n")
    refused = {"no-index.mp4", "zero.mp4", "text.txt"}
    return {path.name: "refused" if path.name in refused else "done" for path in folder.iterdir()}


def test_a_dozen_files_pass(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "scratch").mkdir()
    expected = make_corpus(tmp_path / "corpus", tmp_path / "scratch")
    words = [sys.executable, str(TOOL), str(tmp_path / "corpus"), "--seconds", "120"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert not done.stderr, done.stderr
    text = done.stdout
    rows = read_rows(text)
    verdicts = {name: next(cell for cell in rows[name] if cell in ("done", "refused", *FAILED)) for name in expected}
    assert {name: verdict for name, verdict in verdicts.items() if name != "cut.mkv"} == {
        name: verdict for name, verdict in expected.items() if name != "cut.mkv"
    }, text
    assert verdicts["cut.mkv"] in ("done", "wrong times"), text  # two decoders need not give up at the same frame
    assert done.returncode == 0, text
    assert rows["vfr.mkv"][1:5] == ["0", "5", "0.0 ms", "done"]
    assert rows["zero.mp4"][1:3] == ["1", "refused"]
    assert f"{len(expected)} files: " in text


FAILED = ("wrong times", "traceback", "hang", "crash", "late failure", "left-overs", "unclear refusal", "input changed")

STAND_IN = """
import os, shutil, sys, time
from pathlib import Path

source, target = Path(sys.argv[2]), Path(sys.argv[3])
kind = source.stem
if kind == "good":
    shutil.copy(source, target)
elif kind == "traceback":
    raise ValueError("no good")
elif kind == "hang":
    time.sleep(600)
elif kind == "crash":
    os.abort()
elif kind == "nothing":
    sys.exit(0)
elif kind == "late":
    sys.stderr.write('{"frames": 5}\\nerror: late.mkv: the finished file fails its check\\n')
    sys.exit(1)
elif kind == "left":
    shutil.copy(source, target)
    target.with_name(".out.mkv.ristn").mkdir()
elif kind == "temporary":
    Path(os.environ["TMPDIR"], "forgotten").touch()
    sys.exit(f"error: {source}: is not a video")
elif kind == "unclear":
    sys.exit("error: [Errno 95] Operation not supported")
elif kind == "lines":
    sys.exit(f"error: {source}: is not a video\\nand more")
elif kind == "changed":
    shutil.copy(source, target)
    source.write_bytes(b"")
elif kind == "late-frame":
    shutil.copy(source.with_name("good.mkv"), target)
elif kind == "refused":
    sys.exit(f"warning: odd\\nerror: {source}: is not a video")
"""
"""Stands in for `ristn`, and does with each file what its name says."""

EXPECTED = {
    "good": "done",
    "refused": "refused",
    "late-frame": "wrong times",
    "traceback": "traceback",
    "hang": "hang",
    "crash": "crash",
    "nothing": "crash",
    "late": "late failure",
    "left": "left-overs",
    "temporary": "left-overs",
    "unclear": "unclear refusal",
    "lines": "unclear refusal",
    "changed": "input changed",
}


@pytest.fixture
def stand_in(tmp_path: Path) -> str:
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    return f"{sys.executable} {tmp_path / 'stand_in.py'}"


def test_every_kind_of_failure_is_seen(tmp_path: Path, stand_in: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    good = make_clip(tmp_path / "a.mkv", times=[0, 40, 80, 120], time_base=Fraction(1, 1000), width=16, height=16)
    late = make_clip(tmp_path / "b.mkv", times=[0, 40, 90, 120], time_base=Fraction(1, 1000), width=16, height=16)
    for name in EXPECTED:
        (folder / f"{name}.mkv").write_bytes((late if name == "late-frame" else good).read_bytes())
    assert load_tool("corpus").main([str(folder), "--command", stand_in, "--seconds", "5"]) == 1
    text = capsys.readouterr().out
    rows = read_rows(text)
    assert {name: verdict in rows[f"{name}.mkv"] for name, verdict in EXPECTED.items()} == dict.fromkeys(EXPECTED, True)
    assert "frame 3 is at 0.080 s, expected 0.090 s" in text
    assert rows["late-frame.mkv"][3] == "10.0 ms"


@pytest.mark.parametrize(("name", "codes"), [("good", (0, 0)), ("late-frame", (0, 1)), ("traceback", (1, 1))])
def test_the_exit_code(tmp_path: Path, stand_in: str, name: str, codes: tuple[int, int]) -> None:
    """Wrong times fail only where that is asked for; `good.mkv` is there for the stand-in."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    for stem, ticks in (("good", [0, 40]), (name, [0, 40 if name == "good" else 50])):
        clip = make_clip(tmp_path / f"{stem}.mkv", times=ticks, time_base=Fraction(1, 1000), width=16, height=16)
        clip.replace(folder / f"{stem}.mkv")
    arguments = [str(folder), "--command", stand_in]
    tool = load_tool("corpus")
    assert (tool.main(arguments), tool.main([*arguments, "--strict-times"])) == codes


@pytest.mark.parametrize(("suffix", "codec", "name"), [(".webm", "av1", "av1"), (".mov", "prores", "prores")])
def test_outputs_of_another_kind(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    suffix: str,
    codec: str,
    name: str,
) -> None:
    folder, kept = tmp_path / "corpus", tmp_path / "kept"
    folder.mkdir()
    make_clip(tmp_path / "a.mkv", frames=2, width=32, height=32).replace(folder / "a.mkv")
    tool = load_tool("corpus")
    judge = tool.judge

    def keep(run: object, path: Path, place: Path, target: Path) -> object:
        kept.write_bytes(target.read_bytes())
        return judge(run, path, place, target)

    monkeypatch.setattr(tool, "judge", keep)
    assert tool.main([str(folder), "--suffix", suffix, "--codec", codec]) == 0
    assert "done" in read_rows(capsys.readouterr().out)["a.mkv"]
    assert probe(kept).codec == name
