"""Notes that explain the figures of a preview."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ristn_cli.preview.making import Preview
from ristn_cli.preview.moments import UNSEEKABLE_SECONDS
from ristn_cli.video import can_be_sought


def make_notes(preview: Preview, device: str, missing: Sequence[str]) -> list[str]:
    """Return all notes. `device` computed the preview, `missing` names weights that were not tried."""
    job = preview.job
    family, _ = job.medium
    quality = f" at the default quality (--crf {job.options.crf:g})" if family in ("h264", "hevc", "av1") else ""
    return [
        f"The times were measured on this machine during the preview ({device}). Other programs make them longer.",
        f"The sizes are estimates for the frames alone, as {family}{quality}.",
        *_describe_source(preview),
        *(
            f"The weights {name} are not on this machine; use ristn download-weights {name} to download them."
            for name in missing
        ),
    ]


def _describe_source(preview: Preview) -> Iterator[str]:
    job = preview.job
    info = job.source
    if info.sample_aspect_ratio != 1:
        yield f"The pixel aspect ratio is {info.sample_aspect_ratio}; the images are stretched accordingly."
    if info.color.is_hdr:
        yield "The video is HDR. Its colours look pale here; the output keeps them."
    if info.bit_depth > 8:
        yield f"Images are shown with 8 bits per channel; the output keeps the {info.bit_depth} bits of the source."
    if job.output.encoder.has_alpha:
        yield "The output keeps the alpha channel, which is not shown here."
    if info.is_interlaced or info.field_order is not None:
        yield "The video is interlaced; its frames are deinterlaced."
    if not can_be_sought(info):
        yield f"This file is not seekable: moments are chosen from its first {UNSEEKABLE_SECONDS} seconds."
