"""The report of an evaluation: one self-contained HTML page with tables, charts and pictures."""

import math
from collections.abc import Sequence
from html import escape

import numpy as np

from ristn_cli.evaluation.charts import NO_CHARTS, Series, can_draw, draw_chart
from ristn_cli.evaluation.gallery import HEAT, HIGHEST_ERROR, MOST_CLIPS, ClipPictures, Gallery
from ristn_cli.evaluation.tables import (
    Results,
    Table,
    clip_table,
    describe_protocol,
    failure_table,
    method_table,
    shown,
)
from ristn_cli.html_pages import make_page, picture

STYLE = (
    """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --line: #d0d7de; --soft: #57606a; --band: #f6f8fa; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --paper: #0d1117; --line: #30363d; --soft: #9aa4af; --band: #161b22; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main, header { max-width: 78rem; margin: 0 auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; margin: 1.5rem 0 .3rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .3rem; }
p, li { max-width: 48rem; }
p.note, .protocol { color: var(--soft); font-size: .92rem; }
nav ul { padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1rem; }
a { color: #0969da; }
@media (prefers-color-scheme: dark) { a { color: #58a6ff; } }
:focus-visible { outline: 3px solid #0969da; outline-offset: 2px; }
.wide { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th:first-child { text-align: left; }
thead th { background: var(--band); }
tr.mean > * { font-weight: 700; border-top: 2px solid var(--soft); }
figure { margin: 0; }
figcaption { font-size: .9rem; overflow-wrap: anywhere; }
img { display: block; max-width: 100%; height: auto; }
.sharp img { image-rendering: pixelated; width: 100%; }
.grid { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fill, minmax(min(45%, 15rem), 1fr)); }
.chart { width: 100%; max-width: 44rem; height: auto; }
.scale { height: .8rem; max-width: 20rem; border: 1px solid var(--line); background: linear-gradient(to right, """
    + ", ".join(f"rgb{tuple(int(value) for value in colour)}" for colour in HEAT)
    + """); }
.scale + p { display: flex; justify-content: space-between; max-width: 20rem; margin: 0; font-size: .85rem; }
summary { cursor: pointer; }
@media print { nav, details { display: none; } }
"""
)


def make_report(results: Results, gallery: Gallery) -> str:
    """Return the page: tables, time against PSNR, and for each clip crops, error maps, profiles and PSNR over time."""
    sections = [clip_section(results, position, gallery) for position in range(len(results.clips))]
    links = [f'<li><a href="#clip-{k}">{escape(clip.name)}</a></li>' for k, clip in enumerate(results.clips)]
    head = best_line(results)
    body = [
        "<header><h1>Evaluation of 4x video super-resolution</h1>",
        f"<p>{escape(head)}</p>",
        f'<nav aria-label="Clips"><ul>{"".join(links)}</ul></nav></header>',
        "<main>",
        '<h2 id="tables">Tables</h2>',
        html_table(method_table(results)),
        html_table(clip_table(results)),
        *([html_table(failure_table(results.failures))] if results.failures else []),
        f'<ul class="protocol">{"".join(f"<li>{escape(line)}</li>" for line in describe_protocol(results))}</ul>',
        time_chart(results) if can_draw() else f'<p class="note">{escape(NO_CHARTS.capitalize())}.</p>',
        *sections,
        "</main>",
    ]
    if len(results.clips) > MOST_CLIPS:
        body.insert(-1, f'<p class="note">Only the first {MOST_CLIPS} clips have pictures.</p>')
    return make_page("ristn evaluate: report", "\n".join(body), style=STYLE.strip())


def best_line(results: Results) -> str:
    best = max(results.methods, key=lambda method: method.means.psnr_y)
    base = results.methods[0]
    clips = f"{len(results.clips)} clip{'s' if len(results.clips) > 1 else ''}"
    if best is base:
        return f"On {clips}, {base.name} has the highest mean PSNR-Y: {base.means.psnr_y:.2f} dB."
    return (
        f"On {clips}, {best.name} has the highest mean PSNR-Y: {best.means.psnr_y:.2f} dB, "
        f"{best.means.psnr_y - base.means.psnr_y:+.2f} dB against {base.name}."
    )


