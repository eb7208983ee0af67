"""The comparison as a split-screen clip: one labelled vertical band per source."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from ristn_cli.comparison.matching import Comparison
from ristn_cli.own_files import give_name
from ristn_cli.video import (
    EncoderSettings,
    Frame,
    FrameWriter,
    Image,
    Output,
    OutputShape,
    Scaling,
    VideoError,
    check_mux,
    choose_codec,
    draw_label,
    join_and_mux,
    part_suffix,
    resize_image,
    try_mux,
)

SEAM = 2
"""Width of the white line between two bands, in pixels."""

LABEL_SHARE = 24
"""Text height as a share of the frame height."""

SMALLEST_LABEL = 10


def write_clip(
    comparison: Comparison,
    target: Path,
    *,
    start: Fraction | None = None,
    end: Fraction | None = None,
    scaling: Scaling = "bicubic",
    crf: float = 17,
    overwrite: bool = True,
) -> Iterator[int]:
    """Write the clip, completely or not at all; yield the number of frames written after each frame.

    The clip has the timestamps, colour tags and audio of the reference, and all frames in [start, end) that every
    source covers. Streams that its container cannot hold are dropped. Raises VideoError for stills, and see
    `FrameWriter` and `join_and_mux`.
    """
    if comparison.is_still:
        raise VideoError(f"{target}: --video needs at least one video; use --output or --png for images")
    reference = comparison.sources[comparison.reference]
    info, native = reference.info, reference.native
    moments = comparison.moments(start=start, end=end)
    numbers = [moment.frames[comparison.reference] for moment in moments]
    # 4:2:0 needs an even width and height.
    width, height = comparison.width - comparison.width % 2, comparison.height - comparison.height % 2
    labels = [source.label for source in comparison.sources]
    after = numbers[-1] + 1
    begin = native[numbers[0]] - native[0] if numbers[0] else None
    until = native[after] - native[0] if after < len(native) else None
    shown = replace(info, bit_depth=8)  # images of a comparison have 8 bits, whatever the inputs have
    encoder = EncoderSettings(codec=choose_codec(None, 8), color=info.color, crf=crf)
    output = Output(
        source=shown,
        shape=OutputShape(
            width=width,
            height=height,
            rate=info.rate,
            time_base=info.frame_time_base,
            sample_aspect_ratio=info.sample_aspect_ratio,
        ),
        encoder=encoder,
        streams=check_mux(shown, target, codec=encoder.codec, drop=("subtitles",), drop_unsupported=True),
        start=begin,
        end=until,
    )
    output = replace(output, streams=try_mux(output, target, drop_unsupported=True))
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ristn-compare-", dir=target.parent) as scratch:
        part = Path(scratch) / f"part{part_suffix(encoder.codec)}"
        with FrameWriter(part, output.shape, encoder) as writer:
            for count, (number, images) in enumerate(zip(numbers, comparison.read(moments), strict=True), start=1):
                common = [resize_image(image, comparison.width, comparison.height, scaling) for image in images]
                split = split_screen([image[:height, :width] for image in common], labels)
                duration = native[number + 1] - native[number] if number + 1 < len(native) else None
                writer.write(Frame(split, native[number], duration))
                yield count
        finished = Path(scratch) / f"finished{target.suffix}"
        join_and_mux([part], output, finished)
        give_name(finished, target, overwrite=overwrite)


def split_screen(images: Sequence[Image], labels: Sequence[str]) -> Image:
    """Combine n images of one size, uint8 (H, W, 3): the k-th vertical band shows the k-th image."""
    height, width = images[0].shape[:2]
    edges = [round(k * width / len(images)) for k in range(len(images) + 1)]
    split = images[0].copy()
    for k, image in enumerate(images):
        split[:, edges[k] : edges[k + 1]] = image[:, edges[k] : edges[k + 1]]
    for edge in edges[1:-1]:
        split[:, edge - SEAM // 2 : edge + SEAM // 2] = 255
    size = max(SMALLEST_LABEL, height // LABEL_SHARE)
    for k, label in enumerate(labels):
        inset = size // 2
        draw_label(split, label, x=edges[k] + inset, y=inset, width=edges[k + 1] - edges[k] - 2 * inset, size=size)
    return split
