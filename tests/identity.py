"""A job with pixel repetition in the place of the network, step by step."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

from outputs import join_parts, open_writer, verify_file

from ristn_cli.video import (
    Frame,
    ReadOptions,
    VideoInfo,
    check_mux,
    choose_codec,
    part_suffix,
    probe,
    read_frames,
)


def write_parts(
    info: VideoInfo,
    frames: Sequence[Frame],
    folder: Path,
    *,
    count: int = 2,
    scale: int = 4,
    codec: str | None = None,
) -> list[Path]:
    """The frames, each pixel repeated `scale` times, in `count` parts, as the identity network would have them."""
    size = -(-len(frames) // count)
    parts = []
    for number, first in enumerate(range(0, len(frames), size), start=1):
        part = folder / f"part-{number}{part_suffix(codec)}"
        with open_writer(
            part,
            width=info.width * scale,
            height=info.height * scale,
            rate=info.rate,
            time_base=info.time_base,
            color=info.color,
            sample_aspect_ratio=info.sample_aspect_ratio,
            codec=codec or choose_codec(None, info.bit_depth),
            crf=8,
            preset="veryfast",
        ) as writer:
            for frame in frames[first : first + size]:
                image = frame.image.repeat(scale, 0).repeat(scale, 1)
                writer.write(Frame(image, frame.time, frame.duration))
        parts.append(part)
    return parts


def upscale(
    clip: Path,
    target: Path,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    codec: str | None = None,
    count: int = 2,
    **choices: bool,
) -> VideoInfo:
    """What a job does, with pixel repetition for a network: read, write parts, join, verify; the output's probe."""
    info = probe(clip)
    plan = check_mux(info, target, codec=codec, **choices)
    frames = list(read_frames(info, ReadOptions(start=start, end=end)))
    parts = write_parts(info, frames, target.parent, count=count, codec=codec)
    join_parts(parts, info, target, start=start, end=end, codec=codec, **choices)
    verify_file(
        target,
        frames=len(frames),
        width=4 * info.width,
        height=4 * info.height,
        source=info,
        start=start,
        end=end,
        plan=plan,
        codec=codec,
    )
    return probe(target)
