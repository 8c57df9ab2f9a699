"""Variables that other programs set must not configure the worker: only RISK_ variables count."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import faust

from app.settings import Settings
from app.topology import declare
from tools.e2e.workers import ROOT, free_port

#: prints every setting of the app's Faust configuration but one that is random, once a metric has a value
PRINT = (
    "import json; from app import app; app.metrics.flushes('students').rows.observe(1); "
    "names = sorted(set(app.conf.SETTINGS) - {'reply_to'}); "
    "print(json.dumps({name: str(getattr(app.conf, name)) for name in names}))"
)


def configuration(environment: dict[str, str]) -> dict[str, str]:
    """Return the configuration of an app that is declared in a process with these variables."""
    process = subprocess.run(
        [sys.executable, "-c", PRINT], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    result: dict[str, str] = json.loads(process.stdout)
    del result["web_application_options"]  # a function, whose text has its address
    return result


def test_no_variable_that_faust_reads_changes_the_configuration() -> None:
    """Faust reads some hundred variables with names such as WEB_BIND, BROKER_URL, APP_VERSION and TIMEZONE."""
    conf = declare(Settings(store="memory://")).conf
    names = {parameter.env_name for parameter in conf.SETTINGS.values() if parameter.env_name}
    assert {"WEB_BIND", "WEB_PORT", "BROKER_URL", "APP_VERSION", "APP_DATADIR", "TIMEZONE"} <= names
    hostile = {**os.environ, **dict.fromkeys(names, "7"), "BROKER_URL": "kafka://other:9092", "WEB_BIND": "0.0.0.0"}
    hostile["PROMETHEUS_MULTIPROC_DIR"] = "/no/such/directory"
    assert configuration(hostile) == configuration(dict(os.environ))


def test_the_variables_do_reach_a_plain_faust_app(monkeypatch) -> None:
    """Otherwise the test above would prove nothing."""
    monkeypatch.setenv("WEB_BIND", "0.0.0.0")
    assert faust.App("plain", set_as_current=False).conf.web_bind == "0.0.0.0"


def test_sighup_does_not_end_a_worker() -> None:
    """A closed terminal or a log rotation sends it; the worker goes on, here until no broker has answered."""
    process = subprocess.Popen(
        [sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "warn"],
        env={**os.environ, "RISK_BROKER": f"127.0.0.1:{free_port()}", "RISK_WEB_PORT": str(free_port())},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    ignored = 1 << (signal.SIGHUP - 1)
    with process:
        give_up = time.monotonic() + 60
        while not _ignored_signals(process.pid) & ignored:
            assert process.poll() is None
            assert time.monotonic() < give_up
            time.sleep(0.05)
        process.send_signal(signal.SIGHUP)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "no Kafka broker answers" in errors


def _ignored_signals(pid: int) -> int:
    """Return the mask of signals that a process ignores (Linux: /proc)."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        (line,) = (line for line in status if line.startswith("SigIgn:"))
    return int(line.split()[1], 16)
