"""The state of a case, from the actions on it."""

from __future__ import annotations

import sqlite3

from page.store.ranking import rank

#: state that an action sets (page.cases.actions.State), by its kind (page.cases.actions.Kind)
STATES = {"acknowledge": 1, "contact": 2, "not-applicable": 3, "wrong": 4, "reopen": 0}
ASSIGN = "assign"


def refresh_case(connection: sqlite3.Connection, student: int, course: int, revision: int | None = None) -> bool:
    """Bring an entry up to date with the table `action`; return whether there is an entry.

    To be called after every change of the actions of a case, and after an entry has been written. revision: of the
    database with this change; None: the entry keeps its own.
    """
    query = "SELECT band, risk, alert, since FROM entry WHERE student = ? AND course = ?"
    entry = connection.execute(query, (student, course)).fetchone()
    if entry is None:
        return False
    state, assignee, version, acted_at, handled = 0, None, 0, None, None
    query = "SELECT version, kind, at, assignee, since FROM action WHERE student = ? AND course = ? ORDER BY version"
    for version, kind, acted_at, name, since in connection.execute(query, (student, course)):  # noqa: B007
        if kind in STATES:
            state, handled = STATES[kind], since
        elif kind == ASSIGN:
            assignee = name
    band, risk, alert, since = entry
    rank_now = rank(band=band, risk=risk, alert=bool(alert), since=since, state=state, handled=handled)
    connection.execute(
        "UPDATE entry SET state = ?, assignee = ?, case_version = ?, acted_at = ?, handled = ?, rank = ?, "
        "revision = coalesce(?, revision) WHERE student = ? AND course = ?",
        (state, assignee, version, acted_at, handled, rank_now, revision, student, course),
    )
    return True
