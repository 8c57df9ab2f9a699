"""Under which host names the web pages may be requested.

A page of a foreign site can have its own name resolved to this machine's address and then read our pages with the
visitor's browser (DNS rebinding). The browser sends the foreign name in the Host header, never an address, so requests
by address are always answered: those of probes and of Prometheus among them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Collection
from urllib.parse import urlsplit

from aiohttp import web

from app.proxies import is_local

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_allowed(host: str, names: Collection[str]) -> bool:
    """Whether a Host header, with or without port, is an address, this machine, or one of `names`.

    A name that begins with a dot stands for all names that end with it.
    """
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return False
    if is_local(name):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return any(name.endswith(n) if n.startswith(".") else name == n for n in names)
    return True


def known_names(names: Collection[str]) -> frozenset[str]:
    """Host names as `is_allowed` compares them: in lower case, without spaces, a dot at the end, and empty ones."""
    return frozenset(name.strip().rstrip(".").lower() for name in names if name.strip())


def host_check(names: Collection[str]) -> Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]:
    """Create a middleware of aiohttp that answers 421 to requests under foreign names."""
    known = known_names(names)

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        host = request.headers.get("Host", "")
        if host and not is_allowed(host, known):
            return web.Response(status=421, text="this host name is not in RISK_WEB_HOSTS\n")
        return await handler(request)

    return check
