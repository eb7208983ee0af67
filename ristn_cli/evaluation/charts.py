"""Line and point charts as inline SVG, drawn by matplotlib. Shape and colour both identify a series, on light and dark
pages.
"""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from typing import Any

from ristn_cli.own_files import import_apart
from ristn_cli.printable import printable

COLOURS = ("#888888", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's palette, which is distinct with any colour vision; grey for the baseline."""

DASHES = (":", "-", "--", "-.", (0, (4, 2)), (0, (1, 2)), (0, (12, 4)))
MARKERS = "osD^vP*"
INK = "#010203"
"""Replaced by `currentColor`, the text colour of the page, which matplotlib does not support."""

NO_CHARTS = "the report has no charts: matplotlib is not installed; install it with: pip install 'ristn[train]'"


@dataclass(frozen=True)
class Series:
    """A named series of points. Its position in the chart determines colour, dashes and marker."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def can_draw() -> bool:
    return find_spec("matplotlib") is not None


def draw_chart(series: Sequence[Series], *, title: str, x_label: str, y_label: str, as_points: bool = False) -> str:
    """Draw lines, or a marker for each point, with a legend, as an `<svg>` element. Requires `can_draw()`.

    Args:
        series: the data.
        title: title of the chart, unique on its page.
        x_label: label of the horizontal axis.
        y_label: label of the vertical axis, with the unit.
        as_points: draw markers without lines; the horizontal axis begins at 0.
    """
    import_apart("matplotlib")
    import matplotlib
    from matplotlib.figure import Figure

    inks = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    settings: Any = dict.fromkeys(inks, INK) | {"svg.fonttype": "none", "svg.hashsalt": title, "text.parse_math": False}
    names, ys = [printable(row.name) for row in series], [row.y for row in series]
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about letters that its font lacks; the page uses its own font
        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        axes.grid(axis="y", color=INK, alpha=0.15, clip_on=False)
        axes.spines[["top", "right"]].set_visible(False)
        for position, row in enumerate(series):
            at = position % len(COLOURS)
            style = {"linestyle": "none", "marker": MARKERS[at]} if as_points else {"linestyle": DASHES[at]}
            axes.plot(row.x, row.y, color=COLOURS[at], clip_on=False, **style)
        if as_points:
            axes.set_xlim(left=0)
            axes.margins(y=0.2)
        axes.ticklabel_format(useOffset=False)
        axes.set(xlabel=x_label, ylabel=y_label)
        figure.legend(axes.lines, names, loc="outside upper left", ncols=3, frameon=False)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    # Remove ids that would repeat on a page, metadata, and fonts. Markers keep their ids, which the chart refers to.
    unwanted = r"<metadata>.*?</metadata>| id=\"(?!m[0-9a-f]{10}\")[^\"]*\"|font-family: [^;\"]*;"
    drawn = re.sub(unwanted, "", file.getvalue(), flags=re.DOTALL)
    view, body = re.split(r"<svg.*?viewBox=\"(.*?)\".*?>", drawn, maxsplit=1, flags=re.DOTALL)[1:]
    ranges = "; ".join(f"{name} from {min(y):.2f} to {max(y):.2f}" for name, y in zip(names, ys, strict=True))
    return (
        f'<svg class="chart" viewBox="{view}" role="img"><title>{escape(title)}</title>'
        f"<desc>{escape(f'{y_label}: {ranges}.')}</desc>{body.replace(INK, 'currentColor')}"
    )
