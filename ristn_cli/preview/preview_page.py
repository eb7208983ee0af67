"""The HTML page of a preview, with its images inside: the slider of `ristn compare`, and a card per choice."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from fractions import Fraction
from html import escape
from importlib.resources import files
from typing import Any

from ristn_cli.comparison.page import carry, read_look
from ristn_cli.html_pages import data_uri, make_page
from ristn_cli.model import SCALE
from ristn_cli.preview.costs import describe_bytes, describe_seconds
from ristn_cli.preview.excerpts import Excerpt
from ristn_cli.preview.making import Preview, Result
from ristn_cli.printable import printable
from ristn_cli.video import Image, encode_animation, resize_image, to_eight_bits


def format_preview(preview: Preview, commands: Sequence[str], notes: Sequence[str]) -> str:
    """Return the document. `commands` are those of the results, `notes` are sentences for its end."""
    info = preview.job.source
    look = read_look()
    facts = [describe_size(info.width, info.height)]
    if not info.is_still:
        facts += [f"{float(info.rate):.4g} frames per second", info.codec]
    name = printable(info.path.name or info.path.resolve().name)
    body = [
        f'<header><h1>{escape(name)}</h1><p class="faint">{escape(" · ".join(facts))}</p></header>',
        carry(_describe_pictures(preview)),
        look.body.replace("</footer>", '  <output id="place"></output>\n</footer>'),
        *_format_choices(preview, commands),
        '<section id="notes"><h2>Notes</h2><ul>',
        *(f"<li>{escape(printable(line))}</li>" for line in notes),
        "</ul></section>",
    ]
    folder = files("ristn_cli.preview")
    style, script = (folder.joinpath(f"preview.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    title = f"{name}: preview"
    return make_page(title, "\n".join(body), style=f"{look.style}\n{style}", script=f"{look.script}\n{script}")


def describe_size(width: int, height: int) -> str:
    """Format width and height with a multiplication sign."""
    return f"{width}\N{MULTIPLICATION SIGN}{height}"


def describe_place(excerpt: Excerpt, width: int, height: int) -> str:
    """Describe time and crop of an excerpt. `width` and `height` are those of the source."""
    crop = excerpt.moment.crop
    place = f"{describe_size(crop.width, crop.height)} pixels at {crop.x},{crop.y}"
    return f"{describe_time(excerpt.moment.time)}: {place} of {describe_size(width, height)}"


def describe_time(time: Fraction) -> str:
    """Format as `0:12.345` or `1:02:03.500`."""
    milliseconds = round(1000 * time)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02}" if hours else str(minutes)
    return f"{start}:{rest // 1000:02}.{rest % 1000:03}"


def _describe_pictures(preview: Preview) -> dict[str, Any]:
    """Return the data of the slider for each moment: the source with square and with bicubic pixels, and every
    choice.
    """
    info, excerpts = preview.job.source, preview.excerpts
    crop = excerpts[0].moment.crop
    originals = [data_uri(image) for image in map(_original, excerpts)]
    small = {"width": crop.width, "height": crop.height, "images": originals}
    size = {"width": SCALE * crop.width, "height": SCALE * crop.height}
    sources: list[dict[str, Any]] = [
        {"label": "source", "scaling": "nearest", **small},
        {"label": "bicubic", "scaling": "bicubic", **small},
    ]
    for result in preview.results:
        sources.append({"label": result.choice.name, **size, "images": list(map(data_uri, result.stills))})
    frames = [
        {
            "time": round(float(excerpt.moment.time), 6),
            "place": describe_place(excerpt, info.width, info.height),
            "images": [number] * len(sources),
        }
        for number, excerpt in enumerate(excerpts)
    ]
    return {
        **size,
        "scaling": "bicubic",
        "aspect": float(info.sample_aspect_ratio),
        "isStill": info.is_still,
        "isApart": True,
        "scrolls": True,
        "left": 1,
        "right": 2 + recommended_index(preview.results),
        "sources": sources,
        "frames": frames,
    }


def recommended_index(results: Sequence[Result]) -> int:
    """Return the index of the recommended result; 0 if none is recommended."""
    return next((number for number, result in enumerate(results) if result.choice.is_recommended), 0)


def _original(excerpt: Excerpt) -> Image:
    return to_eight_bits(excerpt.cut(excerpt.pieces[excerpt.still].image))


def _format_choices(preview: Preview, commands: Sequence[str]) -> Iterator[str]:
    """Yield a card for the source, for bicubic interpolation, and for each choice."""
    excerpt = preview.excerpts[0]
    originals = [to_eight_bits(image) for image in excerpt.sources]
    crop = excerpt.moment.crop
    enlarged = [resize_image(image, SCALE * crop.width, SCALE * crop.height) for image in originals]
    yield '<section id="choices"><div><h2>Choices for the whole video</h2>'
    if excerpt.is_clip:
        begin = excerpt.pieces[excerpt.shown.start].times[0]
        yield f'<p class="faint">A loop of {sum(excerpt.durations):.1f} s from {describe_time(begin)}.</p>'
        yield '<button id="motion" type="button">Pause</button>'
    yield '</div><div id="grid">'
    yield from _format_card(preview, 0, "source", "The frames as they are, with square pixels.", originals)
    yield from _format_card(preview, 1, "bicubic", "Bicubic interpolation, as many players do it.", enlarged)
    for number, (result, command) in enumerate(zip(preview.results, commands, strict=True)):
        choice = result.choice
        note = choice.note.capitalize() + "."
        if choice.is_recommended:
            note += f" Recommended because {choice.recommendation}."
        facts = [
            f'<dl class="facts"><dt>Time</dt><dd>{escape(describe_seconds(result.seconds))}</dd>',
            f"<dt>Size</dt><dd>{escape(describe_bytes(result.bytes))}</dd></dl>",
            f'<div class="command"><code>{escape(command)}</code><button type="button">Copy</button></div>',
        ]
        yield from _format_card(
            preview, 2 + number, choice.name, note, result.clip, more=facts, is_recommended=choice.is_recommended
        )
    yield "</div></section>"


def _format_card(
    preview: Preview,
    number: int,
    name: str,
    note: str,
    clip: Sequence[Image],
    *,
    more: Sequence[str] = (),
    is_recommended: bool = False,
) -> Iterator[str]:
    excerpt = preview.excerpts[0]
    crop = excerpt.moment.crop
    badge = '<span class="badge">Recommended</span>' if is_recommended else ""
    yield f"<article{' class=recommended' if is_recommended else ''}>"
    yield f'<div class="heading"><h3>{escape(name)}</h3>{badge}</div>'
    if excerpt.is_clip:
        data = encode_animation(clip, excerpt.durations, lossless=number == 0)
        shape = f"{float(crop.width * preview.job.source.sample_aspect_ratio):.4f} / {crop.height}"
        kind = "clip squares" if number == 0 else "clip"
        yield (
            f'<img class="{kind}" alt="Clip: {escape(name)}" width="{SCALE * crop.width}" '
            f'height="{SCALE * crop.height}" style="aspect-ratio: {shape}" '
            f'data-clip="data:image/webp;base64,{base64.b64encode(data).decode("ascii")}">'
        )
    yield f'<p class="faint">{escape(note)}</p>'
    yield from more
    yield f'<button class="show" type="button" data-source="{number}">Show in the slider</button></article>'
