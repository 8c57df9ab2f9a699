"""A server's HTTP API, asked by those who must not take a stranger on its port for it."""

from __future__ import annotations

import hashlib
import json
from http.client import HTTPConnection
from typing import Any

from stack.server import ASK_S, HOST, Place

#: a header of every answer
IDENTITY = "X-Stack"


def identity(place: Place) -> str:
    """What this directory's server, and no other, says in each answer."""
    return hashlib.sha256(str(place.home).encode()).hexdigest()


def url(place: Place, path: str = "") -> str:
    """Where `path` is on the server's port `http`."""
    return f"http://{HOST}:{place.ports['http']}{path}"


def ask(place: Place, method: str, path: str, payload: object = None, *, signed: bool = True) -> dict[str, Any]:
    """The object the server answers with.

    signed: its answers carry IDENTITY; one that cannot be told to must be known by what it answers.
    Raises OSError, HTTPException or ValueError where there is no good answer, or it is a stranger's.
    """
    connection = HTTPConnection(HOST, place.ports["http"], timeout=ASK_S)
    try:
        body = None if payload is None else json.dumps(payload)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200 or not isinstance(answer, dict):
        raise ValueError(f"HTTP {response.status}")
    if signed and response.getheader(IDENTITY) != identity(place):
        raise ValueError("another server answers")
    return answer
