"""Requests to a server's HTTP API that detect whether another server answers on its port."""

from __future__ import annotations

import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any

from stack.errors import NoAnswer
from stack.server import HOST, REQUEST_TIMEOUT_S, Instance

if TYPE_CHECKING:
    import httpx

#: response header that carries the identity of an instance
IDENTITY = "X-Stack"


def identity(instance: Instance) -> str:
    """Return the header value that only this instance sends."""
    return hashlib.sha256(str(instance.home).encode()).hexdigest()


def url(instance: Instance, path: str = "") -> str:
    """Return the URL of `path` on the server's port `http`."""
    return f"http://{HOST}:{instance.ports['http']}{path}"


@cache
def client() -> httpx.Client:
    """Return the client for local servers, which uses neither a proxy nor TLS.

    Connections are not kept: the next request may go to a restarted server.
    """
    import httpx  # slow to import, and not needed by supervisors

    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(trust_env=False, verify=False, timeout=REQUEST_TIMEOUT_S, limits=limits)


def request(
    instance: Instance, method: str, path: str, payload: object = None, *, signed: bool = True
) -> dict[str, Any]:
    """Send a request with an optional JSON payload and return the JSON object of the response.

    signed: require the IDENTITY header. Pass False for a server that cannot send it, and check the response instead.
    Raises NoAnswer if there is no response with status 200 and a JSON object, or it comes from another server.
    """
    from httpx import HTTPError

    try:
        response = client().request(method, url(instance, path), json=payload)
        answer = response.json()
    except (HTTPError, ValueError) as error:
        raise NoAnswer(f"{type(error).__name__}: {error}") from error
    if response.status_code != 200 or not isinstance(answer, dict):
        raise NoAnswer(f"HTTP {response.status_code}")
    if signed and response.headers.get(IDENTITY) != identity(instance):
        raise NoAnswer("another server answers")
    return answer
