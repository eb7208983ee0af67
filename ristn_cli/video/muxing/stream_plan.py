"""Plan what happens to each stream of a source in each container, before any frame is computed."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ristn_cli.video.codecs import CODECS, choose_codec
from ristn_cli.video.reading.streams import COVER_CODECS
from ristn_cli.video.types import StreamInfo, VideoError, VideoInfo
from ristn_cli.video.writing.embedding import EMBEDDING_CODECS

TEXT_SUBTITLES = frozenset({"subrip", "srt", "ass", "ssa", "webvtt", "text", "mov_text"})
FONT_SUFFIXES = (".ttf", ".otf", ".ttc", ".woff", ".woff2")
# Lossless codecs. DTS and WavPack may also be lossless, but their names do not show it.
LOSSLESS_AUDIO = frozenset(
    {
        "alac",
        "ape",
        "flac",
        "mlp",
        "mp4als",
        "ralf",
        "s302m",
        "shorten",
        "tak",
        "truehd",
        "tta",
        "wavpack",
        "wmalossless",
    }
)
MKV_PCM = frozenset(
    {"pcm_u8", "pcm_f32le", "pcm_f64le", "pcm_alaw", "pcm_mulaw"}
    | {f"pcm_s{bits}{order}" for bits in (16, 24, 32) for order in ("le", "be")}
)
MOV_PCM = MKV_PCM | {"pcm_s8", "pcm_f32be", "pcm_f64be"}


@dataclass(frozen=True)
class Container:
    """What a container supports, as FFmpeg writes it: codecs that are copied, and targets of conversions.

    Attributes:
        audio: codecs that are copied; None means nearly any, which `try_mux` checks.
        pcm: kinds of PCM that are copied.
        pcm_to: encoder for other PCM; None for PCM of the same precision.
        lossless_to: encoder for other lossless audio.
        lossy_to: encoder for all other audio.
        text_to: codec that text subtitles are converted to.
        languages: codes to replace by another code for the same language, because FFmpeg would drop them.
    """

    muxer: str
    video: frozenset[str]
    audio: frozenset[str] | None
    subtitles: frozenset[str]
    lossless_to: str
    lossy_to: str
    pcm: frozenset[str] = frozenset()
    pcm_to: str | None = None
    text_to: str | None = None
    holds_covers: bool = False
    holds_attachments: bool = False
    languages: Mapping[str, str] = field(default_factory=dict)


MP4_AUDIO = frozenset({"aac", "mp3", "mp2", "ac3", "eac3", "alac", "opus", "flac", "dts"})
MP4 = Container(
    "mp4",
    frozenset({"h264", "hevc", "av1"}),
    MP4_AUDIO,
    frozenset({"mov_text", "dvd_subtitle"}),
    lossless_to="flac",
    lossy_to="aac",
    pcm_to="aac",
    text_to="mov_text",
    holds_covers=True,
)
# QuickTime has language numbers. FFmpeg accepts only one of the two ISO 639-2 codes for each.
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
    lossless_to="alac",
    lossy_to="aac",
    pcm=MOV_PCM,
    text_to="mov_text",
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
    lossless_to="flac",
    lossy_to="aac",
    pcm=MKV_PCM,
    text_to="subrip",
    holds_covers=True,
    holds_attachments=True,
)
WEBM = Container(
    "webm",
    frozenset({"av1"}),
    frozenset({"opus", "vorbis"}),
    frozenset({"webvtt"}),
    lossless_to="libopus",
    lossy_to="libopus",
    pcm_to="libopus",
    text_to="webvtt",
)
CONTAINERS: dict[str, Container] = {".mp4": MP4, ".m4v": MP4, ".mov": MOV, ".mkv": MKV, ".webm": WEBM}


# What plans call the closed captions in the pictures of the video, which no stream of the source holds.
CAPTIONS = StreamInfo(-1, "captions", "eia_608", title="Closed captions", dispositions=("hearing_impaired",))


@dataclass(frozen=True)
class StreamPlan:
    """The plan for a stream. `action` is `upscale`, `copy`, `convert` (to `codec`) or `drop` (because of `reason`).

    Closed captions have a plan of their own, see `CAPTIONS`: `embed` keeps them in the frames.
    `is_loss` means that the stream is dropped without a request, so the user must be warned.
    """

    stream: StreamInfo
    action: Literal["upscale", "copy", "convert", "drop", "embed"]
    codec: str
    reason: str = ""
    is_loss: bool = False

    def __str__(self) -> str:
        """Describe the plan: `copy`, `convert to mov_text`, `dropped (why)`."""
        if self.action == "embed":
            return "kept in the pictures"
        if self.action == "convert":
            return f"convert to {self.codec}"
        return f"dropped ({self.reason})" if self.action == "drop" else self.action


def container_of(target: str | Path) -> Container:
    """Return the container for the suffix of `target`. Raises VideoError for an unknown suffix."""
    suffix = Path(target).suffix.lower()
    if not suffix:
        raise VideoError(f"{target}: is not an existing folder and has no file extension; use {', '.join(CONTAINERS)}")
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
    drop: Collection[str] = (),
    drop_unsupported: bool = False,
) -> tuple[StreamPlan, ...]:
    """Plan every stream of `source` for `target`, with video of `codec` (None, `auto`: by bit depth).

    Audio and text subtitles that the container does not support are converted: see `Container`. Streams without a
    decoder, and further video streams of a codec in no table, are copied if `try_mux` succeeds. Data streams are
    dropped with a warning, and fonts if subtitles become plain text. `drop` names unwanted streams: `audio`,
    `subtitles` (with fonts), `captions`, `attachments`, `covers`, `videos` (further ones) and `data`.
    Closed captions, if there are any, have the last plan: see `CAPTIONS`.

    Raises VideoError, naming a container that works, if the suffix is unknown, or the container does not support the
    video codec or (without `drop_unsupported`) another stream; and for an encrypted stream.
    """
    container = container_of(target)
    chosen = CODECS[choose_codec(codec, source.bit_depth)]
    family = chosen.family
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
        plan = _plan_stream(stream, container, drop)
        if stream.is_encrypted and (plan is None or plan.action != "drop"):
            raise VideoError(
                f"{source.path}: the {stream.kind} stream {stream.index} is encrypted, and ristn cannot decrypt it; "
                f"use an unencrypted copy{_flag_for(stream)}"
            )
        if not stream.has_decoder and (plan is None or plan.action != "drop"):
            plan = StreamPlan(stream, "copy", stream.codec)
        if plan is None and not drop_unsupported:
            raise unsupported(source, target, stream)
        plans.append(plan or lose(stream, f"{container.muxer} cannot hold {stream.codec}"))
    if source.has_captions:
        plans.append(_plan_captions(source, family, container, drop))
    return tuple(plans)


def unsupported(source: VideoInfo, target: str | Path, stream: StreamInfo) -> VideoError:
    """Return the error for a stream that the container of `target` does not support, even converted."""
    return VideoError(
        f"{target}: {container_of(target).muxer} cannot hold the {stream.kind} stream {stream.index} ({stream.codec}) "
        f"of {source.path.name}; use an output ending in .mkv{_flag_for(stream)}"
    )


def drop_name(stream: StreamInfo) -> str:
    """Return the name of this kind of stream in `--drop`."""
    if stream.kind == "video":
        return "covers" if stream.is_cover else "videos"
    return {"subtitle": "subtitles", "attachment": "attachments"}.get(stream.kind, stream.kind)


def _flag_for(stream: StreamInfo) -> str:
    return f", or --drop {drop_name(stream)}"


def lose(stream: StreamInfo, reason: str) -> StreamPlan:
    """Return the plan for a stream that is dropped without a request."""
    return StreamPlan(stream, "drop", stream.codec, reason, is_loss=True)


def _plan_stream(stream: StreamInfo, container: Container, drop: Collection[str]) -> StreamPlan | None:
    """Return the plan for a stream, or None if the container does not support it, even converted."""
    copy = StreamPlan(stream, "copy", stream.codec)
    if drop_name(stream) in drop:
        return StreamPlan(stream, "drop", stream.codec, "not wanted")
    if stream.kind == "audio":
        return _plan_audio(stream, container)
    if stream.kind == "subtitle":
        if stream.codec in container.subtitles:
            return copy
        if stream.codec in TEXT_SUBTITLES and container.text_to is not None:
            return StreamPlan(stream, "convert", container.text_to)
        return None
    if stream.kind == "attachment":
        is_font = "font" in (stream.mime_type or "") or (stream.file_name or "").lower().endswith(FONT_SUFFIXES)
        if is_font and "subtitles" in drop:
            return StreamPlan(stream, "drop", stream.codec, "a font, which only subtitles use")
        if container.holds_attachments:
            return copy
        if is_font:
            return StreamPlan(stream, "drop", stream.codec, "a font, which plain-text subtitles do not use")
        return None
    if stream.kind == "video":
        if stream.is_cover:
            return copy if container.holds_covers and stream.codec in COVER_CODECS else None
        is_listed = any(stream.codec in other.video for other in CONTAINERS.values())
        return copy if stream.codec in container.video or not is_listed else None
    return lose(stream, "data streams are not supported")


def _plan_captions(source: VideoInfo, family: str, container: Container, drop: Collection[str]) -> StreamPlan:
    """Captions stay in the pictures; of a codec that cannot carry them they become subtitles."""
    if "captions" in drop:
        return StreamPlan(CAPTIONS, "drop", CAPTIONS.codec, "not wanted")
    if family in EMBEDDING_CODECS:
        return StreamPlan(CAPTIONS, "embed", CAPTIONS.codec)
    if source.stream is not None:
        return lose(CAPTIONS, f"{family} cannot carry them, and no text is made of them from standard input")
    if container.text_to is None:
        return lose(CAPTIONS, f"{family} cannot carry them, and {container.muxer} holds no text")
    if "subtitles" in drop:
        return StreamPlan(CAPTIONS, "drop", CAPTIONS.codec, f"{family} cannot carry them, and subtitles are not wanted")
    return StreamPlan(replace(CAPTIONS, kind="subtitle"), "convert", container.text_to)


def _plan_audio(stream: StreamInfo, container: Container) -> StreamPlan:
    held = container.pcm if stream.codec.startswith("pcm_") else container.audio
    if held is None or stream.codec in held:
        return StreamPlan(stream, "copy", stream.codec)
    return StreamPlan(stream, "convert", converted_audio(stream.codec, container))


def converted_audio(codec: str, container: Container) -> str:
    """Return the encoder for audio of `codec` that `container` does not support."""
    if codec.startswith("pcm_"):
        return container.pcm_to or _plain_pcm(codec)
    return container.lossless_to if codec in LOSSLESS_AUDIO else container.lossy_to


def _plain_pcm(codec: str) -> str:
    """Return the PCM format that every player supports and that is exact for all samples of `codec`."""
    kind = re.match(r"pcm_([fsu])(\d+)", codec)
    if kind is None:
        return "pcm_s24le"  # DVD and Blu-ray PCM, 16 to 24 bits
    bits = int(kind[2])
    if kind[1] == "f":
        return "pcm_f64le" if bits > 32 else "pcm_f32le"
    return "pcm_s16le" if bits <= 16 else "pcm_s24le" if bits <= 24 else "pcm_s32le"
