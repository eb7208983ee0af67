"""`tools/contact_sheet.py`: a row for each degradation, the clean crop first, everything enlarged by whole pixels."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from ristn_cli.training.degradations import DEGRADATIONS
from ristn_cli.video import read_image, write_image

TOOL = Path(__file__).parents[1] / "tools" / "contact_sheet.py"


def test_a_still_becomes_a_sheet(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    still = rng.integers(60, 200, (96, 160, 3), dtype=np.uint8)
    write_image(tmp_path / "still.png", still)
    command = [sys.executable, str(TOOL), "still.png", "sheets/sheet.png", "--crop", "40x24+30+20"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True)
    sheet = read_image(tmp_path / "sheets" / "sheet.png").astype(int)
    wide, high, gap = 160, 96, 4
    assert sheet.shape == (len(DEGRADATIONS) * (high + gap) - gap, 4 * (wide + gap) - gap, 3)
    shown = still[20:44, 35:75].repeat(4, axis=0).repeat(4, axis=1)  # the sixth frame is five pixels further
    below = slice(32, None)  # the labels' ground
    for row, name in enumerate(DEGRADATIONS):
        cells = [sheet[row * (high + gap) :, column * (wide + gap) :][:high, :wide] for column in range(4)]
        assert np.array_equal(cells[0][below], shown[below])
        errors = [((cell[below] - shown[below]) ** 2).mean() for cell in cells]
        assert errors[0] == 0 < errors[1] < errors[3], name


def test_a_crop_outside_the_frame_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "still.png", np.zeros((64, 64, 3), dtype=np.uint8))
    command = [sys.executable, str(TOOL), "still.png", "sheet.png", "--crop", "40x24+30+20"]
    ran = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stderr.strip() == "--crop 40x24+30+20 is not within the frame of 54x64"
