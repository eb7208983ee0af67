"""What may be opened: real video and image formats, and nothing that makes FFmpeg open another file."""

from __future__ import annotations

import base64
import os
import re
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.format import ContainerFormat, Flags, formats_available
from clips import make_clip, make_picture, run_ffmpeg
from outputs import join_parts

from ristn_cli.video import check_mux, formats, probe, read_frames
from ristn_cli.video.formats import FORMATS, READ_OPTIONS, describe_script, file_url
from ristn_cli.video.muxing.program import find_ffmpeg
from ristn_cli.video.muxing.tags import cover_name
from ristn_cli.video.steps import scale_bicubic
from ristn_cli.video.types import VideoError
from ristn_cli.video.writing.image_file import write_image

# Demuxers that open what their input names, and a beginning by which FFmpeg takes a text for theirs.
OPENS_OTHERS = {
    "concat": "ffconcat version 1.0\nfile 'secret.mp4'\n",
    "hls": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n",
    "dash": '<?xml version="1.0"?>\n<!-- -->\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"></MPD>\n',
    "imf": '<?xml version="1.0"?>\n<CompositionPlaylist xmlns="http://www.smpte-ra.org/schemas/2067-3/2016"/>\n',
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "vobsub": "# VobSub index file, v7\nid: en, index: 0\ntimestamp: 00:00:00:000, filepos: 000000000\n",
    "rtsp": "RTSPtext rtsp://127.0.0.1:9/secret\n",
    "m3u": "#EXTM3U\nsecret.mp4\n",
    "asx": '<ASX version="3.0"><ENTRY><REF HREF="secret.mp4"/></ENTRY></ASX>\n',
    "mlv": "MLVI",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_clip(tmp_path / "secret.mp4", frames=3)
    return tmp_path


@pytest.mark.parametrize("name", OPENS_OTHERS)
@pytest.mark.parametrize("suffix", [".mp4", ".txt", ".m3u8", ".mpd", ".avs", ""])
def test_a_script_is_refused_by_what_it_holds(folder: Path, name: str, suffix: str) -> None:
    script = folder / f"film{suffix}"
    script.write_text(OPENS_OTHERS[name], encoding="ascii")
    with pytest.raises(VideoError, match="does not open the files that it refers to") as caught:
        probe(script)
    assert str(caught.value).startswith(f"{script}: is a")
    assert "\n" not in str(caught.value)


def test_the_formats_that_open_other_files_are_not_among_those_allowed() -> None:
    allowed = {part for name in FORMATS for part in name.split(",")}
    refused = "concat hls dash imf sdp rtsp rtp sap vobsub webm_dash_manifest avisynth vapoursynth dvdvideo lavfi mlv"
    assert allowed.isdisjoint(refused.split())
    assert allowed.isdisjoint(["ffmetadata", "image2pipe", "svg_pipe", "tty", "rawvideo", "data", "alsa", "x11grab"])


def documented(title: str) -> str:
    """What docs/video.md lists after a title in bold."""
    text = (Path(__file__).parents[2] / "docs" / "video.md").read_text(encoding="utf-8")
    section = text.partition("\n## Formats that are opened\n")[2].partition("\n## ")[0]
    found = re.search(rf"- \*\*{title}:\*\* `([^`]+)`", section)
    assert found is not None, title
    return " ".join(found[1].split())


def test_the_document_lists_the_formats() -> None:
    for title, names in (
        ("Containers", formats.CONTAINERS),
        ("Containers of games", formats.GAME_CONTAINERS),
        ("Elementary streams", formats.ELEMENTARY_STREAMS),
        ("Images", formats.IMAGES),
        ("Audio", formats.AUDIO),
    ):
        assert documented(title) == names
    others = documented("Scripts, playlists and others that open further files or the network").split()
    devices = documented("Devices").split()
    allowed = {part for name in FORMATS for part in name.split(",")}
    assert allowed.isdisjoint([*others, *devices])
    assert {*OPENS_OTHERS} - {"m3u", "asx"} <= {*others}
    offered = {part for name in formats_available for part in name.split(",") if is_demuxer(part)}
    rest = offered - allowed - {*others, *devices}
    assert not [name for name in rest if Flags.no_file in Flags(ContainerFormat(name, "r").flags)]
    if av.library_versions["libavformat"][:2] == (62, 12):
        text = (Path(__file__).parents[2] / "docs" / "video.md").read_text(encoding="utf-8")
        assert f"**All others**, {len(rest)} in FFmpeg 8.1" in text


def is_demuxer(name: str) -> bool:
    try:
        return ContainerFormat(name, "r").is_input
    except ValueError:
        return False


def test_no_format_that_needs_no_file_is_allowed() -> None:
    """Devices and protocols have the flag that they open themselves; of ours only those for images do."""
    for name in FORMATS:
        try:
            flags = Flags(ContainerFormat(name.split(",")[0], "r").flags)
        except ValueError:  # not in this build
            continue
        assert Flags.no_file not in flags or name == "image2", name


def test_the_program_refuses_them_too(folder: Path) -> None:
    """It reads the source again for sound and subtitles."""
    path = folder / "film.mp4"
    path.write_text(OPENS_OTHERS["concat"], encoding="ascii")
    options = [word for name, value in READ_OPTIONS.items() for word in (f"-{name}", value)]
    for given, expected in (([], True), (options, False)):
        command = [find_ffmpeg(), "-v", "error", *given, "-i", str(path), "-f", "null", "-"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (done.returncode == 0) is expected, done.stderr


def test_no_protocol_but_that_of_files_is_allowed(folder: Path) -> None:
    clip = base64.b64encode((folder / "secret.mp4").read_bytes()).decode()
    url = f"data:video/mp4;base64,{clip}"
    av.open(url).close()
    with pytest.raises(av.error.FFmpegError):
        av.open(url, options=READ_OPTIONS)
    av.open(file_url(folder / "secret.mp4"), options=READ_OPTIONS).close()


def test_the_program_reads_every_source_by_the_same_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, cut with subtitles that are converted, and for a comparison of speed."""
    source = make_clip(tmp_path / "in.mkv", frames=50, audio_tracks=1, subtitles=True)
    part = make_clip(tmp_path / "part.mp4", frames=25, width=256, height=192)
    info = probe(source)
    commands: list[list[str]] = []

    class Recorded(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, command: list[str], *others: Any, **options: Any) -> None:
            commands.append(command)
            super().__init__(command, *others, **options)

    monkeypatch.setattr(subprocess, "Popen", Recorded)
    check_mux(info, tmp_path / "out.mp4")
    join_parts([part], info, tmp_path / "out.mp4", start=Fraction(1))
    scale_bicubic(info, tmp_path / "scaled.mp4", width=96, height=72, frames=2, crf=20, preset="ultrafast")
    read = 0
    for command in commands:
        begin = 0
        for at in (k for k, word in enumerate(command) if word == "-i"):
            options, name = command[begin:at], command[at + 1]
            begin = at + 2
            if name == "pipe:0" or "ffmetadata" in options:  # what this program wrote
                continue
            read += 1
            assert name.startswith("file:/")
            assert {name: options[options.index(f"-{name}") + 1] for name in READ_OPTIONS} == READ_OPTIONS
    assert read == 3


def refer_to(path: Path, other: Path) -> None:
    """Let a MOV say that its samples lie in another file, by its absolute path."""
    data, name = bytearray(path.read_bytes()), os.fsencode(f"disk{other}").replace(b"/", b":")
    at = data.find(b"dref") - 4
    record = bytes(10) + b"\x04" + b"disk".ljust(27, b"\0") + bytes(12 + 1 + 63 + 16 + 4 + 16)
    record += struct.pack(">hH", 2, len(name)) + name + bytes(len(name) % 2) + struct.pack(">h", -1)
    entry = struct.pack(">I4sI", 12 + len(record), b"alis", 0) + record
    table = struct.pack(">I4sII", 16 + len(entry), b"dref", 0, 1) + entry
    before = int.from_bytes(data[at : at + 4], "big")
    data[at : at + before] = table
    for box in (b"moov", b"trak", b"mdia", b"minf", b"dinf"):
        size = data.rfind(box, 0, at) - 4
        data[size : size + 4] = (int.from_bytes(data[size : size + 4], "big") + len(table) - before).to_bytes(4, "big")
    path.write_bytes(data)


def test_a_container_that_names_another_file_is_opened_without_it(tmp_path: Path) -> None:
    path = make_clip(tmp_path / "film.mov", frames=5)
    shutil.copy(path, tmp_path / "secret.mov")
    refer_to(path, tmp_path / "secret.mov")
    follow = {"enable_drefs": "1", "use_absolute_path": "1"}  # the file does what it should for who wants it
    with av.open(str(path), options=follow) as container:
        assert sum(1 for _ in container.decode(video=0)) == 5
    with pytest.raises(VideoError, match=r"film\.mov: no frames in the video stream"):
        probe(path)


def test_what_a_film_is_made_of_is_no_script(folder: Path) -> None:
    assert describe_script(folder / "secret.mp4") is None
    diary = folder / "diary.txt"
    diary.write_text("Dear diary, today I wrote <MPD and #EXTM3U.\n", encoding="ascii")
    assert describe_script(diary) is None


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_an_image_named_like_a_pattern_is_itself(tmp_path: Path, kind: type[np.uint8 | np.uint16]) -> None:
    for name, level, side in (("a%d.png", 200, 16), ("a0.png", 20, 32)):
        write_image(tmp_path / name, np.full((side, side, 3), level, kind))
    info = probe(tmp_path / "a%d.png")
    assert (info.width, info.height) == (16, 16)
    (frame,) = read_frames(info)
    assert frame.image.mean() == 200


def test_folders_named_like_protocols(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative paths in a folder `http:` are files, for what is read and for what is written."""
    (tmp_path / "http:").mkdir()
    make_clip(tmp_path / "http:" / "in.mkv", frames=4, audio_tracks=1, subtitles=True, chapters=True)
    make_clip(tmp_path / "http:" / "part.mp4", frames=4, width=256, height=192)
    monkeypatch.chdir(tmp_path)
    source, target = Path("http:/in.mkv"), Path("http:/out.mkv")
    info = probe(source)
    check_mux(info, target)
    join_parts([Path("http:/part.mp4")], info, target)
    assert [stream.kind for stream in probe(target).streams] == [stream.kind for stream in info.streams]


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ("front.png", "front.png"),
        ("..", "cover.png"),
        (None, "cover.png"),
        ("", "cover.png"),
        ("../../etc/passwd", "passwd"),
        ("a\x1b[31m\nb.png", "a[31mb.png"),
        ("x" * 300 + ".png", "x" * 196 + ".png"),
        ("\u00e9" * 150 + ".png", "\u00e9" * 98 + ".png"),
    ],
)
def test_names_of_covers(stated: str | None, expected: str) -> None:
    assert cover_name(stated, ".png") == expected
    assert len(os.fsencode(expected)) <= 200


