"""Refuses options that have no effect in a command, and states the reason.

Decides by the command line and the kind of each input, not by its content: `--drop audio` is allowed for a silent
video. Options with default values are not refused. `--dry-run` does not make any option useless, because users add it
to a complete command.
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
"""Kind of an input: numbered images, a single image, or anything else."""

ENCODING = ("codec", "crf", "preset", "pix_fmt", "encoder_arg")
BESIDES_FRAMES = tuple(name for name in DROPPABLE if name != "alpha")
"""Names for `--drop` that apply only to outputs with more than frames."""

NOT_OF_A_STREAM = ("attachments", "chapters", "covers", "data", "videos")
"""Parts of a source that are never read from standard input."""

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
    """The options on a command line: the longest name of each, by the name of its parameter."""

    flags: Mapping[str, str]

    @classmethod
    def of(cls, context: typer.Context) -> Given:
        """Return the options of the running command."""
        flags = {}
        for parameter in context.command.params:
            source = context.get_parameter_source(parameter.name or "")
            if parameter.param_type_name == "option" and source is not None and source.name == "COMMANDLINE":
                flags[parameter.name or ""] = max(parameter.opts, key=len)
        return cls(flags)

    def __contains__(self, name: str) -> bool:
        return name in self.flags

    def refuse(self, reason: str, *names: str) -> None:
        """Refuse the first of these options that was given.

        Raises:
            typer.BadParameter: an option was given. `reason` follows "has no effect: ".
        """
        for name in names:
            if name in self.flags:
                raise typer.BadParameter(f"{self.flags[name]} has no effect: {reason}")

    def refuse_drop(self, values: Mapping[str, Any], reason: str, *names: str) -> None:
        """Refuse the first of these names that was given to `--drop`. `values` are the values of all options.

        Raises:
            typer.BadParameter: a name was given.
        """
        if "drop" in self:
            for name in sorted(parse_drop(values["drop"]).intersection(names)):
                raise typer.BadParameter(f"--drop {name} has no effect: {reason}")

    def refuse_all_but(self, reason: str, *names: str) -> None:
        """Refuse every given option except for these."""
        self.refuse(reason, *(name for name in self.flags if name not in names))


def check_options(given: Given, sources: Sequence[Path], target: Path, values: Mapping[str, Any]) -> None:
    """Refuse options of `upscale` that have no effect for any input or output. `values` are the values of all
    options.

    Raises:
        typer.BadParameter: such an option was given.
    """
    if values["quiet"]:
        given.refuse("--quiet hides the plan; use one of them", "verbose")
    if values["window"] == 1:
        given.refuse("with --window 1, no neighbouring frames are read", "no_scene_cuts")
    if STREAM not in sources:
        given.refuse("raw frames are read from standard input; use - as input", "raw")
    else:
        if "raw" in given:
            given.refuse("raw frames are a single video stream", "video_stream")
            given.refuse_drop(values, "raw frames contain nothing else", *BESIDES_FRAMES)
        given.refuse("it is for folders and numbered images; for raw frames use --raw WxH@RATE", "images")
        given.refuse_drop(values, "only frames are read from standard input", *NOT_OF_A_STREAM)
    if STREAM in (*sources, target):
        given.refuse("- is not a folder", "recursive")
        given.refuse("a run with - cannot be resumed, so there are no parts to discard", "restart")
        given.refuse("a run with - does not check the disk", "no_disk_check")
        given.refuse("a run with - has no files to describe", "report")
    if values["dry_run"]:
        given.refuse("--dry-run does no work to report", "report")
    if target == STREAM:
        given.refuse("standard output replaces no file", "overwrite")
        check_stream_format(given, values)
    is_stills = values["images"] == "stills"
    if not any(source.is_dir() for source in sources):
        given.refuse("it is for folders, and no input is a folder", "recursive", *(["images"] if is_stills else []))


def check_stream_format(given: Given, values: Mapping[str, Any]) -> None:
    """Refuse a format that standard output cannot have, and options without effect in its format.

    Raises:
        typer.BadParameter: such a format or option was given.
    """
    suffix = parse_format(values["format"])
    if suffix not in (None, ".y4m", ".mkv"):
        raise typer.BadParameter(f"--format {values['format']} is not possible on standard output; expected y4m or mkv")
    if suffix != ".mkv":
        reason = "Y4M on standard output contains uncompressed frames; use --format mkv"
        given.refuse(reason, "codec", "crf", "preset", "encoder_arg", "segment_frames")
        given.refuse_drop(values, reason, *BESIDES_FRAMES)


def check_single(given: Given, target: Path, values: Mapping[str, Any]) -> None:
    """Refuse options for several outputs if there is a single one.

    Raises:
        typer.BadParameter: such an option was given.
    """
    reason = "it is for outputs in a folder, but there is a single output"
    if target != STREAM:
        given.refuse(f"{reason}, whose extension sets the format", "format")
    if values["images"] == "stills":
        given.refuse(reason, "images")


def check_outputs(
    given: Given, targets: Collection[Path], values: Mapping[str, Any], encoder_options: Mapping[str, str]
) -> None:
    """Refuse encoding options that no output uses. `values` are the values of all options.

    Raises:
        typer.BadParameter: such an option was given.
    """
    from ristn_cli.video import CODECS, SCAN_SUFFIXES, is_image_target, is_numbered

    if all(is_image_target(target) for target in targets):
        given.refuse("the output is images, which need no video encoder", *ENCODING)
        given.refuse_drop(values, "the output is images, which contain nothing else", *BESIDES_FRAMES)
        has_rate = any(target.suffix.lower() in SCAN_SUFFIXES for target in targets)
        if not has_rate and "start" not in given and "end" not in given and values["images"] != "stills":
            given.refuse("the output is images, which have no frame rate", "images")
        if not any(is_numbered(target) for target in targets):
            given.refuse("the output is a single image", "segment_frames")
        return
    codec = values["codec"]
    chosen = CODECS.get("h264" if codec == "auto" else codec)
    if chosen is None:
        return  # `check_job` refuses it
    if chosen.quality_option is None:
        given.refuse(f"{chosen.name} has no rate factor", "crf")
    elif chosen.quality_option in encoder_options:
        given.refuse(f"--encoder-arg {chosen.quality_option}=... overrides it", "crf")
    if not chosen.has_presets:
        given.refuse(f"{chosen.name} has no speed presets", "preset")
    elif "preset" in encoder_options:
        given.refuse("--encoder-arg preset=... overrides it", "preset")


def check_inputs(given: Given, kinds: Collection[Kind], values: Mapping[str, Any]) -> None:
    """Refuse options for inputs of another kind.

    Raises:
        typer.BadParameter: such an option was given.
    """
    if set(kinds) <= {"video"}:
        is_rate = values["images"] != "stills"
        reason = "; a video has its own frame rate" if is_rate else ", and no input is one of them"
        given.refuse(f"it is for numbered images and stills{reason}", "images")
    if "video" in kinds:
        return
    given.refuse_drop(values, "images contain nothing else", *BESIDES_FRAMES)
    given.refuse("images are not deinterlaced", "deinterlace")
    if set(kinds) == {"still"}:
        given.refuse(
            "the input is a single frame", *RANGE, "window", "no_scene_cuts", "still_tolerance", "segment_frames"
        )
    given.refuse("images have a single video stream", "video_stream")


def kind_of(source: Path, found: VideoInfo | None) -> Kind:
    """Return the kind of an input, by the result of `probe`, or by its name if that is None.

    Raises:
        VideoError: it does not exist or cannot be read.
    """
    from ristn_cli.video import IMAGE_SUFFIXES, list_images

    if list_images(source):
        return "images"
    is_still = source.suffix.lower() in IMAGE_SUFFIXES if found is None else found.is_still
    return "still" if is_still else "video"


def check_suffix(given: Given, targets: Collection[Path], suffix: str | None) -> None:
    """Refuse a format that no output in the folder has.

    Raises:
        typer.BadParameter: no output has it.
    """
    if not any(target.suffix == suffix for target in targets):
        given.refuse(f"no output is {suffix}, because stills become images", "format")
