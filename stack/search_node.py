"""What a single node of Elasticsearch and one of OpenSearch have in common: settings, log, name and readiness."""

from __future__ import annotations

from collections.abc import Mapping

from stack.errors import NoAnswer
from stack.rest import identity, request
from stack.server import HOST, LOG4J_2_CONSOLE, Instance

#: settings that differ from the defaults, with the reason
SETTINGS: Mapping[str, str | int] = {
    "network.host": HOST,
    "discovery.type": "single-node",
    # otherwise a nearly full disk would stop all writes
    "cluster.routing.allocation.disk.threshold_enabled": "false",
    # otherwise vm.max_map_count would have to be set on the host
    "node.store.allow_mmap": "false",
    # only indices of the pipeline are created automatically, so that a misspelt name is an error
    "action.auto_create_index": "moodle_logs_*,moodle_risk*",
}

#: start of a log4j2.properties, without what log4j says about itself
LOGGING = f"status=error\n{LOG4J_2_CONSOLE}"


def cluster_name(instance: Instance) -> str:
    """Return the name of the instance's cluster, by which `ready` tells its node from another server."""
    return f"stack-{identity(instance)[:16]}"


def ready(instance: Instance) -> bool:
    """Return whether this instance has formed its cluster and recovered its indices."""
    try:
        health = request(instance, "GET", "/_cluster/health?wait_for_status=yellow&timeout=1s", signed=False)
    except NoAnswer:
        return False
    return health.get("cluster_name") == cluster_name(instance) and not health.get("timed_out")
