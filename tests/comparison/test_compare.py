"""Comparisons: which frames and sizes belong together, and what page, strip and clip hold, pixel by pixel."""

import base64
import json
import re
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip, make_picture, rewrite_entries
from commands import in_process
from PIL import Image
from typer.main import get_command

from ristn_cli.cli import app
from ristn_cli.comparison import clip as compare_clip
from ristn_cli.comparison.alignment import (
    Crop,
    choose_times,
    common_size,
    distinct_labels,
    find_details,
    nearest_index,
)
from ristn_cli.comparison.clip import split_screen
from ristn_cli.comparison.matching import Moment, open_comparison
from ristn_cli.comparison.page import PageOptions, save_page
from ristn_cli.comparison.strip import COLORS, FRAME, LABEL_ROW, MARGIN, compose_strip
from ristn_cli.video import (
    Output,
    StreamPlan,
    VideoError,
    draw_label,
    probe,
    read_frames,
    read_image,
    resize_image,
    to_eight_bits,
    try_mux,
    write_image,
)

VOID = {"meta", "link", "br", "img", "input", "hr"}


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def seconds(*values: float) -> list[Fraction]:
    return [Fraction(value).limit_denominator(1000) for value in values]


def brightness(image: np.ndarray) -> int:
    """The index of a clip's frame, from its picture: `make_picture` grows by 3 levels a frame."""
    height, width = image.shape[:2]
    return round((float(image.mean()) - float(make_picture(0, width, height).mean())) / 3)


