"""The status: how old the data are, whether the workers keep up, what could not be used."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request
from starlette.responses import Response

from app.settings import Settings
from page.reader.state import Phase, State
from page.reader.workers import Group, Workers
from page.store import course_queries as queries
from page.store.meta import read_meta
from page.web.render import render
from page.web.services import services_of, visitor_of
from page.web.words import duration

_HOUR_MS = 3_600_000
#: events of the log, and batches of them in the visits topic (of up to 20,000 each), that may wait while all is well
_FEW_EVENTS, _FEW_BATCHES = 10_000, 10

#: what a reason of dead letters means
MEANINGS = {
    "bad-magic": "not in the format of the schema registry",
    "truncated": "ends too early",
    "malformed": "damaged",
    "unknown-schema": "its schema is not known to the registry",
    "wrong-schema": "made with the schema of other records",
    "unreadable-schema": "its schema is invalid",
    "type-mismatch": "a column has another type than declared",
    "negative-time": "its time is before 1970",
    "time-too-large": "its time is too far in the future",
    "unreadable-batch": "a batch of records is damaged or too large",
    "ahead-of-clock": "its time is ahead of the clock",
    "bad-frame": "a visit batch is damaged",
    "not UTF-8": "a prediction that is not text",
    "not JSON": "a prediction that is not JSON",
    "not a JSON object": "a prediction that is not a JSON object",
    "JSON nested too deep": "a prediction that is nested too deep",
    "key too long": "a prediction with too long a key",
}


@dataclass(frozen=True, slots=True)
class Light:
    """A statement about one thing that may be well or not."""

    kind: Literal["good", "warn", "bad"]
    title: str
    text: str
    #: what to do; empty if nothing is
    remedy: str = ""

    @property
    def icon(self) -> str:
        """The name of the picture that stands beside the title."""
        return "low" if self.kind == "good" else "warning"


class StatusPage:
    """GET /status"""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def get(self, request: Request) -> Response:
        """Answer with the state of the data, the workers and this page."""
        services, visitor = services_of(request), visitor_of(request)
        settings = services.settings
        with services.database.snapshot() as connection:
            meta, letters = read_meta(connection), queries.dead_letters(connection)
            unreadable, totals = queries.unreadable(connection), queries.totals(connection)
        group, now, names = self._workers.group(), time.time_ns() // 1_000_000, settings.topic_names
        lights = [
            _data(meta.newest_event, now, settings.page_stale_hours),
            _page(services.follower.state),
            _members(group, settings),
            _lag(group, names.source, names.visits),
        ]
        context = {
            "lights": lights,
            "meta": meta,
            "group": group,
            "topics": {names.source: "Moodle's log", names.visits: "visits, by student"},
            "letters": letters,
            "meanings": MEANINGS,
            "unreadable": unreadable,
            "totals": totals,
            "is_operator": visitor.courses is None,
            "settings": settings,
        }
        return render(request, "status.html", context)


def _data(newest: int | None, now: int, stale_hours: float) -> Light:
    if newest is None:
        text = "No event of a student has arrived yet."
        return Light("warn", "No data", text, "Check that the connector writes Moodle's log, and that a worker runs.")
    age = now - newest
    if not stale_hours and age >= 0:
        return Light("good", "Newest event", f"It is {duration(age)} old. No age counts as too old here.")
    text = f"The newest event is {duration(age)} old." if age >= 0 else "The newest event is ahead of the clock."
    if age < -_HOUR_MS:
        remedy = "An event has a wrong time: see RISK_MAX_AHEAD."
        return Light("warn", "Data from the future", text, remedy)
    if stale_hours and age > stale_hours * _HOUR_MS:
        remedy = "Unless Moodle is closed: check the connector and the workers."
        return Light("bad", "Old data", text, remedy)
    return Light("good", "Data are up to date", text)


def _page(state: State) -> Light:
    if state.kind is Phase.FAILED:
        return Light("bad", "This page cannot read", state.line, "It tries again by itself.")
    if state.kind is Phase.LOADING:
        text = f"{int(100 * state.share)} % of the topics has been read. Until then the pages are incomplete."
        return Light("warn", "This page is loading", text)
    if state.behind:
        text = f"{state.behind:,} record{'s are' if state.behind > 1 else ' is'} still to be read."
        return Light("good", "This page follows the data", text)
    return Light("good", "This page follows the data", "It has read all that the workers have written.")


def _members(group: Group, settings: Settings) -> Light:
    if group.problem:
        return Light("warn", "Workers: not known", group.problem)
    number = len(group.hosts)
    if not number:
        text = "Nobody computes risks now. What is shown stays as it is."
        remedy = f"Start one: faust -A app worker, with RISK_APP_ID={settings.app_id}."
        return Light("bad", "No worker runs", text, remedy)
    if number == 1:
        return Light("good", "1 worker runs", "It does all the work.")
    return Light("good", f"{number} workers run", "They share the work among them.")


def _lag(group: Group, source: str, visits: str) -> Light:
    if group.problem:
        return Light("warn", "Backlog: not known", "It is asked of Kafka together with the workers.")
    lag, batches = group.lags.get(source), group.lags.get(visits, 0)
    if lag is None:
        return Light("warn", "Backlog: not known", "No worker has read anything of Moodle's log yet.")
    if not lag and batches <= _FEW_BATCHES:
        return Light("good", "No backlog", "All events of Moodle's log have been counted.")
    text = f"{lag:,} event{'s wait' if lag > 1 else ' waits'} to be counted."
    if not lag:
        text = f"Moodle's log has been read; {batches:,} batches of visits wait to be counted."
    if not group.hosts:
        return Light("bad", "Backlog", text, "It is processed as soon as a worker runs.")
    if lag < _FEW_EVENTS and batches <= _FEW_BATCHES:
        return Light("good", "Backlog", text)
    return Light("warn", "Backlog", text, "It should shrink: look again.")
