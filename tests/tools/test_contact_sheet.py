"""`tools/contact_sheet.py`: a row for each degradation, the clean crop first, everything enlarged by whole pixels."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from commands import load_tool

from ristn_cli.training.degradations import DEGRADATIONS
from ristn_cli.video import read_image, write_image


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_tool("contact_sheet")


def run(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> None:
    monkeypatch.setattr(sys, "argv", ["contact_sheet.py", *map(str, arguments)])
    tool.main()


def test_a_still_becomes_a_sheet(tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    still = np.random.default_rng(0).integers(60, 200, (96, 160, 3), dtype=np.uint8)
    write_image(tmp_path / "still.png", still)
    target = tmp_path / "sheets" / "sheet.png"
    run(tool, monkeypatch, tmp_path / "still.png", target, "--crop", "40x24+30+20")
    sheet = read_image(target).astype(int)
    wide, high, gap = 160, 96, 4
    assert sheet.shape == (len(DEGRADATIONS) * (high + gap) - gap, 4 * (wide + gap) - gap, 3)
    shown = still[20:44, 35:75].repeat(4, axis=0).repeat(4, axis=1)  # the sixth frame is five pixels further
    below = slice(32, None)  # the ground of the labels
    for row, name in enumerate(DEGRADATIONS):
        cells = [sheet[row * (high + gap) :, column * (wide + gap) :][:high, :wide] for column in range(4)]
        assert np.array_equal(cells[0][below], shown[below]), name
        assert all(((cell[below] - shown[below]) ** 2).mean() > 1 for cell in cells[1:]), name


def test_inputs_that_cannot_be_shown_are_refused(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_image(tmp_path / "still.png", np.zeros((64, 64, 3), dtype=np.uint8))
    with pytest.raises(SystemExit, match=r"--crop 40x24\+30\+20 is not within the frame of 54x64"):
        run(tool, monkeypatch, tmp_path / "still.png", tmp_path / "sheet.png", "--crop", "40x24+30+20")
    with pytest.raises(SystemExit, match="64 pixels wide; expected more than 80"):
        run(tool, monkeypatch, tmp_path / "still.png", tmp_path / "sheet.png", "--reduce", "8")
