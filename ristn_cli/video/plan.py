"""What becomes of each stream of a source in each container: the stated rules, decided before any frame is computed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ristn_cli.video.codecs import CODECS, choose_codec
from ristn_cli.video.copying import can_copy
from ristn_cli.video.info import StreamInfo, VideoError, VideoInfo
from ristn_cli.video.streams import COVER_CODECS

TEXT_SUBTITLES = frozenset({"subrip", "srt", "ass", "ssa", "webvtt", "text", "mov_text"})
FONT_SUFFIXES = (".ttf", ".otf", ".ttc", ".woff", ".woff2")


@dataclass(frozen=True)
class Container:
    """What a container holds, as FFmpeg writes it: codecs copied as they are, and what the others are converted to.

    None for `audio` or `subtitles` means nearly anything. `pcm_to` and `text_to` are the conversions. `languages` are
    codes that must be written as another of the same language, or FFmpeg would leave them out.
    """

    muxer: str
    video: frozenset[str]
    audio: frozenset[str] | None
    subtitles: frozenset[str]
    pcm_to: str | None = None
    text_to: str | None = None
    holds_covers: bool = False
    holds_attachments: bool = False
    copies_pcm: bool = False
    languages: Mapping[str, str] = field(default_factory=dict)


MP4_AUDIO = frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac", "dts"})
MP4 = Container(
    "mp4",
    frozenset({"h264", "hevc", "av1"}),
    MP4_AUDIO,
    frozenset({"mov_text", "dvd_subtitle"}),
    pcm_to="aac",
    text_to="mov_text",
    holds_covers=True,
)
# QuickTime numbers its languages; FFmpeg knows each number by one of the codes that ISO 639-2 has for it.
MOV_LANGUAGES = {
    **{"bod": "tib", "cym": "wel", "cze": "ces", "deu": "ger", "ell": "gre", "eus": "baq", "fas": "per", "fre": "fra"},
    **{"hye": "arm", "isl": "ice", "kat": "geo", "mkd": "mac", "msa": "may", "mya": "bur", "nld": "dut", "rum": "ron"},
    **{"slo": "slk", "sqi": "alb", "swe": "sve", "zho": "chi"},
}
MOV = Container(
    "mov",
    frozenset({"h264", "hevc", "prores"}),
    frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "alac"}),
    frozenset({"mov_text"}),
    text_to="mov_text",
    copies_pcm=True,
    languages=MOV_LANGUAGES,
)
MKV = Container(
    "matroska",
    frozenset({"h264", "hevc", "av1", "prores", "ffv1"}),
    None,
    frozenset(
        {
            "subrip",
            "srt",
            "ass",
            "ssa",
            "webvtt",
            "hdmv_pgs_subtitle",
            "dvd_subtitle",
            "dvb_subtitle",
            "hdmv_text_subtitle",
        }
    ),
    text_to="subrip",
    holds_covers=True,
    holds_attachments=True,
    copies_pcm=True,
)
WEBM = Container(
    "webm", frozenset({"av1"}), frozenset({"opus", "vorbis"}), frozenset({"webvtt"}), pcm_to="libopus", text_to="webvtt"
)
CONTAINERS: dict[str, Container] = {".mp4": MP4, ".m4v": MP4, ".mov": MOV, ".mkv": MKV, ".webm": WEBM}


@dataclass(frozen=True)
class StreamPlan:
    """What becomes of one stream. `action` is `upscale`, `copy`, `convert` (to `codec`) or `drop` (for `reason`).

    `is_loss` is true of a stream that is dropped although nobody asked for that, which the user is to be told.
    """

    stream: StreamInfo
    action: Literal["upscale", "copy", "convert", "drop"]
    codec: str
    reason: str = ""
    is_loss: bool = False

    def __str__(self) -> str:
        """The plan in a few words: `copy`, `convert to mov_text`, `dropped (why)`."""
        if self.action == "convert":
            return f"convert to {self.codec}"
        return f"dropped ({self.reason})" if self.action == "drop" else self.action


def container_of(target: str | Path) -> Container:
    """The container that the suffix of `target` names. Raises VideoError for an unknown one."""
    suffix = Path(target).suffix.lower()
    if not suffix:
        raise VideoError(
            f"{target}: is no folder that exists, and has no suffix to say what to write; use {', '.join(CONTAINERS)}"
        )
    if suffix not in CONTAINERS:
        raise VideoError(
            f"{target}: cannot write files ending in '{suffix}'; use {', '.join(CONTAINERS)} (.mkv holds the most)"
        )
    return CONTAINERS[suffix]


def check_mux(
    source: VideoInfo,
    target: str | Path,
    *,
    codec: str | None = None,
    with_audio: bool = True,
    with_subtitles: bool = True,
    drop_unsupported: bool = False,
) -> tuple[StreamPlan, ...]:
    """The plan for every stream of `source` in a `target` whose video is of `codec` (None, `auto`: as the depth asks).

    Raises VideoError, naming the container that would work, for an unknown suffix, for a video codec the container
    cannot hold, for a stream it can neither hold nor take converted (unless `drop_unsupported`), and for an encrypted
    stream. A stream without a decoder is copied when the container takes it, else dropped. Data streams, and
    fonts where ASS subtitles are converted to plain text, are dropped and said so; `with_audio` and `with_subtitles`
    leave out theirs (fonts go with subtitles).
    """
    container = container_of(target)
    chosen = CODECS[choose_codec(codec, source.bit_depth)]
    family = chosen.name.removesuffix("_nvenc")
    if family not in container.video:
        fitting = [suffix for suffix, other in CONTAINERS.items() if family in other.video]
        holds = ", ".join(sorted(container.video))
        raise VideoError(
            f"{target}: {container.muxer} cannot hold {family} video (it holds {holds}); "
            f"use {' or '.join(fitting)}, or --codec {sorted(container.video)[0]}"
        )
    plans = []
    for stream in source.streams:
        if stream.index == source.video_index:
            plans.append(StreamPlan(stream, "upscale", family))
            continue
        plan = _plan_stream(stream, container, with_audio, with_subtitles)
        if stream.is_encrypted and (plan is None or plan.action != "drop"):
            raise VideoError(
                f"{source.path}: the {stream.kind} stream {stream.index} is encrypted, and ristn cannot decrypt it; "
                f"use a copy without protection{_flag_for(stream)}"
            )
        if plan is None or (not stream.has_decoder and plan.action != "drop"):
            plan = _plan_unlisted(source, stream, container) or plan
        if plan is None and drop_unsupported:
            plan = _lose(stream, f"{container.muxer} cannot hold {stream.codec}")
        if plan is None:
            raise VideoError(
                f"{target}: {container.muxer} cannot hold the {stream.kind} stream {stream.index} ({stream.codec}) of "
                f"{source.path.name}; use an output ending in .mkv{_flag_for(stream)}"
            )
        plans.append(plan)
    return tuple(plans)


def _flag_for(stream: StreamInfo) -> str:
    return {"audio": ", or --no-audio", "subtitle": ", or --no-subtitles"}.get(stream.kind, "")


def _plan_unlisted(source: VideoInfo, stream: StreamInfo, container: Container) -> StreamPlan | None:
    """The plan for a stream without a decoder, or for another video stream, of which the tables tell nothing."""
    if stream.has_decoder and (stream.kind != "video" or stream.is_cover):
        return None
    if can_copy(source.path, stream.index, container.muxer):
        return StreamPlan(stream, "copy", stream.codec)
    if not stream.has_decoder:
        return _lose(stream, f"{container.muxer} cannot hold it, and FFmpeg has no decoder to convert it")
    return _lose(stream, f"{container.muxer} cannot hold it") if container is MKV else None


def _lose(stream: StreamInfo, reason: str) -> StreamPlan:
    return StreamPlan(stream, "drop", stream.codec, reason, is_loss=True)


def _plan_stream(stream: StreamInfo, container: Container, with_audio: bool, with_subtitles: bool) -> StreamPlan | None:
    """None when the container can neither hold the stream nor take it converted."""
    copy = StreamPlan(stream, "copy", stream.codec)
    if stream.kind == "audio":
        return _plan_audio(stream, container) if with_audio else StreamPlan(stream, "drop", stream.codec, "not wanted")
    if stream.kind == "subtitle":
        if not with_subtitles:
            return StreamPlan(stream, "drop", stream.codec, "not wanted")
        if stream.codec in container.subtitles:
            return copy
        if stream.codec in TEXT_SUBTITLES and container.text_to is not None:
            return StreamPlan(stream, "convert", container.text_to)
        return None
    if stream.kind == "attachment":
        is_font = "font" in (stream.mime_type or "") or (stream.file_name or "").lower().endswith(FONT_SUFFIXES)
        if is_font and not with_subtitles:
            return StreamPlan(stream, "drop", stream.codec, "a font, of use to subtitles only")
        if container.holds_attachments:
            return copy
        if is_font:
            return StreamPlan(stream, "drop", stream.codec, "a font, of no use to the plain text of this container")
        return None
    if stream.kind == "video":
        if stream.is_cover:
            return copy if container.holds_covers and stream.codec in COVER_CODECS else None
        return copy if stream.codec in container.video else None
    return _lose(stream, "data streams are not carried")


def _plan_audio(stream: StreamInfo, container: Container) -> StreamPlan | None:
    if stream.codec.startswith("pcm_"):
        if container.copies_pcm and not stream.codec.endswith(("_planar", "bluray", "dvd")):
            return StreamPlan(stream, "copy", stream.codec)
        if container.pcm_to is not None:
            return StreamPlan(stream, "convert", container.pcm_to)
        return StreamPlan(stream, "convert", "pcm_s24le") if container.copies_pcm else None
    if container.audio is None or stream.codec in container.audio:
        return StreamPlan(stream, "copy", stream.codec)
    return None
