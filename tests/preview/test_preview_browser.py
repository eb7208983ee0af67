"""The page of a preview in a real browser, on a desktop and on a phone. Skipped where there is no Chromium."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Browser, find_chromium
from conftest import TINY
from previews import make_choice, moving, open_choice, write_video

from ristn_cli.model import RISTN
from ristn_cli.preview.making import make_preview
from ristn_cli.preview.preview_page import format_preview
from ristn_cli.video import probe
from ristn_cli.weights import save_weights

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; apt-get install chromium")

COMMANDS = ["ristn upscale in.mp4 in-one.mp4 --model one", "ristn upscale in.mp4 'in-<two>.mp4' --model two"]


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("preview")
    torch.set_num_threads(1)
    save_weights(RISTN(TINY).eval(), folder / "tiny.safetensors", metrics={})
    images = [image for seed in range(4) for image in moving(seed, 12, 96, 64)]
    choices = [
        make_choice("one", folder / "tiny.safetensors"),
        make_choice("two", folder / "tiny.safetensors", recommendation="tests say so"),
    ]
    made = make_preview(probe(write_video(folder / "in.mp4", images)), choices, open_choice)
    assert len(made.excerpts) == 4
    path = folder / "page.html"
    path.write_text(format_preview(made, COMMANDS, ["A note <about> it."]), encoding="utf-8")
    return path


@pytest.fixture(params=["desktop", "phone"])
def browser(request: pytest.FixtureRequest, chromium: Browser, page: Path) -> Iterator[Browser]:
    """The page, freshly opened; afterwards nothing was fetched and nothing failed."""
    if request.param == "desktop":
        chromium.resize(1280, 800)
    else:
        chromium.resize(390, 844, ratio=2, is_touch=True, theme="dark")
    chromium.open(page)
    chromium.wait("document.documentElement.dataset.moving === 'true'")
    yield chromium
    assert [url for url in chromium.requests if not url.startswith(("file:", "data:"))] == []
    assert chromium.errors == []


def click(browser: Browser, selector: str) -> None:
    browser.evaluate(f"document.querySelector({selector!r}).scrollIntoView({{block: 'center'}})")
    x, y, width, height = browser.evaluate(
        f"(({{x, y, width, height}}) => [x, y, width, height])"
        f"(document.querySelector({selector!r}).getBoundingClientRect())"
    )
    browser.mouse("Pressed", x + width / 2, y + height / 2)
    browser.mouse("Released", x + width / 2, y + height / 2)


def settle(browser: Browser) -> None:
    browser.wait("Number(document.documentElement.dataset.shown) === wanted")


def test_the_page_fits_the_screen(browser: Browser) -> None:
    width = browser.evaluate("innerWidth")
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    boxes = browser.evaluate(
        "[...document.querySelectorAll('button, select, footer label')].map((e) => e.getBoundingClientRect())"
        ".filter((b) => b.width).map(({left, right, width, height}) => [left, right, width, height])"
    )
    assert len(boxes) > 10
    for left, right, wide, high in boxes:
        assert 0 <= left < right <= width
        assert min(wide, high) >= 30


def test_it_begins_with_bicubic_and_the_recommended(browser: Browser) -> None:
    assert browser.evaluate("[state.left, state.right]") == [1, 3]
    assert (
        browser.evaluate("document.querySelector('.badge').closest('article').querySelector('h3').innerText") == "two"
    )
    assert browser.evaluate("$('notes').innerText.includes('A note <about> it.')")


def test_a_choice_is_shown_in_the_slider(browser: Browser) -> None:
    click(browser, "[data-source='2']")
    settle(browser)
    assert browser.evaluate("state.right") == 2
    click(browser, "[data-source='0']")
    settle(browser)
    assert browser.evaluate("state.right") == 0


def test_moments_are_stepped_and_told(browser: Browser) -> None:
    told = []
    for _ in range(4):
        told.append(browser.evaluate("$('place').value"))
        click(browser, "#next")
        settle(browser)
    assert len(set(told)) == 4
    assert all(" pixels at " in place and place.endswith("of 96\u00d764") for place in told)


def test_the_clips_move_and_stop(browser: Browser) -> None:
    first = browser.evaluate("[...document.querySelectorAll('.clip')].map((clip) => clip.src === clip.dataset.clip)")
    assert first == [True] * 4
    click(browser, "#motion")
    assert browser.evaluate("$('motion').textContent") == "Play"
    stills = browser.evaluate("[...document.querySelectorAll('.clip')].map((clip) => clip.src.slice(0, 15))")
    assert stills == ["data:image/png;"] * 4
    click(browser, "#motion")
    browser.evaluate("document.querySelector('.clip:not(.squares)').scrollIntoView({block: 'center'})")
    x, y, width, height = browser.evaluate(
        "(({x, y, width, height}) => [x, y, width, height])"
        "(document.querySelector('.clip:not(.squares)').getBoundingClientRect())"
    )
    ratio = browser.evaluate("devicePixelRatio")
    rows, columns = (slice(round(a * ratio), round((a + b) * ratio)) for a, b in ((y, height), (x, width)))
    before = browser.screenshot()[rows, columns].astype(int)
    changes = [abs(browser.screenshot()[rows, columns] - before).max() for _ in range(8)]
    assert np.max(changes) > 20


def test_the_command_is_copied_word_for_word(browser: Browser) -> None:
    assert browser.evaluate("[...document.querySelectorAll('code')].map((code) => code.textContent)") == COMMANDS
    click(browser, ".recommended .command button")
    browser.wait("document.querySelector('.recommended .command button').textContent !== 'Copy'")
    assert browser.evaluate("getSelection().toString()") == COMMANDS[1]
