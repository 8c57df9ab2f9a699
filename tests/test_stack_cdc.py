"""MariaDB and Kafka Connect as `stack` runs them; real ones where the test is marked `cdc`."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import pytest

import stack
from stack import artifacts, mariadb
from stack.cluster import stages
from stack.lifecycle import place
from stack.process_spec import Files
from stack.server import Place

TABLE = f"{mariadb.DATABASE}.{mariadb.TABLE}"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The servers whose files were asked for; none is there."""
    names: list[str] = []

    def fetch(wanted: Mapping[str, Sequence[str]]) -> dict[str, list[Path]]:
        names.extend(wanted)
        raise stack.Unavailable("out of reach")

    monkeypatch.setattr(artifacts, "fetch", fetch)
    return names


def test_only_cdc_asks_for_the_files_of_cdc(asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who does not want it neither downloads it nor needs MariaDB."""
    monkeypatch.setattr(mariadb, "find", missing)
    with pytest.raises(stack.Unavailable, match="out of reach"):
        stack.fetch()
    with pytest.raises(stack.Unavailable, match="out of reach"):
        stack.up(tmp_path)
    assert asked == ["registry", "kafka"] * 2


def missing(command: str) -> str:
    raise stack.Unavailable(f"no {command}")


def test_without_mariadb_the_error_says_what_to_install(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes before anything is downloaded or started."""
    monkeypatch.setattr(shutil, "which", lambda command, path: None)
    expected = "^no mariadbd here: apt-get install .*mariadb-server-core mariadb-client-core$"
    with pytest.raises(stack.Unavailable, match=expected):
        stack.up(tmp_path, cdc=True)
    with pytest.raises(stack.Unavailable, match=expected):
        stack.fetch(cdc=True)
    assert asked == []
    assert stack.status(tmp_path) == []


def test_commands_are_found_outside_of_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/usr/sbin is not on every user's PATH, and mariadbd is there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda command, path: path)
    assert mariadb.find("mariadbd").split(":") == [str(tmp_path), "/usr/sbin", "/usr/local/sbin"]


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    here = tmp_path / ("d" * 100)
    here.mkdir()
    with pytest.raises(stack.StackError, match=r"longer than a socket's path may be \(107 bytes\)"):
        mariadb.command(Place(here, {"sql": 1}), [])
    assert not list(here.iterdir())


def test_connect_starts_when_what_it_needs_is_ready() -> None:
    assert stages(["connect", "kafka", "registry", "mariadb"]) == [["registry", "kafka", "mariadb"], ["connect"]]
    assert stages(["kafka"]) == [["kafka"], []]


# -- real servers


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line, in a process of its own."""
    return subprocess.run([sys.executable, "-m", "stack", *arguments], capture_output=True, text=True, check=False)


def as_follower(servers: stack.Environment, statement: str, user: str = mariadb.USER) -> str:
    """What MariaDB answers to Debezium's user, or complains."""
    host, port = servers.mariadb.split(":")
    arguments = ["--no-defaults", f"--host={host}", f"--port={port}", f"--user={user}", "--skip-column-names"]
    done = subprocess.run(
        [mariadb.find("mariadb"), *arguments, f"--password={mariadb.PASSWORD}", "-e", statement],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.cdc
def test_up_again_changes_nothing(chain: stack.Environment) -> None:
    """All four run; the environment leads to each of them."""
    before = stack.status(chain.directory)
    assert [one.name for one in before if one.ready] == ["registry", "kafka", "mariadb", "connect"]
    again = run("up", "--cdc", str(chain.directory))
    assert again.stdout == (chain.directory / "env").read_text() == str(chain)
    assert stack.status(chain.directory) == before
    assert {"RISK_BROKER", "RISK_SCHEMA_REGISTRY", "RISK_MARIADB", "RISK_CONNECT"} == set(chain.variables)


@pytest.mark.cdc
def test_connect_is_the_pinned_one_with_debezium_and_without_secrets(chain: stack.Environment) -> None:
    plugins = httpx.get(f"{chain.connect}/connector-plugins", timeout=30).json()
    assert {"class": "io.debezium.connector.mariadb.MariaDbConnector", "type": "source", "version": "3.5.0.Final"} in [
        {name: one[name] for name in ("class", "type", "version")} for one in plugins
    ]
    assert httpx.get(chain.connect, timeout=30).json()["version"] == "4.1.1"


@pytest.mark.cdc
def test_servers_listen_on_the_loopback_address_only(chain: stack.Environment) -> None:
    for port in (port for one in stack.status(chain.directory) for port in one.ports.values()):
        with socket.socket() as elsewhere:  # were the wildcard address taken, this one would be too
            elsewhere.bind(("127.0.0.2", port))


@pytest.mark.cdc
def test_debeziums_user_may_read_the_log_and_nothing_else(chain: stack.Environment) -> None:
    """Not write it, not read MariaDB's own tables; and nobody is root over TCP."""
    assert as_follower(chain, f"SELECT COUNT(*) >= 0 FROM {TABLE}") == "1\n"
    assert as_follower(chain, "SELECT @@binlog_format, @@binlog_row_image") == "ROW\tFULL\n"
    assert "INSERT command denied" in as_follower(chain, f"INSERT INTO {TABLE} VALUES (1, 'e', 2, 3)")
    assert "SELECT command denied" in as_follower(chain, "SELECT * FROM mysql.global_priv")
    assert "Access denied" in as_follower(chain, "SELECT 1", user="root")


@pytest.mark.cdc
def test_the_binlog_begins_with_the_table(chain: stack.Environment) -> None:
    """Debezium's task ends with a NullPointerException where nothing was ever logged: its first position is null."""
    events = mariadb.execute(chain.directory, "SHOW BINLOG EVENTS IN 'binlog.000001'")
    statements = [line.split("\t")[-1] for line in events.splitlines() if "\tQuery\t" in line]
    assert statements[0] == f"CREATE DATABASE IF NOT EXISTS {mariadb.DATABASE};"
    assert f"CREATE TABLE IF NOT EXISTS {TABLE}" in statements[1]
    # neither from here nor from compose: a password has no place in a binlog
    assert not [one for one in statements if "IDENTIFIED" in one]


@pytest.mark.cdc
def test_a_committed_row_survives_kill_9(chain: stack.Environment) -> None:
    """MariaDB comes back on its port with the row; its table is not made anew."""
    mariadb.execute(chain.directory, "CREATE TABLE survivors (id INT PRIMARY KEY); INSERT INTO survivors VALUES (17)")
    stack.kill("mariadb", chain.directory)
    assert not mariadb.ready(place(Files(chain.directory, "mariadb")))
    stack.restart("mariadb", chain.directory)
    assert mariadb.execute(chain.directory, "SELECT id FROM survivors; DROP TABLE survivors") == "17\n"


@pytest.mark.cdc
def test_bad_sql_is_one_clear_error(chain: stack.Environment) -> None:
    with pytest.raises(stack.StackError, match=r"^MariaDB: ERROR 1146 .*demo\.nowhere.* doesn't exist$"):
        mariadb.execute(chain.directory, "SELECT * FROM nowhere")
