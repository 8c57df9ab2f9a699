"""A single node of the real Elasticsearch, as Elastic publishes it for integration tests: REST and search.

That distribution has no script language and no login, and answers 405 to `GET /`. `opensearch.py` has scripts.

The node's JVM is started directly. `bin/elasticsearch` would start two more JVMs, one of which stays, and the node
would be its child: SIGKILL for the process that `stack` knows would not end the node.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack import elasticsearch_args, search_node
from stack.errors import Unavailable
from stack.rest import url
from stack.server import Instance, Server, find_java, java, write_lines

VERSION = "8.19.0"
#: uid and gid of the node if root starts it: Elasticsearch refuses to run as root
NOBODY = 65534

#: settings that differ from Elasticsearch's defaults; this distribution has no login
SETTINGS: Mapping[str, str | int] = {**search_node.SETTINGS, "xpack.security.enabled": "false"}

LOGGING = f"""\
{search_node.LOGGING}\
logger.indices.name=org.elasticsearch.cluster.metadata
logger.indices.level=WARN
"""


def settings(instance: Instance) -> dict[str, str]:
    """Return the node's settings, without the paths."""
    ports = {f"{name}.port": number for name, number in instance.ports.items()}
    values = {**SETTINGS, **ports, "cluster.name": search_node.cluster_name(instance)}
    return {name: str(value) for name, value in values.items()}


def command(instance: Instance, files: Sequence[Path]) -> list[str]:
    """Write the configuration and return the command line of the node."""
    home = instance.home
    (unpacked,) = files
    distribution = unpacked / f"elasticsearch-{VERSION}"
    # not "data": an older checkout may have left OpenSearch's there
    paths = {"path.home": distribution, "path.data": home / "elasticsearch", "path.logs": home / "logs"}
    config = home / "config"
    config.mkdir(exist_ok=True)
    write_lines(config / "elasticsearch.yml", settings(instance), ": ")
    (config / "log4j2.properties").write_text(LOGGING, encoding="utf-8")
    everything = settings(instance) | {name: str(path) for name, path in paths.items()}
    (home / "arguments").write_bytes(elasticsearch_args.encode(everything, config, paths["path.logs"]))
    return [
        *as_nobody(),
        "/usr/bin/env",
        # foreign functions need a place for their trampolines
        f"LIBFFI_TMPDIR={home / 'tmp'}",
        sys.executable,
        str(Path(__file__).with_name("exec_with_input.py")),
        str(home / "arguments"),
        # some of its own files are found relative to the working directory
        str(distribution),
        *java(home, heap_mb=256, properties=properties()),
        *jvm_options(distribution),
        *("--module-path", str(distribution / "lib")),
        "--add-modules=jdk.net,jdk.management.agent,ALL-MODULE-PATH",
        *("--module", "org.elasticsearch.server/org.elasticsearch.bootstrap.Elasticsearch"),
    ]


def as_nobody() -> list[str]:
    """Return the start of a command line that is run as an unprivileged user if this one is root.

    The user keeps the capability to open root's files: caches, environments and temporary directories are often
    readable by their owner only.
    """
    if os.geteuid():
        return []
    return [
        "setpriv",
        *(f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *("--inh-caps=+dac_override", "--ambient-caps=+dac_override", "--securebits=+no_setuid_fixup"),
        # a change of user makes the kernel forget the supervisor's own request
        "--pdeathsig=KILL",
    ]


def properties() -> dict[str, str | int]:
    """Return the system properties that Elasticsearch's launcher sets, as far as they matter here."""
    return {
        "es.distribution.type": "zip",
        "es.java.type": "bundled",
        "es.entitlements.enabled": "true",
        "es.networkaddress.cache.ttl": 60,
        "es.networkaddress.cache.negative.ttl": 10,
        "io.netty.noUnsafe": "true",
        "io.netty.noKeySetOptimization": "true",
        "io.netty.recycler.maxCapacityPerThread": 0,
        "java.awt.headless": "true",
        "jdk.attach.allowAttachSelf": "true",
        "log4j.shutdownHookEnabled": "false",
        "log4j2.disable.jmx": "true",
    }


def jvm_options(distribution: Path) -> list[str]:
    """Return the JVM options that Elasticsearch's launcher sets for the modules it instruments."""
    bridge = distribution / "lib" / "entitlement-bridge" / f"elasticsearch-entitlement-bridge-{VERSION}.jar"
    return [
        "-XX:+EnableDynamicAgentLoading",
        "--enable-native-access=org.elasticsearch.nativeaccess,org.apache.lucene.core,ALL-UNNAMED",
        f"--patch-module=java.base={bridge}",
        "--add-exports=java.base/org.elasticsearch.entitlement.bridge="
        "org.elasticsearch.entitlement,java.logging,java.net.http,java.naming,jdk.net",
    ]


def require() -> None:
    """Raise Unavailable if Java is missing, or the command by which root becomes an unprivileged user."""
    find_java()
    if os.geteuid() == 0 and shutil.which("setpriv") is None:
        raise Unavailable("setpriv not found: apt-get install util-linux, or run it as another user than root")


SEARCH = Server(
    name="search",
    roots=(f"org.elasticsearch.distribution.integ-test-zip:elasticsearch:{VERSION}:zip",),
    ports=("http", "transport"),
    command=command,
    ready=search_node.ready,
    settle=lambda instance: None,
    environment=lambda instance: {"RISK_SEARCH": url(instance)},
    require=require,
)
