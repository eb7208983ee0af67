"""What an encoder holds, estimated and measured."""

import subprocess
import sys
from pathlib import Path

import pytest

from ristn_cli.video import encoder_bytes
from ristn_cli.video.codecs import X26X_PRESETS
from ristn_cli.video.writing import encoder, footprint

MEASURE = """
import re
import sys
from fractions import Fraction
from pathlib import Path
import numpy as np
from ristn_cli.video import Color, EncoderSettings, Frame, FrameWriter, OutputShape, encoder_bytes

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

folder, preset = sys.argv[1:]
sizes = {"width": 1280, "height": 720}
image = np.kron(np.random.default_rng(0).integers(0, 256, (90, 160, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
before = peak()
shape = OutputShape(rate=Fraction(25), time_base=Fraction(1, 25), **sizes)
settings = EncoderSettings(codec="h264", preset=preset, color=Color())
with FrameWriter(Path(folder) / "a.mkv", shape, settings) as writer:
    for index in range(64):
        writer.write(Frame(np.roll(image, index, 1), Fraction(index, 25), Fraction(1, 25)))
print(peak() - before, encoder_bytes("libx264", preset=preset, is_deep=False, **sizes))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak of this process alone")
@pytest.mark.parametrize("preset", ["veryfast", "medium"])
def test_the_estimate_is_near_the_measured_peak(tmp_path: Path, preset: str) -> None:
    command = [sys.executable, "-c", MEASURE, str(tmp_path), preset]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    measured, expected = map(int, done.stdout.split())
    assert 0.7 < expected / measured < 1.3


def held(name: str, pixels: int, preset: str = "medium", *, is_deep: bool = False) -> float:
    """Bytes a pixel."""
    return encoder_bytes(name, preset=preset, width=pixels, height=1, is_deep=is_deep) / pixels


def test_slower_presets_hold_more_pictures() -> None:
    for name in ("libx264", "libx265"):
        amounts = [held(name, 1920 * 1080, preset) for preset in X26X_PRESETS]
        assert amounts == sorted(amounts)
        assert held(name, 1920 * 1080, is_deep=True) == pytest.approx(footprint.DEEP_SHARE * amounts[5], rel=1e-6)


def test_x264_holds_pictures_for_its_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three for every two cores; not for large ones, of which it works on one at a time."""
    monkeypatch.setattr(footprint, "usable_cores", lambda: 2)
    few, large = held("libx264", 1920 * 1080), held("libx264", 7680 * 4320)
    monkeypatch.setattr(footprint, "usable_cores", lambda: 16)
    assert held("libx264", 1920 * 1080) == pytest.approx(few + (24 - 3) * footprint.THREAD, rel=1e-6)
    assert held("libx264", 7680 * 4320) == large


def test_large_pictures_are_held_in_smaller_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """At `medium` 11 of x264's 40 wait at 7680x4320; by hand: 35 bytes, 3 each for those, 5.5 each for 3 references."""
    monkeypatch.setattr(footprint, "usable_cores", lambda: 2)
    assert held("libx264", 7680 * 4320) == pytest.approx(35 + 3 * 11 + 3 * 5.5, rel=1e-6)
    assert held("libx264", encoder.LARGE_PICTURE) > 1.2 * held("libx264", encoder.LARGE_PICTURE + 1)


def test_what_is_not_known_by_name_holds_little() -> None:
    assert held("png", 1 << 20) == held("h264_nvenc", 1 << 20) == footprint.BASE_OF_OTHERS


def test_plain_frames_are_not_encoded() -> None:
    assert held("rawvideo", 1 << 20) < held("prores", 1 << 20) < held("libx264", 1 << 20, "ultrafast")
