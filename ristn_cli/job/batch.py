"""Several inputs into one folder: what becomes of each, and which are done already. Reads no pictures.

a.mp4          -> OUT/a.mp4           its own container where that holds the codec, else .mkv; --format decides
photo.jpg      -> OUT/photo.jpg       a still
frames/*.png   -> OUT/frames/%05d.png a folder of nothing but images is one video of numbered images
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
"""Of the files in a folder that are taken for videos; a file that is named by itself may have any."""

RECORD_NAME = ".ristn-done.json"
AT_WORK_NAME = ".ristn-at-work.json"
IMAGE_NUMBER = "%05d"

log = logging.getLogger("ristn.video")


@dataclass(frozen=True)
class Item:
    """An input of a batch, and its output."""

    source: Path
    target: Path


def is_batch(sources: Sequence[Path], target: Path, *, recursive: bool) -> bool:
    """Whether the arguments mean a folder of outputs: several inputs, a folder as output, or of videos as input."""
    if len(sources) > 1 or recursive or target.is_dir():
        return True
    return not target.suffix and sources[0].is_dir()


def plan_batch(
    sources: Sequence[Path], folder: Path, *, codec: str, suffix: str | None, recursive: bool, stills: bool
) -> tuple[Item, ...]:
    """Every input with its output in `folder`, in the order of the arguments, files of a folder by name.

    Args:
        sources: files, patterns of numbered images, and folders.
        folder: where the outputs go; it need not be there yet.
        codec: as in `UpscaleOptions`; a container that cannot hold it gives way to `.mkv`.
        suffix: of the outputs: of videos if it names a container, else of images, which videos then become, too.
        recursive: look into the folders of folders; their outputs lie in folders of the same names. Links to folders
            are not followed, and no folder is read twice.
        stills: take each image of a folder for a still.

    Raises:
        VideoError: an input is not there, two would become the same output, an output would replace an input, there is
            none at all, or `folder` is a pattern.
    """
    if suffix is not None and suffix not in CONTAINERS and suffix not in WRITABLE_IMAGES:
        known = ", ".join(name[1:] for name in (*CONTAINERS, *WRITABLE_IMAGES))
        raise VideoError(f"--format {suffix[1:]}: cannot write such files; expected one of {known}")
    if is_numbered(folder) and not folder.is_dir():
        raise VideoError(f"{folder}: is a pattern of images; the output of several inputs must be a folder")
    items: list[Item] = []
    for source in sources:
        if source.is_dir():
            # A single folder is the root of its files' places, of several each has one of its own.
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
        deeper = "" if recursive else "; --recursive looks into the folders in it"
        raise VideoError(f"{sources[0]}: has no videos and no images{deeper}")
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
    """What tells a folder from another, by whatever path it is reached."""
    found = folder.stat()
    return found.st_dev, found.st_ino


@dataclass(frozen=True)
class _Choice:
    """What is taken of a folder, and how outputs are named: arguments of `plan_batch`."""

    codec: str
    suffix: str | None
    recursive: bool
    stills: bool


def _folder_items(
    source: Path, place: Path, outputs: Path, choice: _Choice, seen: set[tuple[int, int]]
) -> Iterator[Item]:
    """The items of a folder; `seen` are the folders that were read already, and those found here."""
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
                log.warning(f"{entry}: is a link to a folder, which --recursive does not follow; name it as an input")
            elif identity(entry) not in seen:
                seen.add(identity(entry))
                yield from _folder_items(entry, place / entry.name, outputs, choice, seen)


def _name_output(source: Path, codec: str, suffix: str | None) -> str | Path:
    """The place of the output of a file, in the folder of the batch."""
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
    """Where the numbered images of the folder `source` go: into `place`, as a video beside it; `is_root`: in it."""
    if suffix in CONTAINERS:
        return (place if is_root else place.parent) / f"{source.resolve().name}{suffix}"
    return place / f"{IMAGE_NUMBER}{suffix or '.png'}"


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A finished output: what it was made from and how, by its hash, its bytes, and its frames where they are known."""

    job: str
    size: int
    frames: int | None = None


class Record:
    """What a batch has finished: a small file in its folder, so that the same command does nothing twice.

    Args:
        folder: of the outputs.
        network_of: the fingerprint of the network that a source is upscaled with.
        options: what shapes the outputs.

    Raises:
        JobError: there is a record that cannot be read, or one that another user put there.
    """

    def __init__(self, folder: Path, network_of: Callable[[Path], str], options: UpscaleOptions) -> None:
        self.folder = folder
        self.path = folder / RECORD_NAME
        self._network_of = network_of
        self._begun: dict[Item, str] = {}
        self._options = options
        self._at_work = folder / AT_WORK_NAME
        self._left = frozenset(self._read_at_work())
        # How a frame was computed (device, windows, parts, versions) does not make another job of a finished one.
        self._shape = {
            name: value
            for name, value in recorded_options(options).items()
            if name not in ("strict", "segment_frames", "drop_alpha")
            and not (name.endswith("_position") and value is None)
        } | {"images": "None"}  # as records of earlier versions have it
        self._read()  # rather once before the work than for each item

    def is_done(self, item: Item) -> bool:
        """Whether the output is there as this job made it.

        Raises:
            JobError: a batch made it, from another input or with other options.
        """
        entry = self._read().get(self._name(item))
        size = None if entry is None else output_size(item.target, entry.frames)
        if entry is None or size is None or entry.size != size:
            return False
        if entry.job != self._job(item):
            raise JobError(f"{item.target}: was made from another input or with other options; use --overwrite")
        return True

    @contextmanager
    def at_work(self, item: Item) -> Iterator[None]:
        """Within, a file in the folder names the item: it stays if the program crashes or is killed meanwhile."""
        self._write_at_work({*self._read_at_work(), self._name(item)})
        try:
            yield
        finally:
            self._write_at_work({*self._read_at_work()} - {self._name(item)})

    def was_left(self, item: Item) -> bool:
        """Whether an earlier program ended while it was at work on the item, without a chance to say why."""
        return self._name(item) in self._left

    def begin(self, item: Item) -> None:
        """Remember what an item is made from, before the work: its source may be moved or replaced meanwhile."""
        if item not in self._begun:
            self._begun[item] = self._job(item)

    def add(self, item: Item, frames: int) -> None:
        """Record the finished output of an item that has begun, and its frames."""
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
            raise JobError(f"{error}: not a record of finished outputs; remove the file to begin afresh") from error
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
        """Whether `drop_alpha` may change the output: without an alpha channel it is the same either way."""
        return self._options.drop_alpha and may_be_transparent(probe(source, video_stream=self._options.video_stream))


def output_size(target: Path, frames: int | None = None) -> int | None:
    """Bytes of an output; None where there is none.

    Of numbered images all together, up to number `frames`: what an earlier, longer run left is not of this output.
    """
    if is_numbered(target):
        return sum(path.stat().st_size for path in existing_images(target, frames)) or None
    return target.stat().st_size if target.is_file() else None
