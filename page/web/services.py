"""What views are given: `services_of(request)`, `visitor_of(request)`, `form_of(request)`, `address_of(request)`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from jinja2 import Environment
from starlette.requests import Request

from app.settings import Settings
from page.access.gate import Gate
from page.access.origin import Origin
from page.access.throttle import Throttle
from page.access.tokens import Tokens
from page.access.visitor import Visitor
from page.cases.audit import Audit
from page.cases.desk import Desk
from page.reader.follow import Follower
from page.store.database import Database
from page.web.hub import Hub
from page.web.static import Static


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of a running page."""

    settings: Settings
    database: Database
    follower: Follower
    hub: Hub
    desk: Desk
    audit: Audit
    #: what stands for a student and a course in a URL
    tokens: Tokens
    templates: Environment
    static: Static
    gate: Gate
    #: how often somebody may try to log in
    throttle: Throttle


def services_of(request: Request) -> Services:
    """Return the parts of the page that answers `request`."""
    return cast(Services, request.app.state.services)


def visitor_of(request: Request) -> Visitor:
    """Return who asks. Every request has one, but those of the login, of /health and of /static."""
    return cast(Visitor, request.state.visitor)


def form_of(request: Request) -> Mapping[str, str]:
    """Return the fields of a form that was sent, without its CSRF token, which has been checked.

    Text as the browser sends it: lines end with \\r\\n. Of a field that was sent twice the last value.
    """
    return cast(Mapping[str, str], request.state.form)


def origin_of(request: Request) -> Origin:
    """Return from where a request comes."""
    return cast(Origin, request.state.origin)


def address_of(request: Request) -> str:
    """Return the address from which a request comes, for the audit; "" if it is unknown."""
    return origin_of(request).address
