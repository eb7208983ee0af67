"""What `probe` finds, by clips made for it."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import (
    CHAPTERS,
    make_clip,
)
from outputs import open_writer

from ristn_cli.video import (
    Color,
    Frame,
    MasteringMetadata,
    probe,
)


def test_describes_a_clip(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "a.mkv", frames=25, audio_tracks=2, subtitles=True, chapters=True, title="A clip")
    info = probe(clip)
    assert (info.width, info.height, info.rate) == (64, 48, 25)
    assert (info.codec, info.bit_depth, info.pixel_format) == ("h264", 8, "yuv420p")
    assert [stream.kind for stream in info.streams] == ["video", "audio", "audio", "subtitle"]
    assert [stream.language for stream in info.streams[1:]] == ["eng", "deu", "fra"]
    assert info.streams[2].title == "track 1"
    assert info.streams[2].dispositions == ("comment",)
    assert {"audio", "subtitle"} <= {stream.kind for stream in info.streams}
    assert info.metadata["title"] == "A clip"
    assert [(chapter.start, chapter.end) for chapter in info.chapters] == [(a, b) for a, b, _ in CHAPTERS]
    assert not any((info.is_interlaced, info.has_alpha, info.is_image_sequence, info.is_still, info.rotation))


@pytest.mark.parametrize(("height", "matrix"), [(576, "smpte170m"), (720, "bt709")])
def test_takes_untagged_video_as_players_do(tmp_path: Path, height: int, matrix: str) -> None:
    info = probe(make_clip(tmp_path / "a.mp4", frames=1, width=64, height=height))
    assert info.color.matrix == info.color.range == "unspecified"
    assert (info.color.conversion_matrix, info.color.conversion_range) == (matrix, "tv")


def test_reads_every_tag(tmp_path: Path) -> None:
    clip = tmp_path / "a.mp4"
    color = Color("bt2020nc", "tv", "bt2020", "smpte2084", "topleft")
    mastering = MasteringMetadata("G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)", "1000,400")
    image = np.full((32, 64, 3), 30000, np.uint16)
    with open_writer(
        clip,
        width=64,
        height=32,
        rate=Fraction(25),
        time_base=Fraction(1, 25),
        color=color,
        mastering=mastering,
        codec="hevc",
    ) as writer:
        writer.write(Frame(image, Fraction(0)))
    info = probe(clip)
    assert info.color == Color("bt2020nc", "tv", "bt2020", "smpte2084", "topleft", "smpte170m", "tv")
    assert info.color.is_hdr
    assert info.mastering == mastering
    assert (info.codec, info.bit_depth) == ("hevc", 10)


def test_a_decoder_whose_threads_log_can_be_closed(tmp_path: Path) -> None:
    """While another thread captures FFmpeg's log, a decoder is closed that works on frames ahead."""
    clip = make_clip(tmp_path / "in.mp4", frames=40, width=640, height=480)
    program = (
        "import sys, av.logging\n"
        "from pathlib import Path\n"
        "from ristn_cli.video import probe\n"
        "from ristn_cli.video.reading.interlace import decodable_frames\n"
        "info = probe(Path(sys.argv[1]))\n"
        "av.logging.set_level(av.logging.DEBUG)\n"
        "with av.logging.Capture(False):\n"
        "    for _ in range(20):\n"
        "        frames = decodable_frames(info, 0)\n"
        "        print(next(frames).width)\n"
        "        frames.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(clip)], timeout=60, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == ["640"] * 20
