"""Finds the clips of a benchmark, their counterparts in other folders, and the number of frames that can be scored."""

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ristn_cli.video import ReadOptions, VideoError, VideoInfo, list_images, probe, read_frames

CLIP_SUFFIXES = {".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".y4m"}

SMALLEST_SIDE = 32
"""HR pixels. Without the border, a frame must be larger than SSIM's window of 11 pixels."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip of the ground truth.

    Attributes:
        name: name in tables and in other folders.
        path: video file or folder of images.
        total: frames that are read.
        frames: number of frames, from the first, that every input for this clip contains. Only these are scored.
        is_still: whether it is a single image. Then every image of another folder is a clip of its own.
    """

    name: str
    path: Path
    total: int
    frames: int
    is_still: bool = False


def find_clips(dataset: Path) -> list[Path]:
    """Return the clips of a dataset: a single file, the video files of a folder, or its folders of images.

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
    """Return whether an entry of a dataset is a video file or a folder of images."""
    return path.suffix.lower() in CLIP_SUFFIXES or (path.is_dir() and not path.name.startswith("."))


def plan_clips(
    dataset: Path, given: Sequence[Path] = (), *, max_frames: int | None = None, stills: bool = False
) -> list[Clip]:
    """Return the clips of a dataset, with the number of frames in it and in every folder of `given`.

    Args:
        dataset: ground truth.
        given: folders of LR frames or of outputs.
        max_frames: largest number of frames per clip; None for all.
        stills: treat every image of the folder as a clip of one frame, as in Set5. Their sizes may differ.

    Raises:
        VideoError: there are no clips, a clip cannot be scored, or a folder of `given` has no clip of the same name.
    """
    paths = list(list_images(dataset)) if stills else find_clips(dataset)
    if not paths:
        raise VideoError(f"{dataset}: is not a folder of images; --stills needs one")
    stems = Counter(clip_stem(path) for path in paths)
    clips = []
    for path in paths:
        info = probe_clip(path)
        if min(info.width, info.height) < SMALLEST_SIDE:
            raise VideoError(
                f"{path}: is {info.width}x{info.height}; expected at least {SMALLEST_SIDE}x{SMALLEST_SIDE}"
            )
        name = path.name if stems[clip_stem(path)] > 1 else clip_stem(path)
        total = count_frames(info, max_frames)
        held = [count_frames(probe_clip(find_counterpart(folder, name, stills)), max_frames) for folder in given]
        clips.append(Clip(name=name, path=path, total=total, frames=min([total, *held]), is_still=stills))
    return clips


def clip_stem(path: Path) -> str:
    """Return the name of a clip: its folder's name, or its file name without the suffix."""
    return path.name if path.is_dir() else path.stem


def find_counterpart(folder: Path, name: str, is_still: bool = False) -> Path:
    """Return the clip called `name` in another folder, or `folder` itself if it is a single clip.

    Raises:
        VideoError: there is none.
    """
    clips = list(list_images(folder)) if is_still else find_clips(folder)
    if clips == [folder] and not is_still:
        return folder
    for path in clips:
        if name in (clip_stem(path), path.name):
            return path
    raise VideoError(f"{folder}: contains no clip {name!r}; expected a video file or a folder of images with that name")


def probe_clip(path: Path) -> VideoInfo:
    """Probe a clip and check that it can be scored.

    Raises:
        VideoError: it is not readable, or has more than 8 bits per channel.
    """
    info = probe(path)
    if info.bit_depth > 8:
        raise VideoError(f"{path}: has more than 8 bits per channel; PSNR and SSIM are only computed for 8-bit frames")
    return info


def count_frames(info: VideoInfo, max_frames: int | None = None) -> int:
    """Count the frames of a clip by reading it, because frame counts of containers are unreliable."""
    if info.is_image_sequence:
        return min(len(info.images), max_frames or len(info.images))
    return sum(1 for _ in read_frames(info, ReadOptions(max_frames=max_frames)))


def refuse_change(message: str) -> None:
    """Raise a VideoError for a change that `read_frames` reports, because rescaled frames cannot be scored."""
    what = message.rpartition("; such frames")[0]
    raise VideoError(f"{what}; expected frames of one size and format (--stills scores each image separately)")
