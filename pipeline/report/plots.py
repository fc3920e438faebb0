"""Plots as inline SVG. Colours and fonts come from the page's style sheet, by class.

All texts are escaped by `Markup.format`; all else is a number.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from frozen_vqa.pipeline.evaluate.statistics import Interval
from frozen_vqa.pipeline.report.deletion import SHARES, Deletion, area_interval
from frozen_vqa.pipeline.report.figures import Calibration, Group
from frozen_vqa.pipeline.runs.state import EpochLine
from frozen_vqa.pipeline.system.texts import printable

LEFT, RIGHT, TOP, BOTTOM = 48, 14, 10, 40
"""Room around a plot for its axes, in units of its view box."""

MOST_GROUPS = 30
"""Rows of the plot of scores; the table below it has all."""

TICKS = (0, 25, 50, 75, 100)


@dataclass(frozen=True)
class Axis:
    """The range of an axis, and what stands beside it, with its unit."""

    label: str
    low: float
    high: float

    def ticks(self, most: int = 5) -> list[float]:
        """Return round numbers within the range."""
        raw = (self.high - self.low) / most
        size = 10 ** math.floor(math.log10(raw))
        step = next(size * n for n in (1, 2, 2.5, 5, 10) if size * n >= raw * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Line:
    """A line of a chart; `style` is a class of the style sheet, as in "s0 dashed"."""

    name: str
    points: Sequence[tuple[float, float]]
    style: str
    radii: Sequence[float] = ()


def chart(
    title: str, lines: Sequence[Line], x: Axis, y: Axis, *, width: int = 340, height: int = 230
) -> Markup:
    """Draw lines over two axes; a line with `radii` has dots of that size."""
    inner, tall = width - LEFT - RIGHT, height - TOP - BOTTOM

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across = (point[0] - x.low) / (x.high - x.low)
        up = (point[1] - y.low) / (y.high - y.low)
        return round(LEFT + across * inner, 1), round(TOP + (1 - up) * tall, 1)

    parts = [
        Markup(
            '<svg class="plot" width="{0}" viewBox="0 0 {0} {1}" role="img" aria-label="{2}">'
        ).format(width, height, printable(title))
    ]
    for tick in y.ticks():
        _, at = place((x.low, tick))
        parts.append(_line(LEFT, at, width - RIGHT, at, "grid"))
        parts.append(_text(LEFT - 6, at + 4, _number(tick), "end"))
    for tick in x.ticks():
        at, _ = place((tick, y.low))
        parts.append(_text(at, height - BOTTOM + 17, _number(tick), "middle"))
    base = height - BOTTOM
    parts.append(_line(LEFT, base, width - RIGHT, base, "axis"))
    parts.append(_text(LEFT + inner / 2, height - 6, x.label, "middle", "label"))
    parts.append(
        Markup(
            '<text class="label" text-anchor="middle" transform="translate(11 {}) rotate(-90)">'
        ).format(round(TOP + tall / 2, 1))
        + Markup("{}</text>").format(y.label)
    )
    for line in lines:
        points = [place(point) for point in line.points]
        path = " ".join(f"{a},{b}" for a, b in points)
        parts.append(Markup('<polyline class="line {}" points="{}"/>').format(line.style, path))
        for (a, b), radius in zip(points, line.radii, strict=False):
            parts.append(
                Markup('<circle class="dot {}" cx="{}" cy="{}" r="{}"/>').format(
                    line.style, a, b, round(radius, 1)
                )
            )
    return Markup("").join([*parts, Markup("</svg>")])


def forest(groups: Sequence[Group], sides: int) -> Markup:
    """Draw the accuracy of each side on each group, with interval, floor and ceiling.

    Places are in percent of the width, so that the plot fits any screen.
    """
    height = 26 + 11 * (sides - 1)
    parts = [Markup('<div class="forest" role="group" aria-label="Accuracy by type, in percent">')]
    for i, group in enumerate(groups):
        first = bool(i) and group.kind != groups[i - 1].kind
        name, score = printable(group.name), f"{group.scores[0].accuracy:.2f}"
        told = (  # no Markup: it has to be escaped
            f"{name}: {group.questions:,} questions, accuracy {score} %, floor {group.floor:.2f} % "
            f'(always "{printable(group.usual)}"), ceiling {group.ceiling:.2f} %'
        )
        parts += [
            Markup('<span class="name{}"><bdi>{}</bdi></span>').format(" first" * first, name),
            Markup('<svg class="strip{}" height="{}" role="img" aria-label="{}">').format(
                " first" * first, height, told
            ),
            Markup("<title>{}</title>").format(told),
        ]
        parts += [_upright(tick, 0, height, "grid") for tick in TICKS]
        parts += [
            _upright(value, 4, height - 4, style)
            for value, style in ((group.floor, "floor"), (group.ceiling, "ceiling"))
        ]
        for j, one in enumerate(group.scores):
            y = round(height / 2 + 11 * (j - (sides - 1) / 2), 1)
            if one.interval.bounds:
                ends = (_share(bound) for bound in one.interval.bounds)
                parts.append(
                    Markup(
                        '<line class="whisker s{2}" x1="{0}" x2="{1}" y1="{3}" y2="{3}"/>'
                    ).format(*ends, j, y)
                )
            parts.append(
                Markup('<circle class="dot s{}" cx="{}" cy="{}" r="4.5"/>').format(
                    j, _share(one.accuracy), y
                )
            )
        parts.append(
            Markup('</svg><span class="value{}">{}</span>').format(" first" * first, score)
        )
    parts.append(Markup('<span></span><svg class="strip" height="40" aria-hidden="true">'))
    parts += [
        Markup('<text x="{}" y="16" text-anchor="middle">{}</text>').format(_share(tick), tick)
        for tick in TICKS
    ]
    parts.append(
        Markup('<text class="label" x="{}" y="35" text-anchor="middle">').format(_share(50))
    )
    parts.append(Markup("accuracy, %</text></svg><span></span></div>"))
    return Markup("").join(parts)


def _share(percent: float) -> str:
    """Return a place across a strip, which has room for a dot at both ends."""
    return f"{2 + 0.96 * percent:.2f}%"


def _upright(percent: float, top: float, bottom: float, style: str) -> Markup:
    return Markup('<line class="{0}" x1="{1}" x2="{1}" y1="{2}" y2="{3}"/>').format(
        style, _share(percent), top, bottom
    )


@dataclass(frozen=True)
class Head:
    """The deletion test of one map, over all tested questions."""

    name: str
    area: float
    interval: Interval
    plot: Markup


def deletion_plots(tested: Deletion, pictures: np.ndarray) -> list[Head]:
    """Draw the mean curves of each map: the average of the attention heads, then each head."""
    found = []
    areas = tested.areas() if len(tested.whole) else np.zeros((0, 0))
    for i in range(areas.shape[1]):
        name = "average of the heads" if i == 0 else f"head {i}"
        area, interval = area_interval(areas[:, i], pictures)
        shares = [0.0, *(100 * share for share in SHARES)]
        curves = (
            ("least attended", tested.least[:, i], "least"),
            ("random", tested.random, "random"),
            ("most attended", tested.most[:, i], "most"),
        )
        lines = [
            Line(title, list(zip(shares, _means(tested.whole, values), strict=True)), style)
            for title, values, style in curves
        ]
        title = f"{name}: probability of the answer by the share of patches that are replaced"
        x, y = Axis("patches replaced, %", 0, 100 * SHARES[-1]), Axis("probability, %", 0, 100)
        found.append(Head(name, area, interval, chart(title, lines, x, y, width=300, height=210)))
    return found


def _means(whole: np.ndarray, values: np.ndarray) -> list[float]:
    return [100 * float(whole.mean()), *(100 * float(mean) for mean in values.mean(0))]


def reliability_plot(calibration: Calibration) -> Markup:
    """Draw the score against the probability of the answer; a dot's area tells its questions."""
    most = max(count for count, _, _ in calibration.bins)
    points = [(100 * sure, 100 * right) for _, sure, right in calibration.bins]
    radii = [2 + 9 * math.sqrt(count / most) for count, _, _ in calibration.bins]
    lines = [
        Line("ideal", [(0, 0), (100, 100)], "ideal"),
        Line("answers", points, "s0 dots", radii),
    ]
    x, y = Axis("probability of the answer, %", 0, 100), Axis("score, %", 0, 100)
    return chart("Reliability: score by probability of the answer", lines, x, y, height=300)


