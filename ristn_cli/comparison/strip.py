"""The comparison as one image: the whole scene on the left, enlarged crops of every source beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ristn_cli.comparison.alignment import Crop, detail, find_details
from ristn_cli.comparison.matching import Comparison, Moment, read_numbers
from ristn_cli.video import Image, Scaling, VideoError, draw_label, resize_image, write_image

CELL = 256
"""The longest side of a crop is enlarged to about this many pixels, by an integer factor."""

CROPS = 3
"""Number of automatic crops. Their side is 1/`CROP_SHARE` of the frame's shorter side."""

CROP_SHARE = 8
MARGIN = 12
LABEL_SIZE = 16
LABEL_ROW = 28
FRAME = 3
GROUND = 255
COLORS = ((220, 38, 38), (37, 99, 235), (22, 163, 74), (217, 119, 6), (147, 51, 234), (8, 145, 178))


def save_strip(
    comparison: Comparison,
    path: Path,
    moments: Sequence[Moment],
    *,
    crops: Sequence[Crop] = (),
    scaling: Scaling = "bicubic",
    overwrite: bool = True,
) -> Moment:
    """Write the strip of the most detailed moment and return that moment.

    `crops` are in pixels of the comparison's size; if empty, the most detailed places are used. Raises VideoError for
    crops outside of the frame.
    """
    for crop in crops:
        check_crop(crop, comparison)
    largest = largest_source(comparison)
    source = comparison.sources[largest]
    moment = moments[0]
    if len(moments) > 1:
        details = [detail(image) for image in read_numbers(source, [moment.frames[largest] for moment in moments])]
        moment = moments[int(np.argmax(details))]
    images = next(comparison.read([moment]))
    size = (comparison.width, comparison.height)
    common = [resize_image(image, *size, scaling) for image in images]
    places = list(crops) or find_details(common[largest], max(16, min(size) // CROP_SHARE), CROPS)
    title = source.label if comparison.is_still else f"{source.label}, {float(moment.time):.3f} s"
    strip = compose_strip(common, [s.label for s in comparison.sources], places, largest, title)
    write_image(path, strip, overwrite=overwrite)
    return moment


def largest_source(comparison: Comparison) -> int:
    """Return the index of the first source that has the comparison's size."""
    size = (comparison.width, comparison.height)
    return next(k for k, s in enumerate(comparison.sources) if (s.info.width, s.info.height) == size)


def check_crop(crop: Crop, comparison: Comparison) -> None:
    """Raise VideoError if the crop is empty or exceeds the comparison's frame."""
    inside = crop.x + crop.width <= comparison.width and crop.y + crop.height <= comparison.height
    if min(crop.x, crop.y) < 0 or min(crop.width, crop.height) < 1 or not inside:
        found = ",".join(str(value) for value in crop)
        raise VideoError(
            f"the crop {found} (x,y,width,height) does not lie in {comparison.width}x{comparison.height} pixels, "
            "the size of the largest picture"
        )


def compose_strip(
    images: Sequence[Image], labels: Sequence[str], crops: Sequence[Crop], shown: int, title: str
) -> Image:
    """Combine images of one size, uint8 (H, W, 3): image `shown` in full, then a column of crops for each image.

    All crops have the same integer enlargement, by pixel repetition. Their frame has the colour that marks them in the
    full image.
    """
    zoom = max(1, round(CELL / max(max(crop.width, crop.height) for crop in crops)))
    cell_width = max(crop.width for crop in crops) * zoom + 2 * FRAME
    cell_heights = [crop.height * zoom + 2 * FRAME for crop in crops]
    grid_height = sum(cell_heights) + MARGIN * (len(crops) - 1)
    height, width = images[shown].shape[:2]
    overview_width = max(1, round(width * grid_height / height))
    top = MARGIN + LABEL_ROW
    strip = np.full(
        (top + grid_height + MARGIN, 2 * MARGIN + overview_width + len(images) * (cell_width + MARGIN), 3),
        GROUND,
        np.uint8,
    )
    overview = resize_image(images[shown], overview_width, grid_height).copy()
    scale = grid_height / height
    for number, crop in enumerate(crops):
        left, upper = round(crop.x * scale), round(crop.y * scale)
        right, lower = round((crop.x + crop.width) * scale), round((crop.y + crop.height) * scale)
        _outline(overview, left, upper, right, lower, COLORS[number % len(COLORS)])
    strip[top : top + grid_height, MARGIN : MARGIN + overview_width] = overview
    draw_label(strip, title, x=MARGIN, y=MARGIN, width=overview_width, size=LABEL_SIZE)
    for column, (image, label) in enumerate(zip(images, labels, strict=True)):
        x = 2 * MARGIN + overview_width + column * (cell_width + MARGIN)
        draw_label(strip, label, x=x, y=MARGIN, width=cell_width, size=LABEL_SIZE)
        y = top
        for number, (crop, cell_height) in enumerate(zip(crops, cell_heights, strict=True)):
            cut = image[crop.y : crop.y + crop.height, crop.x : crop.x + crop.width]
            enlarged = cut.repeat(zoom, axis=0).repeat(zoom, axis=1)
            framed = strip[y : y + cell_height, x : x + enlarged.shape[1] + 2 * FRAME]
            framed[:] = COLORS[number % len(COLORS)]
            framed[FRAME:-FRAME, FRAME:-FRAME] = enlarged
            y += cell_height + MARGIN
    return strip


def _outline(image: Image, left: int, top: int, right: int, bottom: int, color: tuple[int, int, int]) -> None:
    """Draw an outline of `FRAME` pixels around a rectangle, outside of it if possible."""
    outer = image[max(0, top - FRAME) : bottom + FRAME, max(0, left - FRAME) : right + FRAME]
    inner = image[top:bottom, left:right].copy()
    outer[:] = color
    image[top:bottom, left:right] = inner
