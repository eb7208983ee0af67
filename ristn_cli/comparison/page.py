"""The HTML page of a comparison, with its images inside. HTML, CSS and JavaScript are in the three files beside it."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from fractions import Fraction
from importlib.resources import files
from pathlib import Path
from typing import Any

from ristn_cli.comparison.matching import Comparison, Moment
from ristn_cli.html_pages import make_page, write_page
from ristn_cli.video import Image, Scaling, VideoError, encode_jpeg, encode_png

DEFAULT_FRAMES = 12
MEGABYTE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class PageOptions:
    """The frames of a page, and its largest size.

    Attributes:
        start: start of the range in seconds; None for the first frame.
        end: end of the range in seconds; None for the last frame.
        every: take every n-th frame; None to spread frames over the range.
        most: number of frames, an error if they do not fit; None for as many as fit, up to `DEFAULT_FRAMES`.
        limit_bytes: largest size of the page.
        quality: JPEG quality, 1 to 100; None for PNG, which is lossless.
        scaling: how smaller images are enlarged when the page opens.
    """

    start: Fraction | None = None
    end: Fraction | None = None
    every: int | None = None
    most: int | None = None
    limit_bytes: int = 20 * MEGABYTE
    quality: int | None = None
    scaling: Scaling = "bicubic"


def save_page(comparison: Comparison, path: Path, options: PageOptions, *, overwrite: bool = True) -> int:
    """Write the page and return its number of frames. Raises VideoError if it would exceed the limit."""
    encoded: dict[tuple[int, int], str] = {}
    most = options.most or DEFAULT_FRAMES
    while True:
        moments = comparison.moments(start=options.start, end=options.end, every=options.every, most=most)
        fitting = _encode(comparison, moments, options, encoded)
        if fitting == len(moments):
            break
        if options.most is not None or fitting == 0:
            raise VideoError(_explain_size(comparison, path, len(moments), fitting, options))
        # Choose fewer frames, and reuse those that are already encoded.
        most = fitting
        kept = comparison.moments(start=options.start, end=options.end, every=options.every, most=most)
        wanted = {(k, number) for moment in kept for k, number in enumerate(moment.frames)}
        encoded = {key: uri for key, uri in encoded.items() if key in wanted}
    write_page(path, _format_page(comparison, moments, encoded, options.scaling), overwrite=overwrite)
    return len(moments)


def _encode(
    comparison: Comparison, moments: list[Moment], options: PageOptions, encoded: dict[tuple[int, int], str]
) -> int:
    """Add the images of the moments to `encoded` until the limit is reached. Return how many moments fit."""
    total = 0
    counted: set[tuple[int, int]] = set()
    for position, (moment, images) in enumerate(zip(moments, comparison.read(moments), strict=True)):
        for key, image in zip(enumerate(moment.frames), images, strict=True):
            if key not in encoded:
                encoded[key] = _data_uri(image, options.quality)
            if key not in counted:
                counted.add(key)
                total += len(encoded[key])
        if total > options.limit_bytes:
            return position
    return len(moments)


def _data_uri(image: Image, quality: int | None) -> str:
    kind, data = ("png", encode_png(image)) if quality is None else ("jpeg", encode_jpeg(image, quality))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def _explain_size(comparison: Comparison, path: Path, frames: int, fitting: int, options: PageOptions) -> str:
    pictures = " and ".join(f"{source.info.width}x{source.info.height}" for source in comparison.sources)
    advice = f"--frames {fitting}, " if fitting else ""
    advice += "a larger --limit" if options.quality else "a larger --limit, or --quality 95 (JPEG)"
    found = f"only {fitting} of {frames} frames" if fitting else "not even one frame"
    return f"{path}: {found} of {pictures} fit into {options.limit_bytes / MEGABYTE:g} MB; use {advice}"


def _format_page(
    comparison: Comparison, moments: list[Moment], encoded: dict[tuple[int, int], str], scaling: Scaling
) -> str:
    """Return the document, with the data before the markup."""
    sources: list[dict[str, Any]] = []
    slots: dict[tuple[int, int], int] = {}
    for k, source in enumerate(comparison.sources):
        numbers = sorted({moment.frames[k] for moment in moments})
        slots |= {(k, number): slot for slot, number in enumerate(numbers)}
        images = [encoded[k, number] for number in numbers]
        sources.append(
            {"label": source.label, "width": source.info.width, "height": source.info.height, "images": images}
        )
    frames = [
        {"time": round(float(moment.time), 6), "images": [slots[key] for key in enumerate(moment.frames)]}
        for moment in moments
    ]
    data = {
        "width": comparison.width,
        "height": comparison.height,
        "scaling": scaling,
        "isStill": comparison.is_still,
        "sources": sources,
        "frames": frames,
    }
    look = read_look()
    body = f'<h1 class="unseen">Comparison</h1>\n{carry(data)}\n{look.body}'
    title = " and ".join(source.label for source in comparison.sources)
    return make_page(title, body, style=look.style, script=look.script)


@dataclass(frozen=True)
class Look:
    """HTML, CSS and JavaScript of images with a slider. The script reads the data of `carry`."""

    body: str
    style: str
    script: str


def read_look(package: str = "ristn_cli.comparison", name: str = "compare") -> Look:
    """Read the three files of a look."""
    folder = files(package)
    texts = (
        folder.joinpath(f"{name}.{suffix}").read_text(encoding="utf-8").strip() for suffix in ("html", "css", "js")
    )
    return Look(*texts)


def carry(data: dict[str, Any]) -> str:
    """Return data for the script as JSON that cannot end its own HTML element."""
    carried = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="data">{carried}</script>'
