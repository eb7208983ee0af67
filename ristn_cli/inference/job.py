"""One file: probe, plan, upscale and encode in parts, join with every other stream of the source, verify, rename.

Yields progress and raises typed errors; shows nothing.
"""

import contextlib
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, TypedDict

from ristn_cli.inference.manifest import JobError, Manifest, Part, fingerprint, lock
from ristn_cli.inference.upscaler import Upscaler
from ristn_cli.inference.windows import Window, slide_windows
from ristn_cli.model import SCALE
from ristn_cli.video import (
    Frame,
    FrameWriter,
    VideoError,
    VideoInfo,
    check_encoder,
    check_mux,
    choose_codec,
    join_and_mux,
    part_suffix,
    probe,
    read_frames,
    try_mux,
    verify,
)
from ristn_cli.weights import file_sha256

PART_PIXELS = 32_000_000
"""LR pixels of a part, about a minute to ten of work on a processor: what a crash may cost."""

SHORTEST_PART = 24
"""Frames that a part has at least: it begins with a keyframe, and those are large."""


class Interrupted(Exception):
    """The job was asked to stop, and did so after a finished part: the same command goes on."""


@dataclass(frozen=True, kw_only=True)
class UpscaleOptions:
    """What shapes the output, besides the network.

    Attributes:
        codec: a key of `video.CODECS`, or `auto`: h264, and 10-bit hevc for sources above 8 bits.
        crf: constant rate factor of the encoder.
        preset: speed preset of the encoder.
        start: seconds from the first frame at which to begin.
        end: seconds from the first frame at which to stop.
        max_frames: stop after as many frames.
        with_audio: keep the sound.
        with_subtitles: keep the subtitles, and the fonts that go with them.
        deinterlace: `auto` treats frames flagged as interlaced, `frame` all, `off` none.
        drop_alpha: upscale a video with transparency without it, rather than refuse it.
        strict: fail where packets cannot be decoded, rather than conceal and report them.
    """

    codec: str = "auto"
    crf: float = 17
    preset: str = "medium"
    start: Fraction | None = None
    end: Fraction | None = None
    max_frames: int | None = None
    with_audio: bool = True
    with_subtitles: bool = True
    deinterlace: Literal["auto", "frame", "off"] = "auto"
    drop_alpha: bool = False
    strict: bool = False


class StreamChoice(TypedDict):
    """What becomes of the streams, as `check_mux` and `join_and_mux` take it."""

    codec: str
    with_audio: bool
    with_subtitles: bool


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a job stands.

    Attributes:
        frames: frames written, those of earlier runs included.
        resumed_frames: of these, the ones of earlier runs.
        total: an estimate from the container's hints; None when there is none.
        elapsed_seconds: since this run read its first frame.
    """

    frames: int
    resumed_frames: int = 0
    total: int | None = None
    elapsed_seconds: float = 0.0

    @property
    def frames_per_second(self) -> float:
        """Mean speed of this run."""
        return (self.frames - self.resumed_frames) / self.elapsed_seconds if self.elapsed_seconds > 0 else 0.0

    @property
    def remaining_seconds(self) -> float | None:
        """Estimate from the mean speed so far."""
        if self.total is None or not self.frames_per_second:
            return None
        return max(0, self.total - self.frames) / self.frames_per_second


def estimate_frames(info: VideoInfo, options: UpscaleOptions) -> int | None:
    """How many frames a job will write, from the container's hints."""
    count = info.frame_count
    if count is None and info.duration is not None:
        count = round(info.duration * info.rate)
    if count is None:
        return options.max_frames
    if options.end is not None:
        count = min(count, round(options.end * info.rate))
    if options.start is not None:
        count = max(0, count - round(options.start * info.rate))
    return count if options.max_frames is None else min(count, options.max_frames)


def check_target(source: Path, target: Path, overwrite: bool) -> None:
    """Refuse, before any work, a target that cannot be written.

    Raises:
        VideoError: it exists and is not to be replaced, is the source itself, or its folder is not there.
    """
    if not target.parent.is_dir():
        raise VideoError(f"{target}: no such folder: {target.parent}")
    if target.is_dir():
        raise VideoError(f"{target}: is a folder; expected the name of a video file")
    if target.exists():
        with contextlib.suppress(OSError):
            if target.samefile(source):
                raise VideoError(f"{target}: is the input itself; give the output another name")
        if not overwrite:
            raise VideoError(f"{target}: already exists; use --overwrite to replace it")


def job_folder(target: Path) -> Path:
    """Where the parts of an unfinished output lie: beside it, so that they are on the same disk."""
    return target.with_name(f".{target.name}.ristn")


