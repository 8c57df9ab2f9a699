"""A worker as containers run it: as PID 1, under a user id that no passwd entry has, without HOME."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.cluster import START, TIMEOUT_S, Deployment, until, visit
from tools.e2e.workers import ROOT, Worker, free_port

#: namespaces of its own for users and processes; files are accessed as the present user
CONTAINER = ("unshare", "--user", "--map-user=12345", "--map-group=12345", "--pid", "--fork")


@contextmanager
def contained(variables: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker as PID 1 of a container, with these variables and PATH alone. Skip where that is not allowed."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare (util-linux)")
    if subprocess.run([*CONTAINER, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets nobody create a user namespace")
    command = [*CONTAINER, sys.executable, "-m", "faust", "-A", "app", "worker", "-l", "info"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command, env={"PATH": os.environ["PATH"], **variables}, stdout=out, stderr=out, cwd=ROOT
        )
    try:
        yield process
    finally:
        for pid in children(process):
            os.kill(pid, signal.SIGKILL)
        process.wait(TIMEOUT_S)


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """Return the process ids of its children."""
    try:
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except OSError:
        return []


def terminate(process: subprocess.Popen[bytes]) -> int:
    """Send SIGTERM to the worker, as a container's runtime does. Return its exit code."""
    (worker,) = children(process)
    os.kill(worker, signal.SIGTERM)
    return process.wait(15)


@pytest.mark.broker
def test_a_worker_runs_as_pid_1_of_an_unknown_user_and_ends_on_sigterm(deployment: Deployment) -> None:
    """As OpenShift runs it: nobody knows the user's name, and there is no home directory."""
    schema = deployment.make_source()
    deployment.send(deployment.names.source, [visit(schema, 7, START)])
    variables = {**deployment.variables, "RISK_DATADIR": str(deployment.state()), "RISK_WEB_PORT": str(free_port())}
    stats = Worker(variables, deployment.directory / "unused.log").stats
    with contained(variables, deployment.directory / "worker-1.log") as process:
        until(lambda: process.poll() or (stats() or {}).get("counts", {}).get("visits"))
        assert terminate(process) == 0
    assert "Traceback" not in (deployment.directory / "worker-1.log").read_text()


def test_sigterm_ends_the_checks_before_the_start(tmp_path: Path) -> None:
    """The broker does not answer; the runtime that ends the container need not wait until it kills."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)
        variables = {
            "RISK_BROKER": f"127.0.0.1:{silent.getsockname()[1]}",
            "RISK_DATADIR": str(tmp_path / "data"),
            "RISK_WEB_PORT": str(free_port()),
        }
        with contained(variables, tmp_path / "worker.log") as process:
            silent.settimeout(TIMEOUT_S)
            connection, _ = silent.accept()
            assert terminate(process) == 0
            connection.close()
