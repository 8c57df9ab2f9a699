"""Apicurio Registry, which implements the Confluent Schema Registry's API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stack.errors import NoAnswer, StackError
from stack.rest import IDENTITY, identity, request, url
from stack.server import HOST, Instance, Server, find_java, java

VERSION = "3.0.9"
#: base path of the Confluent API
BASE = "/apis/ccompat/v7"
#: required of a subject's next schema: Confluent's default (Apicurio's is NONE)
COMPATIBILITY = "BACKWARD"


def command(instance: Instance, files: Sequence[Path]) -> list[str]:
    """Return the command line; schemas are stored in an H2 file, since records that carry their ids are stored too."""
    (unpacked,) = files
    properties: dict[str, str | int] = {
        "quarkus.http.host": HOST,
        "quarkus.http.port": instance.ports["http"],
        "quarkus.http.access-log.enabled": "false",
        f'quarkus.http.header."{IDENTITY}".value': identity(instance),
        # its metrics and health checks would need a port of their own
        "quarkus.management.enabled": "false",
        # write at once: an id that was handed out must survive kill -9
        "apicurio.datasource.url": f"jdbc:h2:file:{instance.home / 'schemas'};WRITE_DELAY=0",
        "apicurio.datasource.jdbc.initial-size": 1,
        "apicurio.datasource.jdbc.min-size": 1,
        "apicurio.import.work-dir": str(instance.home / "tmp"),
        "apicurio.storage.snapshot.location": str(instance.home / "tmp"),
    }
    return [
        *java(instance.home, heap_mb=256, properties=properties),
        "-jar",
        str(unpacked / f"apicurio-registry-app-{VERSION}-runner.jar"),
    ]


def ready(instance: Instance) -> bool:
    """Return whether the Confluent API answers."""
    try:
        return "compatibilityLevel" in request(instance, "GET", f"{BASE}/config")
    except NoAnswer:
        return False


def settle(instance: Instance) -> None:
    """Set the default compatibility of all subjects. Raises StackError if the registry refuses."""
    try:
        request(instance, "PUT", f"{BASE}/config", {"compatibility": COMPATIBILITY})
    except NoAnswer as error:
        raise StackError(f"the registry refused compatibility {COMPATIBILITY}: {error}") from error


REGISTRY = Server(
    name="registry",
    roots=(f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all",),
    ports=("http",),
    command=command,
    ready=ready,
    settle=settle,
    environment=lambda instance: {"RISK_SCHEMA_REGISTRY": url(instance, BASE)},
    require=find_java,
)
