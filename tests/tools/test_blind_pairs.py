"""The pairs of a blind comparison show what they say, and the answers are counted for the right side."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import load_tool

from ristn_cli.video import Image, read_image, write_image

tool = load_tool("blind_pairs")


def write_clip(folder: Path, brightness: int) -> None:
    """Eight frames: the left part stands still, the right one is a moving texture. Only the brightness is random."""
    folder.mkdir(parents=True)
    texture = np.random.default_rng(0).integers(0, 100, (96, 400, 1), dtype=np.uint8)
    for number in range(8):
        image: Image = np.zeros((96, 256, 3), dtype=np.uint8)
        image[:, 128:] = texture[:, 5 * number : 5 * number + 128]
        write_image(folder / f"{number}.png", image + np.uint8(brightness))


def test_pairs_are_of_moving_places_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, brightness in (("originals", 0), ("first", 20), ("second", 120)):
        for clip in ("a", "b"):
            write_clip(tmp_path / name / clip, brightness)
    pairs = tmp_path / "pairs"
    folders = [str(tmp_path / name) for name in ("originals", "first", "second")]
    monkeypatch.setattr(sys, "argv", ["blind_pairs.py", "make", *folders, str(pairs), "--count", "2"])
    tool.main()
    key = json.loads((pairs / "key.json").read_text())
    assert {entry["clip"] for entry in key.values()} == {"a", "b"}
    assert sorted(entry["A"] for entry in key.values()) == ["first", "second"]
    assert all(entry["left"] >= 64 for entry in key.values())  # some of it moves
    answers = []
    for number, entry in key.items():
        picture = read_image(pairs / f"{number}.jpg")
        half = picture.shape[0] // 2
        above_is_brighter = picture[:half].mean() > picture[half:].mean()
        assert above_is_brighter == (entry["A"] == "second")
        answers.append(f"{number} {'A' if above_is_brighter else 'B'} brighter")
    (pairs / "answers.txt").write_text("\n".join(answers) + "\n")
    assert tool.score(pairs) == {"first": 0, "second": 2, "equal": 0}
    monkeypatch.setattr(sys, "argv", ["blind_pairs.py", "score", str(pairs)])
    tool.main()
    assert capsys.readouterr().out == "first 0, second 2, equal 0\n"
    (pairs / "answers.txt").write_text("01 =\n02 X\n")
    with pytest.raises(SystemExit, match="expected A, B or ="):
        tool.score(pairs)
    (pairs / "answers.txt").write_text("01 =\n")
    with pytest.raises(SystemExit, match="wrong: 02"):
        tool.score(pairs)
    monkeypatch.setattr(sys, "argv", ["blind_pairs.py", "make", *folders, str(tmp_path / "more"), "--count", "9"])
    with pytest.raises(SystemExit, match="only 2 moving places; expected 9"):
        tool.main()
