"""What a job has to find out is found out once, however many parts it has."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clips import make_clip
from commands import QUICK, in_process

from ristn_cli.job import checks
from ristn_cli.video.reading import probing


def test_a_source_is_probed_once_and_its_output_settled_once(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_clip(tmp_path / "in.mp4", frames=12, width=32, height=24, audio_tracks=1)
    asked: Counter[str] = Counter()

    def counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def ask(first: Any, *others: Any, **named: Any) -> Any:
            asked[name] += getattr(first, "path", first) == source
            return function(first, *others, **named)

        return ask

    monkeypatch.setattr(probing, "_probe_one", counted("probe", probing._probe_one))
    for name in ("check_mux", "choose_shape", "examine"):
        monkeypatch.setattr(checks, name, counted(name, getattr(checks, name)))
    options = ["--model", tiny_weights, "--segment-frames", "4", "--window", "6", *QUICK]
    code, _, stderr = in_process("upscale", source, tmp_path / "out.mp4", *options)
    assert code == 0, stderr
    assert asked == {"probe": 1, "check_mux": 1, "choose_shape": 1, "examine": 1}
    asked.clear()
    code, _, stderr = in_process("upscale", source, tmp_path / "batch" / "other.mp4", "--model", "auto", *QUICK)
    assert code == 1  # there is no such folder
    assert asked["probe"] == 1
