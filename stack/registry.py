"""Apicurio Registry, which speaks the Confluent Schema Registry's API."""

from __future__ import annotations

from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from stack.errors import StackError
from stack.rest import IDENTITY, ask, identity, url
from stack.server import HOST, Place, Server, find_java, java

VERSION = "3.0.9"
#: where the Confluent API begins
BASE = "/apis/ccompat/v7"
#: what is asked of a subject's next schema, Confluent's default; Apicurio's is NONE
COMPATIBILITY = "BACKWARD"


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


def ready(place: Place) -> bool:
    """Whether the Confluent API answers."""
    try:
        return "compatibilityLevel" in ask(place, "GET", f"{BASE}/config")
    except (OSError, HTTPException, ValueError):
        return False


def settle(place: Place) -> None:
    """Ask every subject to stay compatible. Raises StackError if the registry will not."""
    try:
        ask(place, "PUT", f"{BASE}/config", {"compatibility": COMPATIBILITY})
    except (OSError, HTTPException, ValueError) as error:
        raise StackError(f"the registry refused compatibility {COMPATIBILITY}: {error}") from error


REGISTRY = Server(
    name="registry",
    roots=(f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all",),
    ports=("http",),
    command=command,
    ready=ready,
    settle=settle,
    environment=lambda place: {"RISK_SCHEMA_REGISTRY": url(place, BASE)},
    require=find_java,
)
