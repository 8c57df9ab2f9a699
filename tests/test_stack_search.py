"""Tests of `stack` with OpenSearch: a real node in tests marked `search`."""

from __future__ import annotations

import socket
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

import stack
from stack import artifacts, ports
from stack.search import HIGHEST_PORT, MODULES, SEARCH, VERSION, cluster_name, command, ready
from stack.server import HOST, Instance
from tests.support.stub_server import StubServer, running


def test_the_lock_file_has_this_version() -> None:
    files = {file.coordinate for file in artifacts.locked_files(SEARCH.name, SEARCH.roots)}
    assert f"org.opensearch:opensearch:{VERSION}" in files


def test_ports_are_below_the_limit() -> None:
    """Random ports are within the runner's limit; previous ports are kept if they are free."""
    chosen = ports.choose(SEARCH.ports, None, {}, HIGHEST_PORT)
    assert len(set(chosen.values())) == len(SEARCH.ports)
    assert all(ports.LOWEST <= port <= HIGHEST_PORT for port in chosen.values())
    assert ports.choose(SEARCH.ports, None, chosen, HIGHEST_PORT) == chosen


def test_no_free_port_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: False)
    with pytest.raises(stack.StackError, match="no port from 1024 to 9299 is free"):
        ports.choose(("http",), None, {}, HIGHEST_PORT)


def test_command_line_and_configuration(tmp_path: Path) -> None:
    """A small heap, the loopback address, the chosen ports, and all paths in its directory."""
    argv = command(Instance(tmp_path, {"http": 9000, "transport": 9001}), [Path("/a.jar"), Path("/b.jar")])
    options = dict(pairwise(argv))
    assert "-Xmx256m" in argv
    assert options["-cp"] == "/a.jar:/b.jar"
    assert options["-baseHttpPort"] == "8999"
    assert options["-moduleTypes"].split(",") == list(MODULES)
    assert all(Path(options[f"-{name}Path"]).is_relative_to(tmp_path) for name in ("base", "conf", "data", "logs"))
    written = (tmp_path / "config" / "opensearch.yml").read_text().splitlines()
    assert {f"network.host: {HOST}", "transport.port: 9001"} <= set(written)


class OtherServer(StubServer):
    """Another cluster on the port."""

    def __init__(self) -> None:
        super().__init__()
        self.health: Any = {"cluster_name": "other", "status": "green", "timed_out": False}

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        assert path.startswith("/_cluster/health")
        return 200, self.health


def test_ready_detects_another_server_on_the_port(tmp_path: Path) -> None:
    with running(OtherServer()) as other:
        instance = Instance(tmp_path, {"http": other.server_address[1], "transport": 1})
        assert not ready(instance)
        other.health = b"<html>"
        assert not ready(instance)
        other.health = {"cluster_name": cluster_name(instance), "status": "red", "timed_out": True}
        assert not ready(instance)
        other.health = {"cluster_name": cluster_name(instance), "status": "green", "timed_out": False}
        assert ready(instance)
    assert not ready(instance)


# -- a real node


@pytest.mark.search
def test_the_node_has_the_pinned_version_and_its_own_cluster_name(search_node: stack.Environment) -> None:
    assert set(search_node.variables) == {"RISK_SEARCH"}
    answer = httpx.get(search_node.search, timeout=30).json()
    assert answer["version"]["number"] == VERSION
    assert answer["cluster_name"].startswith("stack-")
    with pytest.raises(stack.StackError, match="no broker is running"):
        _ = search_node.broker


@pytest.mark.search
def test_the_node_listens_on_the_loopback_address_only(search_node: stack.Environment) -> None:
    (status,) = stack.status(search_node.directory)
    assert status.ready
    for port in status.ports.values():
        with socket.socket() as other:  # fails if the wildcard address is in use
            other.bind(("127.0.0.2", port))


@pytest.mark.search
def test_only_indices_of_the_pipeline_are_created_automatically(search_node: stack.Environment) -> None:
    answer = httpx.put(f"{search_node.search}/moodel_logs/_doc/1", json={"USERID": 1}, timeout=30)
    assert answer.status_code == 404


@pytest.mark.search
def test_an_acknowledged_document_survives_kill_9(search_node: stack.Environment) -> None:
    """After `restart` the node has the same port and documents."""
    document = f"{search_node.search}/moodle_logs_survivors/_doc/1"
    assert httpx.put(document, json={"USERID": 17}, timeout=30).status_code == 201
    stack.kill("search", search_node.directory)
    assert not stack.status(search_node.directory)[0].ready
    stack.restart("search", search_node.directory)
    health = f"{search_node.search}/_cluster/health/moodle_logs_survivors?wait_for_active_shards=1&timeout=20s"
    httpx.get(health, timeout=30).raise_for_status()
    assert httpx.get(document, timeout=30).json()["_source"] == {"USERID": 17}
    httpx.delete(document.rsplit("/", 2)[0], timeout=30)
