"""Tables, JSON and the HTML report of an evaluation, from frames that are made here."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from ristn_cli.evaluation.charts import COLOURS, INK, Series, draw_chart
from ristn_cli.evaluation.dataset import plan_clips
from ristn_cli.evaluation.gallery import HEAT, Gallery, Place, find_place, frame_crop, show_error, shrink_to
from ristn_cli.evaluation.methods import Interpolation, Outputs
from ristn_cli.evaluation.report import make_report
from ristn_cli.evaluation.scoring import Protocol, evaluate_clip
from ristn_cli.evaluation.tables import (
    MethodScores,
    Results,
    clip_table,
    describe_protocol,
    method_table,
    to_json,
    to_markdown,
)
from ristn_cli.video import write_image

VOID = {"meta", "link", "img", "br"}


class Outline(HTMLParser):
    """Checks that tags close in order, and keeps what a test looks for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
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


def results_of(folder: Path, protocol: Protocol | None = None) -> tuple[Results, Gallery]:
    """Two clips of 5 and 4 frames of 72x64, bicubic, and outputs that lack the first clip's last frame."""
    protocol = protocol or Protocol()
    rng = np.random.default_rng(0)
    for name, frames in (("first & best", 5), ("second", 4)):
        for kind, count in (("hr", frames), ("sr", min(frames, 4))):
            (folder / kind / name).mkdir(parents=True)
            for k in range(count):
                image = rng.integers(0, 256, (64, 72, 3), dtype=np.uint8)
                write_image(folder / kind / name / f"{k}.png", image)
    methods = [Interpolation("bicubic"), Outputs("theirs", folder / "sr")]
    clips = plan_clips(folder / "hr", [folder / "sr"])
    gallery = Gallery(clips, [method.name for method in methods], protocol)
    scores = [
        MethodScores(
            method.name,
            tuple(
                evaluate_clip(
                    clip,
                    method,
                    protocol,
                    on_frame=lambda frame, clip=clip.name, name=method.name: gallery.add(clip, name, frame),
                )
                for clip in clips
            ),
        )
        for method in methods
    ]
    return Results(protocol, tuple(clips), tuple(scores)), gallery


def test_tables_state_means_and_protocol(tmp_path: Path) -> None:
    results, _ = results_of(tmp_path, Protocol(skip=1))
    table = clip_table(results)
    assert table.headings == ("clip", "frames", "bicubic", "theirs")
    assert [row[:2] for row in table.rows] == [("first & best", "2 of 5"), ("second", "2 of 4"), ("mean", "")]
    clip_psnrs = [np.mean([f.psnr_y for f in clip.frames]) for clip in results.methods[1].clips]
    assert table.rows[2][3].startswith(f"{np.mean(clip_psnrs):.2f} / ")
    rows = {row[0]: row[1:] for row in method_table(results).rows}
    assert rows["PSNR-Y, dB"][1] == f"{np.mean(clip_psnrs):.2f}"
    assert rows["PSNR-Y above bicubic, dB"][0] == "+0.00"
    assert rows["seconds per frame"][1] == "-"
    markdown = to_markdown(table).splitlines()
    assert markdown[1] == "|---|---:|---:|---:|"
    assert markdown[-1].startswith("| **mean** |  | **")
    words = " ".join(describe_protocol(results))
    assert "8 border pixels cut" in words
    assert "Only the first were scored: 4 of 5 for first & best" in words
    assert "first and last 1 frames" in words
    assert "BI" in words


def test_json_has_every_frame(tmp_path: Path) -> None:
    results, _ = results_of(tmp_path)
    found = to_json(results)
    clip = found["methods"]["theirs"]["clips"]["first & best"]
    assert len(clip["frames"]["psnr_y"]) == 4
    assert clip["frames"]["temporal_error"][0] is None
    assert clip["mean"]["psnr_y"] == pytest.approx(np.mean(clip["frames"]["psnr_y"]), abs=1e-4)
    assert found["clips"]["first & best"] == {"frames": 5, "scored": 4}
    assert found["protocol"]["crop_border"] == 8
    assert "seconds_per_frame" in found["methods"]["bicubic"]["mean"]
    assert "seconds_per_frame" not in found["methods"]["theirs"]["mean"]


