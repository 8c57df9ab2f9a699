"""The login of a page that has users of its own."""

from __future__ import annotations

import hmac
import logging
import math
import secrets

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from app.errors import ConfigError
from page.access.origin import Origin
from page.access.passwords import TooMany
from page.access.users import canonical
from page.cases.audit import Look
from page.web.middleware import NO_USERS, CookieNames
from page.web.render import render
from page.web.services import Services, address_of, form_of, origin_of, services_of, visitor_of
from page.web.words import plural

log = logging.getLogger(__name__)
#: longest name that is looked up [characters]
_NAME_LENGTH = 200


def show(request: Request) -> Response:
    """GET /login: the form."""
    services = _with_logins(request)
    return _form(request, services, request.query_params.get("next", "/"))


def log_in(request: Request) -> Response:
    """POST /login."""
    services, form, origin = _with_logins(request), form_of(request), origin_of(request)
    name, password = canonical(form.get("user", "").strip())[:_NAME_LENGTH], form.get("password", "")
    back = form.get("next", "/")
    cookie = request.cookies.get(_cookies(services).form(origin), "")
    if not hmac.compare_digest(form.get("csrf", "").encode(), _token(services, cookie).encode()):
        return _form(request, services, back, "The form was too old. Please try again.", name, status=403)
    if wait := services.throttle.begin(name, origin.address):
        seconds = math.ceil(wait)
        text = f"Too many attempts. Please wait {plural(seconds, 'second')}, then try again."
        return _form(request, services, back, text, name, status=429, headers={"Retry-After": str(seconds)})
    logins = services.gate.logins
    assert logins is not None
    try:
        user = logins.check(name, password)
    except ConfigError as error:
        log.error("nobody gets in: %s", error)
        raise HTTPException(503, NO_USERS) from None
    except TooMany:
        raise HTTPException(
            503, "Too many people log in at the moment. Please try again.", {"Retry-After": "5"}
        ) from None
    if user is None:
        services.audit.record(name, Look.LOGIN_REFUSED, address=origin.address)
        return _form(request, services, back, "The name or the password is wrong.", name, status=403)
    services.throttle.succeeded(name, origin.address)
    services.audit.record(user.name, Look.LOGIN, address=origin.address)
    session = _cookies(services).session(origin)
    logins.end(request.cookies.get(session, ""))  # the one that this replaces
    response = RedirectResponse(_local(back), 303)
    _set_cookie(response, session, logins.begin(user), origin, "lax")
    response.delete_cookie(_cookies(services).form(origin), secure=origin.secure, httponly=True, samesite="strict")
    return response


def log_out(request: Request) -> Response:
    """POST /logout."""
    services, origin = _with_logins(request), origin_of(request)
    name = _cookies(services).session(origin)
    assert services.gate.logins is not None
    services.gate.logins.end(request.cookies.get(name, ""))
    services.audit.record(visitor_of(request), Look.LOGOUT, address=address_of(request))
    response = RedirectResponse("/login", 303)
    response.delete_cookie(name, secure=origin.secure, httponly=True, samesite="lax")
    return response


ROUTES = [
    Route("/login", show, methods=["GET"]),
    Route("/login", log_in, methods=["POST"]),
    Route("/logout", log_out, methods=["POST"]),
]


def _form(
    request: Request,
    services: Services,
    back: str,
    problem: str = "",
    name: str = "",
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> Response:
    """Return the form, with a cookie to which its token belongs."""
    cookie = secrets.token_urlsafe(16)
    context = {"csrf": _token(services, cookie), "next": _local(back), "problem": problem, "name": name}
    response = render(request, "login.html", context, status=status, headers=headers)
    origin = origin_of(request)
    _set_cookie(response, _cookies(services).form(origin), cookie, origin, "strict")
    return response


def _local(back: str) -> str:
    """Return a path of this page to go to; the first page for anything else."""
    is_path = back.startswith("/") and not back.startswith(("//", "/login", "/logout")) and "\\" not in back
    return back if is_path and back.isprintable() and back.isascii() else "/"


def _with_logins(request: Request) -> Services:
    """Return the parts of the page. Raises 404 where nobody logs in on it."""
    services = services_of(request)
    if services.gate.logins is None:
        raise HTTPException(404)
    return services


def _set_cookie(response: Response, name: str, value: str, origin: Origin, samesite: str) -> None:
    response.set_cookie(name, value, secure=origin.secure, httponly=True, samesite=samesite)  # type: ignore[arg-type]


def _token(services: Services, cookie: str) -> str:
    return services.gate.form_token(f"login {cookie}")


def _cookies(services: Services) -> CookieNames:
    return CookieNames(services.settings.page_port)
