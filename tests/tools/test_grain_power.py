"""`tools/grain_power.py`: the share of grain that a network keeps, and that --grain puts back."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from clips import make_clip
from commands import load_tool


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    return load_tool("grain_power")


def test_power_is_measured_in_flat_places_by_brightness(tool: ModuleType) -> None:
    clean = np.broadcast_to(np.linspace(20, 220, 400), (2, 40, 400)).copy()
    clean[:, :, 200:220] = np.tile([0, 255], 10)  # texture, where grain cannot be told
    strength = clean / 50
    given = np.random.default_rng(0).normal(size=clean.shape) * strength
    found = tool.powers(given, clean, 1)
    assert found == pytest.approx([(level / 50) ** 2 for level in (45, 95, 145, 195)], rel=0.15)
    assert tool.powers(given.repeat(2, 1).repeat(2, 2), clean, 2) == pytest.approx(found)
    with pytest.raises(SystemExit, match="no flat places"):
        tool.powers(given, np.tile([0.0, 255.0], (2, 40, 200)), 1)


def test_a_network_without_detail_keeps_the_grain(
    tool: ModuleType,
    tmp_path: Path,
    tiny_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clip = make_clip(tmp_path / "in.mkv", frames=4, width=128, height=128)
    monkeypatch.setattr(
        sys, "argv", ["grain_power.py", str(clip), "--model", str(tiny_weights), "--frames", "3", "--crop", "48x48+8+8"]
    )
    tool.main()
    source, kept, matched = capsys.readouterr().out.splitlines()
    assert source.startswith("source: ")
    assert kept.startswith("without --grain: ")
    ratios = [float(number) for number in re.findall(r"\d\.\d\d", kept)]
    assert len(ratios) == 4
    assert all(0.3 < ratio < 1.2 for ratio in ratios)
    assert matched.startswith("--grain match: ")
