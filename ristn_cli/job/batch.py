"""Plans several inputs into one folder, and records which are finished. Does not decode any frames.

a.mp4          -> OUT/a.mp4           the source's container if it can hold the codec, else .mkv; or --format
photo.jpg      -> OUT/photo.jpg       a still
frames/*.png   -> OUT/frames/%05d.png a folder that contains only images is one video
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ristn_cli.job.job import job_folder
from ristn_cli.job.manifest import JobError, fingerprint
from ristn_cli.job.options import UpscaleOptions, recorded_options
from ristn_cli.own_files import ForeignFileError, is_link, open_if_own, write_text
from ristn_cli.typed import MalformedError, build, read_json
from ristn_cli.video import (
    CONTAINERS,
    IMAGE_SUFFIXES,
    WRITABLE_IMAGES,
    InputFiles,
    VideoError,
    choose_codec,
    existing_images,
    is_numbered,
    list_images,
    may_be_transparent,
    probe,
)

OTHER_SUFFIXES = (".3gp", ".avi", ".f4v", ".flv", ".m2ts", ".m2v", ".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts")
VIDEO_SUFFIXES = frozenset((*CONTAINERS, *OTHER_SUFFIXES, ".vob", ".wmv", ".y4m"))
"""Extensions of files in a folder that are treated as videos. A file that the user names may have any."""

RECORD_NAME = ".ristn-done.json"
AT_WORK_NAME = ".ristn-at-work.json"
IMAGE_NUMBER = "%05d"

log = logging.getLogger("ristn.video")


@dataclass(frozen=True)
class Item:
    """An input of a batch and its output."""

    source: Path
    target: Path


def is_batch(sources: Sequence[Path], target: Path, *, recursive: bool) -> bool:
    """Return whether the outputs go into a folder: several inputs, an existing folder as output, or a folder as input
    and no extension in the output.
    """
    if len(sources) > 1 or recursive or target.is_dir():
        return True
    return not target.suffix and sources[0].is_dir()


def plan_batch(
    sources: Sequence[Path], folder: Path, *, codec: str, suffix: str | None, recursive: bool, stills: bool
) -> tuple[Item, ...]:
    """Return every input with its output in `folder`, in the order of the arguments; files of a folder by name.

    Args:
        sources: files, patterns of numbered images, and folders.
        folder: folder for the outputs. It need not exist.
        codec: see `UpscaleOptions`. If a container cannot hold it, the output is `.mkv`.
        suffix: extension of the outputs. An extension of a container applies to videos, one of an image format to all.
        recursive: also search subfolders. Their outputs go into subfolders of the same names. Links to folders are not
            followed, and no folder is read twice.
        stills: treat each image of a folder as a still.

    Raises:
        VideoError: an input does not exist, two inputs have the same output, an output would replace an input, there
            are no inputs, or `folder` is a pattern.
    """
    if suffix is not None and suffix not in CONTAINERS and suffix not in WRITABLE_IMAGES:
        known = ", ".join(name[1:] for name in (*CONTAINERS, *WRITABLE_IMAGES))
        raise VideoError(f"--format {suffix[1:]}: cannot write this format; expected one of {known}")
    if is_numbered(folder) and not folder.is_dir():
        raise VideoError(f"{folder}: is a pattern of images, but several inputs need a folder; name a folder")
    items: list[Item] = []
    for source in sources:
        if source.is_dir():
            place = folder if len(sources) == 1 else folder / source.resolve().name
            choice = _Choice(codec, suffix, recursive, stills)
            items += _folder_items(source, place, folder, choice, {identity(source)})
        elif source.exists():
            items.append(Item(source, folder / _name_output(source, codec, suffix)))
        elif list_images(source):
            items.append(Item(source, _images_target(source.parent, folder / source.parent.resolve().name, suffix)))
        else:
            raise VideoError(f"{source}: no such file or directory; check the name")
    items = list(dict.fromkeys(items))
    if not items:
        deeper = "" if recursive else "; --recursive also searches its subfolders"
        raise VideoError(f"{sources[0]}: contains no videos and no images{deeper}")
    taken: dict[Path, Path] = {}
    for item in items:
        other = taken.setdefault(item.target, item.source)
        if other != item.source:
            raise VideoError(f"{item.source} and {other} would both become {item.target}; rename one of them")
    inputs = InputFiles([item.source for item in items])
    for item in items:
        inputs.check_kept(item.target, job_folder(item.target))
    return tuple(items)


def identity(folder: Path) -> tuple[int, int]:
    """Return an identifier of a folder that is the same for every path to it."""
    found = folder.stat()
    return found.st_dev, found.st_ino


@dataclass(frozen=True)
class _Choice:
    """The arguments of `plan_batch` that decide which files are taken and how outputs are named."""

    codec: str
    suffix: str | None
    recursive: bool
    stills: bool


def _folder_items(
    source: Path, place: Path, outputs: Path, choice: _Choice, seen: set[tuple[int, int]]
) -> Iterator[Item]:
    """Yield the items of a folder. `seen` contains the folders that were read, and is updated."""
    entries = sorted(entry for entry in source.iterdir() if not entry.name.startswith("."))
    videos = [entry for entry in entries if entry.is_file() and entry.suffix.lower() in VIDEO_SUFFIXES]
    images = [entry for entry in entries if entry.is_file() and entry.suffix.lower() in IMAGE_SUFFIXES]
    if images and not videos and not choice.stills:
        yield Item(source, _images_target(source, place, choice.suffix, is_root=place == outputs))
    for entry in sorted(videos + (images if choice.stills else [])):
        yield Item(entry, place / _name_output(entry, choice.codec, choice.suffix))
    if choice.recursive:
        for entry in entries:
            if not entry.is_dir() or (outputs.exists() and entry.samefile(outputs)):
                continue
            if is_link(entry):
                log.warning(
                    f"{entry}: is a link to a folder, and --recursive does not follow links; name it as an input"
                )
            elif identity(entry) not in seen:
                seen.add(identity(entry))
                yield from _folder_items(entry, place / entry.name, outputs, choice, seen)


def _name_output(source: Path, codec: str, suffix: str | None) -> str | Path:
    """Return the path of a file's output, relative to the folder of the batch."""
    own = source.suffix.lower()
    if own in IMAGE_SUFFIXES:
        wanted = suffix if suffix in WRITABLE_IMAGES else own if own in WRITABLE_IMAGES else ".png"
        return f"{source.stem}{wanted}"
    if suffix in WRITABLE_IMAGES:
        return Path(source.stem) / f"{IMAGE_NUMBER}{suffix}"
    if suffix is not None:
        return f"{source.stem}{suffix}"
    family = choose_codec(codec, 8).removesuffix("_nvenc")
    return f"{source.stem}{own if own in CONTAINERS and family in CONTAINERS[own].video else '.mkv'}"


