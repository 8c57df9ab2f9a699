"""The page of one student in a course."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.days import LocalDays
from page.access.visitor import Visitor
from page.cases.audit import Look
from page.cases.history import actions_of
from page.store import student_queries as queries
from page.store.meta import read_meta
from page.store.queries import entries_of, get_entry
from page.store.ranking import FINISHED
from page.web.case_form import CaseForm, done_text
from page.web.known_models import thresholds_of
from page.web.outcomes import read_outcomes
from page.web.reasons import reasons_of
from page.web.render import render
from page.web.services import Services, address_of, services_of, visitor_of
from page.web.student_figures import SESSION_DAYS, Days, history_figure, periods, sessions_figure


def student(request: Request) -> Response:
    """GET /student/{token}"""
    return student_page(request, done=done_text(request.query_params.get("done", "")))


def entry_of(request: Request) -> tuple[int, int]:
    """Return the student and the course that the token in the URL stands for. Raises 404: none that one may see."""
    found = services_of(request).tokens.decode(request.path_params["token"])
    if found is None or not visitor_of(request).sees(found[1]):
        raise HTTPException(404)
    return found


def student_page(
    request: Request, form: Callable[[int], CaseForm] = CaseForm, *, done: str = "", status: int = 200
) -> Response:
    """Answer with the page of a student.

    form: makes the form for the version of the case that is shown; done: what has just been recorded.
    """
    services, visitor = services_of(request), visitor_of(request)
    student, course = entry_of(request)
    context = _read(services, visitor, student, course)
    shown = [(student, course), *((student, other.course) for other, _ in context["others"])]
    context |= {
        "form": form(context["entry"].case_version),
        "token": request.path_params["token"],
        "done": done,
    }
    with services.audit.recording(visitor, Look.STUDENT, shown, address=address_of(request)):
        return render(request, "student.html", context, meta=context["meta"], status=status)


def _read(services: Services, visitor: Visitor, student: int, course: int) -> dict[str, Any]:
    """Return what the template needs of the database, all of it as of one moment. Raises 404."""
    settings = services.settings
    days_of = LocalDays(settings.zone)
    with services.database.snapshot() as connection:
        entry = get_entry(connection, student, course)
        if entry is None:
            raise HTTPException(404)
        meta = read_meta(connection)
        today = max(meta.today or entry.as_of, entry.as_of)
        history = queries.history(connection, student, course)
        spans = periods(queries.alerts(connection, student, course))
        since = days_of.start(today + 1 - SESSION_DAYS)
        sessions = queries.sessions(connection, student, since) if visitor.courses is None else None
        actions = actions_of(connection, student, course)
        others = [each for each in entries_of(connection, student, visitor.courses) if each.course != course]
    days = Days.of(entry, history, today)
    thresholds = thresholds_of(settings.model, entry.model)
    return {
        "entry": entry,
        "meta": meta,
        "days": days,
        "reasons": reasons_of(entry.reasons),
        "thresholds": thresholds,
        "history": history_figure(history, spans, thresholds, today, settings.page_history_days),
        "sessions": sessions,
        "sessions_chart": None if sessions is None else sessions_figure(sessions, days_of.start(today + 1), today),
        "actions": actions,
        "spans": spans,
        "others": [(other, services.tokens.encode(student, other.course)) for other in others],
        "outcome": read_outcomes(settings.page_outcomes).get((student, course)),
        "is_new_alert": entry.alert and entry.state in FINISHED and entry.since != entry.handled,
    }


ROUTES = [Route("/student/{token}", student)]
