"""Parts: exact times, whole or not at all, encoders and their options."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import (
    make_clip,
    make_picture,
)
from outputs import open_writer, try_target

from ristn_cli.video import (
    CODECS,
    Color,
    EncoderSettings,
    Frame,
    VideoError,
    choose_codec,
    probe,
)
from ristn_cli.video.muxing.joining import read_layout
from ristn_cli.video.writing import encoder


def test_exception_leaves_nothing(tmp_path: Path) -> None:
    part = tmp_path / "part.mp4"

    def fail() -> None:
        settings = {"width": 64, "height": 48, "rate": Fraction(25), "time_base": Fraction(1, 25)}
        with open_writer(part, **settings, color=Color()) as writer:
            writer.write(Frame(make_picture(0, 64, 48), Fraction(0)))
            raise RuntimeError("network")

    with pytest.raises(RuntimeError, match="network"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_name_appears_on_close_only(tmp_path: Path) -> None:
    part = tmp_path / "part.mp4"
    writer = open_writer(part, width=64, height=48, rate=Fraction(25), time_base=Fraction(1, 25), color=Color())
    writer.write(Frame(make_picture(0, 64, 48), Fraction(0)))
    assert not part.exists()
    writer.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["part.mp4"]


def test_refuses_what_does_not_fit(tmp_path: Path) -> None:
    settings = {"width": 64, "height": 48, "rate": Fraction(25), "time_base": Fraction(1, 25), "color": Color()}
    image = make_picture(0, 64, 48)
    with pytest.raises(VideoError, match="no frames were written"), open_writer(tmp_path / "a.mp4", **settings):
        pass
    writer = open_writer(tmp_path / "a.mp4", **settings)
    writer.write(Frame(image, Fraction(1)))
    with pytest.raises(VideoError, match="times must increase"):
        writer.write(Frame(image, Fraction(1)))
    writer.discard()
    with pytest.raises(VideoError, match="expected 64x48"), open_writer(tmp_path / "a.mp4", **settings) as writer:
        writer.write(Frame(image[:-1], Fraction(0)))
    with pytest.raises(VideoError, match="unknown codec 'vhs'"):
        open_writer(tmp_path / "a.mp4", **settings, codec="vhs")
    with (
        pytest.raises(VideoError, match=r"libx264 has no preset 'warp'; expected ultrafast, .*veryslow"),
        open_writer(tmp_path / "a.mp4", **settings, preset="warp") as writer,
    ):
        writer.write(Frame(image, Fraction(0)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("codec", [name for name in CODECS if "nvenc" not in name])
def test_every_encoder_is_tried_with_its_options(tmp_path: Path, codec: str) -> None:
    info = probe(make_clip(tmp_path / "in.mp4", frames=2))
    settings = {"width": 256, "height": 192, "preset": "ultrafast", "options": {"g": "7"}}
    target = tmp_path / "out.mkv"
    try_target(info, target, codec=codec, **settings)
    with pytest.raises(VideoError, match=r"has no option 'nonsense'; check --encoder-arg"):
        try_target(info, target, codec=codec, **(settings | {"options": {"nonsense": "1"}}))


@pytest.mark.parametrize("codec", ["h264_nvenc", "hevc_nvenc", "av1_nvenc"])
def test_a_missing_encoder_is_found_out(tmp_path: Path, codec: str) -> None:
    info = probe(make_clip(tmp_path / "in.mp4", frames=2))
    with pytest.raises(VideoError, match=rf"^{codec} is not usable .*NVIDIA.*--codec$"):
        try_target(info, tmp_path / "out.mkv", width=256, height=192, codec=codec)


def test_x264_cuts_no_picture_into_slices(tmp_path: Path) -> None:
    """It works on several pictures at once instead, as under ffmpeg: faster, and smaller at the same quality."""
    settings = {"width": 256, "height": 192, "rate": Fraction(25), "time_base": Fraction(1, 25)}
    with open_writer(tmp_path / "a.mp4", **settings, color=Color(), preset="ultrafast") as writer:
        writer.write(Frame(np.zeros((192, 256, 3), np.uint8), Fraction(0)))
    stated = (tmp_path / "a.mp4").read_bytes()  # x264 writes its options into the stream
    assert b"x264 - core" in stated
    assert b"sliced_threads=1" not in stated


@pytest.mark.parametrize(
    ("given", "stated"),
    [({}, b"rc_lookahead=10 "), ({"rc-lookahead": "13"}, b"rc_lookahead=13 "), (None, b"rc_lookahead=40 ")],
)
def test_x264_holds_fewer_pictures_where_they_are_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str] | None, stated: bytes
) -> None:
    """As many pixels as of the largest that are not; the user's own choice counts, and smaller ones are left."""
    settings = {"width": 256, "height": 256, "rate": Fraction(25), "time_base": Fraction(1, 25)}
    monkeypatch.setattr(encoder, "LARGE_PICTURE", 256 * 256 // (1 if given is None else 4))
    monkeypatch.setattr(encoder, "usable_cores", lambda: 16)
    with open_writer(tmp_path / "a.mp4", **settings, color=Color(), options=given or {}) as writer:
        writer.write(Frame(np.zeros((256, 256, 3), np.uint8), Fraction(0)))
    options = (tmp_path / "a.mp4").read_bytes()
    assert stated in options
    assert (b" threads=4 " in options) == (b"sliced_threads=1" in options) == (given is not None)


def test_so_does_x265_and_always_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = probe(make_clip(tmp_path / "in.mp4", frames=2))
    settings = EncoderSettings(codec="hevc", color=Color())
    assert encoder.shorter_lookahead(CODECS["hevc"], settings, 256 * 192) is None
    monkeypatch.setattr(encoder, "LARGE_PICTURE", 1)
    for preset in encoder.X26X_PRESETS:
        assert encoder.shorter_lookahead(CODECS["hevc"], replace(settings, preset=preset), 256 * 192) in (None, 9)
        try_target(info, tmp_path / "out.mkv", codec="hevc", width=256, height=192, preset=preset)


def test_parts_by_x265_tell_nothing_of_who_made_them(tmp_path: Path) -> None:
    """What an encoder looked ahead, and in how many threads: parts of other machines join."""
    settings = {"width": 256, "height": 192, "rate": Fraction(25), "time_base": Fraction(1, 25), "codec": "hevc"}
    parts = [tmp_path / f"{number}.mp4" for number in range(2)]
    for path, parameters in zip(
        parts, ("rc-lookahead=9:frame-threads=1", "rc-lookahead=20:frame-threads=3"), strict=True
    ):
        options = {"x265-params": parameters}
        with open_writer(path, **settings, color=Color(), preset="ultrafast", options=options) as writer:
            writer.write(Frame(np.zeros((192, 256, 3), np.uint8), Fraction(0)))
    assert read_layout(parts, Fraction(25)).codec == "hevc"


def test_pixel_formats(tmp_path: Path) -> None:
    info = probe(make_clip(tmp_path / "in.mp4", frames=2))
    settings = {"width": 256, "height": 192, "preset": "ultrafast"}
    try_target(info, tmp_path / "out.mkv", pixel_format="yuv444p", **settings)
    with pytest.raises(VideoError, match=r"^libx264: .*'foo'; use another --codec, --pix-fmt"):
        try_target(info, tmp_path / "out.mkv", pixel_format="foo", **settings)
    with pytest.raises(VideoError, match=r"^libx264 does not support 256x192 pixels .*--pix-fmt"):
        try_target(info, tmp_path / "out.mkv", pixel_format="rgb24", **settings)


def test_deep_sources_become_hevc() -> None:
    assert choose_codec("auto", 10) == "hevc"
    assert choose_codec("auto", 8) == "h264"
