"""Write tags and chapters of a video as FFmpeg metadata text, and cover images as files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path

from ristn_cli.video.muxing.stream_plan import StreamPlan
from ristn_cli.video.reading.source import open_input
from ristn_cli.video.reading.streams import read_packets
from ristn_cli.video.types import VideoInfo

CHAPTER_CLOCK = 1_000_000
# Tags that describe the source file or stream, and would be wrong for the output.
STALE_TAGS = frozenset(
    {"major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate", "vendor_id", "bps"}
)
# The timecode of the first frame, from which players and editors count.
START_TIMECODE = "timecode"
MAX_NAME_BYTES = 200
"""Maximum length of a file name that all file systems support, in bytes."""

STALE_PREFIXES = ("number_of_", "_statistics")


def format_tags(source: VideoInfo, zero: Fraction, until: Fraction | None) -> str:
    """Format global tags, video stream tags, and chapters, cut to [zero, until) and shifted, as `ffmetadata` text."""
    stale = STALE_TAGS if zero <= source.start_time else STALE_TAGS | {START_TIMECODE}
    lines = [";FFMETADATA1", *_format_entries(source.metadata, stale)]
    video = next((stream for stream in source.streams if stream.index == source.video_index), None)
    if video is not None:
        title = {"title": video.title} if video.title is not None else {}
        lines += ["[STREAM]", *_format_entries({**video.metadata, **title}, stale)]
    for chapter in source.chapters:
        begin = max(chapter.start, zero) - zero
        finish = (chapter.end if until is None else min(chapter.end, until)) - zero
        if finish > begin:
            lines += ["[CHAPTER]", f"TIMEBASE=1/{CHAPTER_CLOCK}", f"START={round(begin * CHAPTER_CLOCK)}"]
            lines += [f"END={round(finish * CHAPTER_CLOCK)}", *_format_entries(chapter.metadata, stale)]
    return "\n".join(lines) + "\n"


def _format_entries(metadata: Mapping[str, str], stale: frozenset[str]) -> list[str]:
    lines = []
    for name, value in metadata.items():
        plain = name.lower()
        if plain.split("-")[0] in stale or plain.startswith(STALE_PREFIXES):
            continue
        lines.append(f"{_escape(name)}={_escape(value)}")
    return lines


def _escape(text: str) -> str:
    return "".join(f"\\{letter}" if letter in "=;#\\\n\r" else letter for letter in text if letter != "\0")


def cover_name(stated: str | None, suffix: str) -> str:
    """Return a file name for a cover: the stated one if it is valid in any folder."""
    name = "".join(letter for letter in Path(stated or "").name if letter.isprintable() and letter not in '\\:*?"<>|')
    if not name.strip(". "):
        return f"cover{suffix}"
    if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        return name.encode("utf-8", "replace")[: MAX_NAME_BYTES - len(suffix)].decode("utf-8", "ignore") + suffix
    return name


def extract_covers(source: VideoInfo, plan: Sequence[StreamPlan], folder: Path) -> dict[int, tuple[Path, str]]:
    """Write the covers that the plan copies to `folder`. Returns stream index to file and MIME type."""
    covers: dict[int, tuple[Path, str]] = {}
    wanted = [entry.stream for entry in plan if entry.stream.is_cover and entry.action == "copy"]
    if not wanted:
        return covers
    with open_input(source.path) as container:
        for number, stream in enumerate(wanted):
            suffix, mime_type = (".png", "image/png") if stream.codec == "png" else (".jpg", "image/jpeg")
            place = folder / f"cover-{number}"
            place.mkdir()
            path = place / cover_name(stream.file_name, suffix)
            for packet in read_packets(container, container.streams[stream.index]):
                if packet.size:
                    path.write_bytes(bytes(packet))
                    covers[stream.index] = (path, mime_type)
                    break
    return covers
