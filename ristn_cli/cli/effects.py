"""Options that have no effect in the call at hand: each is refused with the reason, rather than passed over.

Judged by the command line and by what kind of thing an input is, never by what is in it: `--drop audio` is right for a
silent video. Only what was typed counts, no default and nothing from the environment. `--dry-run` rules nothing out: it
goes behind a whole command.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from ristn_cli.cli.arguments import DROPPABLE, parse_drop, parse_format

if TYPE_CHECKING:
    from ristn_cli.video import VideoInfo

STREAM = Path("-")
Kind = Literal["images", "still", "video"]
"""Of an input: numbered images, a single one, or anything else."""

ENCODING = ("codec", "crf", "preset", "pix_fmt", "encoder_arg")
BESIDE_FRAMES = tuple(name for name in DROPPABLE if name != "alpha")
"""What `--drop` can leave out of an output that holds more than frames."""

NOT_OF_A_STREAM = ("attachments", "chapters", "covers", "data", "videos")
"""What is not read from standard input, wanted or not."""

RANGE = ("start", "end", "max_frames")
BY_KIND = (
    *RANGE,
    "drop",
    "images",
    "deinterlace",
    "video_stream",
    "window",
    "still_tolerance",
    "no_scene_cuts",
    "segment_frames",
)
"""Options of `upscale` whose effect depends on the kind of the inputs."""


@dataclass(frozen=True)
class Given:
    """The options of a command that were typed: the longest name of each, by the name of its parameter."""

    flags: Mapping[str, str]

    @classmethod
    def of(cls, context: typer.Context) -> Given:
        """Those of the command that runs in a context."""
        flags = {}
        for parameter in context.command.params:
            source = context.get_parameter_source(parameter.name or "")
            if parameter.param_type_name == "option" and source is not None and source.name == "COMMANDLINE":
                flags[parameter.name or ""] = max(parameter.opts, key=len)
        return cls(flags)

    def __contains__(self, name: str) -> bool:
        return name in self.flags

    def refuse(self, reason: str, *names: str) -> None:
        """Refuse the first of these options that was typed.

        Raises:
            typer.BadParameter: the reason, which follows "has no effect: ".
        """
        for name in names:
            if name in self.flags:
                raise typer.BadParameter(f"{self.flags[name]} has no effect: {reason}")

    def refuse_drop(self, values: Mapping[str, Any], reason: str, *names: str) -> None:
        """Refuse the first of these names that `--drop` was given; `values` are those of the options.

        Raises:
            typer.BadParameter: the reason.
        """
        if "drop" in self:
            for name in sorted(parse_drop(values["drop"]).intersection(names)):
                raise typer.BadParameter(f"--drop {name} has no effect: {reason}")

    def refuse_all_but(self, reason: str, *names: str) -> None:
        """Refuse every option that was typed, save for these."""
        self.refuse(reason, *(name for name in self.flags if name not in names))


def check_words(given: Given, sources: Sequence[Path], target: Path, values: Mapping[str, Any]) -> None:
    """Refuse what no input and no output of a call of `upscale` gives an effect; `values` are those of its options.

    Raises:
        typer.BadParameter: there is such an option.
    """
    if values["quiet"]:
        given.refuse("--quiet hides the plan, too; give one of them", "verbose")
    if values["window"] == 1:
        given.refuse("with --window 1, no neighbouring frame is read", "no_scene_cuts")
    if STREAM not in sources:
        given.refuse("raw frames come from standard input, and the input is no -", "raw")
    else:
        if "raw" in given:
            given.refuse("raw frames are a single video stream", "video_stream")
            given.refuse_drop(values, "raw frames are nothing else", *BESIDE_FRAMES)
        given.refuse("it is for folders and numbered images; raw frames have --raw WxH@RATE", "images")
        given.refuse_drop(values, "standard input is read for its frames alone", *NOT_OF_A_STREAM)
    if STREAM in (*sources, target):
        given.refuse("- is one input or one output, and no folder", "recursive")
        given.refuse("a run with - leaves nothing to continue or to discard", "restart")
        given.refuse("the disk is not checked before a run with -", "no_disk_check")
        given.refuse("a run with - leaves no files to report of", "report")
    if values["dry_run"]:
        given.refuse("--dry-run does nothing that could be reported", "report")
    if target == STREAM:
        given.refuse("standard output replaces no file", "overwrite")
        check_stream_format(given, values)
    is_stills = values["images"] == "stills"
    if not any(source.is_dir() for source in sources):
        given.refuse("it is for folders, and no input is one", "recursive", *(["images"] if is_stills else []))


def check_stream_format(given: Given, values: Mapping[str, Any]) -> None:
    """Refuse a format that standard output does not have, and what its format gives no effect.

    Raises:
        typer.BadParameter: there is such an option.
    """
    suffix = parse_format(values["format"])
    if suffix not in (None, ".y4m", ".mkv"):
        raise typer.BadParameter(f"--format {values['format']} is not one of standard output; expected y4m or mkv")
    if suffix != ".mkv":
        reason = "Y4M on standard output is plain frames; --format mkv has more"
        given.refuse(reason, "codec", "crf", "preset", "encoder_arg", "segment_frames")
        given.refuse_drop(values, reason, *BESIDE_FRAMES)


def check_single(given: Given, target: Path, values: Mapping[str, Any]) -> None:
    """Refuse what is for several outputs, where there is a single one.

    Raises:
        typer.BadParameter: there is such an option.
    """
    reason = "it is for outputs in a folder, and the output is a single one"
    if target != STREAM:
        given.refuse(f"{reason}, whose name has its format", "format")
    if values["images"] == "stills":
        given.refuse(reason, "images")


def check_outputs(
    given: Given, targets: Collection[Path], values: Mapping[str, Any], encoder_options: Mapping[str, str]
) -> None:
    """Refuse options of encoding that no output needs; `values` are those of the options of `upscale`.

    Raises:
        typer.BadParameter: there is such an option.
    """
    from ristn_cli.video import CODECS, SCAN_SUFFIXES, is_image_target, is_numbered

    if all(is_image_target(target) for target in targets):
        given.refuse("the output is images, which no video encoder writes", *ENCODING)
        given.refuse_drop(values, "the output is images, which hold nothing else", *BESIDE_FRAMES)
        has_rate = any(target.suffix.lower() in SCAN_SUFFIXES for target in targets)
        if not has_rate and "start" not in given and "end" not in given and values["images"] != "stills":
            given.refuse("the output is images, which have no frame rate", "images")
        if not any(is_numbered(target) for target in targets):
            given.refuse("the output is a single image, made in one part", "segment_frames")
        return
    codec = values["codec"]
    chosen = CODECS.get("h264" if codec == "auto" else codec)
    if chosen is None:
        return  # which is refused later
    if chosen.quality_option is None:
        given.refuse(f"{chosen.name} has no rate factor", "crf")
    elif chosen.quality_option in encoder_options:
        given.refuse(f"--encoder-arg {chosen.quality_option}=... says the same", "crf")
    if not chosen.has_presets:
        given.refuse(f"{chosen.name} has no speed presets", "preset")
    elif "preset" in encoder_options:
        given.refuse("--encoder-arg preset=... says the same", "preset")


def check_inputs(given: Given, kinds: Collection[Kind], values: Mapping[str, Any]) -> None:
    """Refuse options that are for inputs of another kind.

    Raises:
        typer.BadParameter: there is such an option.
    """
    if set(kinds) <= {"video"}:
        is_rate = values["images"] != "stills"
        reason = "; a video has its own frame rate" if is_rate else ", and no input is one"
        given.refuse(f"it is for numbered images and stills{reason}", "images")
    if "video" in kinds:
        return
    given.refuse_drop(values, "images have nothing else", *BESIDE_FRAMES)
    given.refuse("images are not deinterlaced", "deinterlace")
    if set(kinds) == {"still"}:
        given.refuse(
            "the input is a single frame", *RANGE, "window", "no_scene_cuts", "still_tolerance", "segment_frames"
        )
    given.refuse("images have a single video stream", "video_stream")


def kind_of(source: Path, found: VideoInfo | None) -> Kind:
    """What an input is: by what `probe` found, or by its name where that is None.

    Raises:
        VideoError: it is not there, or cannot be read.
    """
    from ristn_cli.video import IMAGE_SUFFIXES, list_images

    if list_images(source):
        return "images"
    is_still = source.suffix.lower() in IMAGE_SUFFIXES if found is None else found.is_still
    return "still" if is_still else "video"


def check_suffix(given: Given, targets: Collection[Path], suffix: str | None) -> None:
    """Refuse a suffix that no output of a folder has.

    Raises:
        typer.BadParameter: it is such a one.
    """
    if not any(target.suffix == suffix for target in targets):
        given.refuse(f"no output becomes {suffix}: a still becomes an image", "format")
