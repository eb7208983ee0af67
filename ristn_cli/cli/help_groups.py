"""The options of `ristn upscale` in groups, as its help shows them: first those that most people need."""

from __future__ import annotations

from typing import Any

from ristn_cli.cli.workers import RayCommand

GROUPS: dict[str, tuple[str, ...]] = {
    "Most used": (
        "model",
        "scale",
        "size",
        "fit",
        "codec",
        "crf",
        "start",
        "end",
        "max_frames",
        "device",
        "memory_limit",
        "overwrite",
        "dry_run",
    ),
    "Picture": ("deinterlace", "no_scene_cuts", "square_pixels"),
    "Output": ("preset", "pix_fmt", "encoder_arg", "suffix", "stdout_format"),
    "Streams": ("video_stream", "no_audio", "no_subtitles", "drop_alpha"),
    "Input": ("recursive", "stills", "rate", "raw_size", "raw_rate", "raw_format", "strict"),
    "Speed and memory": ("weights", "precision", "compilation", "tile", "window"),
    "Several machines": ("ray", "ray_workers", "ray_threads"),
    "Interrupted jobs": ("restart", "segment_frames", "no_disk_check"),
    "Messages": ("progress", "quiet", "verbose", "log_file", "report", "as_json", "debug"),
}
"""Options by the names of their parameters."""


class GroupedCommand(RayCommand):
    """A command whose help shows its options in `GROUPS`; what is in none of them comes last."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options."""
        records = {
            param.name: (param.param_type_name, record)
            for param in self.get_params(ctx)
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
