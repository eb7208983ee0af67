"""The documents are true: tables match the plan, commands can be parsed, names and links exist."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from clips import make_clip
from typer.main import get_command

import ristn_cli
from ristn_cli.cli import app
from ristn_cli.cli.arguments import DROPPABLE
from ristn_cli.cli.old_spellings import FLAGS, PIECES, WITH_VALUE
from ristn_cli.video import CODECS, StreamInfo, VideoError, VideoInfo, check_mux, probe
from ristn_cli.video.muxing.stream_plan import container_of

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "video.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TARGETS = {"MP4": ".mp4", "MOV": ".mov", "MKV": ".mkv", "WebM": ".webm"}
FONT = {"file_name": "a.ttf", "mime_type": "font/ttf"}
STREAMS = {
    "AAC": StreamInfo(1, "audio", "aac"),
    "MP3": StreamInfo(1, "audio", "mp3"),
    "AC-3, E-AC-3": StreamInfo(1, "audio", "eac3"),
    "ALAC": StreamInfo(1, "audio", "alac"),
    "Opus": StreamInfo(1, "audio", "opus"),
    "Vorbis": StreamInfo(1, "audio", "vorbis"),
    "FLAC": StreamInfo(1, "audio", "flac"),
    "DTS": StreamInfo(1, "audio", "dts"),
    "TrueHD": StreamInfo(1, "audio", "truehd"),
    "PCM": StreamInfo(1, "audio", "pcm_s16le"),
    "PCM of Blu-ray and DVD": StreamInfo(1, "audio", "pcm_bluray"),
    "SubRip": StreamInfo(1, "subtitle", "subrip"),
    "ASS, SSA": StreamInfo(1, "subtitle", "ass"),
    "WebVTT": StreamInfo(1, "subtitle", "webvtt"),
    "MP4 text": StreamInfo(1, "subtitle", "mov_text"),
    "PGS (Blu-ray)": StreamInfo(1, "subtitle", "hdmv_pgs_subtitle"),
    "VobSub (DVD)": StreamInfo(1, "subtitle", "dvd_subtitle"),
    "DVB subtitles": StreamInfo(1, "subtitle", "dvb_subtitle"),
    "attached font": StreamInfo(1, "attachment", "ttf", **FONT),
    "other attachment": StreamInfo(1, "attachment", "none", file_name="a.pdf", mime_type="application/pdf"),
    "cover picture, JPEG or PNG": StreamInfo(1, "video", "mjpeg", is_cover=True),
    "second video, H.264": StreamInfo(1, "video", "h264"),
    "data (timecode, telemetry)": StreamInfo(1, "data", "none"),
}


@pytest.fixture
def info(tmp_path: Path) -> VideoInfo:
    return probe(make_clip(tmp_path / "in.mp4", frames=1))


def outcome(info: VideoInfo, stream: StreamInfo, suffix: str) -> str:
    """What becomes of a stream beside a video that the container can hold."""
    codec = "av1" if suffix == ".webm" else "h264"
    try:
        plan = check_mux(replace(info, streams=(*info.streams[:1], stream)), f"out{suffix}", codec=codec)
    except VideoError:
        return "refused"
    return "dropped" if plan[1].action == "drop" else str(plan[1])


def make_tables(info: VideoInfo) -> list[str]:
    """Both tables of the document as lines of Markdown."""

    def head(first: str) -> list[str]:
        return [f"| {' | '.join((first, *TARGETS))} |", "|---" * (len(TARGETS) + 1) + "|"]

    lines = head("`--codec`")
    for codec in (name for name in CODECS if "nvenc" not in name):
        cells = ("yes" if codec in container_of(f"out{suffix}").video else "no" for suffix in TARGETS.values())
        lines.append(f"| `{codec}` | {' | '.join(cells)} |")
    lines += head("stream")
    for name, stream in STREAMS.items():
        cells = (outcome(info, stream, suffix) for suffix in TARGETS.values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def test_the_tables_are_true(info: VideoInfo) -> None:
    streams = DOCUMENT.read_text(encoding="utf-8").partition("\n## Streams\n")[2].partition("\n## ")[0]
    streams, _, dropped = streams.partition("\n| `--drop` |")
    written = [line for line in streams.splitlines() if line.startswith("|")]
    assert written == make_tables(info)
    assert tuple(sorted(re.findall(r"^\| `(\w+)` \|", dropped, re.MULTILINE))) == tuple(sorted(DROPPABLE))


@pytest.mark.parametrize("name", ["video.md", "usage.md", "troubleshooting.md", "preview.md", "installation.md"])
def test_every_documented_option_exists(name: str) -> None:
    group = get_command(app)
    commands = [group, *group.commands.values()]  # type: ignore[attr-defined]
    known = {name for command in commands for option in command.params for name in option.opts}
    known |= {*WITH_VALUE, *FLAGS, *PIECES}
    named = set(re.findall(r"`(?:[a-z-]+ )?(--[a-z-]+)", DOCUMENT.with_name(name).read_text(encoding="utf-8")))
    assert named
    assert named <= known


def documented_commands() -> Iterator[tuple[str, str]]:
    """Every `ristn` command in a block of code, with the name of its page."""
    for page in PAGES:
        for language, block in re.findall(r"(?ms)^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8")):
            for line in block.replace("\\\n", " ").splitlines() if language in ("", "sh") else ():
                for command in re.findall(r"(?:^|\| |&& )(ristn .+?)(?= \| | && |$)", line.partition("  #")[0]):
                    yield page.name, command.partition(" #")[0].partition(" <")[0].partition(" >")[0]


@pytest.mark.parametrize(("page", "command"), sorted(set(documented_commands())))
def test_every_documented_command_can_be_parsed(page: str, command: str) -> None:
    words = shlex.split(command)[1:]
    group = get_command(app)
    if words[0].startswith("--"):
        assert words[0] in {name for option in group.params for name in option.opts}
        return
    assert words[0] in group.commands, page  # type: ignore[attr-defined]
    group.commands[words[0]].make_context(words[0], words[1:])  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", page.read_text(encoding="utf-8")):
        target, _, heading = link.partition("#")
        path = page.parent / target if target else page
        assert path.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}, heading


def test_the_python_page_names_what_is_public() -> None:
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    table = text.partition("| name | meaning |")[2].partition("\n\n")[0]
    cells = " ".join(line.split("|")[1] for line in table.splitlines() if line)
    assert sorted(re.findall(r"`(\w+)[(`]", cells)) == sorted(ristn_cli.__all__)
    for name in re.findall(r"`(ristn_cli(?:\.\w+)+)`", text):
        module, _, attribute = name.rpartition(".")
        assert issubclass(getattr(__import__(module, fromlist=[attribute]), attribute), Exception)
    for block in re.findall(r"(?ms)^```python\n(.*?)^```", text):
        compile(block, "docs/python.md", "exec")


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 900
