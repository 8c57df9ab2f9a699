"""The page as a process: what it refuses to start with, how it ends, what survives it."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

import stack
from app.errors import ConfigError
from app.settings import Settings
from page import serve
from page.access.secret import Secret
from page.access.users import User, write
from page.cases.audit import Look
from page.store.database import Database
from page.web.hub import Hub
from tests.support.page import Site, running_site, users_file
from tests.support.page_rows import COURSES
from tools.e2e.programs import STOP_S, free_port
from tools.e2e.read_topic import read_topic

PASSWORD = "correct horse battery staple"


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Start a page with settings; return the line with which it refuses."""
    monkeypatch.setattr(serve, "_log_to_stderr", lambda *_: None)

    def no_kafka(*_: object) -> None:
        raise AssertionError("it has asked Kafka")

    monkeypatch.setattr(serve, "prepare", no_kafka)

    def start(**variables: str) -> str:
        own = {"RISK_PAGE_PORT": str(free_port()), "RISK_PAGE_DATADIR": str(tmp_path / "page")}
        settings = Settings.from_env({**own, **variables})
        with pytest.raises(ConfigError) as caught:
            serve.serve(settings, "info")
        line = str(caught.value)
        assert "\n" not in line
        return line

    return start


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "10.0.0.7", "[::]", "risk.example.org"])
def test_without_users_it_starts_for_its_own_machine_only(start, address):
    line = start(RISK_PAGE_BIND=address)
    assert line.startswith("RISK_PAGE_BIND")
    assert "set RISK_PAGE_USERS" in line
    assert "RISK_PAGE_BIND=127.0.0.1" in line


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1", "[::1]", "127.1.2.3"])
def test_for_its_own_machine_it_needs_no_users(start, address):
    """It goes on to what comes after the check: Kafka."""
    with pytest.raises(AssertionError, match="it has asked Kafka"):
        start(RISK_PAGE_BIND=address)


def test_it_does_not_start_with_users_that_it_cannot_read(start, tmp_path):
    assert "page-user add" in start(RISK_PAGE_BIND="0.0.0.0", RISK_PAGE_USERS=str(tmp_path / "nothing"))
    write(tmp_path / "users", [User("ada", None)])
    (tmp_path / "users").chmod(0o644)
    assert "chmod 600" in start(RISK_PAGE_BIND="0.0.0.0", RISK_PAGE_USERS=str(tmp_path / "users"))


def test_it_does_not_start_on_a_port_that_is_taken(start):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert start(RISK_PAGE_PORT=str(port)).startswith(f"RISK_PAGE_PORT: cannot listen on http://127.0.0.1:{port}/")
    assert start(RISK_PAGE_BIND="127.0.0.1.").startswith("RISK_PAGE_BIND")


def test_it_does_not_start_in_the_directory_of_another(start, tmp_path):
    database = Database.open(tmp_path / "page" / serve.FILE)
    try:
        assert "another page uses" in start()
    finally:
        database.close()


def test_it_does_not_start_where_it_cannot_write(start, tmp_path):
    (tmp_path / "file").touch()
    assert start(RISK_PAGE_DATADIR=str(tmp_path / "file" / "page")).startswith("RISK_PAGE_DATADIR")


def test_it_does_not_start_with_outcomes_that_it_cannot_read(start, tmp_path):
    assert start(RISK_PAGE_OUTCOMES=str(tmp_path / "nothing")).startswith("RISK_PAGE_OUTCOMES")


# -- the secret


def test_the_secret_is_made_once_and_for_nobody_else(tmp_path):
    made = Secret.of(tmp_path)
    (path,) = tmp_path.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_bytes()) == 32
    assert Secret.of(tmp_path).key("x") == made.key("x")
    assert made.key("x") != made.key("y")
    assert path.read_bytes() not in (made.key("x"), made.key("y"))


