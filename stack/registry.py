"""Apicurio Registry, which speaks the Confluent Schema Registry's API."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from stack.errors import StackError
from stack.server import ASK_S, HOST, Place, Server, java

VERSION = "3.0.9"
#: where the Confluent API begins
BASE = "/apis/ccompat/v7"
#: a header of every answer
IDENTITY = "X-Stack"
#: what is asked of a subject's next schema, Confluent's default; Apicurio's is NONE
COMPATIBILITY = "BACKWARD"


def identity(place: Place) -> str:
    """What this directory's registry, and no other, says in each answer."""
    return hashlib.sha256(str(place.home).encode()).hexdigest()


def command(place: Place, files: Sequence[Path]) -> list[str]:
    """The command line of the registry; schemas live in an H2 file, since records with their ids do too."""
    (unpacked,) = files
    properties: dict[str, str | int] = {
        "quarkus.http.host": HOST,
        "quarkus.http.port": place.ports["http"],
        "quarkus.http.access-log.enabled": "false",
        # so that `ready` knows its own registry from a stranger that took the port
        f'quarkus.http.header."{IDENTITY}".value': identity(place),
        # its metrics and health checks would want a port of their own
        "quarkus.management.enabled": "false",
        # write at once: an id that was handed out must survive kill -9
        "apicurio.datasource.url": f"jdbc:h2:file:{place.home / 'schemas'};WRITE_DELAY=0",
        "apicurio.datasource.jdbc.initial-size": 1,
        "apicurio.datasource.jdbc.min-size": 1,
        "apicurio.import.work-dir": str(place.home / "tmp"),
        "apicurio.storage.snapshot.location": str(place.home / "tmp"),
    }
    return [
        *java(place.home, heap_mb=256, properties=properties),
        "-jar",
        str(unpacked / f"apicurio-registry-app-{VERSION}-runner.jar"),
    ]


def configure(place: Place, method: str, **settings: str) -> dict[str, str]:
    """GET or PUT the registry's global configuration.

    Raises OSError, HTTPException or ValueError where there is no good answer, or it is a stranger's.
    """
    connection = HTTPConnection(HOST, place.ports["http"], timeout=ASK_S)
    try:
        payload = json.dumps(settings) if settings else None
        connection.request(method, f"{BASE}/config", payload, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = json.loads(response.read())
    finally:
        connection.close()
    if response.status != 200 or not isinstance(answer, dict):
        raise ValueError(f"HTTP {response.status}")
    if response.getheader(IDENTITY) != identity(place):
        raise ValueError("another registry answers")
    return answer


def ready(place: Place) -> bool:
    """Whether the Confluent API answers."""
    try:
        return "compatibilityLevel" in configure(place, "GET")
    except (OSError, HTTPException, ValueError):
        return False


def settle(place: Place) -> None:
    """Ask every subject to stay compatible. Raises StackError if the registry will not."""
    try:
        configure(place, "PUT", compatibility=COMPATIBILITY)
    except (OSError, HTTPException, ValueError) as error:
        raise StackError(f"the registry refused compatibility {COMPATIBILITY}: {error}") from error


REGISTRY = Server(
    name="registry",
    roots=(f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all",),
    ports=("http",),
    command=command,
    ready=ready,
    settle=settle,
    environment=lambda place: {"RISK_SCHEMA_REGISTRY": f"http://{HOST}:{place.ports['http']}{BASE}"},
)
