"""A job: everything that is decided before its first frame."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from ristn_cli.job.border import Border
from ristn_cli.job.options import UpscaleOptions, estimate_frames
from ristn_cli.model import SCALE
from ristn_cli.own_files import check_owner
from ristn_cli.video import (
    CAPTIONS,
    CODECS,
    EMBEDDING_CODECS,
    IMAGES_PART_SUFFIX,
    SCAN_SUFFIXES,
    Frame,
    FrameWriter,
    Grain,
    GrainMaker,
    ImagesWriter,
    Output,
    ScanEncoder,
    VideoInfo,
    encoder_bytes,
    part_suffix,
    to_video,
)

PART_PIXELS = 32_000_000
"""LR pixels per part: about one to ten minutes of work on a CPU, which a crash may lose."""

SHORTEST_PART = 24
"""Fewest frames per part. Each part begins with a key frame, and key frames are large."""

Y4M = Path("-.y4m")
MATROSKA = Path("-.mkv")
"""Targets of jobs that write to standard output."""


def job_folder(target: Path) -> Path:
    """Return the folder of an unfinished output's parts, which is on the same disk as the output."""
    return target.with_name(f".{target.name}.ristn")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One output, and everything needed to make it.

    Attributes:
        target: file or pattern of images to write; `Y4M` or `MATROSKA` for standard output.
        output: the source, and what the output contains of it.
        options: the user's options.
        grain: grain to add to each frame at 4x; None for none.
    """

    target: Path
    output: Output
    options: UpscaleOptions
    grain: Grain | None = None

    @property
    def source(self) -> VideoInfo:
        """The source, probed and examined."""
        return self.output.source

    @property
    def folder(self) -> Path:
        """Folder of the finished parts until the job is finished."""
        return job_folder(self.target)

    @property
    def is_resumable(self) -> bool:
        """Whether a later run can continue after the finished parts. False if the source can be read only once."""
        return self.source.stream is None

    @property
    def frames(self) -> int | None:
        """Number of frames of the output, estimated from the container; None if unknown."""
        return estimate_frames(self.source, self.options)

    @property
    def part_frames(self) -> int:
        """Number of frames after which a part ends, with the current window."""
        info = self.source
        return self.options.segment_frames or max(SHORTEST_PART, PART_PIXELS // (info.width * info.height))

    @property
    def writes_scans(self) -> bool:
        """Whether the output is DPX or EXR, whose frames keep the values of a film scan."""
        return self.output.images in SCAN_SUFFIXES

    @property
    def medium(self) -> tuple[str, str]:
        """Codec and encoder of the output; for images their format twice, for Y4M `rawvideo` twice."""
        if self.target == Y4M:
            return "rawvideo", "rawvideo"
        if self.output.images is not None:
            kind = {".jpg": "jpeg", ".tif": "tiff"}.get(self.output.images, self.output.images[1:])
            return kind, kind
        codec = CODECS[self.output.encoder.codec]
        return codec.name, codec.encoder

    @property
    def may_lose_captions(self) -> bool:
        """Whether frames may have closed captions that the output cannot carry, and of which the plan does not tell."""
        kind = self.medium[0]
        is_kept = kind in CODECS and CODECS[kind].family in EMBEDDING_CODECS
        return not (is_kept or any(entry.stream.index == CAPTIONS.index for entry in self.output.streams))

    @property
    def encoder_bytes(self) -> int:
        """Estimated memory of the encoder."""
        shape, is_deep = self.output.shape, self.source.bit_depth > 8
        preset = self.options.preset
        return encoder_bytes(self.medium[1], preset=preset, width=shape.width, height=shape.height, is_deep=is_deep)

    @property
    def part_suffix(self) -> str:
        """Extension of a part's file."""
        return part_suffix(self.output.encoder.codec) if self.output.images is None else IMAGES_PART_SUFFIX

    def part_name(self, number: int) -> str:
        """Return the file name of part `number`, from 1."""
        return f"part-{number:05}{self.part_suffix}"

    def open_writer(self, path: Path) -> FrameWriter | ImagesWriter:
        """Open the encoder of one part. It resamples frames at 4x to the size of the output."""
        check_owner(path.parent)  # another user may have replaced the folder if its parent is writable
        output = self.output
        if output.images is not None:
            scans = self._scan_encoder(output.images) if self.writes_scans else None
            return ImagesWriter(path, output.shape, output.images, scans)
        return FrameWriter(path, output.shape, output.encoder)

    def _scan_encoder(self, suffix: str) -> ScanEncoder:
        info, shape = self.source, self.output.shape
        if info.is_image_sequence or info.is_still:
            stated = self.options.image_rate or (None if info.scan is None else info.scan.rate)
        else:
            stated = shape.rate
        return ScanEncoder.of(info, suffix, stated, shape.sample_aspect_ratio)

    def finisher(self, begins: Border | None) -> Callable[[Frame], Frame]:
        """Return a function that prepares frames at 4x for the writer: it adds grain and converts film scans to video.

        Call it with all frames after the border `begins`, in order, because grain depends on the frame number.
        """
        numbers = count(0 if begins is None else begins.frames)
        grain = None if self.grain is None else GrainMaker(self.grain, SCALE)

        def finish(frame: Frame) -> Frame:
            number = next(numbers)
            if grain is not None:
                frame = replace(frame, image=grain.apply(frame.image, number))
            return frame if self.writes_scans else to_video(frame, self.source.scan)

        return finish

    def with_source_files(self, path: Path, images: tuple[Path, ...]) -> "Job":
        """Return the same job with the source at another path."""
        source = replace(self.source, path=path, images=images)
        return replace(self, output=replace(self.output, source=source))