@pytest.mark.parametrize(("mode", "content", "text"), [(0o640, b"x" * 32, "chmod 600"), (0o600, b"x" * 31, "damaged")])
def test_a_secret_that_is_none_is_refused(tmp_path, mode, content, text):
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=text):
        Secret.of(tmp_path)


def test_no_variable_that_uvicorn_reads_changes_the_page(monkeypatch):
    """Some hosts set the first one to a word, for another server."""
    monkeypatch.setenv("WEB_CONCURRENCY", "auto")
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    config = serve.Server(Starlette(), Hub()).config
    assert (config.workers, config.forwarded_allow_ips) == (1, "")


# -- the process


@pytest.fixture(scope="module")
def site(cluster: stack.Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A page with ada, who sees all courses."""
    directory = tmp_path_factory.mktemp("serve")
    users = users_file(directory / "users", {"ada": (PASSWORD, None), "ben": (PASSWORD, frozenset({COURSES[0]}))})
    with running_site(cluster, directory, RISK_PAGE_USERS=str(users)) as site:
        yield site


def log_in(client: httpx.Client, name: str) -> None:
    """Log in with the form."""
    (csrf,) = re.findall(r'name="csrf" value="([^"]+)"', client.get("/login").text)
    answer = client.post("/login", data={"user": name, "password": PASSWORD, "csrf": csrf})
    assert answer.status_code == 303, answer.text


@pytest.mark.broker
def test_a_login_survives_the_page(site):
    """Killed, it goes on where it was; links lead to the same students."""
    with site.client() as client:
        log_in(client, "ada")
        html = client.get("/").text
        link = re.findall(r'href="(/student/[^"]+)"', html)[0]
        assert client.get(link).status_code == 200
        site.page.kill()
        site.page.start().wait(timeout=60)
        assert client.get(link).status_code == 200
        assert client.get("/").text.count("/student/") == html.count("/student/")
    files = list((site.deployment.directory / "page-1").iterdir())
    assert {p.name for p in files} >= {"secret", serve.FILE}
    assert {stat.S_IMODE(p.stat().st_mode) & 0o077 for p in files if not p.name.endswith(".lock")} == {0}


@pytest.mark.broker
def test_every_look_is_in_the_audit_with_who_and_where(site):
    with site.client() as client:
        log_in(client, "ben")
        client.get("/")
        client.get(f"/course/{COURSES[1]}")
    records = asyncio.run(read_topic(site.deployment.settings, site.deployment.names.page_audit))
    rows = [json.loads(record.value) for record in records]
    ben = [row for row in rows if row["USER"] == "ben"]
    assert [row["WHAT"] for row in ben[-2:]] == [Look.LOGIN, Look.LIST]
    assert {row["ADDRESS"] for row in ben} == {"127.0.0.1"}
    assert ben[-1]["ENTRIES"]
    assert {course for _, course in ben[-1]["ENTRIES"]} == {COURSES[0]}


@pytest.mark.broker
def test_it_ends_at_once_when_told_although_streams_are_open(site):
    """With exit code 0, and nothing in its log. A log rotation or a closed terminal does not end it."""
    ended = threading.Event()

    def listen() -> None:
        with client.stream("GET", "/changes") as stream:
            assert stream.status_code == 200
            opened.set()
            for _ in stream.iter_raw():
                pass
        ended.set()

    opened = threading.Event()
    with site.client() as client:
        log_in(client, "ben")
        thread = threading.Thread(target=listen)
        thread.start()
        assert opened.wait(10)
        site.page.process.send_signal(signal.SIGHUP)
        assert client.get("/").status_code == 200
        began = time.monotonic()
        assert site.page.stop() == 0
        assert time.monotonic() - began < STOP_S / 2
        thread.join(5)
        assert ended.is_set()
    text = site.page.log.read_text()
    assert "Traceback" not in text
    assert "Error" not in text
    assert f"the page is at {site.page.url}" in text