def test_tags_with_line_ends_and_endless_titles(tmp_path: Path) -> None:
    """Neither ends a line of FFmpeg's text form, where the next would be a chapter; nor is an argument too long."""
    cover = tmp_path / "cover.png"
    write_image(cover, make_picture(3, 32, 32))
    plain = make_clip(tmp_path / "plain.mkv", frames=4, audio_tracks=1)
    comment = "one\rtwo\n[CHAPTER]\nTIMEBASE=1/1\nSTART=0\nEND=9\ntitle=forged"
    tags, source = tmp_path / "tags.txt", tmp_path / "source.mkv"
    tags.write_text(f";FFMETADATA1\n[STREAM]\ntitle={'t' * 200_000}\n", encoding="ascii")
    named: list[str | Path] = [
        "-metadata",
        f"comment={comment}",
        "-metadata:s:2",
        "mimetype=image/png",
        "-metadata:s:2",
        "filename=..",
    ]
    inputs: list[str | Path] = ["-i", plain, "-i", tags, "-map", "0", "-map_metadata:s:1", "1:s:0", "-c", "copy"]
    run_ffmpeg(*inputs, "-attach", cover, *named, source)
    part = make_clip(tmp_path / "part.mp4", frames=4, width=256, height=192)
    info = probe(source)
    join_parts([part], info, tmp_path / "out.mkv")
    output = probe(tmp_path / "out.mkv")
    assert output.chapters == ()
    assert output.metadata["COMMENT"] == comment
    assert output.streams[1].title == "t" * 1000
    assert any(stream.is_cover for stream in output.streams)
