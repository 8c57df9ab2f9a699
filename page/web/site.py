"""The site: its routes, and what each request passes before it reaches one."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Scope

from page.access.gate import Refused
from page.cases.writer import NotWritten
from page.reader.workers import Workers
from page.web import case, cases_csv, changes, course, health, login, model, student, students
from page.web.middleware import SECURITY_HEADERS, Admission, CookieNames, HostCheck, SecurityHeaders
from page.web.recent import Recent
from page.web.render import message
from page.web.rows import Rows
from page.web.services import Services, services_of
from page.web.status import StatusPage

#: headings and texts of the errors that a visitor can meet
_TITLES = {
    400: "That did not work",
    404: "Not found",
    405: "That cannot be done here",
    503: "Not available at the moment",
}
_NOT_FOUND = "There is nothing here that you may see. If a link brought you here, it may be of another page or too old."
_HOME = ("/", "To the students")


def create_site(services: Services) -> Starlette:
    """Create the application that uvicorn serves. Touches neither network nor disk."""
    settings = services.settings

    def refuse(scope: Scope, refused: Refused) -> Response:
        action = ("/login", "Log in") if refused.status == 401 else None
        return message(services, refused.status, refused.title, refused.text, action=action)

    site = Starlette(
        routes=_routes(services),
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(HostCheck, settings.page_names, refuse),
            Middleware(Admission, services.gate, settings.page_networks, CookieNames(settings.page_port), refuse),
        ],
        exception_handlers={HTTPException: _error, NotWritten: _not_written, 500: _crash},
    )
    # a redirect would name the scheme that the proxy uses, not the browser
    site.router.redirect_slashes = False
    site.state.services = services
    site.state.rows = Rows(services)
    site.state.recent = Recent()
    return site


def _routes(services: Services) -> Sequence[BaseRoute]:
    """Return the routes."""
    return [
        *student.ROUTES,
        *case.ROUTES,
        *course.ROUTES,
        *model.ROUTES,
        Route("/status", StatusPage(Workers(services.settings, services.follower)).get),
        *students.ROUTES,
        *changes.ROUTES,
        *cases_csv.ROUTES,
        *login.ROUTES,
        Route("/health", health.health),
        Route("/static/{hash}/{name:path}", services.static.endpoint),
    ]


def _error(request: Request, error: Exception) -> Response:
    """Answer with an error that a view has raised."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    text = error.detail
    if text == phrase:  # of Starlette
        text = _NOT_FOUND if error.status_code == 404 else ""
    response = _message(request, error.status_code, _TITLES.get(error.status_code, phrase), text)
    response.headers.update(error.headers or {})
    return response


def _not_written(request: Request, error: Exception) -> Response:
    """Answer where a look at students cannot be recorded in the audit."""
    text = (
        "Every look at a student is recorded, and the record could not be written: Kafka does not answer. Nothing is "
        "lost. Please try again in a moment; if it stays like this, tell whoever runs this page."
    )
    response = _message(request, 503, "Not available at the moment", text)
    response.headers["Retry-After"] = "10"
    return response


def _crash(request: Request, error: Exception) -> Response:
    """Answer to a request that has failed; the traceback is logged. It passes no middleware, so it has all headers."""
    text = "It is this page's fault, and its log says what it was. Please try again later."
    response = _message(request, 500, "Something went wrong", text)
    response.headers.update({**SECURITY_HEADERS, "Cache-Control": "no-store"})
    return response


def _message(request: Request, status_code: int, title: str, text: str) -> Response:
    visitor = getattr(request.state, "visitor", None)
    action = None if visitor is None else _HOME
    texts = [text] if text else []
    return message(services_of(request), status_code, title, *texts, action=action, visitor=visitor)
