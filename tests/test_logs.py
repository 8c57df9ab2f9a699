"""With RISK_LOG_FORMAT=json every line that a worker writes is a JSON object, without secrets and personal data."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.ops.failpoints import VARIABLE
from app.ops.logs import JsonLines
from app.settings import Settings
from tests.support.cluster import START, TIMEOUT_S, Deployment, row, until, visit
from tools.e2e.workers import ROOT, free_port

#: fields of every event; those with an error have `exception` too
FIELDS = {"ts", "level", "logger", "message", "app", "worker"}
#: a student and a cell that must not appear in any line
STUDENT, CELL = 8_124_735_069, b"198.51.100.77"


def events(log: Path) -> list[dict[str, str]]:
    """Return the events of a log, each line of which must be one."""
    parsed = [json.loads(line) for line in log.read_text().splitlines()]
    for event in parsed:
        assert FIELDS <= set(event) <= {*FIELDS, "exception"}, event
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["ts"])
        assert all(isinstance(value, str) for value in event.values())
    return parsed


def formatted(message: object, *arguments: object, error: BaseException | None = None) -> dict[str, Any]:
    info = None if error is None else (type(error), error, error.__traceback__)
    record = logging.LogRecord("x", logging.WARNING, "", 0, message, arguments, info)
    line = JsonLines("site", "host:6066").format(record)
    assert "\n" not in line
    event: dict[str, Any] = json.loads(line)
    return event


def test_an_event_has_its_message_level_logger_and_origin() -> None:
    event = formatted("%d rows\nof %s", 3, "ü")
    assert event.pop("ts").endswith("Z")
    expected = {"level": "warning", "logger": "x", "message": "3 rows\nof ü", "app": "site", "worker": "host:6066"}
    assert event == expected


def test_a_traceback_is_one_string() -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError as error:
        event = formatted("failed", error=error)
    assert event["exception"].startswith("Traceback")
    assert event["exception"].endswith("ValueError: first\nsecond")


def test_any_message_makes_valid_json() -> None:
    """Wrong arguments, bytes that are no UTF-8, line separators, objects instead of texts."""
    assert formatted("%d rows", "many")["message"] == "%d rows"
    assert formatted("%s", b"\xff".decode("utf-8", "surrogateescape"))["message"] == "\\udcff"
    assert formatted(ValueError("a\u2028b"))["message"] == "a\u2028b"


@pytest.mark.parametrize(
    ("variable", "value"), [("RISK_EMIT", "all"), ("RISK_BROKER", f"127.0.0.1:{free_port()}")], ids=["import", "start"]
)
def test_a_refusal_is_one_event(variable: str, value: str, tmp_path: Path) -> None:
    """While the settings are read, and in the checks after it; nothing else is written to stdout or stderr."""
    own = {"RISK_LOG_FORMAT": "json", "RISK_APP_ID": "site", "RISK_DATADIR": str(tmp_path), variable: value}
    with (tmp_path / "log").open("w") as out:
        done = subprocess.run(
            [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "info"],
            env={**os.environ, **own, "RISK_WEB_PORT": str(free_port())},
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert done.returncode == 1
    last = events(tmp_path / "log")[-1]
    assert (last["logger"], last["level"], last["app"]) == ("moodle-risk", "critical", "site")
    assert variable in last["message"]


def test_sigterm_ends_a_worker_that_still_checks_its_servers(tmp_path: Path) -> None:
    """With exit code 0; process 1 of a container would ignore the signal if it had no handler."""
    (tmp_path / "sitecustomize.py").write_text(
        "import socket, time\nlookup = socket.getaddrinfo\n"
        "def slow(host, *rest, **more):\n"
        "    if host == 'slow.example':\n        print('looking up', flush=True)\n        time.sleep(60)\n"
        "    return lookup(host, *rest, **more)\n"
        "socket.getaddrinfo = slow\n"
    )
    own = {"PYTHONPATH": str(tmp_path), "RISK_BROKER": "slow.example:9092", "RISK_DATADIR": str(tmp_path / "data")}
    process = subprocess.Popen(
        [sys.executable, "-m", "faust", "-A", "app", "worker"],
        env={**os.environ, **own, "RISK_WEB_PORT": str(free_port())},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert any("looking up" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 0  # the look-up would give up after 6 s, with exit code 1


@pytest.fixture
def logging_json(deployment: Deployment) -> Deployment:
    variables = {**deployment.variables, "RISK_LOG_FORMAT": "json", "RISK_STALL_TIMEOUT": "5"}
    return Deployment(deployment.servers, deployment.directory, variables)


@pytest.mark.broker
def test_every_line_of_a_worker_is_an_event_without_personal_data(logging_json: Deployment) -> None:
    """From the start to the end: libraries, dead letters, SIGUSR1, a stop; as a user starts it."""
    schema, names = logging_json.make_source(), logging_json.names
    good = visit(schema, STUDENT, START)[2] or b""
    with logging_json.worker(forked=False) as worker:
        worker.wait(lambda stats: stats["problem"] is None, timeout=TIMEOUT_S)
        bad = [good[:-3], b"\1" + CELL, b"\0" + (99_999).to_bytes(4, "big") + CELL, visit(schema, STUDENT, -5)[2]]
        logging_json.send(names.source, [row(value, key=CELL) for value in (good, *bad)])
        logging_json.send(names.prediction, [row(b'{"USERID": "%d"' % STUDENT, key=b"%d" % STUDENT)])
        worker.wait_idle(timeout=TIMEOUT_S, events=5)
        os.kill(worker.process.pid, signal.SIGUSR1)
        os.kill(worker.process.pid, signal.SIGUSR2)
        until(lambda: [event for event in events(worker.log) if "SIGUSR1" in event["message"]])
        assert worker.stop() == 0
    logged = events(worker.log)
    assert {"app.worker", "agents.rejects"} <= {event["logger"] for event in logged}
    assert any(event["logger"].startswith(("faust", "mode")) for event in logged)
    assert sum("skipped a record" in event["message"] for event in logged) == len(bad) + 1
    text = worker.log.read_text()
    assert str(STUDENT) not in text
    assert CELL.decode() not in text


@pytest.mark.broker
@pytest.mark.parametrize("fault", ["fail@sent:1", pytest.param("hang@sent:1", marks=pytest.mark.long)])
def test_the_last_words_of_a_worker_are_an_event(logging_json: Deployment, fault: str) -> None:
    """Of one that fails, and of one that the watchdog ends, with the stacks of its threads."""
    schema = logging_json.make_source()
    logging_json.send(logging_json.names.source, [visit(schema, STUDENT, START)])
    with logging_json.worker(**{VARIABLE: fault}) as worker:
        assert worker.process.wait(TIMEOUT_S) == 1
    logged = events(worker.log)
    assert logged[-1]["message"].startswith("gave up: ")
    if fault.startswith("hang"):
        assert "Thread 0x" in logged[-1]["exception"]
    else:
        assert any("requested by MOODLE_RISK_FAULT" in event.get("exception", "") for event in logged)
    assert str(STUDENT) not in worker.log.read_text()


def test_the_format_is_checked() -> None:
    assert Settings.from_env({"RISK_LOG_FORMAT": "json"}).log_format == "json"
    assert Settings.for_refusal({"RISK_LOG_FORMAT": "jsn"}).log_format != "json"


def test_the_worker_prints_nothing_past_the_log() -> None:
    """What is printed is no JSON; app.ops.logs.say writes what must not go through the logging module."""
    sources = [path for path in (ROOT / "app").rglob("*.py") if "commands" not in path.parts]
    sources += [path for folder in ("agents", "codec", "models") for path in (ROOT / folder).rglob("*.py")]
    printing = re.compile(r"\bprint\(|sys\.std(out|err)\.write")
    assert [path.name for path in sources if printing.search(path.read_text())] == []