def upscale_video(
    source: Path,
    target: Path,
    upscaler: Upscaler,
    options: UpscaleOptions | None = None,
    *,
    overwrite: bool = False,
    restart: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    on_damage: Callable[[str], None] = lambda message: None,
) -> Iterator[Progress]:
    """Upscale `source` into `target`, keeping its timestamps, sound, subtitles and everything else.

    The output appears under its name only when it is whole and verified. What can be refused is refused before the
    first frame. Finished parts outlive a run that ends early, in `job_folder(target)`: the same call goes on from there
    and gives the same frames as an uninterrupted one.

    Args:
        source: a video, or a folder of numbered images.
        target: the video to write; its suffix names the container.
        upscaler: the engine.
        options: what shapes the output.
        overwrite: replace an existing `target`.
        restart: forget what an earlier run finished.
        should_stop: asked at the end of each part.
        on_damage: told in one line of each packet that could not be decoded and was concealed.

    Raises:
        VideoError: the source cannot be read, the target cannot hold its streams or cannot be written.
        JobError: an earlier run was different, or another run is at work.
        Interrupted: `should_stop` said so.
    """
    options = options or UpscaleOptions()
    info = probe(source)
    check_target(source, target, overwrite)
    streams: StreamChoice = {
        "codec": choose_codec(options.codec, info.bit_depth),
        "with_audio": options.with_audio,
        "with_subtitles": options.with_subtitles,
    }
    plan = check_mux(info, target, **streams)
    width, height = SCALE * info.width, SCALE * info.height
    check_encoder(
        options.codec, width=width, height=height, bit_depth=info.bit_depth, crf=options.crf, preset=options.preset
    )
    try_mux(info, target, width=width, height=height, **streams)
    folder = job_folder(target)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise VideoError(f"{target}: cannot write there: {error.strerror}") from error
    manifest = Manifest(folder, identify(info, upscaler, options))
    try:
        with lock(folder / "lock"):
            if not restart:
                manifest.load()
            yield from write_parts(manifest, info, upscaler, options, should_stop, on_damage)
            end = manifest.parts[-1].end_time - info.start_time if options.max_frames is not None else options.end
            joined = folder / f"joined{target.suffix}"
            join_and_mux(manifest.files, info, joined, start=options.start, end=end, **streams)
            verify(
                joined,
                frames=manifest.frames,
                width=width,
                height=height,
                source=info,
                start=options.start,
                end=end,
                plan=plan,
                check_times=not any(part.is_damaged for part in manifest.parts),
            )
            joined.replace(target)
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException as error:
        if not manifest.parts and not isinstance(error, JobError):
            shutil.rmtree(folder, ignore_errors=True)
        raise


def identify(info: VideoInfo, upscaler: Upscaler, options: UpscaleOptions) -> dict[str, Any]:
    """Everything that shapes the frames of a job, by names a message can use."""
    return {
        "input": fingerprint(info.path),
        "network": upscaler.fingerprint,
        "precision": upscaler.backend.precision,
        "device": upscaler.backend.device.type,
        **asdict(upscaler.tiling),
        **{name: str(value) for name, value in asdict(options).items()},
        "version of ristn": version("ristn"),
        "version of PyTorch": version("torch"),
        "version of PyAV": version("av"),
        "machine": platform.machine(),
    }


def write_parts(
    manifest: Manifest,
    info: VideoInfo,
    upscaler: Upscaler,
    options: UpscaleOptions,
    should_stop: Callable[[], bool],
    on_damage: Callable[[str], None],
) -> Iterator[Progress]:
    """Upscale and encode what the manifest lacks, part by part, cut between windows."""
    total = estimate_frames(info, options)
    resumed = manifest.frames
    length = max(SHORTEST_PART, PART_PIXELS // (info.width * info.height))
    began = time.monotonic()
    yield Progress(frames=resumed, resumed_frames=resumed, total=total)
    if options.max_frames is not None and resumed >= options.max_frames:
        return
    damage: list[str] = []

    def report(message: str) -> None:
        damage.append(message)
        on_damage(message)

    windows = slide_windows(
        continued_frames(manifest, info, upscaler.tiling.context, options, report),
        upscaler.tiling.window,
        upscaler.tiling.context,
        is_continued=bool(manifest.parts),
    )
    window = next(windows, None)
    while window is not None:
        before = manifest.frames
        file = f"part-{len(manifest.parts) + 1:05}{part_suffix(options.codec)}"
        with open_writer(manifest.folder / file, info, options) as writer:
            while window is not None and writer.frames_written < length:
                for frame in upscale_window(window, upscaler):
                    writer.write(frame)
                written, window = window, next(windows, None)
                yield Progress(
                    frames=before + writer.frames_written,
                    resumed_frames=resumed,
                    total=total,
                    elapsed_seconds=time.monotonic() - began,
                )
        last = written.frames[written.keep][-1]
        manifest.add(
            Part(
                file=file,
                frames=writer.frames_written,
                context_time=written.frames[max(0, written.keep.stop - upscaler.tiling.context)].time,
                end_time=last.time + (last.duration or 1 / info.rate),
                sha256=file_sha256(manifest.folder / file),
                is_damaged=bool(damage),
            )
        )
        if window is not None and should_stop():
            raise Interrupted
    if not manifest.parts:
        raise VideoError(f"{info.path}: has no frames between --start and --end")


def continued_frames(
    manifest: Manifest, info: VideoInfo, context: int, options: UpscaleOptions, on_damage: Callable[[str], None]
) -> Iterator[Frame]:
    """The source's frames from the first that the next window reads."""
    start, frames = options.start, options.max_frames
    if manifest.parts:
        start = manifest.parts[-1].context_time - info.start_time
        if frames is not None:
            frames -= manifest.frames - min(context, manifest.frames)
    return read_frames(
        info,
        start=start,
        end=options.end,
        max_frames=frames,
        deinterlace=options.deinterlace,
        drop_alpha=options.drop_alpha,
        strict=options.strict,
        on_damage=on_damage,
    )


def open_writer(path: Path, info: VideoInfo, options: UpscaleOptions) -> FrameWriter:
    """The encoder of one part."""
    return FrameWriter(
        path,
        width=SCALE * info.width,
        height=SCALE * info.height,
        rate=info.rate,
        time_base=info.time_base,
        color=info.color,
        sample_aspect_ratio=info.sample_aspect_ratio,
        codec=options.codec,
        crf=options.crf,
        preset=options.preset,
        mastering=info.mastering,
    )


def upscale_window(window: Window[Frame], upscaler: Upscaler) -> Iterator[Frame]:
    """A window's kept frames at 4x, each with its own timestamp."""
    images = Window(tuple(frame.image for frame in window.frames), window.keep)
    for source, image in zip(window.frames[window.keep], upscaler.upscale_window(images), strict=True):
        yield Frame(image, source.time, source.duration)
