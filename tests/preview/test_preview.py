"""`ristn preview`: which moments and places it shows, what it makes of them, and what it says the whole would take."""

import json
import re
import shlex
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from commands import in_process
from previews import RATE, blocks, make_choice, moving, open_choice, write_video

from ristn_cli.comparison.alignment import Crop, find_place
from ristn_cli.html_pages import POLICY
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.job.plan import count_windows
from ristn_cli.preview import costs
from ristn_cli.preview.commands import Form, name_output, quote, quote_path, settle_form
from ristn_cli.preview.costs import Encoded, Span, describe_bytes, describe_seconds, estimate_seconds
from ristn_cli.preview.making import Preview, make_preview
from ristn_cli.preview.moments import choose_moments, rate_look
from ristn_cli.video import Frame, probe, read_image, resize_image, write_image
from ristn_cli.weights import RELEASES, Release

WIDTH, HEIGHT = 96, 64


@pytest.fixture
def released(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny weights stand for all that are released; the working folder is theirs."""
    monkeypatch.setattr("ristn_cli.preview.choices.locate", lambda release: tiny_weights)
    monkeypatch.chdir(tiny_weights.parent)
    return tiny_weights


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Three seconds of two scenes."""
    return write_video(tmp_path / "in.mp4", moving(1, 24, WIDTH, HEIGHT) + moving(2, 6, WIDTH, HEIGHT))


def preview_of(source: Path, weights: Path, **options: object) -> Preview:
    choices = [make_choice("tiny", weights, recommendation="tests say so")]
    return make_preview(probe(source), choices, open_choice, **options)  # type: ignore[arg-type]


def test_moments_are_spread_and_neither_black_nor_fading(tmp_path: Path) -> None:
    images = []
    for stretch in range(4):  # 4 s each: black, a fade, then something to see
        scene = blocks(stretch, WIDTH, HEIGHT)
        images += [np.zeros_like(scene)] * 13
        images += [(scene * (k / 13)).astype(np.uint8) for k in range(13)]
        images += [np.roll(scene, k, axis=1) for k in range(14)]
    _, job = settle_form(probe(write_video(tmp_path / "in.mp4", images)), UpscaleOptions())
    moments = choose_moments(job)
    assert [float(moment.time) for moment in moments] == pytest.approx([3.4 + 4 * k for k in range(4)], abs=0.11)
    for stretch, moment in enumerate(moments):
        index = round(moment.time * RATE) - 40 * stretch - 26
        expected = np.roll(blocks(stretch, WIDTH, HEIGHT), index, axis=1)
        assert abs(moment.image.astype(int) - expected).mean() < 20  # chroma has half the size


def test_a_black_video_has_moments_all_the_same(tmp_path: Path) -> None:
    source = write_video(tmp_path / "in.mp4", [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 8)
    _, job = settle_form(probe(source), UpscaleOptions())
    assert 1 <= len(choose_moments(job)) <= 4


def test_a_sharp_frame_is_rated_above_a_soft_a_fading_and_a_black_one() -> None:
    sharp = blocks(0, WIDTH, HEIGHT)
    soft = resize_image(resize_image(sharp, 24, 16), WIDTH, HEIGHT)
    looks = {
        "sharp": [sharp, sharp],
        "soft": [soft, soft],
        "fading": [sharp, sharp // 2],
        "black": [sharp // 16] * 2,
    }
    rated = {
        name: rate_look([Frame(image, Fraction(k), None) for k, image in enumerate(images)])
        for name, images in looks.items()
    }
    assert rated["sharp"] > rated["soft"] > max(rated["fading"], rated["black"])


def test_the_place_is_the_one_with_the_detail() -> None:
    image = np.full((240, 320, 3), 128, np.uint8)
    image[60:180, 100:260] = blocks(3, 160, 120)
    assert find_place(image, 160, 120) == Crop(100, 60, 160, 120)
    assert find_place(image[:50, :70], 160, 120) == Crop(0, 0, 70, 50)


def test_what_is_shown_is_what_an_upscale_gives(clip: Path, tiny_weights: Path, tmp_path: Path) -> None:
    crop = Crop(24, 16, 40, 32)
    made = preview_of(clip, tiny_weights, times=[Fraction(1)], crop=crop)
    target = tmp_path / "whole" / "%05d.png"
    target.parent.mkdir()
    code, _, stderr = in_process("upscale", clip, target, "--model", tiny_weights, "--precision", "fp32")
    assert code == 0, stderr
    wholes = [read_image(path)[64:192, 96:256] for path in sorted(target.parent.iterdir())]
    (result,) = made.results
    assert abs(result.stills[0].astype(int) - wholes[10]).max() <= 1
    assert len(result.clip) == 20
    wholes = wholes[4:24]  # two seconds, to the end of the scene
    for image, whole in zip(result.clip, wholes, strict=True):
        assert abs(image.astype(int) - whole).max() <= 1


def test_the_clip_lasts_two_seconds_of_one_scene(clip: Path, tiny_weights: Path) -> None:
    (excerpt,) = preview_of(clip, tiny_weights, times=[Fraction(1)]).excerpts
    assert sum(excerpt.durations) == pytest.approx(2)  # begins earlier than the moment: the scene ends at 2.4 s
    times = [time for piece in excerpt.pieces[excerpt.shown.start : excerpt.shown.stop] for time in piece.times]
    assert times[-1] == Fraction(23, RATE)


def test_times_come_from_the_forecast_of_a_dry_run(
    clip: Path, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, job = settle_form(probe(clip), UpscaleOptions())
    upscaler = open_choice(make_choice("tiny", tiny_weights))
    upscaler.fit(WIDTH, HEIGHT)
    monkeypatch.setattr(costs, "measure_window", lambda job, upscaler: 3.0)
    windows = count_windows(30, upscaler.tiling)
    encoded = Encoded(key_bytes=1, other_bytes=1, seconds_per_pixel=1e-6)
    encoding = 30 * 16 * WIDTH * HEIGHT * 1e-6
    span = estimate_seconds(job, upscaler, [], encoded, distinct=1)
    assert span.low == span.high == pytest.approx(3 * windows + encoding)
    half = estimate_seconds(job, upscaler, [], encoded, distinct=0.5)
    assert (half.low, half.high) == pytest.approx((1.5 * windows + encoding, 3 * windows + encoding))


def test_the_size_is_about_that_of_the_file(clip: Path, tiny_weights: Path, tmp_path: Path) -> None:
    (result,) = preview_of(clip, tiny_weights, times=[Fraction(0)]).results
    target = tmp_path / "out.mp4"
    code, _, stderr = in_process("upscale", clip, target, "--model", tiny_weights, "--precision", "fp32")
    assert code == 0, stderr
    assert result.bytes.low < target.stat().st_size < result.bytes.high


def test_figures_are_readable() -> None:
    assert describe_seconds(Span(39.6, 40.4)) == "about 40 s"
    assert describe_seconds(Span(0.1, 90)) == "1 s to 2 min"
    assert describe_seconds(Span(2 * 3600 + 600, 3 * 3600)) == "2 h 10 min to 3 h"
    assert describe_seconds(Span(50 * 3600, 60 * 3600)) == "2.1 days to 2.5 days"
    assert describe_bytes(Span(0.8e9, 1.9e9)) == "0.8 to 1.9 GB"
    assert describe_bytes(Span(908, 910)) == "about 0.91 kB"


def test_the_output_has_a_name_that_nothing_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert name_output(Path("a/in.avi"), "lite", Form(".mkv")) == Path("in-lite.mkv")
    Path("in-lite.mkv").touch()
    assert name_output(Path("a/in.avi"), "lite", Form(".mkv")) == Path("in-lite-2.mkv")


def test_commands_are_words_of_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert quote_path(tmp_path / "a b.mp4") == "'a b.mp4'"
    assert quote_path(Path("-a.mp4")) == "./-a.mp4"
    assert shlex.split(quote("it's $HOME")) == ["it's $HOME"]
    assert quote("a\nb") == "$'a\\x0ab'"


def test_the_page_holds_all_and_needs_nothing(clip: Path, released: Path) -> None:
    code, stdout, stderr = in_process("preview", clip, "--precision", "fp32")
    assert code == 0, stderr
    page = Path("in-preview.html").read_text(encoding="utf-8")
    assert POLICY in page
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    assert "http" not in re.sub(r"base64,[A-Za-z0-9+/=]+", "", page).replace("http-equiv", "")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert found is not None
    data = json.loads(found[1])
    assert [source["label"] for source in data["sources"]] == ["source", "bicubic", *RELEASES]
    assert len(data["frames"]) >= 2
    assert page.count('<img class="clip') == 2 + len(RELEASES)
    assert page.count('class="badge"') == 1
    commands = [line for line in stdout.splitlines() if line.startswith("ristn upscale ")]
    assert commands == [f"ristn upscale in.mp4 in-{name}.mp4 --model {name} --precision fp32" for name in RELEASES]
    assert all(f"<code>{command}</code>" in page for command in commands)
    assert stdout.splitlines()[-1] == "in-preview.html: open this page in a browser"
    assert all(name in stdout for name in RELEASES)


def test_the_command_makes_the_output(clip: Path, released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, stdout, _ = in_process("preview", clip, "--precision", "fp32", "--at", "0.5", "--model", "ristn-lite")
    (command,) = [line for line in stdout.splitlines() if line.startswith("ristn ")]
    monkeypatch.setattr("ristn_cli.weights.interpolation.find_weights", lambda name: released)
    code, _, stderr = in_process(*shlex.split(command)[1:])
    assert code == 0, stderr
    assert probe(Path("in-ristn-lite.mp4")).width == 4 * WIDTH


def test_new_weights_appear_by_themselves(clip: Path, released: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    new = replace(RELEASES["ristn-lite"], name="ristn-new")
    monkeypatch.setitem(RELEASES, "ristn-new", new)
    places: dict[str, Path | None] = {"ristn-new": released, "ristn-lite": released}

    def locate(release: Release) -> Path | None:
        return places.get(release.name)

    monkeypatch.setattr("ristn_cli.preview.choices.locate", locate)
    monkeypatch.setattr("ristn_cli.weights.interpolation.find_weights", lambda name: released)
    code, stdout, stderr = in_process("preview", clip, "--precision", "fp32", "--at", "1")
    assert code == 0, stderr
    assert "in-ristn-new.mp4 --model ristn-new" in stdout
    assert "not on this machine: ristn-lite-real, ristn-lite-sharp; use ristn" in stderr.replace("\n", " ")
    assert "ristn download-weights ristn-lite-real" in Path("in-preview.html").read_text(encoding="utf-8")
    places.clear()
    code, _, stderr = in_process("preview", clip, "--overwrite")
    assert code == 1
    assert "use ristn download-weights" in stderr


def test_a_picture_and_a_folder_of_pictures(released: Path) -> None:
    write_image(Path("still.png"), blocks(0, 40, 24))
    Path("frames").mkdir()
    for number, image in enumerate(moving(1, 4, 40, 24)):
        write_image(Path(f"frames/{number:03}.png"), image)
    for source, output in (("still.png", "still-ristn-lite.png"), ("frames", "frames-ristn-lite/%05d.png")):
        code, stdout, stderr = in_process("preview", source, "--precision", "fp32", "--model", "ristn-lite")
        assert code == 0, stderr
        assert f"ristn upscale {source} {output} --model ristn-lite" in stdout
    page = Path("still-preview.html").read_text(encoding="utf-8")
    assert '<img class="clip' not in page  # nothing moves in it
    assert '<img class="clip' in Path("frames-preview.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-"], 2, "name a file"),
        (["in.mp4", "page.txt"], 2, "ends in .html"),
        (["in.mp4", "--crop", "1,2,3"], 2, "expected x,y,width,height"),
        (["in.mp4", "--at", "noon"], 2, "is not a time"),
        (["in.mp4", "--at", "0:30"], 1, "--at 30 s is after its last frame; the duration is about 3.0 s"),
        (["in.mp4", "--crop", "80,0,40,40"], 1, "is not within its 96x64 pixels"),
        (["in.mp4", "--model", "nonsense"], 1, "unknown weights 'nonsense'"),
        (["in.mp4", "there.html"], 2, "use --overwrite"),
        (["still.png", "--at", "1"], 2, "single image"),
        (["missing.mp4"], 1, "missing.mp4"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], code: int, message: str, clip: Path, released: Path) -> None:
    Path("there.html").touch()
    write_image(Path("still.png"), blocks(0, 40, 24))
    found, _, stderr = in_process("preview", *arguments)
    assert found == code
    assert message in " ".join(re.sub(r"[│╭╮╰╯─]", " ", stderr).split())
    assert not list(Path().glob("*-preview.html"))
