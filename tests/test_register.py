"""connect/register.py against a stub of Connect's REST API: what it sends, what it says, logins, proxies."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from connect import register
from tests.support.stub_server import StubServer, running
from tests.test_connect import CONFIGS, CONNECT


class Stub(StubServer):
    """The part of Connect's REST API that the command uses; `script` lists the states of a connector."""

    def __init__(self) -> None:
        super().__init__()
        self.unmounted = 2
        self.busy = 1
        self.configs: dict[str, dict[str, str]] = {}
        self.seen: list[str] = []
        self.refusal: tuple[int, str] | None = None
        #: keys of every connector, as Connect lists them
        self.keys = ["connection.username", "connection.password", "elastic.security.protocol"]
        #: what a login has to be, and a response in place of JSON
        self.authorization: str | None = None
        self.page: tuple[int, bytes] | None = None
        #: state of the connector and of its tasks, one per poll; the last one repeats
        self.script: list[tuple[str, list[str]]] = [("UNASSIGNED", []), ("RUNNING", []), ("RUNNING", ["RUNNING"])]
        self.trace = (
            "org.apache.kafka.connect.errors.ConnectException: outer\n\tat A.b(C.java:1)\nCaused by: java.net.X: gone\n"
        )

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, Any]:
        if self.unmounted:
            self.unmounted -= 1
            return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}
        self.seen.append(f"{method} {path}")
        if headers.get("authorization") != self.authorization:
            return 401, {"message": "who are you?"}
        if path.startswith("/connector-plugins/"):
            return 200, [{"name": name, "type": "STRING"} for name in self.keys]
        if path == "/":
            return 200, {"version": "4.1.1", "commit": "x"}
        name = path.split("/")[2]
        if method == "PUT":
            return self._put(name, json.loads(body))
        if method == "POST":
            return 202, {}
        connector, tasks = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        states = [{"id": i, "state": state, "trace": self.trace} for i, state in enumerate(tasks)]
        return 200, {"name": name, "connector": {"state": connector}, "tasks": states}

    def _put(self, name: str, body: dict[str, str]) -> tuple[int, Any]:
        if self.page:
            return self.page
        if self.busy:
            self.busy -= 1
            return 409, {"message": "rebalance"}
        if self.refusal:
            return self.refusal[0], {"message": self.refusal[1]}
        status = 200 if name in self.configs else 201
        self.configs[name] = body
        return status, {"name": name}


@pytest.fixture
def rest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    monkeypatch.setattr(register, "POLL_S", 0.005)
    monkeypatch.setattr(register, "SETTLED_S", 0.02)
    with running(Stub()) as stub:
        yield stub


@pytest.fixture
def run(rest: Stub) -> Callable[..., int]:
    def command(*arguments: str, timeout: float = 20) -> int:
        return register.main([f"--url={rest.url}", f"--timeout={timeout:g}", *arguments])

    return command


