"""Elements of SVG as markup.

A chart takes the width that it is given, and its text keeps its size: positions along an axis are percentages of the
plot. Paths know no percentages, so a curve is in a nested viewport of 1000 by 1000 units that is stretched over the
plot; its stroke is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

from markupsafe import Markup, escape

#: size of the viewport of a curve, in either direction
UNITS = 1000


def tag(name: str, *children: Markup | str, **attributes: str | float | None) -> Markup:
    """Return an element; text is escaped.

    An underscore at the end of an attribute's name is dropped (`class_`), one within is a hyphen (`text_anchor`).
    Attributes that are None are left out.
    """
    # a page has hundreds of elements: plain strings are several times as fast as the methods of Markup
    written = "".join(
        f' {_name(key)}="{_number(value) if isinstance(value, int | float) else escape(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[Markup | str]) -> Markup:
    """Return elements and text as one markup."""
    # escape would copy what is Markup already
    return Markup("".join([child if type(child) is Markup else escape(child) for child in children]))


def length(share: float) -> str:
    """Return a share of the plot's width or height [0…1] as an SVG length."""
    return f"{_number(100 * share)}%"


def text(
    x: float, y: float, content: str, *, kind: str, anchor: str = "middle", dx: float = 0, dy: float = 0
) -> Markup:
    """Return a label at a point of the plot (shares of its width and height, from the top left).

    dx, dy: by how much it is moved [px]; kind: its classes.
    """
    return tag("text", content, x=length(x), y=length(y), dx=dx or None, dy=dy or None, text_anchor=anchor, class_=kind)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """Return a straight line between two points of the plot (shares)."""
    return tag("line", x1=length(x1), y1=length(y1), x2=length(x2), y2=length(y2), class_=kind)


def rect(x: float, y: float, width: float, height: float, kind: str, title: str = "") -> Markup:
    """Return a rectangle of the plot (shares); title: what a pointer that rests on it is told."""
    children = [tag("title", title)] if title else []
    return tag("rect", *children, x=length(x), y=length(y), width=length(width), height=length(height), class_=kind)


def circle(x: float, y: float, radius: float, kind: str, title: str = "") -> Markup:
    """Return a circle around a point of the plot (shares); radius [px]."""
    children = [tag("title", title)] if title else []
    return tag("circle", *children, cx=length(x), cy=length(y), r=radius, class_=kind)


def curves(paths: Sequence[tuple[Sequence[tuple[float, float]], str]]) -> Markup:
    """Return polylines through points of the plot (shares), each with its classes."""
    drawn = [
        tag(
            "path",
            d="M" + "L".join(f"{_number(UNITS * x)} {_number(UNITS * y)}" for x, y in points),
            class_=kind,
            vector_effect="non-scaling-stroke",
        )
        for points, kind in paths
        if points
    ]
    return tag(
        "svg",
        *drawn,
        viewBox=f"0 0 {UNITS} {UNITS}",
        preserveAspectRatio="none",
        width="100%",
        height="100%",
        overflow="visible",
    )


def picture(children: Iterable[Markup], *, label: str, height: int, kind: str = "plot") -> Markup:
    """Return a picture that is as wide as it may be; label: its text alternative; height [px]."""
    return tag("svg", *children, class_=kind, height=height, role="img", aria_label=label, overflow="visible")


@cache
def _name(key: str) -> str:
    return key.rstrip("_").replace("_", "-")


def _number(value: float) -> str:
    """Return a number with at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
