"""Line and point charts as inline SVG: readable on light and dark pages, by shape as well as by colour."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 14, 44

COLOURS = ("#888888", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, told apart with any colour vision; grey for the baseline."""

DASHES = ("2 3", "", "7 3", "10 3 2 3", "4 2", "1 2", "12 4")
MARKERS = ("circle", "square", "diamond", "triangle", "circle", "square", "diamond")


@dataclass(frozen=True)
class Series:
    """A named row of points; its position in the chart chooses colour, dashes and marker."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_chart(series: Sequence[Series], *, title: str, x_label: str, y_label: str) -> str:
    """Lines over whole x, such as frame numbers."""
    frame = Frame.around(series, pad=0.0)
    lines = []
    for position, row in enumerate(series):
        points = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in zip(row.x, row.y, strict=True))
        colour, dash = COLOURS[position % len(COLOURS)], DASHES[position % len(DASHES)]
        lines.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}" stroke-linejoin="round"/>'
        )
    return svg(frame, lines, title, describe(series, y_label), x_label, y_label)


def point_chart(series: Sequence[Series], *, title: str, x_label: str, y_label: str) -> str:
    """A marker and a name for every point, names moved up or down where they would meet."""
    frame = Frame.around(series, pad=0.18)
    marks = []
    placed: list[tuple[float, float]] = []
    for position, row in enumerate(series):
        for x, y in zip(row.x, row.y, strict=True):
            across, down = frame.x(x), frame.y(y)
            marks.append(marker(position, across, down))
            heights = [down - 8, down + 18, down - 24, down + 34]
            free = [h for h in heights if all(abs(h - v) >= 14 or abs(across - u) > WIDTH / 3 for u, v in placed)]
            height = (free or heights)[0]
            placed.append((across, height))
            at, anchor = (across - 10, "end") if across > WIDTH * 0.6 else (across + 10, "start")
            marks.append(f'<text x="{at:.1f}" y="{height:.1f}" text-anchor="{anchor}">{escape(row.name)}</text>')
    return svg(frame, marks, title, describe(series, y_label), x_label, y_label)


def legend(names: Sequence[str]) -> str:
    """The lines of a chart and their names, as a list."""
    items = []
    for position, name in enumerate(names):
        colour, dash = COLOURS[position % len(COLOURS)], DASHES[position % len(DASHES)]
        line = f'<line x1="0" y1="6" x2="34" y2="6" stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/>'
        items.append(f'<li><svg width="34" height="12" aria-hidden="true">{line}</svg> {escape(name)}</li>')
    return f'<ul class="legend">{"".join(items)}</ul>'


@dataclass(frozen=True)
class Frame:
    """The ranges of a chart's axes and where they are drawn."""

    x_ticks: tuple[float, ...]
    y_ticks: tuple[float, ...]
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    @classmethod
    def around(cls, series: Sequence[Series], *, pad: float) -> "Frame":
        """Ranges that hold every point, `pad` of the extent beyond them, widened to whole ticks in y."""
        xs = [x for row in series for x in row.x]
        ys = [y for row in series for y in row.y]
        x_low, x_high = spread(min(xs), max(xs), pad)
        y_low, y_high = spread(min(ys), max(ys), pad)
        if pad and min(xs) >= 0:
            x_low = 0.0
        y_ticks = ticks(y_low, y_high)
        step = y_ticks[1] - y_ticks[0]
        y_range = math.floor(y_low / step) * step, math.ceil(y_high / step) * step
        return cls(ticks(x_low, x_high), ticks(*y_range), (x_low, x_high), y_range)

    def x(self, value: float) -> float:
        """Horizontal place of a value."""
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Vertical place of a value."""
        low, high = self.y_range
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def spread(low: float, high: float, pad: float) -> tuple[float, float]:
    """A range widened by a share of its extent on both sides, never empty."""
    extent = high - low or max(1.0, abs(low)) * 0.1
    margin = extent * pad if high > low else extent / 2
    return low - margin, high + margin


def ticks(low: float, high: float) -> tuple[float, ...]:
    """Round values in a range, three to eight of them."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    found = tuple(round(number * step, 10) for number in range(first, last + 1))
    return found if len(found) > 1 else (low, high)


def marker(position: int, x: float, y: float) -> str:
    """A filled shape around a point."""
    colour = COLOURS[position % len(COLOURS)]
    shapes = {
        "circle": f'<circle cx="{x:.1f}" cy="{y:.1f}" r="6"',
        "square": f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10"',
        "diamond": f'<polygon points="{x:.1f},{y - 7:.1f} {x + 7:.1f},{y:.1f} {x:.1f},{y + 7:.1f} {x - 7:.1f},{y:.1f}"',
        "triangle": f'<polygon points="{x:.1f},{y - 7:.1f} {x + 7:.1f},{y + 5:.1f} {x - 7:.1f},{y + 5:.1f}"',
    }
    return f'{shapes[MARKERS[position % len(MARKERS)]]} fill="{colour}"/>'


def describe(series: Sequence[Series], y_label: str) -> str:
    """What a chart shows, for those who do not see it."""
    parts = [f"{row.name} from {min(row.y):.2f} to {max(row.y):.2f}" for row in series]
    return f"{y_label}: {'; '.join(parts)}."


def svg(frame: Frame, marks: Sequence[str], title: str, description: str, x_label: str, y_label: str) -> str:
    """The chart with its axes, grid and labels."""
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    grid = []
    for value in frame.y_ticks:
        y = frame.y(value)
        grid.append(f'<line class="rule" x1="{LEFT}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        grid.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in frame.x_ticks:
        x = frame.x(value)
        grid.append(f'<line class="axis" x1="{x:.1f}" y1="{bottom}" x2="{x:.1f}" y2="{bottom + 4}"/>')
        grid.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{value:g}</text>')
    grid.append(f'<line class="axis" x1="{LEFT}" y1="{bottom}" x2="{right}" y2="{bottom}"/>')
    middle = (TOP + bottom) / 2
    labels = [
        f'<text x="{(LEFT + right) / 2:.1f}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text transform="translate(13 {middle:.1f}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
    ]
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">'
        f"<title>{escape(title)}</title><desc>{escape(description)}</desc>{''.join([*grid, *labels, *marks])}</svg>"
    )