def test_it_waits_for_connect_puts_the_files_and_waits_until_they_run(
    rest: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """It retries on 404 while Connect starts, on 409 during a rebalance, and while there are no tasks yet."""
    assert run("source-mariadb", "sink-sessions") == 0
    assert rest.configs == {name: CONFIGS[name] for name in ("source-mariadb", "sink-sessions")}
    out = capsys.readouterr().out.splitlines()
    assert out == [
        f"Kafka Connect 4.1.1 at {rest.url}",
        "source-mariadb: RUNNING, 1 task",
        "sink-sessions: RUNNING, 1 task",
    ]


def test_it_is_idempotent_and_restarts_only_failed_tasks(rest: Stub, run: Callable[..., int]) -> None:
    assert run("sink-agg") == 0
    once = dict(rest.configs)
    assert "POST" not in " ".join(rest.seen)
    assert run("sink-agg") == 0
    assert rest.configs == once
    assert "POST /connectors/sink-agg/restart?includeTasks=true&onlyFailed=true" in rest.seen


def test_a_failed_task_is_reported_on_one_line_with_its_root_cause_and_exit_code_1(
    rest: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is reported even if the task runs at first, since a sink fails only at its first batch."""
    rest.script = [("RUNNING", ["RUNNING"]), ("RUNNING", ["FAILED"])]
    assert run("sink-agg") == 1
    assert capsys.readouterr().err == "register: sink-agg: task 0 failed: java.net.X: gone\n"


def test_it_waits_for_a_restarting_task(rest: Stub, run: Callable[..., int]) -> None:
    rest.script = [("RUNNING", ["FAILED"]), ("RUNNING", ["RESTARTING"]), ("RUNNING", ["RUNNING"])]
    assert run("sink-agg") == 0


def test_a_rejected_configuration_is_reported_at_once(
    rest: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rest.refusal = 400, "Connector configuration is invalid:\nno such host"
    assert run("sink-agg") == 1
    assert (
        capsys.readouterr().err == "register: sink-agg was rejected: Connector configuration is invalid: no such host\n"
    )


def test_it_times_out_if_a_connector_never_runs(
    rest: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rest.script = [("RUNNING", [])]
    assert run("sink-agg", timeout=1) == 1
    assert capsys.readouterr().err == "register: sink-agg is not running: RUNNING, no tasks (timed out)\n"


def test_it_times_out_if_no_server_listens(capsys: pytest.CaptureFixture[str]) -> None:
    stub = Stub()
    stub.server_close()
    assert register.main([f"--url={stub.url}", "--timeout=0.05", "sink-agg"]) == 1
    assert f"{stub.url} is not ready: " in capsys.readouterr().err


def test_set_overrides_a_key_in_every_file_that_has_it(rest: Stub, run: Callable[..., int]) -> None:
    """Tests use it to register the shipped files with their own hosts and ports."""
    changes = ("--set=database.hostname=127.0.0.1", "--set=connection.url=http://127.0.0.1:1/?a=b")
    assert run(*changes, "source-mariadb", "sink-agg") == 0
    assert rest.configs["source-mariadb"] == CONFIGS["source-mariadb"] | {"database.hostname": "127.0.0.1"}
    assert rest.configs["sink-agg"] == CONFIGS["sink-agg"] | {"connection.url": "http://127.0.0.1:1/?a=b"}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--set=x", "sink-agg"], "--set x: expected KEY=VALUE"),
        (["index-template"], "is not a connector's configuration: connector.class is missing"),
        (["sink-nothing"], "No such file"),
    ],
)
def test_wrong_usage_is_reported_on_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert register.main(arguments) == 1
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1


def test_set_adds_a_key_that_connect_knows_and_refuses_any_other(
    rest: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """A login of Elasticsearch is in no file. A misspelt key would be read by nobody."""
    new = {
        "connection.username": "sink",
        "connection.password": "${env:ELASTICSEARCH_PASSWORD}",
        "elastic.security.protocol": "SSL",
        "consumer.override.max.poll.records": "10",
    }
    assert run(*(f"--set={key}={value}" for key, value in new.items()), "sink-agg") == 0
    assert rest.configs["sink-agg"] == CONFIGS["sink-agg"] | new
    capsys.readouterr()
    assert run("--set=conection.username=sink", "sink-agg", "sink-sessions") == 1
    why = "no such key in sink-agg, sink-sessions, and Connect knows none of that name"
    assert capsys.readouterr().err == f"register: --set conection.username: {why}\n"


def test_an_answer_that_is_no_json_is_quoted(
    rest: Stub, run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    rest.page, rest.unmounted = (500, b"<html>\n<h1>Bad gateway</h1>"), 0
    assert run("sink-agg", timeout=1) == 1
    assert capsys.readouterr().err == (
        "register: sink-agg was rejected: HTTP 500: <html> <h1>Bad gateway</h1> (timed out)\n"
    )


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("how", ["variables", "file", "URL"])
def test_a_login_is_sent_and_never_printed(
    rest: Stub,
    how: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """User and password come from the environment, a file, or the URL, where special characters are quoted."""
    rest.authorization, rest.unmounted = basic("ada", "p/w:1"), 0
    url = rest.url
    if how == "URL":
        url = url.replace("//", "//ada:p%2Fw%3A1@")
    else:
        monkeypatch.setenv("CONNECT_USER", "ada")
    if how == "variables":
        monkeypatch.setenv("CONNECT_PASSWORD", "p/w:1")
    if how == "file":
        (tmp_path / "password").write_text("p/w:1\n")
        monkeypatch.setenv("CONNECT_PASSWORD_FILE", str(tmp_path / "password"))
    assert register.main([f"--url={url}", "--timeout=20", "sink-agg"]) == 0
    printed = capsys.readouterr()
    assert f"at {rest.url}\n" in printed.out
    assert "p/w" not in printed.out + printed.err
    assert "p%2Fw" not in printed.out + printed.err


@pytest.mark.parametrize(
    ("variables", "url", "line"),
    [
        ({}, "", "refuses the login (HTTP 401): set CONNECT_USER and CONNECT_PASSWORD"),
        ({"CONNECT_USER": "ada"}, "", "user ada has no password: set CONNECT_PASSWORD or CONNECT_PASSWORD_FILE"),
        ({"CONNECT_PASSWORD": "x"}, "", "CONNECT_PASSWORD without a user: set CONNECT_USER"),
        ({"CONNECT_USER": "a", "CONNECT_PASSWORD_FILE": "/none"}, "", "CONNECT_PASSWORD_FILE: /none: No such file"),
        ({"CONNECT_CA": "/none"}, "https://127.0.0.1:1", "CONNECT_CA: /none: "),
        ({}, "kafka:8083", "the URL is wrong: it has to begin with http:// or https:// and a host"),
        ({}, "http://ada:secret@h:port", "the URL is wrong: "),
    ],
)
def test_a_wrong_login_is_reported_on_one_line(
    rest: Stub,
    variables: dict[str, str],
    url: str,
    line: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    rest.authorization, rest.unmounted = basic("ada", "pw"), 0
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert register.main([f"--url={url or rest.url}", "--timeout=20", "sink-agg"]) == 1
    err = capsys.readouterr().err
    assert line in err
    assert err.count("\n") == 1
    assert "secret" not in err


def test_a_proxy_is_for_other_machines_and_is_named(
    run: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("http_proxy", "http://ada:secret@127.0.0.1:9")
    assert run("sink-agg") == 0
    assert register.main(["--url=http://connect.example:8083", "--timeout=0.05", "sink-agg"]) == 1
    err = capsys.readouterr().err
    assert "(through the proxy 127.0.0.1; NO_PROXY lists hosts that need none)" in err
    assert "secret" not in err


@pytest.mark.parametrize("script", ["connect/register.py", "connect/rebuild.py", "kibana/load.py"])
def test_a_script_needs_only_python(script: str) -> None:
    """The script runs isolated and without site-packages."""
    command = [sys.executable, "-I", "-S", str(CONNECT.parent / script), "--help"]
    assert subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0
