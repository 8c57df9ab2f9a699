"""Figures and tables of a report as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def number(value: float | None, decimals: int = 3) -> str:
    """A figure without the zero before its point; empty for none."""
    if value is None:
        return ""
    text = f"{value:.{decimals}f}"
    return text.replace("0.", ".", 1) if abs(value) < 1 else text


def percent(value: float) -> str:
    """A share in percent."""
    return f"{value:.0%}".replace("%", " %")


def bracket(interval: Mapping[str, float], *, signed: bool = False) -> str:
    """A figure and its interval."""
    value, low, high = (number(interval[name]) for name in ("value", "low", "high"))
    sign = "+" if signed and interval["value"] > 0 else ""
    return f"{sign}{value} [{low}, {high}]"


def plain(value: Any) -> str:
    """A value of the artefact."""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
