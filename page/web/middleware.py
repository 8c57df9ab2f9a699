"""What every request passes: headers of security, the host check, who asks, the token of a form."""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from urllib.parse import parse_qsl, quote

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import ConfigError
from app.ops.hosts import is_allowed, known_names
from app.page_settings import Network
from page.access.gate import Gate, Refused
from page.access.origin import Origin, origin_of
from page.access.visitor import Visitor

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "X-Robots-Tag": "noindex, nofollow",
}
#: paths that need no login, and with what others begin that need none
_FREE, _FREE_FOLDER = frozenset(("/health", "/login", "/favicon.ico")), "/static/"
#: largest form [bytes]: a note of 2,000 characters takes 24,000; longest time for it to arrive [s]
_FORM_BYTES, _FORM_S = 1 << 16, 30.0
_FORM = "application/x-www-form-urlencoded"
#: time after which it is asked again whether a visitor may still see what is being sent [s]
RECHECK_S = 10.0
#: what a visitor reads while the file of the users cannot be read
NO_USERS = "The list of users cannot be read. Whoever runs this page finds the reason in its log."
log = logging.getLogger(__name__)
Refuse = Callable[[Scope, Refused], Response]


class SecurityHeaders:
    """Adds the headers of security to every answer, and forbids keeping it unless the answer allows that itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, with_headers)


class HostCheck:
    """Answers 421 to requests under foreign names (app/ops/hosts.py says why)."""

    def __init__(self, app: ASGIApp, names: Collection[str], refuse: Refuse) -> None:
        self._app, self._refuse = app, refuse
        self._names = known_names(names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] == "http":
            hosts = Headers(scope=scope).getlist("host")
            if len(hosts) > 1 or any(not is_allowed(host, self._names) for host in hosts):
                refused = Refused(
                    421, "Unknown host name", "This page is not known by this name. The name is not in RISK_PAGE_HOSTS."
                )
                await self._refuse(scope, refused)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class Admission:
    """Sets `request.state.visitor`, `.origin` and of a form `.form`, or refuses the request.

    What takes long, such as a stream of changes, ends when its visitor may no longer see the same courses.
    """

    def __init__(
        self, app: ASGIApp, gate: Gate, networks: Collection[Network], cookie: CookieNames, refuse: Refuse
    ) -> None:
        self._app, self._gate, self._networks, self._cookie, self._refuse = app, gate, networks, cookie, refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        client = scope.get("client") or ("", 0)
        origin = origin_of(client[0], scope["scheme"], scope["headers"], self._networks)
        request.state.origin = origin
        is_free = scope["path"] in _FREE or scope["path"].startswith(_FREE_FOLDER)
        visitor = None if is_free else await self._visitor(scope, origin)
        if isinstance(visitor, Refused):
            await self._away(scope, visitor)(scope, receive, send)
            return
        if visitor is not None:
            request.state.visitor = visitor
        if scope["method"] == "POST":
            form = await _form(request)
            if isinstance(form, dict) and visitor is not None:
                form = _checked(form, visitor.csrf)
            if isinstance(form, Refused):
                await self._refuse(scope, form)(scope, receive, send)
                return
            request.state.form = form
        if visitor is None:
            await self._app(scope, receive, send)
        else:
            await self._watched(visitor, origin, scope, receive, send)

    async def _visitor(self, scope: Scope, origin: Origin) -> Visitor | Refused:
        cookie = Request(scope).cookies.get(self._cookie.session(origin), "")
        try:
            if self._gate.logins is None:  # asks no database: at once, since a thread waits for its turn
                return self._gate.visitor(origin, scope["headers"], cookie)
            return await run_in_threadpool(self._gate.visitor, origin, scope["headers"], cookie)
        except ConfigError as error:
            log.error("nobody gets in: %s", error)
            return Refused(503, "Nobody can get in at the moment", NO_USERS)

    def _away(self, scope: Scope, refused: Refused) -> Response:
        """Return the answer to a visitor who is not admitted: the login, where that helps."""
        if refused.status == 401 and scope["method"] in ("GET", "HEAD") and scope["path"] != "/changes":
            query = scope["query_string"].decode("latin-1")
            back = scope["path"] + (f"?{query}" if query else "")
            return RedirectResponse("/login" if back == "/" else f"/login?next={quote(back, safe='/')}", 303)
        return self._refuse(scope, refused)

    async def _watched(self, visitor: Visitor, origin: Origin, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request of a visitor, for as long as they may see the same."""
        has_begun = is_complete = False

        async def watching_send(message: Message) -> None:
            nonlocal has_begun, is_complete
            has_begun = True
            is_complete = message["type"] == "http.response.body" and not message.get("more_body", False)
            await send(message)

        work = asyncio.ensure_future(_run(self._app(scope, receive, watching_send)))
        try:
            while not (await asyncio.wait((work,), timeout=RECHECK_S))[0]:
                if await self._visitor(scope, origin) != visitor:
                    work.cancel()
                    await asyncio.wait((work,))
                    if not has_begun:
                        refused = Refused(403, "Not any more", "What you may see has changed. Load the page again.")
                        await self._refuse(scope, refused)(scope, receive, send)
                    elif not is_complete:
                        await send({"type": "http.response.body", "body": b"", "more_body": False})
                    return
        finally:
            work.cancel()
        work.result()


class CookieNames:
    """The names of the page's cookies: two pages on one host differ, since cookies know no ports."""

    def __init__(self, port: int) -> None:
        self._port = port

    def session(self, origin: Origin) -> str:
        """Return the name of the cookie that a login sets."""
        return f"{_prefix(origin)}risk-session-{self._port}"

    def form(self, origin: Origin) -> str:
        """Return the name of the cookie that belongs to the form of the login."""
        return f"{_prefix(origin)}risk-form-{self._port}"


def _prefix(origin: Origin) -> str:
    """Browsers accept a cookie of this prefix over TLS only, and from no other host of the domain."""
    return "__Host-" if origin.secure else ""


async def _run(work: Awaitable[None]) -> None:
    await work


async def _form(request: Request) -> dict[str, str] | Refused:
    """Read a form; of a field that was sent twice the last value."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return Refused(403, "Not from this page", "Another site has sent this form. Nothing was changed.")
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return Refused(415, HTTPStatus(415).phrase, "This page takes forms only.")
    body = bytearray()
    try:
        async with asyncio.timeout(_FORM_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _FORM_BYTES:
                    return Refused(413, "Too long", "What you have sent is too long. Nothing was changed.")
    except ClientDisconnect:
        return Refused(400, "Not a form", "It did not arrive. Nothing was changed.")
    except TimeoutError:
        return Refused(408, HTTPStatus(408).phrase, "What you have sent did not arrive in time. Nothing was changed.")
    try:
        return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=100, errors="strict"))
    except ValueError:
        return Refused(400, "Not a form", "What was sent is not a form in UTF-8. Nothing was changed.")


def _checked(form: dict[str, str], csrf: str) -> dict[str, str] | Refused:
    if not hmac.compare_digest(form.pop("csrf", "").encode(), csrf.encode()):
        return Refused(
            403,
            "This form is too old",
            "It was made before your login, or not by this page. Nothing was changed: go back, load the page again, "
            "and repeat what you did.",
        )
    return form
