"""The comparison page in a real browser, by mouse, keys and fingers, judged by what is on the screen.

Skipped where there is no Chromium: `apt-get install chromium` brings one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from browser import Browser, find_chromium

from ristn_cli.comparison.matching import open_comparison
from ristn_cli.comparison.page import PageOptions, save_page
from ristn_cli.evaluation.metrics import psnr
from ristn_cli.video import resize_image, write_image

CHROMIUM = find_chromium()
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium; apt-get install chromium")

WIDTH, HEIGHT, FRAMES = 640, 480, 3


def blocks(seed: int, width: int, height: int, side: int) -> np.ndarray:
    """Squares of random colours, darker than the divider and its knob."""
    colors = np.random.default_rng(seed).integers(20, 200, (height // side, width // side, 3), dtype=np.uint8)
    return colors.repeat(side, axis=0).repeat(side, axis=1)


SMALL = [blocks(k, WIDTH // 4, HEIGHT // 4, 4) for k in range(FRAMES)]
LARGE = [blocks(10 + k, WIDTH, HEIGHT, 16) for k in range(FRAMES)]
THIRD = blocks(20, WIDTH, HEIGHT, 16)
NEAREST = [resize_image(image, WIDTH, HEIGHT, "nearest") for image in SMALL]


class Box(NamedTuple):
    """A rectangle on the screen, in CSS pixels."""

    x: float
    y: float
    width: float
    height: float

    @property
    def center(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for name, images in (("small", SMALL), ("large", LARGE)):
        (folder / name).mkdir()
        for k, image in enumerate(images):
            write_image(folder / name / f"{k}.png", image)
    write_image(folder / "third.png", THIRD)
    path = folder / "page.html"
    save_page(open_comparison([folder / "small", folder / "large", folder / "third.png"]), path, PageOptions())
    return path


@pytest.fixture
def browser(chromium: Browser, page: Path) -> Iterator[Browser]:
    """The page, freshly opened in a window of 500x420; afterwards nothing was fetched and nothing failed."""
    chromium.resize(500, 420)
    chromium.open(page)
    yield chromium
    assert [url for url in chromium.requests if not url.startswith(("file:", "data:"))] == []
    assert chromium.errors == []


def box(browser: Browser, selector: str) -> Box:
    found = browser.evaluate(
        f"(({{x, y, width, height}}) => [x, y, width, height])"
        f"(document.querySelector({selector!r}).getBoundingClientRect())"
    )
    return Box(*found)


def click(browser: Browser, selector: str) -> None:
    x, y = box(browser, selector).center
    browser.mouse("Pressed", x, y)
    browser.mouse("Released", x, y)


def settle(browser: Browser) -> None:
    """Until the pictures asked for are on the screen."""
    browser.wait("Number(document.documentElement.dataset.shown) === wanted")


def attribute(browser: Browser, selector: str, name: str) -> str:
    return str(browser.evaluate(f"document.querySelector({selector!r}).getAttribute({name!r})"))


def region(browser: Browser, image: np.ndarray, pane: Box, scale: float) -> np.ndarray:
    """What a pane of the screen must show of a picture, at a whole number of device pixels a picture pixel."""
    center_x, center_y = browser.evaluate("[state.x, state.y]")
    left, top = round(pane.width / 2 - center_x * scale + 1e-9), round(pane.height / 2 - center_y * scale + 1e-9)
    columns = (np.arange(int(pane.width)) - left) // int(scale)
    rows = (np.arange(int(pane.height)) - top) // int(scale)
    return image[rows.clip(0, HEIGHT - 1)][:, columns.clip(0, WIDTH - 1)]


def differing(found: np.ndarray, expected: np.ndarray, tolerance: int = 0) -> float:
    """Share of pixels that differ by more than the tolerance."""
    return float((np.abs(found.astype(int) - expected) > tolerance).any(axis=2).mean())


def test_the_divider_is_dragged(browser: Browser) -> None:
    stage = box(browser, "#stage")
    assert attribute(browser, "#divider", "aria-valuenow") == "50"
    browser.press("n")
    browser.press("z")  # a picture pixel a screen pixel
    settle(browser)
    before = browser.screenshot()
    middle, y = round(stage.width / 2), slice(60, round(stage.height) - 10)
    left, right = (region(browser, image, stage, 1) for image in (NEAREST[0], LARGE[0]))
    assert differing(before[y, : middle - 40], left[y, : middle - 40]) == 0
    assert differing(before[y, middle + 40 : 500], right[y, middle + 40 : 500]) == 0
    browser.drag(box(browser, "#knob").center, (100, stage.height / 2))
    after = browser.screenshot()
    assert differing(after[y, :60], left[y, :60]) == 0
    assert differing(after[y, 140:500], right[y, 140:500]) == 0
    assert attribute(browser, "#divider", "aria-valuenow") == "20"
    assert tuple(after[70, 100]) == (255, 255, 255)


def test_a_small_picture_is_enlarged_as_pillow_does(browser: Browser) -> None:
    browser.press("z")
    browser.press("ArrowRight")
    browser.evaluate("setDivide(1)")
    stage = box(browser, "#stage")
    y = slice(60, round(stage.height) - 10)
    expected = region(browser, resize_image(SMALL[0], WIDTH, HEIGHT, "bicubic"), stage, 1)[y, :450]
    assert differing(browser.screenshot()[y, :450], expected, 1) == 0


def test_frames_are_stepped(browser: Browser) -> None:
    browser.evaluate("setDivide(0)")
    browser.press("z")
    stage = box(browser, "#stage")
    y, x = slice(60, round(stage.height) - 10), slice(30, 490)

    def shows(frame: int) -> bool:
        settle(browser)
        return differing(browser.screenshot()[y, x], region(browser, LARGE[frame], stage, 1)[y, x]) == 0

    assert shows(0)
    browser.press(".")
    assert shows(1)
    click(browser, "#next")
    assert shows(2)
    assert browser.evaluate("$('position').value").startswith("3 / 3  0:00.080")
    browser.press(".")
    assert shows(0)
    click(browser, "#previous")
    assert shows(2)
    browser.evaluate("$('frame').focus()")
    browser.press("ArrowLeft")
    assert shows(1)
    browser.press("1")  # the small one, which was on the left: they change places
    settle(browser)
    assert browser.evaluate("[state.left, state.right]") == [1, 0]


def test_frames_play(browser: Browser) -> None:
    click(browser, "#play")
    assert attribute(browser, "#play", "aria-label") == "Stop"
    for frame in (2, 0, 1):
        browser.wait(f"state.frame === {frame}")
    click(browser, "#play")
    assert attribute(browser, "#play", "aria-pressed") == "false"
    assert browser.evaluate("timer") is None


def test_the_wheel_zooms_to_the_pointer_and_a_drag_pans(browser: Browser) -> None:
    stage = box(browser, "#stage")
    browser.evaluate("setDivide(0)")
    point = browser.evaluate(
        "state.zoom = 1; draw(); [state.x + 350 - stage.clientWidth / 2, state.y + 150 - stage.clientHeight / 2]"
    )
    browser.mouse("Wheel", 350, 150, deltaX=0, deltaY=-1000 * np.log(4) / 2)
    assert browser.evaluate("state.zoom") == pytest.approx(4)
    browser.evaluate("state.zoom = 4; draw()")
    y, x = slice(60, round(stage.height) - 10), slice(30, 490)
    zoomed = browser.screenshot()
    assert tuple(zoomed[150, 350]) == tuple(LARGE[0][int(point[1]), int(point[0])])
    assert differing(zoomed[y, x], region(browser, LARGE[0], stage, 4)[y, x]) == 0
    browser.drag((300, 200), (240, 180))
    panned = browser.screenshot()
    assert differing(panned[70:200, 40:300], zoomed[90:220, 100:360]) == 0
    click(browser, "#level")
    assert browser.evaluate("state.zoom") is None
    assert browser.evaluate("$('level').textContent") == "Fit"
    browser.mouse("Wheel", 350, 150, deltaX=0, deltaY=5000)
    assert browser.evaluate("state.zoom") is None  # never smaller than the window


def test_a_double_click_zooms_and_back(browser: Browser) -> None:
    for expected in (1, None):
        for _ in range(2):
            browser.mouse("Pressed", 150, 150)
            browser.mouse("Released", 150, 150)
        assert browser.evaluate("state.zoom") == expected


def test_both_are_seen_from_the_same_place(browser: Browser) -> None:
    browser.resize(1000, 420)
    browser.press("n")
    browser.press("b")
    settle(browser)
    assert browser.evaluate("divider.hidden")
    browser.mouse("Wheel", 700, 150, deltaX=0, deltaY=-2000)
    browser.evaluate("state.zoom = 2; draw()")
    browser.drag((200, 200), (160, 190))
    stage = box(browser, "#stage")
    half = (stage.width - 2) / 2
    screen = browser.screenshot()
    y, x = slice(70, round(stage.height) - 10), slice(10, 480)
    pane = Box(0, 0, half, stage.height)
    assert differing(screen[y, x], region(browser, NEAREST[0], pane, 2)[y, x]) == 0
    right = screen[:, round(half + 2) :]
    assert differing(right[y, x], region(browser, LARGE[0], pane, 2)[y, x]) == 0


def test_the_difference_is_amplified_and_measured(browser: Browser) -> None:
    browser.press("n")
    browser.press("z")
    browser.press("d")
    settle(browser)
    stage = box(browser, "#stage")
    y = slice(60, round(stage.height) - 60)
    difference = np.abs(NEAREST[0].astype(int) - LARGE[0])
    for key, gain in (("", 4), ("]", 8), ("[", 4), ("[", 2), ("[", 1), ("[", 1)):
        if key:
            browser.press(key)
        settle(browser)
        expected = region(browser, (gain * difference).clip(0, 255).astype(np.uint8), stage, 1)
        assert differing(browser.screenshot()[y, :500], expected[y, :500]) == 0
        assert browser.evaluate("$('gain').value") == str(gain)
    assert browser.evaluate("$('measure').value") == f"PSNR {psnr(NEAREST[0], LARGE[0]):.2f} dB"
    browser.press("3")  # two of three; then the same on both sides cannot be chosen
    settle(browser)
    assert browser.evaluate("[state.left, state.right]") == [0, 2]
    assert browser.evaluate("$('measure').value") == f"PSNR {psnr(NEAREST[0], THIRD):.2f} dB"
    browser.press("2", shift=True)
    settle(browser)
    assert browser.evaluate("[state.left, state.right]") == [1, 2]
    assert browser.evaluate("$('measure').value") == f"PSNR {psnr(LARGE[0], THIRD):.2f} dB"


def test_keys_alone_will_do(browser: Browser) -> None:
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.id") == "divider"
    ring = box(browser, "#knob")
    accent = browser.screenshot()[round(ring.y + 20), round(ring.x - 5)]
    assert tuple(accent) == (29, 78, 216)
    for key, expected in (("Home", 0), ("ArrowRight", 2), ("ArrowUp", 4), ("End", 100), ("ArrowLeft", 98)):
        browser.press(key)
        assert attribute(browser, "#divider", "aria-valuenow") == str(expected)
    browser.press("ArrowLeft", shift=True)
    assert attribute(browser, "#divider", "aria-valuenow") == "88"
    browser.press("Tab")
    assert browser.evaluate("document.activeElement.id") == "left"
    assert browser.evaluate("$('left').selectedOptions[0].textContent") == "small \u00b7 160\u00d7120"
    browser.evaluate("document.activeElement.blur()")
    browser.press("x")
    settle(browser)
    assert browser.evaluate("[state.left, state.right]") == [1, 0]
    assert attribute(browser, "#divider", "aria-label") == "Divider between large and small"
    browser.press("?")
    assert browser.evaluate("$('help').open")
    browser.press("x")
    assert browser.evaluate("state.left") == 1


def test_a_picture_that_does_not_load_is_reported(browser: Browser) -> None:
    browser.evaluate("data.sources[1].images[0] = 'data:image/png;base64,AAAA'; pictures.clear(); step(0)")
    browser.wait("!$('measure').hidden")
    assert browser.evaluate("$('measure').value") == "A picture cannot be decoded; memory may be short"
    browser.press(".")
    settle(browser)
    assert browser.evaluate("$('measure').hidden")


def test_fingers_on_a_phone(browser: Browser) -> None:
    browser.resize(390, 844, ratio=2, is_touch=True, theme="dark")
    browser.press("n")
    settle(browser)
    stage, middle = box(browser, "#stage"), box(browser, "#stage").height / 2
    assert browser.evaluate("document.documentElement.scrollWidth") == 390
    assert tuple(browser.screenshot()[300, 200]) == (16, 16, 18)  # the dark ground above the picture
    browser.touch("Start", (195, middle))
    for x in (150, 100, 78):
        browser.touch("Move", (x, middle))
    browser.touch("End")
    assert attribute(browser, "#divider", "aria-valuenow") == "20"
    browser.touch("Start", (145, middle), (245, middle))
    for spread in (60, 80, 100):
        browser.touch("Move", (195 - spread, middle), (195 + spread, middle))
    browser.touch("End")
    assert browser.evaluate("scale() / fitScale()") == pytest.approx(2, rel=0.05)
    browser.evaluate("state.zoom = 1; draw()")
    at = browser.evaluate("state.x")
    browser.touch("Start", (300, 100))
    for x in (280, 260, 250):
        browser.touch("Move", (x, 100))
    browser.touch("End")
    assert browser.evaluate("state.x") == pytest.approx(at + 50, abs=1)
    screen = browser.screenshot()
    pane = Box(0, 0, 780, round(stage.height * 2))
    expected = region(browser, LARGE[0], pane, 2)
    assert differing(screen[700:760, 260:760], expected[700:760, 260:760]) == 0
    for selector in ("#play", "#next", "#swap", "#in", "#views label", "#scaling"):
        found = box(browser, selector)
        assert min(found.width, found.height) >= 38, selector
        assert found.x >= 0, selector
        assert found.x + found.width <= 390, selector
        assert found.y + found.height <= 844, selector
