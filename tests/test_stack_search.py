"""Tests of `stack` with Elasticsearch that need no node; test_search.py runs one."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from stack import artifacts, elasticsearch_args, exec_with_input, opensearch, search
from stack.errors import Unavailable
from stack.search import NOBODY, SEARCH, VERSION, command, require
from stack.search_node import cluster_name
from stack.server import HOST, Instance, Server
from tests.support.stub_server import StubServer, running


def test_the_lock_file_has_this_version() -> None:
    (file,) = artifacts.locked_files(SEARCH.name, SEARCH.roots)
    assert file.coordinate.endswith(f":elasticsearch:{VERSION}:zip")
    assert file.server_path.startswith(f"unpacked/elasticsearch-{VERSION}-")


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path, {"http": 9000, "transport": 9001})


def test_command_line_and_configuration(instance: Instance) -> None:
    """A small heap, the loopback address, the chosen ports, and all paths in its directory."""
    argv = command(instance, [Path("/unpacked")])
    options = dict(pairwise(argv))
    distribution = f"/unpacked/elasticsearch-{VERSION}"
    assert "-Xmx256m" in argv
    assert options["--module-path"] == f"{distribution}/lib"
    # the node reads its settings from here; the file is for people
    given = (instance.home / "arguments").read_bytes()
    for path in (distribution, instance.home / "config", instance.home / "logs"):
        assert str(path).encode() in given
    written = (instance.home / "config" / "elasticsearch.yml").read_text().splitlines()
    assert {f"network.host: {HOST}", "http.port: 9000", "transport.port: 9001"} <= set(written)
    assert b"http.port\0\x049000" in given


def test_root_becomes_nobody_and_others_stay_what_they_are(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elasticsearch refuses to run as root."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    argv = command(instance, [Path("/unpacked")])
    assert argv[:3] == ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}"]
    # the supervisor's own request is lost with the change of user
    assert "--pdeathsig=KILL" in argv
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert command(instance, [Path("/unpacked")])[0] == "/usr/bin/env"


def test_without_setpriv_root_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Unavailable, match="setpriv not found: apt-get install util-linux"):
        require()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    require()


def test_arguments_are_in_elasticsearchs_format() -> None:
    """The bytes that the launcher of 8.19.0 wrote, but for the keystore's seed and its file."""
    given = elasticsearch_args.encode({"b": "x" * 200, "a.\u00e9": "1"}, Path("/c"), Path("/l"))
    head = b"\0\0\0\x31org.elasticsearch.common.settings.KeyStoreWrapper\0\0\0\x07\0\0\x01\x0dkeystore.seed\x14"
    assert given.startswith(head)
    # 20 bytes of seed, and its checksum
    rest = given[len(head) + 20 :]
    assert rest[0] == 32
    assert rest[33:] == b"\0\x02\x03a.\xc3\xa9\0\x011\x01b\0\xc8\x01" + b"x" * 200 + b"\x02/c\x02/l"


def test_a_program_gets_its_input_and_no_end_of_it(tmp_path: Path) -> None:
    """Elasticsearch ends at the end of its input: the launcher would have died."""
    (tmp_path / "input").write_bytes(b"hello")
    program = "import os, select; print(os.read(0, 99), select.select([0], [], [], 0.1)[0], os.getcwd())"
    script = [sys.executable, exec_with_input.__file__, str(tmp_path / "input"), str(tmp_path)]
    done = subprocess.run([*script, sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"b'hello' [] {tmp_path}\n"
    (tmp_path / "input").write_bytes(bytes(exec_with_input.PIPE_BYTES + 1))
    done = subprocess.run([*script, "/bin/true"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "more than the 16384 bytes that a pipe holds" in done.stderr


class OtherServer(StubServer):
    """Another cluster on the port."""

    def __init__(self) -> None:
        super().__init__()
        self.health: Any = {"cluster_name": "other", "status": "green", "timed_out": False}

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        assert path.startswith("/_cluster/health")
        return 200, self.health


@pytest.mark.parametrize("server", [search.SEARCH, opensearch.OPENSEARCH], ids=lambda server: server.name)
def test_ready_detects_another_server_on_the_port(tmp_path: Path, server: Server) -> None:
    with running(OtherServer()) as other:
        instance = Instance(tmp_path, {"http": other.server_address[1], "transport": 1})
        assert not server.ready(instance)
        other.health = b"<html>"
        assert not server.ready(instance)
        other.health = {"cluster_name": cluster_name(instance), "status": "red", "timed_out": True}
        assert not server.ready(instance)
        other.health = {"cluster_name": cluster_name(instance), "status": "green", "timed_out": False}
        assert server.ready(instance)
    assert not server.ready(instance)
