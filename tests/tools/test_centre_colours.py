"""A network that shifts colours does not after its bias is centred."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from clips import make_clip
from commands import load_tool

from ristn_cli.model import RISTN
from ristn_cli.weights import load_weights, read_metadata, save_weights

tool = load_tool("centre_colours")


def test_the_shift_of_a_network_is_subtracted(
    tiny_model: RISTN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in "abc":
        make_clip(clips / f"{name}.mkv", frames=2, width=64, height=64, codec="ffv1")
    shift = torch.tensor([2.0, -3.0, 1.0]) / 255
    with torch.no_grad():
        tiny_model.reconstruction.last.bias.add_(shift)
    save_weights(tiny_model, tmp_path / "in.safetensors", metrics={"iterations": 5})
    command = ["centre_colours.py", tmp_path / "in.safetensors", clips, tmp_path / "out.safetensors", "--trim", "1"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in command])
    tool.main()
    said = capsys.readouterr().out.splitlines()[0].split()[-3:]
    assert [float(value) for value in said] == pytest.approx([2, -3, 1], abs=0.2)
    bias = load_weights(tmp_path / "out.safetensors").reconstruction.last.bias
    centred = tiny_model.reconstruction.last.bias - bias
    torch.testing.assert_close(centred, shift, atol=0.2 / 255, rtol=0)
    assert read_metadata(tmp_path / "out.safetensors")["metrics"] == {"iterations": 5}


def test_the_largest_and_smallest_values_are_left_out() -> None:
    errors = np.array([[0.0, 9.0, 1.0], [1.0, 1.0, 2.0], [99.0, 2.0, 3.0], [2.0, -50.0, 4.0]])
    assert tool.trimmed_mean(errors, 1).tolist() == [1.5, 1.5, 2.5]
    assert tool.trimmed_mean(errors, 0)[2] == 2.5
    with pytest.raises(SystemExit, match="4 clips: expected more than 4, because --trim is 2"):
        tool.trimmed_mean(errors, 2)
