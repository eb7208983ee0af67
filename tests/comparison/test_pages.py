"""Self-contained pages: pictures are inside, nothing is fetched, text is escaped."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from ristn_cli.html_pages import make_page, picture, write_page
from ristn_cli.video import read_image


class Tags(HTMLParser):
    """Start tags of a document, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_a_picture_carries_its_pixels(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    ((tag, attributes),) = Tags(picture(image, 'a "b" <c>', attributes="data-frame=3")).found
    assert (tag, attributes["alt"], attributes["data-frame"]) == ("img", 'a "b" <c>', "3")
    assert (attributes["width"], attributes["height"]) == ("7", "5")
    kind, _, data = (attributes["src"] or "").partition(",")
    assert kind == "data:image/png;base64"
    (tmp_path / "out.png").write_bytes(base64.b64decode(data))
    assert np.array_equal(read_image(tmp_path / "out.png"), image)


def test_a_page_is_whole_and_fetches_nothing(tmp_path: Path) -> None:
    path = tmp_path / "new" / "index.html"
    write_page(path, make_page("A < B", "<main>text</main>", style="p{color:red}", script="let a = 1;"))
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "<title>A &lt; B</title>" in page
    tags = Tags(page).found
    policy = next(attributes["content"] for tag, attributes in tags if attributes.get("http-equiv"))
    assert (policy or "").startswith("default-src 'none'")
    assert not re.findall(r"https?://", page)
    assert [tag for tag, _ in tags if tag in ("main", "style", "script")] == ["style", "main", "script"]
    assert [entry.name for entry in path.parent.iterdir()] == ["index.html"]
