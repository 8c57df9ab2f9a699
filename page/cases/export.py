"""The cases as CSV: one line for each action, which spreadsheets open and `faust -A app evaluate --cases` reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from page.cases.actions import Action, State
from page.store.layout import SITE

HEADER = ("userid", "courseid", "version", "at", "user", "action", "state", "assignee", "note")
#: with which a spreadsheet takes a text for a formula
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
#: so that spreadsheets take the file for UTF-8
_MARK = "\ufeff"


def csv_lines(actions: Iterable[Action]) -> Iterator[str]:
    """Yield the lines of the file; actions: those on a case in their order, one case after another."""
    yield _MARK + _line(HEADER)
    state, case = State.OPEN, None
    for action in actions:
        if (action.student, action.course) != case:
            state, case = State.OPEN, (action.student, action.course)
        if action.kind.state is not None:
            state = action.kind.state
        yield _line(
            (
                str(action.student),
                "" if action.course == SITE else str(action.course),
                str(action.version),
                datetime.fromtimestamp(action.at / 1000, UTC).isoformat(timespec="seconds"),
                as_text(action.user),
                action.kind.value,
                state.name.lower().replace("_", "-"),
                as_text(action.assignee or ""),
                as_text(action.note),
            )
        )


def as_text(cell: str) -> str:
    """Return a cell that a spreadsheet does not take for a formula."""
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _line(cells: Iterable[str]) -> str:
    out = io.StringIO()
    csv.writer(out).writerow(cells)
    return out.getvalue()
