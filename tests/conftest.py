"""Hypothesis' settings, the order of the test files, and the servers that marked tests share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import stack
from tests.support.cluster import Deployment, Workload, months_of_rows, replay_rows
from tests.support.effort import examples
from tests.support.search_node import Node

ROOT = Path(__file__).parent.parent


# no time limits: how long an example takes depends on the load of the machine
settings.register_profile(
    "moodle-risk", max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("moodle-risk")


#: files whose tests mostly wait for servers; run first, so that all xdist workers finish at about the same time
SLOW = (
    "test_chaos",
    "test_worker_deaths",
    "test_page_views",
    "test_worker_faults",
    "test_risk_live",
    "test_growth_live",
    "test_forget_live",
    "test_brokers",
    "test_bench",
    "test_cdc",
    "test_page_users",
    "test_page_hostile",
    "test_demo",
    "test_secured",
    "test_cases_live",
    "test_preflight",
    "test_worker_refusals",
    "test_worker_live",
    "test_search_panels",
    "test_search",
    "test_parity_live",
    "test_worker_golden",
    "test_watchdog",
    "test_worker_registry",
    "test_logs",
    "test_prometheus",
    "test_stack",
    "test_compose",
    "test_replay",
    "test_broker_limits",
    "test_worker_times",
    "test_situations",
    "test_worker_container",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort slow files first. The sort is stable: tests of a file stay in order, as do all other files."""
    ranks = {name: rank for rank, name in enumerate(SLOW)}
    items.sort(key=lambda item: ranks.get(item.path.stem, len(SLOW)))


@pytest.fixture(scope="session")
def servers() -> None:
    """Fetch the programs of Kafka and the registry; without them, skip the tests, or fail them in CI."""
    require_servers()


def require_servers(*, version: str | None = None, **requested: bool) -> None:
    """Fetch the servers' programs, with the optional ones in `requested`; version: Kafka's, if not the default.

    Where they cannot be fetched, skip the test, or fail it in CI, where it must run.
    """
    try:
        stack.fetch(version=version, **requested)
    except stack.Unavailable as error:
        missing = str(error)
    else:
        return
    if os.environ.get("CI"):
        pytest.fail(missing, pytrace=False)
    pytest.skip(missing)


@pytest.fixture(autouse=True)
def _servers_where_needed(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("broker"):
        request.getfixturevalue("servers")


@pytest.fixture(scope="session")
def cluster(servers: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Environment]:
    """A broker and a registry that all tests share. A test must not kill them, and prefixes its topics."""
    directory = tmp_path_factory.mktemp("cluster")
    yield stack.up(directory, owner_pid=os.getpid())
    stack.down(directory)


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Environment]:
    """MariaDB, Kafka Connect, a broker and a registry for the `cdc` tests, which may kill all but the broker."""
    require_servers(cdc=True)
    directory = tmp_path_factory.mktemp("chain")
    yield stack.up(directory, cdc=True, owner_pid=os.getpid())
    stack.down(directory)


@pytest.fixture(scope="session")
def search_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Environment]:
    """Elasticsearch alone, for the `search` tests: each test has its own indices, or documents that it shares them."""
    require_servers(search=True)
    directory = tmp_path_factory.mktemp("search")
    yield stack.up(directory, kafka=False, registry=False, search=True, owner_pid=os.getpid())
    stack.down(directory)


@pytest.fixture(scope="session")
def node(search_node: stack.Environment) -> Node:
    """A client of the Elasticsearch node, with the shipped index template installed."""
    return with_template(search_node.search)


@pytest.fixture(scope="session")
def scripting_node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A client of an OpenSearch node with the template, for searches with scripts."""
    require_servers(opensearch=True)
    directory = tmp_path_factory.mktemp("opensearch")
    environment = stack.up(directory, kafka=False, registry=False, opensearch=True, owner_pid=os.getpid())
    yield with_template(environment.opensearch)
    stack.down(directory)


def with_template(url: str) -> Node:
    """Install the shipped index template; return the node's client."""
    client = Node(url)
    template = json.loads((ROOT / "connect" / "index-template.json").read_text(encoding="utf-8"))
    assert client.ask("PUT", "/_index_template/moodle-risk", template) == {"acknowledged": True}
    return client


@pytest.fixture
def deployment(cluster: stack.Environment, tmp_path: Path) -> Deployment:
    """A deployment of the app for this test on the shared servers."""
    return Deployment.new(cluster, tmp_path)


@pytest.fixture(scope="session")
def workload(cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> Workload:
    """Four months of 2,000 students in four partitions: read it with an app id of your own, write nothing to it."""
    return replay_rows(Deployment.new(cluster, tmp_path_factory.mktemp("workload")), months_of_rows())
