"""What one has to know to judge a preview, in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ristn_cli.preview.making import Preview
from ristn_cli.preview.moments import UNSOUGHT_SECONDS
from ristn_cli.video import can_be_sought


def make_remarks(preview: Preview, device: str, missing: Sequence[str]) -> list[str]:
    """All remarks; `device` is what the network was computed on, `missing` are weights that were not tried."""
    job = preview.job
    family, _ = job.medium
    quality = f" at the default quality (--crf {job.options.crf:g})" if family in ("h264", "hevc", "av1") else ""
    return [
        f"Times were measured on this machine just now ({device}). Other programs that are at work make them longer.",
        f"Sizes are of the pictures alone, as {family}{quality}; they are estimated from what is shown here.",
        *_remarks_on_source(preview),
        *(
            f"The weights {name} are not on this machine; ristn download-weights {name} fetches them."
            for name in missing
        ),
    ]


def _remarks_on_source(preview: Preview) -> Iterator[str]:
    job = preview.job
    info = job.source
    if info.sample_aspect_ratio != 1:
        yield f"Pixels are {info.sample_aspect_ratio} as wide as high; the pictures are stretched accordingly."
    if info.color.is_hdr:
        yield "The video is HDR: its colours look pale here, and are kept in the output."
    if info.bit_depth > 8:
        yield f"Pictures are shown with 8 bits a channel; the output keeps the {info.bit_depth} of the source."
    if job.output.encoder.has_alpha:
        yield "The alpha channel is kept in the output, and not shown here."
    if info.is_interlaced or info.field_order is not None:
        yield "The video is interlaced; its pictures are deinterlaced."
    if not can_be_sought(info):
        yield f"This file cannot be sought: moments are chosen from its first {UNSOUGHT_SECONDS} seconds."
