"""Tests of `stack` with MariaDB and Kafka Connect: real servers in tests marked `cdc`."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

import stack
from stack import mariadb
from stack.cluster import stages
from stack.life import instance_of
from stack.process_spec import ServerFiles
from stack.server import Instance
from tests.support import moodle_tables

TABLE = f"{mariadb.DATABASE}.{mariadb.TABLE}"


def test_commands_are_also_searched_in_sbin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mariadbd is in /usr/sbin, which is not on every user's PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(shutil, "which", lambda command, path: path)
    assert mariadb.find("mariadbd").split(":") == [str(tmp_path), "/usr/sbin", "/usr/local/sbin"]


def test_a_path_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    home = tmp_path / ("d" * 100)
    home.mkdir()
    with pytest.raises(stack.StackError, match=r"longer than a socket's path may be \(107 bytes\)"):
        mariadb.command(Instance(home, {"sql": 1}), [])
    assert not list(home.iterdir())


def test_connect_starts_after_its_dependencies() -> None:
    assert stages(["connect", "kafka", "registry", "mariadb"]) == [["registry", "kafka", "mariadb"], ["connect"]]
    assert stages(["kafka"]) == [["kafka"], []]


# -- real servers


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in a subprocess."""
    return subprocess.run([sys.executable, "-m", "stack", *arguments], capture_output=True, text=True, check=False)


def run_sql(servers: stack.Environment, statement: str, user: str = mariadb.USER) -> str:
    """Run SQL over TCP, by default as Debezium's user, and return MariaDB's output and errors."""
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
def test_up_is_idempotent(chain: stack.Environment) -> None:
    """All four servers are running and in the environment."""
    before = stack.status(chain.directory)
    assert [server.name for server in before if server.ready] == ["registry", "kafka", "mariadb", "connect"]
    again = run("up", "--cdc", str(chain.directory))
    assert again.stdout == (chain.directory / "env").read_text() == str(chain)
    assert stack.status(chain.directory) == before
    assert {"RISK_BROKER", "RISK_SCHEMA_REGISTRY", "RISK_MARIADB", "RISK_CONNECT"} == set(chain.variables)


@pytest.mark.cdc
def test_connect_and_debezium_have_the_pinned_versions(chain: stack.Environment) -> None:
    plugins = httpx.get(f"{chain.connect}/connector-plugins", timeout=30).json()
    assert {"class": "io.debezium.connector.mariadb.MariaDbConnector", "type": "source", "version": "3.5.0.Final"} in [
        {name: plugin[name] for name in ("class", "type", "version")} for plugin in plugins
    ]
    assert httpx.get(chain.connect, timeout=30).json()["version"] == "4.1.1"


@pytest.mark.cdc
def test_servers_listen_on_the_loopback_address_only(chain: stack.Environment) -> None:
    for port in (port for server in stack.status(chain.directory) for port in server.ports.values()):
        with socket.socket() as other:  # fails if the wildcard address is in use
            other.bind(("127.0.0.2", port))


@pytest.mark.cdc
def test_debeziums_user_may_only_read_the_log(chain: stack.Environment) -> None:
    """It may not write the log or read system tables; root may not connect over TCP."""
    assert run_sql(chain, f"SELECT COUNT(*) >= 0 FROM {TABLE}") == "1\n"
    assert run_sql(chain, "SELECT @@binlog_format, @@binlog_row_image") == "ROW\tFULL\n"
    assert "INSERT command denied" in run_sql(chain, f"INSERT INTO {TABLE} VALUES (1, 'e', 2, 3)")
    assert "SELECT command denied" in run_sql(chain, "SELECT * FROM mysql.global_priv")
    assert "Access denied" in run_sql(chain, "SELECT 1", user="root")


@pytest.mark.cdc
def test_the_binlog_starts_with_the_table(chain: stack.Environment) -> None:
    """With an empty binlog Debezium's task fails with a NullPointerException: its first position is null."""
    events = mariadb.execute(chain.directory, "SHOW BINLOG EVENTS IN 'binlog.000001'")
    statements = [line.split("\t")[-1] for line in events.splitlines() if "\tQuery\t" in line]
    assert statements[0] == f"CREATE DATABASE IF NOT EXISTS {mariadb.DATABASE};"
    assert f"CREATE TABLE IF NOT EXISTS {TABLE}" in statements[1]
    # no password in the binlog, neither from stack nor from docker-compose.yml
    assert not [statement for statement in statements if "IDENTIFIED" in statement]


@pytest.mark.cdc
def test_a_committed_row_survives_kill_9(chain: stack.Environment) -> None:
    """After `restart` the table still exists and has the row."""
    mariadb.execute(chain.directory, "CREATE TABLE survivors (id INT PRIMARY KEY); INSERT INTO survivors VALUES (17)")
    stack.kill("mariadb", chain.directory)
    assert not mariadb.ready(instance_of(ServerFiles(chain.directory, "mariadb")))
    stack.restart("mariadb", chain.directory)
    assert mariadb.execute(chain.directory, "SELECT id FROM survivors; DROP TABLE survivors") == "17\n"


@pytest.mark.cdc
def test_mariadb_selects_the_outcomes_of_students(chain: stack.Environment) -> None:
    """docs/outcomes.sql on MariaDB; tests/test_outcomes.py runs it in SQLite."""
    database = "SET sql_log_bin = 0; SET time_zone = '+00:00'; CREATE DATABASE moodle; USE moodle;"
    script = ";\n".join([database, *moodle_tables.statements(), moodle_tables.QUERY.strip().rstrip(";")])
    selected = mariadb.execute(chain.directory, f"{script};\nDROP DATABASE moodle;")
    assert [tuple(line.split("\t")) for line in selected.splitlines()] == moodle_tables.LINES


@pytest.mark.cdc
def test_bad_sql_is_a_one_line_error(chain: stack.Environment) -> None:
    with pytest.raises(stack.StackError, match=r"^MariaDB: ERROR 1146 .*demo\.nowhere.* doesn't exist$"):
        mariadb.execute(chain.directory, "SELECT * FROM nowhere")