def html_table(table: Table) -> str:
    """Return a table that scrolls horizontally on narrow pages."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in table.headings)
    rows = []
    for position, (first, *cells) in enumerate(table.rows):
        is_mean = table.ends_in_mean and position == len(table.rows) - 1
        values = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        rows.append(f'<tr{" class=mean" if is_mean else ""}><th scope="row">{escape(first)}</th>{values}</tr>')
    return (
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(table.title)}"><table>'
        f"<caption>{escape(table.title)}</caption><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></div>"
    )


def time_chart(results: Results) -> str:
    """Return a chart of seconds per frame against PSNR-Y of the timed methods, as in Figure 10."""
    timed = [method for method in results.methods if math.isfinite(method.seconds)]
    series = [Series(method.name, [method.seconds], [method.means.psnr_y]) for method in timed]
    chart = draw_chart(
        series,
        title="Time against PSNR-Y",
        x_label="seconds per frame, upscaling only",
        y_label="PSNR-Y, dB",
        as_points=True,
    )
    untimed = [method.name for method in results.methods if not math.isfinite(method.seconds)]
    note = f'<p class="note">Not timed: {escape(", ".join(untimed))}.</p>' if untimed else ""
    return f"<h3>Time against PSNR</h3>{chart}{note}"


def clip_section(results: Results, position: int, gallery: Gallery) -> str:
    clip = results.clips[position]
    parts = [f'<section aria-labelledby="clip-{position}"><h2 id="clip-{position}">{escape(clip.name)}</h2>']
    if clip.name in gallery.pictures:
        parts.append(show_pictures(clip.name, gallery.pictures[clip.name], gallery.methods))
    rows = [(method.name, method.clips[position]) for method in results.methods]
    if len(rows[0][1].frames) == 1:  # a still has no chart over time
        return "".join([*parts, "</section>"])
    series = [
        Series(name, range(scores.first, scores.first + len(scores.frames)), [f.psnr_y for f in scores.frames])
        for name, scores in rows
    ]
    title = f"PSNR-Y over time, {clip.name}"
    chart = draw_chart(series, title=title, x_label="frame", y_label="PSNR-Y, dB") if can_draw() else ""
    values = [
        (str(number), *(shown(row.y[at], 2) for row in series)) for at, number in enumerate(map(int, series[0].x))
    ]
    table = Table(
        f"PSNR-Y in dB of every frame of {clip.name}", ("frame", *(row.name for row in series)), tuple(values)
    )
    parts.append(
        f"<h3>PSNR over time</h3>{chart}<details><summary>Values</summary>{html_table(table)}</details></section>"
    )
    return "".join(parts)


def show_pictures(clip: str, kept: ClipPictures, methods: Sequence[str]) -> str:
    place = kept.place
    where = f"frame {place.frame} of {clip}"
    crops = [figure(kept.lr, f"LR crop of {where}, enlarged by pixel repetition", "LR")]
    crops += [
        figure(kept.crops[name], f"Crop of {where} by {name}", f"{name}, {kept.psnr[name]:.2f} dB in this frame")
        for name in methods
    ]
    crops.append(figure(kept.truth, f"Crop of {where}, original", "original"))
    errors = [figure(kept.errors[name], f"Error map of {name} for {where}", name) for name in methods]
    return (
        f"<figure>{picture(kept.overview, f'Original of {where} with the outlined crop')}"
        f"<figcaption>Frame {place.frame}, original. The outlined crop of {place.width}x{place.height} pixels is where "
        "bicubic has the largest error.</figcaption></figure>"
        f'<h3>Crops</h3><div class="grid sharp">{"".join(crops)}</div>'
        f'<h3>Error maps</h3><div class="scale"></div><p><span>no error</span><span>{HIGHEST_ERROR} levels of Y or more'
        f'</span></p><div class="grid">{"".join(errors)}</div>'
        f"{show_profiles(clip, kept, methods)}"
    )


def show_profiles(clip: str, kept: ClipPictures, methods: Sequence[str]) -> str:
    count = len(kept.truth_lines)
    if count == 1:
        return ""
    profiles = [(name, kept.profile(name)) for name in methods] + [("original", kept.profile(None))]
    figures = [figure(image.repeat(3, axis=0), f"Temporal profile of {clip}, {name}", name) for name, image in profiles]
    return (
        f"<h3>Temporal profiles</h3><p class=note>Row {kept.place.row}, columns {kept.columns.start} to "
        f"{kept.columns.stop - 1}, of {count} frames, stacked over time. Stable edges appear as straight lines.</p>"
        f'<div class="grid sharp">{"".join(figures)}</div>'
    )


def figure(image: np.ndarray, alt: str, caption: str) -> str:
    return f"<figure>{picture(image, alt)}<figcaption>{escape(caption)}</figcaption></figure>"
