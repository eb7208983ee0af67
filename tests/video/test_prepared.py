"""Audio that goes into the mux by way of a file of its own: no more of it is copied than the clip needs."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from clips import make_clip, packet_times, run_ffmpeg
from outputs import join_parts, try_target

from ristn_cli.video import VideoInfo, probe
from ristn_cli.video.muxing import prepared
from ristn_cli.video.muxing.prepared import Clip

SECONDS = 40
AUDIO = 0
"""Index of the audio in the FLV file; in outputs the video is first."""


def describe_again(flv: bytes, at: list[int]) -> bytes:
    """An FLV file in which the description of the AAC is repeated before the audio packets of these numbers."""
    out, position, description, number = [flv[:13]], 13, b"", 0
    while position < len(flv):
        size = int.from_bytes(flv[position + 1 : position + 4], "big")
        tag = flv[position : position + 11 + size + 4]
        if tag[0] == 8 and tag[12] == 0:
            description = tag
        elif tag[0] == 8:
            if number in at:
                out.append(description[:4] + tag[4:8] + description[8:])
            number += 1
        out.append(tag)
        position += len(tag)
    return b"".join(out)


@pytest.fixture
def source(tmp_path: Path) -> VideoInfo:
    """40 seconds of FLV, described again at its beginning, in the middle and near the end."""
    plain, path = tmp_path / "plain.flv", tmp_path / "in.flv"
    run_ffmpeg(
        "-f", "lavfi", "-i", "color=s=32x32:r=5", "-f", "lavfi", "-i", "sine=r=48000",
        "-t", SECONDS, "-c:v", "flv", "-c:a", "aac", "-b:a", "24k", plain,
    )  # fmt: skip
    path.write_bytes(describe_again(plain.read_bytes(), [1, 940, 1790]))
    return probe(path)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many packets of audio each copy holds."""
    counts: list[int] = []
    run = prepared.run_apart

    def count(output: object, problem: str) -> None:
        run(output, problem)
        counts.append(len(packet_times(Path(output.node.kwargs["filename"].removeprefix("file:")), 0)))  # type: ignore[attr-defined]

    monkeypatch.setattr(prepared, "run_apart", count)
    return counts


def test_the_trial_copies_what_its_pieces_need(source: VideoInfo, tmp_path: Path, copied: list[int]) -> None:
    plan = try_target(source, tmp_path / "out.mkv", width=128, height=128)
    assert {entry.action for entry in plan} == {"upscale", "copy"}
    packets = 48000 * SECONDS // 1024
    assert len(copied) == 3  # the head of 10 seconds, and 2 in the middle and at the end
    assert [round(count * SECONDS / packets) for count in copied] == pytest.approx([11, 5, 4], abs=2)


@pytest.mark.parametrize(
    ("start", "end"), [(None, None), (Fraction(15), Fraction(25)), (Fraction(18), None), (None, Fraction(3))]
)
def test_a_clip_has_the_packets_that_the_whole_copy_gives(
    source: VideoInfo,
    tmp_path: Path,
    copied: list[int],
    monkeypatch: pytest.MonkeyPatch,
    start: Fraction | None,
    end: Fraction | None,
) -> None:
    part = make_clip(
        tmp_path / "part.mp4", times=[round(5 * (start or 0))], time_base=Fraction(1, 5), width=32, height=32
    )
    found = []
    for margin in (prepared.CLIP_MARGIN, Fraction(1000)):
        monkeypatch.setattr(prepared, "CLIP_MARGIN", margin)
        target = tmp_path / f"{margin}.mkv"
        join_parts([part], source, target, start=start, end=end)
        found.append(packet_times(target, 1))
    assert len(copied) == 2
    assert found[0] == found[1]
    expected = ((end or SECONDS) - (start or 0)) * 48000 / 1024
    assert len(found[0]) == pytest.approx(float(expected), abs=3)
    if end is not None:
        assert copied[0] < copied[1]


def test_a_clip_without_a_second_description_is_not_copied(
    source: VideoInfo, tmp_path: Path, copied: list[int]
) -> None:
    assert prepared._is_redescribed(source, AUDIO, Clip(Fraction(18), Fraction(22), True))
    assert not prepared._is_redescribed(source, AUDIO, Clip(Fraction(25), Fraction(30), True))
    assert not prepared._is_redescribed(replace(source, container="avi"), AUDIO, Clip(Fraction(0), None, False))
