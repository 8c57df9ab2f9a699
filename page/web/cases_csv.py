"""What was done, as CSV."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from page.cases.audit import Look
from page.cases.export import csv_lines
from page.cases.history import all_actions
from page.web.services import address_of, services_of, visitor_of


def cases_csv(request: Request) -> Response:
    """GET /cases.csv: all actions on the cases that the visitor may see, also of students who have no risk any more."""
    services, visitor = services_of(request), visitor_of(request)
    actions = list(all_actions(services.database.read(), visitor.courses))
    shown = list(dict.fromkeys((action.student, action.course) for action in actions))
    services.audit.record(visitor, Look.CASES, shown, address=address_of(request))
    headers = {"Content-Disposition": 'attachment; filename="cases.csv"'}
    return Response("".join(csv_lines(actions)).encode(), media_type="text/csv; charset=utf-8", headers=headers)


ROUTES = [Route("/cases.csv", cases_csv)]
