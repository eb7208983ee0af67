"""NVDEC decoding with stand-ins for the card: what it is tried on, and software going on wherever it fails."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from av.video.frame import VideoFrame
from clips import make_clip

from ristn_cli.job.checks import for_device
from ristn_cli.job.options import UpscaleOptions
from ristn_cli.video import VideoError, VideoInfo, probe, read_frames
from ristn_cli.video.reading import decoding
from ristn_cli.video.reading.hardware import HardwareError, as_software, why_not_nvdec


@pytest.fixture(scope="module")
def info(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    """H.264 with B-frames, keyframes every 5."""
    return probe(make_clip(tmp_path_factory.mktemp("nvdec") / "in.mp4", frames=13))


def as_nv12(frame: VideoFrame) -> VideoFrame:
    """What a card gives for an 8-bit frame."""
    made = frame.reformat(format="nv12")
    made.pts, made.time_base = frame.pts, frame.time_base
    return made


def fake_card(monkeypatch: pytest.MonkeyPatch, *, fails_after: int | None = None) -> None:
    """A card that decodes (FFmpeg's software does it, into nv12), up to as many frames."""

    def downloaded(frames: Iterator[VideoFrame], info: VideoInfo) -> Iterator[VideoFrame]:
        def from_card() -> Iterator[VideoFrame]:
            for count, frame in enumerate(frames):
                if count == fails_after:
                    raise HardwareError("the card fell off the bus")
                yield as_nv12(frame)

        return as_software(from_card(), info)

    monkeypatch.setattr(decoding, "open_nvdec", lambda: None)
    monkeypatch.setattr(decoding, "as_software", downloaded)


@pytest.mark.parametrize("start", [None, 6])
@pytest.mark.parametrize("fails_after", [None, 0, 1, 5, 6])
def test_frames_are_those_of_software(
    info: VideoInfo,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fails_after: int | None,
    start: int | None,
) -> None:
    begin = None if start is None else start / info.rate
    expected = list(read_frames(info, start=begin))
    fake_card(monkeypatch, fails_after=fails_after)
    damage: list[str] = []
    with caplog.at_level(logging.WARNING, "ristn.video"):
        found = list(read_frames(info, start=begin, decoder="auto", on_damage=damage.append))
    assert len(found) == 13 - (start or 0)
    assert [(f.time, f.duration) for f in found] == [(f.time, f.duration) for f in expected]
    assert all(np.array_equal(a.image, b.image) for a, b in zip(found, expected, strict=True))
    assert damage == []
    assert [record.getMessage().count("the card fell off the bus") for record in caplog.records] == (
        [] if fails_after is None else [1]
    )


def test_no_card_is_software_or_a_refusal(
    info: VideoInfo, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, hwaccel: object = None, **__: object) -> None:
        raise av.error.ExternalError(542398533, "broken driver")

    real = av.open
    monkeypatch.setattr(av, "open", lambda *a, **k: (refuse if k.get("hwaccel") else real)(*a, **k))
    with caplog.at_level(logging.WARNING, "ristn.video"):
        assert len(list(read_frames(info, decoder="auto"))) == 13
    assert "in.mp4: decoded in software, not by NVDEC: it cannot be opened: broken driver" in caplog.text
    with pytest.raises(VideoError, match="NVDEC cannot decode it \\(it cannot be opened: broken driver\\)"):
        next(read_frames(info, decoder="nvdec"))


def test_what_is_left_to_software(info: VideoInfo) -> None:
    assert why_not_nvdec(info, with_alpha=False, strict=False) is None
    assert (
        why_not_nvdec(replace(info, codec="hevc", pixel_format="yuv420p10le"), with_alpha=False, strict=False) is None
    )
    for other in (
        replace(info, codec="mpeg2video"),
        replace(info, codec="mpeg4"),
        replace(info, pixel_format="yuv420p10le"),
        replace(info, pixel_format="yuv422p"),
        replace(info, container="avi"),
    ):
        assert why_not_nvdec(other, with_alpha=False, strict=False)
    assert why_not_nvdec(info, with_alpha=True, strict=False)
    assert why_not_nvdec(info, with_alpha=False, strict=True)


@pytest.mark.parametrize(("device", "decoder"), [("cpu", "software"), ("mps", "software"), ("cuda", "auto")])
def test_auto_is_for_cuda(device: str, decoder: str) -> None:
    upscaler = SimpleNamespace(backend=SimpleNamespace(device=torch.device(device)))
    assert for_device(UpscaleOptions(decoder="auto"), upscaler).decoder == decoder  # type: ignore[arg-type]
    assert for_device(UpscaleOptions(decoder="nvdec"), upscaler).decoder == "nvdec"  # type: ignore[arg-type]


@pytest.mark.parametrize(("bits", "name"), [(10, "p010le"), (12, "p012le"), (12, "p016le")])
def test_deep_codes_are_kept(info: VideoInfo, bits: int, name: str) -> None:
    codes = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 5 % 2**bits
    frame = VideoFrame(64, 48, name)
    frame.pts, frame.time_base = 7, info.time_base
    for plane, rows in zip(frame.planes, (codes, codes[:24]), strict=True):
        view = np.frombuffer(plane, np.uint16).reshape(plane.height, -1)
        view[:, :64] = rows << (16 - bits)
    deep = replace(info, codec="hevc", pixel_format=f"yuv420p{bits}le", width=64, height=48)
    (planar,) = as_software(iter([frame]), deep)
    assert (planar.format.name, planar.pts, planar.time_base) == (deep.pixel_format, 7, info.time_base)
    for plane, rows in zip(planar.planes, (codes, codes[:24, 0::2], codes[:24, 1::2]), strict=True):
        found = np.frombuffer(plane, np.uint16).reshape(plane.height, -1)[:, : plane.width]
        assert np.array_equal(found, rows)
