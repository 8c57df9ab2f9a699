"""OpenSearch as `stack` runs it; a real one where the test is marked `search`."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest

import stack
from stack import artifacts, ports
from stack.search import HIGHEST_PORT, MODULES, SEARCH, VERSION, cluster, command, ready
from stack.server import HOST, Place
from tests.support.stub_server import Answering, served


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The servers whose files were asked for; none is there."""
    names: list[str] = []

    def fetch(wanted: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
        names.extend(wanted)
        raise stack.Unavailable("out of reach")

    monkeypatch.setattr(artifacts, "fetch", fetch)
    return names


def test_only_search_asks_for_the_files_of_search(asked: list[str], tmp_path: Path) -> None:
    for ask in (stack.fetch, lambda: stack.up(tmp_path)):
        with pytest.raises(stack.Unavailable, match="out of reach"):
            ask()
    assert asked == ["registry", "kafka"] * 2
    asked.clear()
    with pytest.raises(stack.Unavailable, match="out of reach"):
        stack.fetch(search=True)
    assert asked == ["registry", "kafka", "search"]


def test_it_can_be_had_alone(asked: list[str], tmp_path: Path) -> None:
    with pytest.raises(stack.Unavailable, match="out of reach"):
        stack.up(tmp_path, kafka=False, registry=False, search=True)
    assert asked == ["search"]


def test_the_lock_is_of_this_version() -> None:
    files = {one.coordinate for one in artifacts.locked(SEARCH.name, SEARCH.roots)}
    assert f"org.opensearch:opensearch:{VERSION}" in files


def test_its_ports_are_low_enough() -> None:
    """The runner takes none above it; those of before are kept, if they are free and low."""
    chosen = ports.choose(SEARCH.ports, None, {}, HIGHEST_PORT)
    assert len(set(chosen.values())) == len(SEARCH.ports)
    assert all(ports.LOWEST <= port <= HIGHEST_PORT for port in chosen.values())
    assert ports.choose(SEARCH.ports, None, chosen, HIGHEST_PORT) == chosen


def test_no_free_port_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda port: False)
    with pytest.raises(stack.StackError, match="no port from 1024 to 9299 is free"):
        ports.choose(("http",), None, {}, HIGHEST_PORT)


def test_what_it_is_told(tmp_path: Path) -> None:
    """Small, closed, its own name and ports, and nothing outside of its directory."""
    line = command(Place(tmp_path, {"http": 9000, "transport": 9001}), [Path("/a.jar"), Path("/b.jar")])
    options = dict(pairwise(line))
    assert "-Xmx256m" in line
    assert options["-cp"] == "/a.jar:/b.jar"
    assert options["-baseHttpPort"] == "8999"
    assert options["-moduleTypes"].split(",") == list(MODULES)
    assert all(Path(options[f"-{name}Path"]).is_relative_to(tmp_path) for name in ("base", "conf", "data", "logs"))
    written = (tmp_path / "config" / "opensearch.yml").read_text().splitlines()
    assert {f"network.host: {HOST}", "transport.port: 9001"} <= set(written)


class Stranger(Answering):
    """Another cluster on the port."""

    def __init__(self) -> None:
        super().__init__()
        self.health: Any = {"cluster_name": "stranger", "status": "green", "timed_out": False}

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        assert path.startswith("/_cluster/health")
        return 200, self.health


def test_a_stranger_on_its_port_is_not_taken_for_it(tmp_path: Path) -> None:
    with served(Stranger()) as stranger:
        place = Place(tmp_path, {"http": stranger.server_address[1], "transport": 1})
        assert not ready(place)
        stranger.health = b"<html>"
        assert not ready(place)
        stranger.health = {"cluster_name": cluster(place), "status": "red", "timed_out": True}
        assert not ready(place)
        stranger.health = {"cluster_name": cluster(place), "status": "green", "timed_out": False}
        assert ready(place)
    assert not ready(place)


# -- a real node


@pytest.mark.search
def test_it_is_the_pinned_one_under_its_own_name(search_node: stack.Environment) -> None:
    assert set(search_node.variables) == {"RISK_SEARCH"}
    answer = httpx.get(search_node.search, timeout=30).json()
    assert answer["version"]["number"] == VERSION
    assert answer["cluster_name"].startswith("stack-")
    with pytest.raises(stack.StackError, match="no broker runs"):
        _ = search_node.broker


@pytest.mark.search
def test_it_listens_on_the_loopback_address_only(search_node: stack.Environment) -> None:
    (one,) = stack.status(search_node.directory)
    assert one.ready
    for port in one.ports.values():
        with socket.socket() as elsewhere:  # were the wildcard address taken, this one would be too
            elsewhere.bind(("127.0.0.2", port))


@pytest.mark.search
def test_a_misspelt_index_is_an_error(search_node: stack.Environment) -> None:
    answer = httpx.put(f"{search_node.search}/moodel_logs/_doc/1", json={"USERID": 1}, timeout=30)
    assert answer.status_code == 404


@pytest.mark.search
def test_an_acknowledged_document_survives_kill_9(search_node: stack.Environment) -> None:
    """The node comes back on its port, with what it had."""
    document = f"{search_node.search}/moodle_logs_survivors/_doc/1"
    assert httpx.put(document, json={"USERID": 17}, timeout=30).status_code == 201
    stack.kill("search", search_node.directory)
    assert not stack.status(search_node.directory)[0].ready
    stack.restart("search", search_node.directory)
    health = f"{search_node.search}/_cluster/health/moodle_logs_survivors?wait_for_active_shards=1&timeout=20s"
    httpx.get(health, timeout=30).raise_for_status()
    assert httpx.get(document, timeout=30).json()["_source"] == {"USERID": 17}
    httpx.delete(document.rsplit("/", 2)[0], timeout=30)
