"""The groups of options in the help of `ristn upscale`, with the most used options first."""

from __future__ import annotations

from typing import Any

from ristn_cli.cli.old_spellings import renew
from ristn_cli.cli.terminal import warn
from ristn_cli.cli.workers import RayCommand

GROUPS: dict[str, tuple[str, ...]] = {
    "Most used": (
        "model",
        "detail",
        "size",
        "codec",
        "crf",
        "start",
        "end",
        "max_frames",
        "drop",
        "device",
        "overwrite",
        "dry_run",
    ),
    "Advanced: picture": ("grain", "deinterlace", "square_pixels"),
    "Advanced: input": ("video_stream", "images", "recursive", "raw", "strict"),
    "Advanced: output": ("preset", "pix_fmt", "encoder_arg", "format"),
    "Advanced: speed, memory, interruption": (
        "memory_limit",
        "precision",
        "tile",
        "window",
        "still_tolerance",
        "restart",
    ),
    "Advanced: several machines": ("ray", "ray_workers"),
    "Advanced: messages": ("quiet", "verbose", "as_json", "log_file", "report"),
}
"""Names of parameters by group."""

SELDOM = ("no_scene_cuts", "compilation", "segment_frames", "no_disk_check", "progress", "debug")
"""Options that the help only names in its last line."""


class GroupedCommand(RayCommand):
    """A command whose help shows its options in `GROUPS`, and the others last."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Replace old spellings and warn about them. `ctx` is a Context of Typer's Click."""
        renewed, line = renew(args)
        if line is not None:
            warn(line)
        return super().parse_args(ctx, renewed)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options."""
        params = {param.name: param for param in self.get_params(ctx)}
        records = {
            name: (param.param_type_name, record)
            for name, param in params.items()
            if (record := param.get_help_record(ctx)) is not None
        }
        arguments = [record for kind, record in records.values() if kind == "argument"]
        options = {name: record for name, (kind, record) in records.items() if kind == "option"}
        sections = {"Arguments": arguments}
        for title, names in GROUPS.items():
            sections[title] = [options.pop(name) for name in names]
        sections["Other options"] = list(options.values())
        for title, rows in sections.items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)
        seldom = ", ".join(max(params[name].opts, key=len) for name in SELDOM)
        formatter.write_paragraph()
        formatter.write_text(f"Seldom needed, and described in docs/video.md: {seldom}.")
