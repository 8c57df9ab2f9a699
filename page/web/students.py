"""The list of students: whom to contact first, and where to find one by id."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from models.assessment import Band
from page.access.visitor import Visitor
from page.cases.actions import State
from page.cases.audit import Look
from page.reader.state import Phase
from page.store import queries
from page.store.meta import Meta, read_meta
from page.store.queries import Filter, Sort
from page.web.export import students_csv
from page.web.list_query import ROWS, SILENT, SORTS, ListQuery, QueryError
from page.web.outcomes import read_outcomes
from page.web.recent import Recent
from page.web.render import render
from page.web.rows import rows_of
from page.web.services import Services, address_of, form_of, services_of, visitor_of
from page.web.words import BANDS, day_of, parse_id

#: columns of the list: class, heading, order that it sorts by
_COLUMNS = (
    ("student", "Student", Sort.STUDENT),
    ("risk", "Risk", Sort.RISK),
    ("why", "Why", None),
    ("visit", "Last visit", Sort.SILENT),
    ("history", "Last 8 weeks", Sort.CHANGE),
    ("case", "Case", None),
)


@dataclass(frozen=True, slots=True)
class Quick:
    """A list that is one click away."""

    text: str
    icon: str
    style: str
    query: ListQuery
    count: int
    current: bool

    @property
    def url(self) -> str:
        """Where it is."""
        return self.query.url()


def query_of(request: Request) -> ListQuery:
    """Read what the URL asks for. Raises HTTPException: 400, or 404 for a course that the visitor does not see."""
    try:
        query = ListQuery.of(request.query_params)
    except QueryError as error:
        raise HTTPException(400, str(error)) from None
    if query.course is not None and not visitor_of(request).sees(query.course):
        raise HTTPException(404)
    return query


def listing(request: Request) -> Response:
    """GET /: a page of the list."""
    query, services, visitor = query_of(request), services_of(request), visitor_of(request)
    chosen = query.chosen(visitor.name)
    offset = ROWS * (query.page - 1)
    with services.database.snapshot() as connection:
        meta = read_meta(connection)
        entries = queries.list_entries(connection, visitor.courses, chosen, query.sort, offset=offset, limit=ROWS)
        counts = _Counts(connection, visitor, request.app.state.recent)
        choices = _choices(query)
        number, *numbers = counts.of(query, *(each for *_, each in choices))
        courses = counts.courses()
    is_last = len(entries) < ROWS and bool(entries or not offset)
    total = offset + len(entries) if is_last else max(number, offset + len(entries))
    shown, url = [(entry.student, entry.course) for entry in entries], query.url(page=query.page)
    columns = list(_COLUMNS)
    if read_outcomes(services.settings.page_outcomes):
        columns.append(("outcome", "Outcome", None))
    if services.settings.moodle_url:
        columns.append(("moodle", "Moodle", None))
    context = {
        "query": query,
        "first": offset + 1,
        "total": total,
        "last_page": max(1, -(-total // ROWS)),
        "page_url": lambda page: query.url(page=page),
        "today": today_of(services, meta) if meta.today is not None or entries else None,
        "revision": meta.revision,
        "changes_url": "/changes" + query.parameters(),
        "courses": sorted({*courses, *([] if query.course is None else [query.course])}),
        "quick": _quick(choices, numbers, query),
        "silent_choices": sorted({*SILENT, *([query.silent] if query.silent else [])}),
        "sorts": SORTS,
        "columns": columns,
        "nothing": _nothing(services, visitor, query, total),
    }
    with services.audit.recording(visitor, Look.LIST, shown, address=address_of(request), url=url):
        context["rows"] = rows_of(request).of(entries, today_of(services, meta))
        return render(request, "students.html", context, meta=meta)


def rows_alone(request: Request) -> Response:
    """GET /rows?s=…: rows of an open list whose students have changed."""
    services, visitor = services_of(request), visitor_of(request)
    connection = services.database.read()
    tokens = request.query_params.getlist("s")[:ROWS]
    keys = [key for token in tokens if (key := services.tokens.decode(token)) and visitor.sees(key[1])]
    found = queries.entries_at(connection, list(dict.fromkeys(keys)))
    today = today_of(services, read_meta(connection))
    shown = [(entry.student, entry.course) for entry in found]
    services.audit.record(visitor, Look.CHANGES, shown, address=address_of(request))
    return HTMLResponse(Markup("").join(rows_of(request).of(found, today)))


def export(request: Request) -> Response:
    """GET /students.csv: all pages of a list."""
    query, services, visitor = query_of(request), services_of(request), visitor_of(request)
    outcomes = read_outcomes(services.settings.page_outcomes)
    with services.database.snapshot() as connection:
        today = today_of(services, read_meta(connection))
        keys, content = students_csv(connection, visitor, query, today, outcomes)
    services.audit.record(visitor, Look.EXPORT, keys, address=address_of(request), url=query.url())
    return Response(content, media_type="text/csv; charset=utf-8", headers={"Content-Disposition": _attachment(query)})


def search(request: Request) -> Response:
    """POST /search: go to the student with an id. A form, so that no id stands in a URL."""
    services, visitor = services_of(request), visitor_of(request)
    student = parse_id(form_of(request).get("student", ""))
    if student is None:
        raise HTTPException(400, "The id of a student is a number, such as 1234. Nothing was searched for.")
    found = queries.entries_of(services.database.read(), student, visitor.courses)
    seen = [(entry.student, entry.course) for entry in found]
    services.audit.record(visitor, Look.SEARCH, seen, address=address_of(request), student=student)
    if not found:
        raise HTTPException(404, f"There is no student {student} in the courses that you see.")
    first = max(found, key=lambda entry: (entry.alert, entry.risk if entry.risk is not None else -1))
    return RedirectResponse(f"/student/{services.tokens.encode(student, first.course)}", 303)


def today_of(services: Services, meta: Meta) -> int:
    """The day of the newest event; the calendar's as long as there is none."""
    if meta.today is not None:
        return meta.today
    return day_of(time.time_ns() // 1_000_000, services.settings.zone)


@dataclass(frozen=True, slots=True)
class _Counts:
    """Numbers of entries that a visitor may see; those that take long to count may be a moment old."""

    connection: sqlite3.Connection
    visitor: Visitor
    recent: Recent

    def of(self, *lists: ListQuery) -> list[int]:
        """How many entries each list has."""
        scope = self.visitor.courses

        def count(*chosen: Filter) -> list[int]:
            return queries.count_entries(self.connection, scope, *chosen)

        wanted = [each.chosen(self.visitor.name) for each in lists]
        fast = [each for each in wanted if each.silent is None]
        found = dict(zip(fast, count(*fast), strict=True))
        for each in wanted:
            if each.silent is not None:
                (found[each],) = self.recent.get((scope, each), partial(count, each))
        return [found[each] for each in wanted]

    def courses(self) -> list[int]:
        """The courses with entries."""
        scope = self.visitor.courses
        return self.recent.get(scope, lambda: queries.courses(self.connection, scope))


#: text, icon, class of the style sheets, and list
_Choice = tuple[str, str, str, ListQuery]


def _choices(query: ListQuery) -> Sequence[_Choice]:
    """The lists that are one click away."""
    everybody = ListQuery(course=query.course, sort=query.sort)
    high, gone = BANDS[Band.HIGH], BANDS[Band.GONE]
    return (
        ("All students", "", "", everybody),
        ("Alerts nobody has taken up", "alert", "alert", replace(everybody, alert=True, state=State.OPEN)),
        (f"{high.text} risk", high.name, f"band band-{high.name}", replace(everybody, band=Band.HIGH)),
        (gone.text, gone.name, f"band band-{gone.name}", replace(everybody, band=Band.GONE)),
        ("No visit for 14 days", "", "", replace(everybody, silent=14)),
        ("Assigned to me", "person", "", replace(everybody, mine=True)),
    )


def _quick(choices: Sequence[_Choice], numbers: Sequence[int], query: ListQuery) -> list[Quick]:
    shown = replace(query, page=1)
    return [
        Quick(*choice, count=number, current=choice[-1] == shown)
        for choice, number in zip(choices, numbers, strict=True)
    ]


def _nothing(services: Services, visitor: Visitor, query: ListQuery, total: int) -> str:
    """Why a list is empty, if it is."""
    if total:
        return "page"
    if visitor.courses is not None and not visitor.courses:
        return "courses"
    if services.follower.state.kind is Phase.LOADING:
        return "loading"
    return "filters" if query.is_filtered else ""


def _attachment(query: ListQuery) -> str:
    of = "" if query.course is None else f"-course{query.course}"
    return f'attachment; filename="students{of}-{time.strftime("%Y-%m-%d", time.gmtime())}.csv"'


ROUTES = [
    Route("/", listing),
    Route("/rows", rows_alone),
    Route("/students.csv", export),
    Route("/search", search, methods=["POST"]),
]
