"""What one shares tells nothing of whose machine made it: no folder, no host name, no user name is in it."""

import base64
import getpass
import json
import platform
import re
import socket
import zlib
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip
from PIL import Image
from typer.testing import CliRunner

from ristn_cli.bench import diagnosis, machine
from ristn_cli.bench.measure import Request, measure_case
from ristn_cli.bench.suite import make_report
from ristn_cli.cli import app

FOLDER, USER, HOST = "folder-qzxj", "user-qzxj", "host-qzxj"

QUICK = ["--device", "cpu", "--precision", "fp32", "--window", "6"]


@pytest.fixture
def home(tmp_path: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a user, with names that occur nowhere else, and with weights in it."""
    folder = tmp_path / FOLDER
    folder.mkdir()
    tiny_weights.rename(folder / "tiny.safetensors")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(platform, "node", lambda: HOST)
    monkeypatch.setattr(socket, "gethostname", lambda: HOST)
    monkeypatch.setattr(getpass, "getuser", lambda: USER)
    for name, value in {
        "USER": USER,
        "LOGNAME": USER,
        "USERNAME": USER,
        "HOSTNAME": HOST,
        "COMPUTERNAME": HOST,
    }.items():
        monkeypatch.setenv(name, value)
    return folder


def ristn(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def embedded(content: bytes) -> list[bytes]:
    """A file's content, and what is packed in it: pictures of a page, compressed text of a PNG."""
    pictures = [base64.b64decode(found) for found in re.findall(rb"base64,([A-Za-z0-9+/=]+)", content)]
    packed = [content, *(part for picture in pictures for part in embedded(picture))]
    for found in re.finditer(rb"(zTXt|iTXt|eXIf)", content):
        text = content[found.end() :]
        start = text.find(b"\x78")
        decompressor = zlib.decompressobj()
        try:
            packed.append(decompressor.decompress(text[start:]))
        except zlib.error:
            continue
    return packed


def assert_tells_nothing(content: bytes, what: str) -> None:
    home = str(Path.home())
    secrets = [FOLDER, USER, HOST, *([home] if len(home) > 5 else [])]
    for part in embedded(content):
        for secret in secrets:
            for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
                assert secret.encode(encoding) not in part, f"{what} contains {secret}"


@pytest.mark.parametrize("name", ["out.mp4", "out.mkv", "out.webm", "out.mov", "out/%05d.png"])
def test_results_tell_nothing_of_who_made_them(name: str, home: Path) -> None:
    source = make_clip(home / "in.mkv", frames=4, audio_tracks=1, chapters=True, title="A title")
    assert_tells_nothing(source.read_bytes(), "the source")
    target = home / name
    if "%" in name:
        target.parent.mkdir()
    codec = ["--codec", "av1"] if name.endswith(".webm") else []
    ristn("upscale", source, target, *codec, "--model", home / "tiny.safetensors", *QUICK)
    results = sorted(target.parent.glob("*.png")) if "%" in name else [target]
    assert results
    for result in results:
        assert_tells_nothing(result.read_bytes(), result.name)
    if "%" not in name:
        tags = json.loads(ristn("info", name, "--json"))
        assert_tells_nothing(json.dumps(tags).encode(), "its description")


def test_pages_pictures_and_reports_tell_nothing_of_who_made_them(home: Path) -> None:
    clips = [make_clip(home / f"{name}.mkv", frames=4, width=96, height=64) for name in "ab"]
    outputs = ["--output", home / "page.html", "--png", home / "strip.png", "--video", home / "split.mp4"]
    ristn("compare", *clips, *outputs)
    assert_tells_nothing(Path("page.html").read_bytes(), "a page of compare")
    assert_tells_nothing(Path("strip.png").read_bytes(), "a picture of compare")
    assert_tells_nothing(Path("split.mp4").read_bytes(), "a clip of compare")
    dataset = home / "dataset" / "scene"
    dataset.mkdir(parents=True)
    noise = np.random.default_rng(0)
    for index in range(3):
        Image.fromarray(noise.integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(dataset / f"{index}.png")
    arguments = ["evaluate", dataset.parent, "--model", home / "tiny.safetensors", *QUICK]
    said = ristn(*arguments, "--report", home / "report", "--failures", home / "failures.png", "--json")
    assert_tells_nothing(said.encode(), "the scores as JSON")
    assert_tells_nothing(Path("report/index.html").read_bytes(), "a report of evaluate")
    assert_tells_nothing(Path("failures.png").read_bytes(), "a picture of failures")


def test_a_benchmark_tells_nothing_of_who_made_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "MEASURED_SECONDS", 0.001)
    monkeypatch.setattr(machine, "PROCESSOR_SIZES", machine.Sizes(matrix=64, convolution_values=4096, copy_bytes=4096))
    weights = str(home / "tiny.safetensors")
    request = Request(
        network=weights, width=32, height=32, device="cpu", precision="fp32", seconds=1.0, network_only=True
    )
    report = make_report([measure_case(request, home)], "cpu")
    assert_tells_nothing(json.dumps(report.to_dict()).encode(), "a report of bench")


def test_progress_tells_nothing_of_who_made_it(home: Path) -> None:
    make_clip(home / "in.mkv", frames=8)
    command = ["upscale", "in.mkv", "out.mkv", "--model", "tiny.safetensors", *QUICK, "--progress", "json"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert_tells_nothing(done.output.encode(), "the progress")


def test_a_preview_tells_nothing_of_who_made_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ristn_cli.preview.choices.locate", lambda release: home / "tiny.safetensors")
    clip = make_clip(home / "in.mkv", frames=4, width=96, height=64)
    said = ristn("preview", clip, "--at", "0", "--precision", "fp32")
    assert_tells_nothing(said.encode(), "what preview prints")
    assert_tells_nothing(Path("in-preview.html").read_bytes(), "a page of preview")


@pytest.mark.usefixtures("home")
def test_the_text_of_a_bug_report_tells_nothing_of_who_made_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "measure_rate", lambda upscaler, seconds: 1.0)
    assert_tells_nothing(ristn("doctor", "--device", "cpu").encode(), "what doctor prints")
