"""A single Kafka Connect worker with Debezium's MariaDB connector and an Avro converter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.errors import NoAnswer
from stack.kafka import KAFKA
from stack.mariadb import PASSWORD, USER
from stack.rest import IDENTITY, identity, request, url
from stack.server import HOST, LOG4J_2_CONSOLE, Instance, Server, find_java, java, write_lines

#: version of Connect and its clients, not of the broker: Debezium 3.5 does not start in Connect 3.9
VERSION = "4.1.1"
#: one version for all log4j modules: Connect does not start with a mixture
LOG4J = "2.25.3"
ROOTS = (
    f"org.apache.kafka:connect-runtime:{VERSION}",
    # a sink that writes to a file: no sink for Elasticsearch under an open licence is on Maven Central
    f"org.apache.kafka:connect-file:{VERSION}",
    "io.debezium:debezium-connector-mariadb:3.5.0.Final",
    "io.apicurio:apicurio-registry-utils-converter:2.6.13.Final",
    *(f"org.apache.logging.log4j:{name}:{LOG4J}" for name in ("log4j-api", "log4j-core", "log4j-slf4j-impl")),
)

#: settings that differ from Connect's defaults, with the reason
SETTINGS: Mapping[str, str | int] = {
    "group.id": "connect",
    "config.storage.topic": "connect-configs",
    "offset.storage.topic": "connect-offsets",
    "status.storage.topic": "connect-status",
    # there is only one broker
    "config.storage.replication.factor": 1,
    "offset.storage.replication.factor": 1,
    "offset.storage.partitions": 1,
    "status.storage.replication.factor": 1,
    "status.storage.partitions": 1,
    # connectors that need Avro configure their own converters
    "key.converter": "org.apache.kafka.connect.json.JsonConverter",
    "value.converter": "org.apache.kafka.connect.json.JsonConverter",
    # resolves ${env:NAME} in a connector's configuration: see ENVIRONMENT
    "config.providers": "env",
    "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
    # the jars declare their connectors as services: no need to scan all classes
    "plugin.discovery": "service_load",
    # after kill -9 the group soon notices that the old worker is gone, and the new one gets its tasks at once [ms]
    "session.timeout.ms": 3000,
    "heartbeat.interval.ms": 500,
    "scheduled.rebalance.max.delay.ms": 0,
    # rows and the offsets after them are one transaction: after kill -9 no row is sent again
    "exactly.once.source.support": "enabled",
}

#: secrets that connectors refer to by name
ENVIRONMENT: Mapping[str, str] = {"CDC_USER": USER, "CDC_PASSWORD": PASSWORD}

LOGGING = f"""\
{LOG4J_2_CONSOLE}\
logger.configs.name=org.apache.kafka.common.config
logger.configs.level=WARN
logger.info.name=org.apache.kafka.common.utils.AppInfoParser
logger.info.level=WARN
logger.requests.name=org.apache.kafka.connect.runtime.rest.RestServer
logger.requests.level=WARN
"""


def settings(instance: Instance) -> dict[str, str | int]:
    """Return the contents of connect.properties."""
    return {
        **SETTINGS,
        "bootstrap.servers": instance.dependencies["RISK_BROKER"],
        "listeners": url(instance),
        "rest.advertised.host.name": HOST,
        "response.http.headers.config": f"set {IDENTITY}:{identity(instance)}",
    }


def command(instance: Instance, files: Sequence[Path]) -> list[str]:
    """Write the configuration and return the command line of the worker."""
    home = instance.home
    write_lines(home / "connect.properties", settings(instance))
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


def ready(instance: Instance) -> bool:
    """Return whether the worker has read its configuration from Kafka and joined its group."""
    try:
        return request(instance, "GET", "/health").get("status") == "healthy"
    except NoAnswer:
        return False


CONNECT = Server(
    name="connect",
    roots=ROOTS,
    ports=("http",),
    command=command,
    ready=ready,
    settle=lambda instance: None,
    environment=lambda instance: {"RISK_CONNECT": url(instance)},
    require=find_java,
    needs=(KAFKA.name,),
)