class Document(HTMLParser):
    """Tags of a page, which must nest, and the text of its data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.data = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"] and self.tags[-1][1].get("id") == "data":
            self.data += data


def test_the_nearest_time_is_found() -> None:
    times = seconds(0, 0.04, 0.08, 0.2)
    assert [nearest_index(times, time) for time in seconds(-1, 0, 0.019, 0.02, 0.021, 0.15, 0.2, 9)] == [
        *(0, 0, 0, 0, 1, 3, 3, 3)
    ]
    # Matroska rounds 1/30 s down to 0.033 s: still the second frame, not the first.
    assert nearest_index([Fraction(k, 30) for k in range(4)], Fraction(33, 1000)) == 1


def test_frames_are_chosen() -> None:
    times = [Fraction(k, 10) for k in range(100)]
    assert choose_times(times) == times
    assert choose_times(times, most=4) == seconds(0, 2.5, 5, 7.5)
    assert choose_times(times, most=1, start=Fraction(3)) == seconds(3)
    assert choose_times(times, start=Fraction(1), end=Fraction(13, 10)) == seconds(1, 1.1, 1.2)
    assert choose_times(times, every=30) == seconds(0, 3, 6, 9)
    assert choose_times(times, every=2, most=3, start=Fraction(1)) == seconds(1, 1.2, 1.4)
    assert choose_times(times, start=Fraction(99)) == []


def test_the_largest_size_is_common_and_shapes_must_agree() -> None:
    assert common_size([(320, 180), (1280, 720), (640, 360)]) == (1280, 720)
    assert common_size([(90, 70), (352, 272)]) == (352, 272)  # a border cut off before upscaling
    with pytest.raises(ValueError, match="640x480 and 1280x720 have different aspect ratios"):
        common_size([(640, 480), (1280, 720)])


def test_labels_differ() -> None:
    assert distinct_labels([Path("a/in.mp4"), Path("b/out.mkv")]) == ["in", "out"]
    assert distinct_labels([Path("x/clip.mp4"), Path("x/clip.mkv")]) == ["clip.mp4", "clip.mkv"]
    assert distinct_labels([Path("x/clip.mp4"), Path("y/clip.mp4")]) == ["x/clip.mp4", "y/clip.mp4"]
    twice = distinct_labels([Path("clip.mp4"), Path("clip.mp4")])
    assert [label[-12:] for label in twice] == ["clip.mp4 (1)", "clip.mp4 (2)"]


def test_the_most_detailed_places_are_found() -> None:
    image = np.full((60, 100, 3), 128, np.uint8)
    image[10:20, 70:80] = noise(10, 10)
    image[40:50, 15:25] = noise(10, 10, 1) // 2 + 64  # half the contrast
    found = find_details(image, 12, 2)
    assert [(crop.width, crop.height) for crop in found] == [(12, 12)] * 2
    assert abs(found[0].x - 69) <= 1
    assert abs(found[0].y - 9) <= 1
    assert abs(found[1].x - 14) <= 1
    assert abs(found[1].y - 39) <= 1
    assert find_details(image[:8, :8], 12, 3) == [Crop(0, 0, 8, 8)]


def test_frames_of_different_rates_are_matched_by_time(tmp_path: Path) -> None:
    slow = make_clip(tmp_path / "slow.mp4", frames=5, rate=25)
    fast = make_clip(tmp_path / "fast.mkv", frames=12, rate=50, width=128, height=96)
    comparison = open_comparison([slow, fast])
    assert (comparison.width, comparison.height, comparison.reference) == (128, 96, 0)
    moments = comparison.moments()
    assert moments == [Moment(Fraction(k, 25), (k, 2 * k)) for k in range(5)]
    read = list(comparison.read(moments[1:4]))
    assert [[brightness(image) for image in images] for images in read] == [[1, 2], [2, 4], [3, 6]]
    assert [image.shape for image in read[0]] == [(48, 64, 3), (96, 128, 3)]


def test_only_times_that_all_inputs_cover_are_compared(tmp_path: Path) -> None:
    long = make_clip(tmp_path / "long.mp4", frames=10, times=[100 + k for k in range(10)])
    short = make_clip(tmp_path / "short.mp4", frames=4)
    assert [m.frames for m in open_comparison([long, short]).moments()] == [(k, k) for k in range(4)]
    cut = open_comparison([long, short], offset=Fraction(3, 25))
    assert cut.moments() == [Moment(Fraction(k + 3, 25), (k + 3, k)) for k in range(4)]
    assert [[brightness(image) for image in images] for images in cut.read(cut.moments()[:2])] == [[3, 0], [4, 1]]
    # A cut between two frames begins with the later one.
    assert open_comparison([long, short], offset=Fraction(1, 10)).moments() == cut.moments()
    with pytest.raises(VideoError, match=r"do not overlap in time; .* with --offset"):
        open_comparison([long, short], offset=Fraction(2)).moments()
    with pytest.raises(VideoError, match=r"no frames between --start and --end; .* overlap from 0 s to 0.12 s"):
        open_comparison([long, short]).moments(start=Fraction(1))


def test_frames_far_apart_are_sought(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=16, rate=2)
    comparison = open_comparison([clip, clip])
    images = list(comparison.read(comparison.moments(every=5)))
    assert [[brightness(image) for image in pair] for pair in images] == [[k, k] for k in (0, 5, 10, 15)]


def test_stills_stay_and_folders_take_the_frames_in_turn(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", frames=4, rate=10)
    folder = tmp_path / "folder"
    folder.mkdir()
    for k in range(3):
        write_image(folder / f"{k:03}.png", make_picture(k + 5, 64, 48))
    still = tmp_path / "still.png"
    write_image(still, make_picture(9, 32, 24))
    comparison = open_comparison([still, folder, clip])
    assert comparison.reference == 2
    moments = comparison.moments()
    assert moments == [Moment(Fraction(k, 10), (0, k, k)) for k in range(3)]
    found = [[brightness(image) for image in images] for images in comparison.read(moments)]
    assert found == [[9, 5, 0], [9, 6, 1], [9, 7, 2]]
    assert open_comparison([still, still]).is_still


def test_deep_pictures_are_rounded() -> None:
    deep = np.array([[[0, 128, 129], [65535, 65406, 32768]]], np.uint16)
    assert to_eight_bits(deep).tolist() == [[[0, 0, 1], [255, 254, 128]]]


def test_pictures_are_enlarged() -> None:
    image = noise(7, 5)
    assert np.array_equal(resize_image(image, 28, 20, "nearest"), image.repeat(4, axis=0).repeat(4, axis=1))
    smooth = np.asarray(Image.fromarray(image).resize((28, 20), Image.Resampling.BICUBIC))
    assert np.array_equal(resize_image(image, 28, 20), smooth)


def test_labels_are_drawn_and_shortened() -> None:
    image = np.full((40, 200, 3), 200, np.uint8)
    draw_label(image, "lite", x=10, y=5, width=180, size=16)
    inked = (image != 200).any(axis=2)
    columns = np.flatnonzero(inked.any(axis=0))
    assert columns[0] == 10
    assert 30 < columns[-1] < 80
    assert image[5:30, 10 : columns[-1]].max() == 255  # letters
    assert tuple(image[6, 11]) == (24, 24, 27)
    draw_label(image, "a very long name of a very long clip", x=10, y=5, width=100, size=16)
    assert np.flatnonzero((image != 200).any(axis=(0, 2)))[-1] < 110


def make_pair(folder: Path, frames: int = 3) -> list[Path]:
    return [
        make_clip(folder / "source.mp4", frames=frames, width=64, height=48, audio_tracks=1),
        make_clip(folder / "out.mkv", frames=frames, width=256, height=192),
    ]


def read_page(path: Path) -> tuple[str, Document, dict]:
    page = path.read_text(encoding="utf-8")
    document = Document(page)
    return page, document, json.loads(document.data)


def test_the_page_holds_every_picture_and_fetches_nothing(tmp_path: Path) -> None:
    sources = make_pair(tmp_path)
    path = tmp_path / "page.html"
    comparison = open_comparison(sources, labels=["<b>source</b>", "</script>"])
    assert save_page(comparison, path, PageOptions()) == 3
    page, document, data = read_page(path)
    assert page.startswith("<!doctype html>")
    assert not re.search(r"(?i)(?:https?:)?//[a-z0-9]", re.sub(r"base64,[^\"]*|^\s*//.*$", "", page, flags=re.M))
    assert "http" not in re.sub(r"base64,[^\"]*|http-equiv", "", page)
    policy = next(attributes["content"] for tag, attributes in document.tags if "http-equiv" in attributes)
    assert (policy or "").startswith("default-src 'none'")
    assert [tag for tag, attributes in document.tags if "src" in attributes] == []
    assert (data["width"], data["height"], data["scaling"]) == (256, 192, "bicubic")
    assert [(s["label"], s["width"]) for s in data["sources"]] == [("<b>source</b>", 64), ("</script>", 256)]
    assert [frame["time"] for frame in data["frames"]] == [0, 0.04, 0.08]
    for k, clip in enumerate(sources):
        for frame, expected in zip(data["frames"], read_frames(clip), strict=True):
            kind, _, content = data["sources"][k]["images"][frame["images"][k]].partition(",")
            assert kind == "data:image/png;base64"
            (tmp_path / "picture.png").write_bytes(base64.b64decode(content))
            assert np.array_equal(read_image(tmp_path / "picture.png"), expected.image)


def test_the_page_is_accessible(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    save_page(open_comparison(make_pair(tmp_path, 1)), path, PageOptions())
    _, document, _ = read_page(path)
    ids = [attributes["id"] for _, attributes in document.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    slider = next(attributes for _, attributes in document.tags if attributes.get("role") == "slider")
    assert slider["tabindex"] == "0"
    assert slider["aria-valuemin"] == "0"
    assert slider["aria-valuemax"] == "100"
    for tag, attributes in document.tags:
        if tag == "button" and "id" in attributes:
            assert attributes.get("aria-label"), attributes
    assert next(attributes for tag, attributes in document.tags if tag == "html")["lang"] == "en"


def test_a_picture_that_stays_is_carried_once(tmp_path: Path) -> None:
    still = tmp_path / "still.png"
    write_image(still, make_picture(0, 64, 48))
    save_page(open_comparison([still, make_clip(tmp_path / "clip.mp4", frames=3)]), tmp_path / "p.html", PageOptions())
    _, _, data = read_page(tmp_path / "p.html")
    assert [len(source["images"]) for source in data["sources"]] == [1, 3]
    assert [frame["images"] for frame in data["frames"]] == [[0, 0], [0, 1], [0, 2]]


def test_the_size_of_the_page_is_bounded(tmp_path: Path) -> None:
    folders = [tmp_path / "a", tmp_path / "b"]
    for seed, folder in enumerate(folders):
        folder.mkdir()
        for k in range(8):
            write_image(folder / f"{k}.png", noise(64, 64, 10 * seed + k))
    comparison = open_comparison(folders)
    path = tmp_path / "page.html"
    frame_bytes = 2 * 64 * 64 * 3 * 4 / 3  # noise does not compress
    limit = round(4.5 * frame_bytes)
    assert save_page(comparison, path, PageOptions(limit_bytes=limit)) == 4
    assert limit - frame_bytes < path.stat().st_size < limit + 50_000
    _, _, data = read_page(path)
    assert [frame["time"] for frame in data["frames"]] == [0, 0.08, 0.16, 0.24]  # spread over all eight
    with pytest.raises(
        VideoError, match=r"page\.html: only 4 of 6 frames of 64x64 and 64x64 .* --frames 4, a larger --limit"
    ):
        save_page(comparison, path, PageOptions(limit_bytes=limit, most=6))
    with pytest.raises(VideoError, match=r"not even one frame .*--quality 95 \(JPEG\)"):
        save_page(comparison, path, PageOptions(limit_bytes=1000))
    assert save_page(comparison, path, PageOptions(limit_bytes=limit, most=6, quality=50)) == 6


def test_the_strip_holds_the_crops_pixel_by_pixel() -> None:
    images = [noise(200, 100, 1), noise(200, 100, 2)]
    crops = [Crop(10, 20, 64, 64), Crop(130, 5, 32, 40)]
    strip = compose_strip(images, ["a", "b"], crops, 1, "title")
    zoom = 4
    grid = (64 + 40) * zoom + 4 * FRAME + MARGIN
    top, first = MARGIN + LABEL_ROW, 2 * MARGIN + 2 * grid
    column = 64 * zoom + 2 * FRAME + MARGIN
    assert strip.shape == (top + grid + MARGIN, first + 2 * column, 3)
    for k, image in enumerate(images):
        y = top
        for number, crop in enumerate(crops):
            x = first + k * column
            assert tuple(strip[y, x]) == COLORS[number]
            cut = image[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
            found = strip[y + FRAME : y + FRAME + zoom * crop.height, x + FRAME : x + FRAME + zoom * crop.width]
            assert np.array_equal(found, np.kron(cut, np.ones((zoom, zoom, 1), np.uint8)))
            y += crop.height * zoom + 2 * FRAME + MARGIN
    overview = strip[top : top + grid, MARGIN : MARGIN + 2 * grid]
    assert np.array_equal(overview[:16], resize_image(images[1], 2 * grid, grid)[:16])
    scale = grid / 100
    assert tuple(overview[round(50 * scale), round(10 * scale) - 1]) == COLORS[0]
    assert tuple(strip[0, 0]) == (255, 255, 255)


def test_the_split_screen_is_made_of_bands() -> None:
    images = [np.full((96, 120, 3), value, np.uint8) for value in (40, 120, 200)]
    split = split_screen(images, ["a", "b", "c"])
    row = split[80, :, 0]
    assert row[:39].tolist() == [40] * 39
    assert row[39:41].tolist() == [255] * 2
    assert row[41:79].tolist() == [120] * 38
    assert row[81:].tolist() == [200] * 39
    for x in (5, 45, 85):
        assert tuple(split[6, x]) == (24, 24, 27)  # the ground of a label


def test_all_outputs_at_once(tmp_path: Path) -> None:
    sources = make_pair(tmp_path, 6)
    page, strip, clip = (tmp_path / name for name in ("page.html", "strip.png", "split.mp4"))
    asked = ("compare", *sources, "--output", page, "--png", strip, "--video", clip)
    code, out, err = in_process(*asked, "--crop", "100,50,64,64", "--frames", "2", "--label", "before")
    assert code == 0, err
    assert len(out.splitlines()) == 3
    assert "2 frames of 2 inputs at 256x192" in out
    assert read_page(page)[2]["sources"][0]["label"] == "before"
    shown = read_image(strip)
    grid = 64 * 4 + 2 * FRAME
    x = 2 * MARGIN + round(256 * grid / 192) + grid + MARGIN
    top = MARGIN + LABEL_ROW
    found = shown[top + FRAME : top + FRAME + 256 : 4, x + FRAME : x + FRAME + 256 : 4]
    frames = [frame.image for frame in read_frames(sources[1])]
    assert any(np.array_equal(found, frame[50:114, 100:164]) for frame in (frames[0], frames[3]))
    info = probe(clip)
    assert (info.width, info.height) == (256, 192)
    assert "audio" in {stream.kind for stream in info.streams}
    assert [frame.time for frame in read_frames(clip)] == [Fraction(k, 25) for k in range(6)]
    split = [frame.image for frame in read_frames(clip)]
    for k, (small, large) in enumerate(zip(read_frames(sources[0]), frames, strict=True)):
        left = resize_image(small.image, 256, 192)
        assert np.abs(split[k][60:, 4:120].astype(int) - left[60:, 4:120]).mean() < 2
        assert np.abs(split[k][60:, 136:].astype(int) - large[60:, 136:]).mean() < 2


def test_sound_that_the_container_does_not_take_is_left_out_of_the_clip(tmp_path: Path) -> None:
    source = rewrite_entries(make_clip(tmp_path / "in.mp4", frames=3, audio_tracks=2), {b"mp4a": b"xaud"})
    clip = tmp_path / "compared.mp4"
    code, _, stderr = in_process("compare", source, make_clip(tmp_path / "other.mp4", frames=3), "--video", clip)
    assert code == 0, stderr
    assert [stream.kind for stream in probe(clip).streams] == ["video"]


def test_a_clip_of_deep_inputs_is_tried_with_the_codec_that_it_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = [make_clip(tmp_path / f"{name}.mkv", frames=3, pixel_format="yuv420p10le") for name in ("a", "b")]
    tried: list[object] = []

    def spy(output: Output, target: Path, **more: bool) -> tuple[StreamPlan, ...]:
        tried.append((output.encoder.codec, output.source.bit_depth))
        return try_mux(output, target, **more)

    monkeypatch.setattr(compare_clip, "try_mux", spy)
    code, _, stderr = in_process("compare", *sources, "--video", tmp_path / "out.mp4")
    assert code == 0, stderr
    found = probe(tmp_path / "out.mp4")
    assert tried == [(found.codec, found.bit_depth)] == [("h264", 8)]


def test_a_range_of_the_clip_keeps_its_audio(tmp_path: Path) -> None:
    sources = make_pair(tmp_path, 12)
    clip = tmp_path / "split.mkv"
    code, _, err = in_process("compare", *sources, "--video", clip, "--start", "0.12", "--end", "0.32")
    assert code == 0, err
    assert [brightness(frame.image[60:]) for frame in read_frames(clip)] == pytest.approx([3, 4, 5, 6, 7], abs=1.1)
    info = probe(clip)
    assert info.start_time == 0
    assert "audio" in {stream.kind for stream in info.streams}
    assert not (tmp_path / "compare.html").exists()
    assert sorted(path.name for path in tmp_path.glob("ristn-*")) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["source.mp4"], 2, "two or more inputs"),
        (["source.mp4", "out.mkv", "--output", "out.mkv"], 2, "one of the inputs"),
        (["source.mp4", "out.mkv", "--output", "there.html"], 2, "use --overwrite"),
        (["source.mp4", "out.mkv", "--png", "a.png", "--video", "a.png"], 2, "the name of two outputs"),
        (["source.mp4", "out.mkv", "--png", "a.png", "--crop", "1,2,3"], 2, "is not a crop"),
        (["source.mp4", "out.mkv", "--png", "a.gif"], 2, "ends in .png or .jpg"),
        (["source.mp4", "out.mkv", "--video", "a.gif"], 1, "a.gif"),
        (["source.mp4", "out.mkv", "--crop", "1,2,3,4"], 2, "--crop is only for --png"),
        (["source.mp4", "out.mkv", "--png", "a.png", "--crop", "250,0,10,10"], 1, "does not lie in 256x192 pixels"),
        (["source.mp4", "wide.png"], 1, "expected the same aspect ratio"),
        (["still.png", "still.png", "--video", "a.mp4"], 1, "--video needs at least one video"),
        (["source.mp4", "nothing.mp4"], 1, "no such file"),
    ],
)
def test_contradictory_options_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    make_pair(tmp_path, 1)
    Path("there.html").write_text("mine", encoding="utf-8")
    write_image("wide.png", noise(64, 20))
    write_image("still.png", noise(64, 48))
    found, _, err = in_process("compare", *arguments)
    assert found == code
    assert message in re.sub(r"[\s│]+", " ", err)
    assert Path("there.html").read_text(encoding="utf-8") == "mine"
    assert not Path("a.png").exists()
    assert not Path("a.mp4").exists()


def test_every_option_is_documented_and_no_other() -> None:
    document = (Path(__file__).parents[2] / "docs" / "compare.md").read_text(encoding="utf-8")
    command = get_command(app).commands["compare"]  # type: ignore[attr-defined]
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    assert set(re.findall(r"--[a-z]+", document)) == options - {"--debug", "--help"}
