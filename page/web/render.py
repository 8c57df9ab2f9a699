"""Pages from templates."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app.settings import Settings
from page.access.visitor import Visitor
from page.store.meta import Meta
from page.web.banner import banner_of
from page.web.services import Services, services_of
from page.web.static import Static
from page.web.templating import add_words


def new_templates(settings: Settings, static: Static) -> Environment:
    """Return the environment of page/templates. All values are escaped; a missing one is an error."""
    environment = Environment(
        loader=PackageLoader("page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.globals |= {"static": static.url, "settings": settings}
    add_words(environment, settings.zone, settings.moodle_url)
    return environment


def render(
    request: Request,
    template: str,
    context: Mapping[str, Any] | None = None,
    *,
    meta: Meta | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer `request` with a template. meta: of the database, if the view has read it.

    Besides `context` and what new_templates gives, a template has: visitor (None on pages before the login), csrf (for
    the field `csrf` of each form), banner (page.web.banner.Banner or None), now (epoch ms), path (of the request) and
    can_log_out.
    """
    services = services_of(request)
    visitor: Visitor | None = getattr(request.state, "visitor", None)
    banner = None if visitor is None else banner_of(services, meta)
    values = frame(services, visitor) | {"banner": banner, "path": request.url.path} | dict(context or {})
    return HTMLResponse(services.templates.get_template(template).render(values), status, headers)


def message(
    services: Services,
    status: int,
    title: str,
    *text: str,
    action: tuple[str, str] | None = None,
    visitor: Visitor | None = None,
) -> Response:
    """Return a page that says one thing and needs no data. text: paragraphs; action: URL and text of what to do."""
    values = frame(services, visitor) | {"title": title, "text": text, "kind": "problem", "action": action, "path": ""}
    return HTMLResponse(services.templates.get_template("message.html").render(values), status)


def frame(services: Services, visitor: Visitor | None) -> dict[str, Any]:
    """Return what base.html needs, without a look at the data."""
    return {
        "visitor": visitor,
        "csrf": "" if visitor is None else visitor.csrf,
        "banner": None,
        "now": time.time_ns() // 1_000_000,
        "can_log_out": visitor is not None and services.gate.logins is not None,
    }
