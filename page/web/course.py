"""The pages of courses: all that the visitor may see, and one of them."""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from page.cases.actions import State
from page.cases.audit import Look
from page.store import course_queries as queries
from page.store.meta import read_meta
from page.web.charts.risk_history import Thresholds
from page.web.course_figures import SILENT_DAYS, CourseColumns, at_threshold, distribution, flags_per_week, silence
from page.web.known_models import thresholds_of
from page.web.render import render
from page.web.services import address_of, services_of, visitor_of

_COURSE = re.compile(r"-?[0-9]{1,18}")
#: threshold that is shown where neither the visitor nor the model names one
_USUAL = 0.7


def courses(request: Request) -> Response:
    """GET /courses"""
    visitor = visitor_of(request)
    with services_of(request).database.snapshot() as connection:
        day = read_meta(connection).today
        found = [] if day is None else queries.courses(connection, visitor.courses, day - SILENT_DAYS + 1)
    found.sort(key=lambda row: (-row.waiting, -row.alerts, -row.high, row.course))
    return render(request, "courses.html", {"courses": found, "today": day, "silent_days": SILENT_DAYS})


def course(request: Request) -> Response:
    """GET /course/{course}; threshold: in percent, for the chart of thresholds"""
    services, visitor = services_of(request), visitor_of(request)
    text = request.path_params["course"]
    if not _COURSE.fullmatch(text) or not visitor.sees(int(text)):
        raise HTTPException(404)
    number = int(text)
    with services.database.snapshot() as connection:
        day = read_meta(connection).today
        found = [] if day is None else queries.courses(connection, None, day - SILENT_DAYS + 1, number)
        if not found or day is None:
            raise HTTPException(404)
        entries = queries.course_entries(connection, number)
        alerts = queries.alert_days(connection, number, day - 7 * 13)
        states = queries.case_states(connection, None, number)
        models = queries.models(connection, None, number)
    services.audit.record(visitor, Look.COURSE, address=address_of(request), course=number)
    thresholds = thresholds_of(services.settings.model, models[0][0])
    chosen = _chosen(request.query_params.get("threshold", ""), thresholds)
    columns = CourseColumns.of(entries, day)
    context = {
        "course": found[0],
        "today": day,
        "silent_days": SILENT_DAYS,
        "states": [(state, states.get(state, 0)) for state in State if state is not State.OPEN],
        "figures": [distribution(columns, thresholds), flags_per_week(alerts, day), silence(columns)],
        "sweep": at_threshold(columns, chosen, thresholds),
        "chosen": round(100 * chosen),
        "moved": thresholds is not None and chosen != thresholds.high,
    }
    return render(request, "course.html", context)


def _chosen(text: str, thresholds: Thresholds | None) -> float:
    """Return the threshold in the URL, in steps of a percent; else that of the model."""
    if re.fullmatch(r"[0-9]{1,3}", text) and 1 <= int(text) <= 99:
        return int(text) / 100
    return _USUAL if thresholds is None else thresholds.high


ROUTES = [Route("/courses", courses), Route("/course/{course}", course)]
