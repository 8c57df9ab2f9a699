"""Tests of `stack` with OpenSearch that need no node; test_search_panels.py runs one."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

import stack
from stack import artifacts, ports
from stack.opensearch import HIGHEST_PORT, MODULES, OPENSEARCH, VERSION, command
from stack.server import HOST, Instance


def test_the_lock_file_has_this_version() -> None:
    files = {file.coordinate for file in artifacts.locked_files(OPENSEARCH.name, OPENSEARCH.roots)}
    assert f"org.opensearch:opensearch:{VERSION}" in files


def test_ports_are_below_the_limit() -> None:
    """Random ports are within the runner's limit; previous ports are kept if they are free."""
    chosen = ports.choose(OPENSEARCH.ports, None, {}, HIGHEST_PORT)
    assert len(set(chosen.values())) == len(OPENSEARCH.ports)
    assert all(ports.LOWEST <= port <= HIGHEST_PORT for port in chosen.values())
    assert ports.choose(OPENSEARCH.ports, None, chosen, HIGHEST_PORT) == chosen


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