def test_the_report_is_valid_and_fetches_nothing(tmp_path: Path) -> None:
    results, gallery = results_of(tmp_path)
    page = make_report(results, gallery)
    outline = Outline(page)
    assert not re.findall(r"https?://|@import|url\(", page)
    pictures = [attributes for tag, attributes in outline.tags if tag == "img"]
    # For each clip: overview; LR, two methods and the original; two error maps; three profiles.
    assert len(pictures) == 2 * (1 + 4 + 2 + 3)
    assert all((attributes["src"] or "").startswith("data:image/png;base64,") for attributes in pictures)
    assert all(attributes["alt"] for attributes in pictures)
    identifiers = [attributes["id"] for _, attributes in outline.tags if attributes.get("id")]
    assert len(identifiers) == len(set(identifiers))
    targets = [attributes["href"][1:] for tag, attributes in outline.tags if tag == "a" and attributes["href"]]
    assert targets
    assert set(targets) <= set(identifiers)
    assert "first &amp; best" in page
    assert "first & best" not in page
    assert sum(tag == "svg" and attributes.get("role") == "img" for tag, attributes in outline.tags) == 3
    assert not re.findall(r"\bnan\b", re.sub(r"base64,[^\"]*", "", page))


def test_the_gallery_keeps_the_documented_pictures(tmp_path: Path) -> None:
    results, gallery = results_of(tmp_path)
    kept = gallery.pictures["second"]
    assert kept.place == Place(2, 0, 0, 64, 72)  # smaller than a crop: the whole frame
    assert kept.profile("theirs").shape == kept.profile(None).shape == (4, 72, 3)
    assert kept.psnr["theirs"] == results.methods[1].clips[1].frames[2].psnr_y
    assert np.array_equal(kept.lr[:4, :4], np.broadcast_to(kept.lr[0, 0], (4, 4, 3)))


def test_the_crop_is_where_bicubic_errs() -> None:
    hr = np.full((240, 320, 3), 90, dtype=np.uint8)
    hr[130:180, 200:260] = np.random.default_rng(0).integers(0, 256, (50, 60, 3))
    lr = np.full((60, 80, 3), 90, dtype=np.uint8)
    place = find_place(7, hr, lr)
    assert (place.frame, place.height, place.width) == (7, 96, 128)
    assert place.top <= 130
    assert place.top + 96 >= 180
    assert place.left <= 200
    assert place.left + 128 >= 260
    assert place.top % 4 == place.left % 4 == 0
    framed = frame_crop(hr, place)
    assert np.array_equal(
        framed[place.top : place.top + 96, place.left : place.left + 128], hr[place.top :, place.left :][:96, :128]
    )
    assert tuple(framed[place.top - 1, place.left]) == (255, 220, 0)


def test_errors_are_shown_by_their_size() -> None:
    hr = np.full((2, 2, 3), 100, dtype=np.uint8)
    sr = hr.copy()
    sr[0, 0] = 255
    sr[1, 1] = 100 + 28  # 24 levels of Y: the middle of the scale
    shown = show_error(sr, hr)
    assert tuple(shown[0, 1]) == tuple(HEAT[0])
    assert tuple(shown[0, 0]) == tuple(HEAT[-1])
    assert np.abs(shown[1, 1].astype(int) - HEAT[2]).max() <= 3


def test_wide_pictures_are_averaged_down() -> None:
    image = np.zeros((5, 8, 3), dtype=np.uint8)
    image[:, ::2] = 100
    assert shrink_to(image, 8) is image
    assert shrink_to(image, 7).shape == (2, 4, 3)
    assert (shrink_to(image, 7) == 50).all()


def test_charts_place_points_by_value() -> None:
    rows = [Series("_a $x$", range(3), [20.0, 22.0, 21.0]), Series("<b> \u540d\udcff", range(3), [19.0, 19.5, 20.0])]
    chart = draw_chart(rows, title="t", x_label="frame", y_label="dB")
    tree = ElementTree.fromstring(chart.replace("xlink:", ""))
    lines = {}
    for path in tree.iter("path"):
        if (colour := next((c for c in COLOURS if c in (path.get("style") or "")), None)) is not None:
            lines.setdefault(colour, re.findall(r"[ML] \S+ (\S+)", path.get("d") or ""))  # the first: then the legend's
    first, second = ([float(y) for y in lines[colour]] for colour in COLOURS[:2])
    assert first[1] < first[2] < first[0]  # higher is nearer the top
    assert first[0] == pytest.approx(second[2])  # 20 dB in both
    assert "<b> \u540d\\xff from 19.00 to 20.00" in (tree.findtext("desc") or "")
    texts = {text.text for text in tree.iter("text")}
    assert {"_a $x$", "<b> \u540d\\xff", "frame", "dB"} <= texts
    assert INK not in chart


def test_a_chart_of_points_has_a_marker_for_each() -> None:
    rows = [Series("one", [1.0], [24.0]), Series("two", [1.1], [24.1])]
    chart = draw_chart(rows, title="t", x_label="s", y_label="dB", as_points=True)
    assert {colour for colour in COLOURS if f"fill: {colour}" in chart} == set(COLOURS[:2])


def test_a_report_without_matplotlib_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ristn_cli.evaluation.charts.find_spec", lambda name: None)
    page = make_report(*results_of(tmp_path))
    assert "ristn[train]" in page
    assert "<svg" not in page
