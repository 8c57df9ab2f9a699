"""A chart with all that belongs to it: heading, what it shows in words, legend, and its numbers as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart, as the macro `figure` of charts.html shows it."""

    #: part of the ids on the page
    name: str
    title: str
    #: what it shows, in sentences: the text alternative of the picture
    text: str
    svg: Markup
    #: column headings and rows of the table
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    #: class of a mark, and what it stands for
    legend: Sequence[tuple[str, str]] = field(default=())


def percent(share: float, digits: int = 0) -> str:
    """Return a share [0…1] as `42 %`, with a no-break space."""
    return f"{100 * share:.{digits}f}\N{NO-BREAK SPACE}%"


def count(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun: `1 student`, `1,234 students`, `no students`."""
    return f"{number or 'no'} {one}" if number == 1 else f"{f'{number:,}' if number else 'no'} {many or one + 's'}"
