"""Kafka Connect with Debezium's MariaDB connector and an Avro converter, one worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

from stack.kafka import KAFKA
from stack.mariadb import PASSWORD, USER
from stack.rest import IDENTITY, ask, identity, url
from stack.server import HOST, Place, Server, find_java, java

#: of Connect and its clients, not of the broker: Debezium 3.5 does not start in Connect 3.9
VERSION = "4.1.1"
#: one log4j for all, or Connect dies of a mixture
LOG4J = "2.25.3"
ROOTS = (
    f"org.apache.kafka:connect-runtime:{VERSION}",
    "io.debezium:debezium-connector-mariadb:3.5.0.Final",
    "io.apicurio:apicurio-registry-utils-converter:2.6.13.Final",
    *(f"org.apache.logging.log4j:{name}:{LOG4J}" for name in ("log4j-api", "log4j-core", "log4j-slf4j-impl")),
)

#: what differs from Connect's defaults, and why
SETTINGS: Mapping[str, str | int] = {
    "group.id": "connect",
    "config.storage.topic": "connect-configs",
    "offset.storage.topic": "connect-offsets",
    "status.storage.topic": "connect-status",
    # one node holds everything
    "config.storage.replication.factor": 1,
    "offset.storage.replication.factor": 1,
    "offset.storage.partitions": 1,
    "status.storage.replication.factor": 1,
    "status.storage.partitions": 1,
    # a connector that wants Avro says so itself
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    # ${env:NAME} in a connector's configuration: see ENVIRONMENT
    "config.providers": "env",
    "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
    # the jars on the class path name their connectors: no need to look through all classes for them
    "plugin.discovery": "service_load",
    # after kill -9 the group misses the old worker soon, and gives its tasks to the new one at once [ms]
    "session.timeout.ms": 3000,
    "heartbeat.interval.ms": 500,
    "scheduled.rebalance.max.delay.ms": 0,
    # rows since the last flush are sent again after kill -9 [ms]
    "offset.flush.interval.ms": 1000,
}

#: the secrets that connectors ask for by name
ENVIRONMENT: Mapping[str, str] = {"CDC_USER": USER, "CDC_PASSWORD": PASSWORD}

LOGGING = """\
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
logger.configs.name=org.apache.kafka.common.config
logger.configs.level=WARN
logger.info.name=org.apache.kafka.common.utils.AppInfoParser
logger.info.level=WARN
logger.requests.name=org.apache.kafka.connect.runtime.rest.RestServer
logger.requests.level=WARN
"""


def settings(place: Place) -> dict[str, str | int]:
    """The whole connect.properties."""
    return {
        **SETTINGS,
        "bootstrap.servers": place.others["RISK_BROKER"],
        "listeners": url(place),
        "rest.advertised.host.name": HOST,
        # so that `ready` knows its own Connect from a stranger that took the port
        "response.http.headers.config": f"set {IDENTITY}:{identity(place)}",
    }


def command(place: Place, files: Sequence[Path]) -> list[str]:
    """Configure; the command line of the worker."""
    home = place.home
    lines = (f"{name}={value}\n" for name, value in settings(place).items())
    (home / "connect.properties").write_text("".join(lines), encoding="utf-8")
    (home / "log4j2.properties").write_text(LOGGING, encoding="utf-8")
    properties = {"log4j2.configurationFile": (home / "log4j2.properties").as_uri()}
    return [
        "/usr/bin/env",
        *(f"{name}={value}" for name, value in ENVIRONMENT.items()),
        *java(home, heap_mb=256, properties=properties),
        "-cp",
        ":".join(map(str, files)),
        "org.apache.kafka.connect.cli.ConnectDistributed",
        str(home / "connect.properties"),
    ]


def ready(place: Place) -> bool:
    """Whether the worker has read its configuration from Kafka and is in its group."""
    try:
        return ask(place, "GET", "/health").get("status") == "healthy"
    except (OSError, HTTPException, ValueError):
        return False


CONNECT = Server(
    name="connect",
    roots=ROOTS,
    ports=("http",),
    command=command,
    ready=ready,
    settle=lambda place: None,
    environment=lambda place: {"RISK_CONNECT": url(place)},
    require=find_java,
    needs=(KAFKA.name,),
)
