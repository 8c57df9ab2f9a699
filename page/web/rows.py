"""The rows of the list, as HTML: many readers look at the same ones, and few change."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any, cast

from markupsafe import Markup
from starlette.requests import Request

from page.store import queries
from page.store.queries import Entry
from page.store.ranking import FINISHED
from page.web.outcomes import read_outcomes
from page.web.services import Services
from page.web.sparkline import DAYS, Sparkline, sparkline

#: rows that are kept; each takes about 4 kB
_KEPT = 5000


@dataclass(frozen=True, slots=True)
class Row:
    """An entry as the list shows it."""

    entry: Entry
    #: what stands for it in URLs
    token: str
    sparkline: Sparkline | None
    #: what has become of the student, in demonstrations only
    outcome: str

    @property
    def is_done(self) -> bool:
        """Whether the case is closed."""
        return self.entry.state in FINISHED


class Rows:
    """Makes rows, and keeps those made last. Thread-safe."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._outcomes: Mapping[tuple[int, int], str] = read_outcomes(services.settings.page_outcomes)
        self._lock = Lock()
        self._kept: OrderedDict[tuple[object, ...], Markup] = OrderedDict()

    def of(self, entries: Sequence[Entry], today: int) -> list[Markup]:
        """Return the rows of entries as of `today`."""
        keys = [_key(entry, today) for entry in entries]
        with self._lock:
            rows = {key: self._kept[key] for key in keys if key in self._kept}
            for key in rows:
                self._kept.move_to_end(key)
        missing = {key: entry for key, entry in zip(keys, entries, strict=True) if key not in rows}
        if missing:
            rows |= self._made(missing, today)
        return [rows[key] for key in keys]

    def _made(self, entries: Mapping[tuple[object, ...], Entry], today: int) -> dict[tuple[object, ...], Markup]:
        services = self._services
        macros: Any = services.templates.get_template("rows.html").module
        of = [(entry.student, entry.course) for entry in entries.values()]
        histories = queries.histories(services.database.read(), of, today - DAYS)
        made = {}
        for key, entry in entries.items():
            of_entry = (entry.student, entry.course)
            drawn = sparkline([(day, risk) for day, risk, _ in histories[of_entry]], today)
            row = Row(entry, services.tokens.encode(*of_entry), drawn, self._outcomes.get(of_entry, ""))
            made[key] = Markup(macros.row(row, today, bool(self._outcomes)))
        with self._lock:
            self._kept.update(made)
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made


def rows_of(request: Request) -> Rows:
    """Return the rows of the page that answers `request`."""
    return cast(Rows, request.app.state.rows)


def _key(entry: Entry, today: int) -> tuple[object, ...]:
    """What a row depends on. The revision alone would do, did it not begin anew with a database that is built again."""
    changing = (entry.at, entry.risk, entry.week_ago, entry.state, entry.case_version)
    return (entry.student, entry.course, entry.revision, today, *changing)
