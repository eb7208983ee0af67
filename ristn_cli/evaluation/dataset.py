"""Clips of a benchmark: where they are, what belongs to them in other folders, and how many frames can be scored."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ristn_cli.video import ReadOptions, VideoError, VideoInfo, list_images, probe, read_frames

CLIP_SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".y4m"}

SMALLEST_SIDE = 32
"""HR pixels: what the border leaves must hold SSIM's window of 11."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip of the ground truth.

    Attributes:
        name: what tables call it, and what it is called in other folders.
        path: video file or folder of images.
        total: frames that are read.
        frames: how many of them, from the first, everything given for this clip holds: only these are scored.
        is_still: whether it is a single image, so that images beside it in other folders are clips of their own.
    """

    name: str
    path: Path
    total: int
    frames: int
    is_still: bool = False


def find_clips(dataset: Path) -> list[Path]:
    """Clips of a dataset: a single file, the video files of a folder, or its folders of images.

    Raises:
        VideoError: there are none.
    """
    if dataset.is_file():
        return [dataset]
    if not dataset.is_dir():
        raise VideoError(f"{dataset}: no such file or folder")
    with suppress(VideoError):  # a folder without images is not itself a clip
        list_images(dataset)
        return [dataset]
    clips = [path for path in sorted(dataset.iterdir()) if is_clip(path)]
    if not clips:
        raise VideoError(f"{dataset}: no clips found; expected video files, or a folder of images for each clip")
    return clips


def is_clip(path: Path) -> bool:
    """Whether an entry of a dataset is a clip: a video file, or a folder of images."""
    return path.suffix.lower() in CLIP_SUFFIXES or (path.is_dir() and not path.name.startswith("."))


def plan_clips(
    dataset: Path, given: Sequence[Path] = (), *, max_frames: int | None = None, stills: bool = False
) -> list[Clip]:
    """Clips of a dataset, with the frames that it and every folder in `given` (LR frames, others' outputs) hold.

    With `stills` every image of the folder is a clip of one frame, as in Set5: they may differ in size.

    Raises:
        VideoError: no clips, one that cannot be scored, or none of its name in a folder of `given`.
    """
    paths = list(list_images(dataset)) if stills else find_clips(dataset)
    if not paths:
        raise VideoError(f"{dataset}: is not a folder of images; stills are in one")
    stems = Counter(clip_stem(path) for path in paths)
    clips = []
    for path in paths:
        info = probe_clip(path)
        if min(info.width, info.height) < SMALLEST_SIDE:
            raise VideoError(f"{path}: is {info.width}x{info.height}; expected {SMALLEST_SIDE} pixels a side or more")
        name = path.name if stems[clip_stem(path)] > 1 else clip_stem(path)
        total = count_frames(info, max_frames)
        held = [count_frames(probe_clip(find_counterpart(folder, name, stills)), max_frames) for folder in given]
        clips.append(Clip(name=name, path=path, total=total, frames=min([total, *held]), is_still=stills))
    return clips


def clip_stem(path: Path) -> str:
    """Name of a clip: that of its folder, or of its file without the suffix."""
    return path.name if path.is_dir() else path.stem


def find_counterpart(folder: Path, name: str, is_still: bool = False) -> Path:
    """The clip called `name` in another folder; or `folder` itself where it is a clip: a file, or images.

    Raises:
        VideoError: there is none.
    """
    clips = list(list_images(folder)) if is_still else find_clips(folder)
    if clips == [folder] and not is_still:
        return folder
    for path in clips:
        if name in (clip_stem(path), path.name):
            return path
    raise VideoError(f"{folder}: has no clip {name!r}; expected a video file or a folder of images of that name")


def probe_clip(path: Path) -> VideoInfo:
    """What is in a clip that can be scored.

    Raises:
        VideoError: not readable, or deeper than 8 bits.
    """
    info = probe(path)
    if info.bit_depth > 8:
        raise VideoError(f"{path}: has more than 8 bits a channel; PSNR and SSIM are defined here on 8-bit frames")
    return info


def count_frames(info: VideoInfo, max_frames: int | None = None) -> int:
    """Frames of a clip, counted by reading it: what containers say is a guess."""
    if info.is_image_sequence:
        return min(len(info.images), max_frames or len(info.images))
    return sum(1 for _ in read_frames(info, ReadOptions(max_frames=max_frames)))


def refuse_change(message: str) -> None:
    """What `read_frames` reports of a change on the way, as an error: scaled frames cannot be scored."""
    what = message.rpartition("; such frames")[0]
    raise VideoError(f"{what}; expected frames of one size and kind (--stills scores each image by itself)")