def _images_target(source: Path, place: Path, suffix: str | None, *, is_root: bool = False) -> Path:
    """Return the output of the folder of images `source`: numbered images in `place`, or a video beside it (`is_root`:
    in it).
    """
    if suffix in CONTAINERS:
        return (place if is_root else place.parent) / f"{source.resolve().name}{suffix}"
    return place / f"{IMAGE_NUMBER}{suffix or '.png'}"


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A finished output: hash of its input and options, bytes, and frames if known."""

    job: str
    size: int
    frames: int | None = None


class Record:
    """The finished outputs of a batch, in a small file in its folder. A repeated command skips them.

    Args:
        folder: folder of the outputs.
        network_of: returns the fingerprint of the network for a source.
        options: the options that shape the outputs.

    Raises:
        JobError: the record cannot be read, or belongs to another user.
    """

    def __init__(self, folder: Path, network_of: Callable[[Path], str], options: UpscaleOptions) -> None:
        self.folder = folder
        self.path = folder / RECORD_NAME
        self._network_of = network_of
        self._begun: dict[Item, str] = {}
        self._options = options
        self._at_work = folder / AT_WORK_NAME
        self._left = frozenset(self._read_at_work())
        # Device, windows, parts and versions are not compared: a finished output stays finished.
        self._shape = {
            name: value
            for name, value in recorded_options(options).items()
            if name not in ("strict", "segment_frames", "drop_alpha")
            and not (name.endswith("_position") and value is None)
        } | {"images": "None"}  # expected in existing records
        self._read()  # fail before the first item

    def is_done(self, item: Item) -> bool:
        """Return whether the output exists as this job made it.

        Raises:
            JobError: a batch made it from another input or with other options.
        """
        entry = self._read().get(self._name(item))
        size = None if entry is None else output_size(item.target, entry.frames)
        if entry is None or size is None or entry.size != size:
            return False
        if entry.job != self._job(item):
            raise JobError(
                f"{item.target}: was made from another input or with other options; use --overwrite to replace it"
            )
        return True

    @contextmanager
    def at_work(self, item: Item) -> Iterator[None]:
        """Name the item in a file while the context is active. The file remains if the program crashes or is killed."""
        self._write_at_work({*self._read_at_work(), self._name(item)})
        try:
            yield
        finally:
            self._write_at_work({*self._read_at_work()} - {self._name(item)})

    def was_left(self, item: Item) -> bool:
        """Return whether an earlier run crashed or was killed while it processed the item."""
        return self._name(item) in self._left

    def begin(self, item: Item) -> None:
        """Record what an item is made from before the work, because its source may be moved or replaced later."""
        if item not in self._begun:
            self._begun[item] = self._job(item)

    def add(self, item: Item, frames: int) -> None:
        """Record the finished output of an item that has begun, with its number of frames."""
        done = _Entry(job=self._begun[item], size=output_size(item.target, frames) or 0, frames=frames)
        entries = {name: asdict(entry) for name, entry in (self._read() | {self._name(item): done}).items()}
        write_text(self.path, json.dumps(entries, indent=1))

    def _read(self) -> dict[str, _Entry]:
        try:
            values = read_json(self.path, opener=open_if_own)
            entries: dict[str, _Entry] = build(dict[str, _Entry], values, str(self.path))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except ForeignFileError as error:
            raise JobError(f"{error}, or use another output folder") from error
        except MalformedError as error:
            raise JobError(f"{error}: expected a record of finished outputs; remove the file to start again") from error
        return entries

    def _read_at_work(self) -> list[str]:
        try:
            names: list[str] = build(list[str], read_json(self._at_work, opener=open_if_own))
        except ForeignFileError as error:
            raise JobError(f"{error}, or use another output folder") from error
        except (OSError, MalformedError):
            return []
        return names

    def _write_at_work(self, names: set[str]) -> None:
        if not names:
            self._at_work.unlink(missing_ok=True)
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self._at_work, json.dumps(sorted(names), indent=1))

    def _name(self, item: Item) -> str:
        return item.target.relative_to(self.folder).as_posix()

    def _job(self, item: Item) -> str:
        images = list_images(item.source)
        shape = self._shape | {
            "drop_alpha": self._drops_alpha(item.source),
            "network": self._network_of(item.source),
            "input": {path.name: fingerprint(path) for path in images} or fingerprint(item.source),
        }
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()

    def _drops_alpha(self, source: Path) -> bool:
        """Return whether `drop_alpha` may change the output, which it cannot without an alpha channel."""
        return self._options.drop_alpha and may_be_transparent(probe(source, video_stream=self._options.video_stream))


def output_size(target: Path, frames: int | None = None) -> int | None:
    """Return the bytes of an output; None if it does not exist.

    For numbered images, count those up to number `frames`. Images of an earlier, longer run are not part of this
    output.
    """
    if is_numbered(target):
        return sum(path.stat().st_size for path in existing_images(target, frames)) or None
    return target.stat().st_size if target.is_file() else None
