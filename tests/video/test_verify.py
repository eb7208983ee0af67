"""What the check of a finished file finds."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from clips import (
    make_clip,
)
from identity import upscale
from outputs import verify_file

from ristn_cli.video import (
    VideoError,
    check_mux,
    probe,
)


def test_finds_each_mismatch(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=8, audio_tracks=1)
    info = probe(clip)
    target = tmp_path / "out.mp4"
    upscale(clip, target)
    good = {"frames": 8, "width": 256, "height": 192, "source": info}
    verify_file(target, **good)
    for changes, message in (
        ({"frames": 9}, "number of frames is 8, expected 9"),
        ({"width": 128}, "frame size is 256x192, expected 128x192"),
        ({"source": probe(make_clip(tmp_path / "b.mp4", frames=8, rate=24))}, "time of frame 2"),
        ({"plan": check_mux(info, target)[:1]}, "number of audio streams is 1, expected 0"),
    ):
        with pytest.raises(VideoError, match=message):
            verify_file(target, **{**good, **changes})


def test_packets_of_single_fields_are_no_frames(tmp_path: Path) -> None:
    """Broadcasts of H.264 may have a packet a field: twice the packets at half the distance, for as many frames."""
    target = make_clip(tmp_path / "out.mp4", frames=8)
    fields = probe(make_clip(tmp_path / "fields.mkv", frames=16, rate=50))
    good = {"frames": 8, "width": 64, "height": 48}
    verify_file(target, source=replace(fields, is_interlaced=True), **good)
    with pytest.raises(VideoError, match="time of frame 2"):
        verify_file(target, source=fields, **good)
    uneven = make_clip(tmp_path / "uneven.mp4", times=[0, 1, 2, 3, 4, 6, 7, 8], time_base=Fraction(1, 25))
    with pytest.raises(VideoError, match="time of frame"):
        verify_file(uneven, source=replace(fields, is_interlaced=True), **good)
