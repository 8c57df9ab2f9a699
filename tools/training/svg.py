"""Charts as small SVG files, without a library: the same numbers give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

#: size of a chart and of its plotting area's margins [px]
WIDTH, HEIGHT = 480, 320
LEFT, RIGHT, TOP, BOTTOM = 52, 16, 34, 46
#: of the palette of Okabe and Ito, which the colour-blind can tell apart
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#555555")
_STYLE = "font:12px system-ui,sans-serif;background:#fff"


@dataclass(frozen=True)
class Line:
    """A curve, or dots, with its name in the legend."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    dots: bool = False
    dashed: bool = False
    #: index into COLOURS; None: the next one
    colour: int | None = None


@dataclass(frozen=True)
class Axis:
    """The range of an axis, its ticks and its label."""

    label: str
    low: float
    high: float
    ticks: Sequence[float]

    def text(self, tick: float) -> str:
        """The label of a tick."""
        return f"{tick:g}"


def share(label: str, high: float = 1.0) -> Axis:
    """An axis of shares, from 0."""
    step = 0.2 if high > 0.5 else high / 5
    return Axis(label, 0.0, high, [round(step * i, 4) for i in range(round(high / step) + 1)])


def chart(title: str, x: Axis, y: Axis, lines: Sequence[Line], *, legend: str = "bottom right") -> str:
    """Return an SVG with lines over two axes; legend: the corner where it is."""
    inner_width, inner_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def px(value: float) -> float:
        return LEFT + inner_width * (value - x.low) / (x.high - x.low)

    def py(value: float) -> float:
        return TOP + inner_height * (1 - (min(value, y.high) - y.low) / (y.high - y.low))

    parts = [f'<text x="{WIDTH / 2:g}" y="20" text-anchor="middle" font-weight="bold">{escape(title)}</text>']
    for tick in x.ticks:
        at = f"{px(tick):.1f}"
        parts.append(f'<path d="M{at} {TOP}V{HEIGHT - BOTTOM}" stroke="#e6e6e6"/>')
        parts.append(f'<text x="{at}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{x.text(tick)}</text>')
    for tick in y.ticks:
        at = f"{py(tick):.1f}"
        parts.append(f'<path d="M{LEFT} {at}H{WIDTH - RIGHT}" stroke="#e6e6e6"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{float(at) + 4:.1f}" text-anchor="end">{y.text(tick)}</text>')
    parts.append(
        f'<text x="{LEFT + inner_width / 2:g}" y="{HEIGHT - 10}" text-anchor="middle">{escape(x.label)}</text>'
    )
    middle = TOP + inner_height / 2
    parts.append(
        f'<text transform="translate(14 {middle:g}) rotate(-90)" text-anchor="middle">{escape(y.label)}</text>'
    )
    for i, line in enumerate(lines):
        colour = COLOURS[(i if line.colour is None else line.colour) % len(COLOURS)]
        points = [(f"{px(a):.1f}", f"{py(b):.1f}") for a, b in zip(line.x, line.y, strict=True)]
        if line.dots:
            parts += [f'<circle cx="{a}" cy="{b}" r="3.5" fill="{colour}"/>' for a, b in points]
        dash = ' stroke-dasharray="5 4"' if line.dashed else ""
        path = "L".join(f"{a} {b}" for a, b in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        parts += _legend(line.name, colour, dash, i, len(lines), legend)
    return _svg(title, parts, HEIGHT)


def intervals(title: str, axis: Axis, rows: Sequence[tuple[str, float, float, float]]) -> str:
    """Return an SVG with a dot and its interval for each row: name, value, low, high."""
    left, step = 190, 22
    height = TOP + step * len(rows) + BOTTOM
    inner = WIDTH - left - RIGHT

    def px(value: float) -> float:
        return left + inner * (min(value, axis.high) - axis.low) / (axis.high - axis.low)

    parts = [f'<text x="{WIDTH / 2:g}" y="20" text-anchor="middle" font-weight="bold">{escape(title)}</text>']
    for tick in axis.ticks:
        at = f"{px(tick):.1f}"
        parts.append(f'<path d="M{at} {TOP}V{height - BOTTOM}" stroke="#e6e6e6"/>')
        parts.append(f'<text x="{at}" y="{height - BOTTOM + 16}" text-anchor="middle">{axis.text(tick)}</text>')
    parts.append(f'<text x="{left + inner / 2:g}" y="{height - 10}" text-anchor="middle">{escape(axis.label)}</text>')
    for i, (name, value, low, high) in enumerate(rows):
        y = TOP + step * i + step / 2
        parts.append(f'<text x="{left - 8}" y="{y + 4:g}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<path d="M{px(low):.1f} {y:g}H{px(high):.1f}" stroke="{COLOURS[0]}" stroke-width="1.8"/>')
        parts.append(f'<circle cx="{px(value):.1f}" cy="{y:g}" r="3.5" fill="{COLOURS[0]}"/>')
    return _svg(title, parts, height)


def _legend(name: str, colour: str, dash: str, i: int, n: int, corner: str) -> list[str]:
    vertical, horizontal = corner.split()
    y = (TOP + 14 + 16 * i) if vertical == "top" else (HEIGHT - BOTTOM - 10 - 16 * (n - 1 - i))
    x = LEFT + 10 if horizontal == "left" else WIDTH - RIGHT - 150
    return [
        f'<path d="M{x} {y - 4}h18" stroke="{colour}" stroke-width="2.2"{dash}/>',
        f'<text x="{x + 24}" y="{y}">{escape(name)}</text>',
    ]


def _svg(title: str, parts: Sequence[str], height: int) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" style="{_STYLE}">'
    background = f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>'
    return "\n".join([head, f"<title>{escape(title)}</title>", background, *parts, "</svg>"]) + "\n"