def curve_plots(trainings: Sequence[tuple[str, Sequence[EpochLine]]]) -> list[Markup]:
    """Draw loss and validation accuracy of trainings by epoch; the best epoch has a dot."""
    known = [(name, i, lines) for i, (name, lines) in enumerate(trainings) if lines]
    if not known:
        return []
    last = max(line.epoch for _, _, lines in known for line in lines)
    x = Axis("epoch", min(1, last - 1), last)
    plots = []
    for title, label, column in (
        ("Training loss by epoch", "training loss", "loss"),
        ("Validation accuracy by epoch", "validation accuracy, %", "accuracy"),
    ):
        drawn, high = [], 0.0
        for name, i, lines in known:
            points = [(line.epoch, getattr(line, column)) for line in lines]
            best = max(lines, key=lambda line: line.accuracy)
            radii = [3.5 if line is best else 0 for line in lines]
            drawn.append(Line(name, points, f"s{i}", radii))
            high = max(high, *(value for _, value in points))
        y = Axis(label, 0, 100) if column == "accuracy" else Axis(label, 0, 1.05 * high or 1)
        plots.append(chart(title, drawn, x, y, width=420, height=250))
    return plots


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(
        style, x1, y1, x2, y2
    )


def _text(x: float, y: float, text: str, anchor: str, style: str = "tick") -> Markup:
    return Markup('<text class="{}" x="{}" y="{}" text-anchor="{}">{}</text>').format(
        style, round(x, 1), round(y, 1), anchor, text
    )


def _number(value: float) -> str:
    return f"{value:.4f}".rstrip("0").rstrip(".")
