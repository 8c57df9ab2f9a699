"""Tests of lock files, ports and supervisors, with small Python servers instead of real ones."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import stack
from stack import life, ports
from stack.lockfile import acquire, holder, wait_released, write_pid
from stack.process_spec import ProcessSpec, ServerFiles
from stack.server import HOST, Instance, Server
from stack.supervisor import alive

#: a server that sends its home directory to every client
GREETING = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        server.accept()[0].sendall(sys.argv[2].encode())
"""
SLEEP = "import time; time.sleep(60)"
#: one that ignores SIGTERM, and prints when it does
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ignoring', flush=True); {SLEEP}"
#: one that dies at startup
DYING = "print('no disk left'); raise SystemExit(3)"


def greets(instance: Instance) -> bool:
    """Return whether this instance, and no other server, answers."""
    try:
        with socket.create_connection((HOST, instance.ports["tcp"]), timeout=0.5) as connection:
            return connection.recv(1000).decode() == str(instance.home)
    except OSError:
        return False


def python(script: str) -> Callable[[Instance, Sequence[Path]], list[str]]:
    return lambda instance, parts: [sys.executable, "-c", script, str(instance.ports["tcp"]), str(instance.home)]


TINY = Server(
    name="tiny",
    roots=(),
    ports=("tcp",),
    command=python(GREETING),
    ready=greets,
    settle=lambda instance: None,
    environment=lambda instance: {},
)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerFiles]:
    """The files of a server `tiny`, which is stopped after the test."""
    monkeypatch.setattr(life, "SERVERS", {"tiny": TINY})
    yield ServerFiles(tmp_path, "tiny")
    life.stop(ServerFiles(tmp_path, "tiny"))


def begin(files: ServerFiles, script: str = SLEEP, owner: int | None = None, life_s: float = 60.0) -> None:
    """Start a supervisor that runs a script, and wait until the script's process exists."""
    argv = (sys.executable, "-c", script)
    chosen = ports.choose(("tcp",), None, {})
    spec = ProcessSpec("tiny", argv, chosen, owner, time.time() + life_s, grace_s=0.5)
    spec.write(files.spec)
    life.start_supervisor(files)
    until(lambda: holder(files.server) or holder(files.supervisor) is None)


def until(condition: Callable[[], object], timeout_s: float = 10.0) -> None:
    """Wait until the condition is true."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timeout"
        time.sleep(0.01)


def wait_gone(files: ServerFiles, timeout_s: float = 5.0) -> bool:
    """Wait until supervisor and server have ended; return False on timeout."""
    return wait_released([files.supervisor, files.server], timeout_s)


def test_a_lock_file_names_its_holder(tmp_path: Path) -> None:
    """None if free, 0 until the holder has written its pid, None again after release."""
    path = tmp_path / "x.supervisor"
    assert holder(path) is None
    fd = acquire(path)
    assert fd is not None
    assert holder(path) == 0
    write_pid(fd, 4711)
    assert holder(path) == 4711
    assert acquire(path, timeout_s=0) is None
    os.close(fd)
    assert holder(path) is None


def test_a_reused_pid_is_not_signalled(tmp_path: Path) -> None:
    """The file of a dead server has the pid of this process, but it is not locked, so no signal is sent."""
    path = tmp_path / "x.server"
    path.write_text(f"{os.getpid()}\n")
    assert not life.send_signal(signal.SIGKILL, path)


def test_ports_are_free_and_differ() -> None:
    chosen = ports.choose(("a", "b", "c"), None, {})
    assert len(set(chosen.values())) == 3
    assert all(ports.is_free(port) for port in chosen.values())


def test_previous_ports_are_kept_unless_in_use() -> None:
    before = ports.choose(("a", "b"), None, {})
    assert ports.choose(("a", "b"), None, before) == before
    with socket.create_server((HOST, before["b"])):
        again = ports.choose(("a", "b"), None, before)
    assert again["a"] == before["a"]
    assert again["b"] != before["b"]


def test_a_requested_port_that_is_in_use_is_refused() -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(stack.StackError, match=f"port {port} is in use"):
            ports.choose(("a", "b"), port, {})


def test_a_server_stops_when_its_owner_is_killed(files: ServerFiles) -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEP]) as owner:
        begin(files, owner=owner.pid)
        assert holder(files.server)
        owner.kill()
    assert wait_gone(files)
    assert "stopping tiny: its owner died" in files.log.read_text()


def test_a_server_of_a_dead_owner_is_stopped(files: ServerFiles) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as owner:
        owner.wait()
    begin(files, owner=owner.pid)
    assert wait_gone(files)


def test_a_server_stops_when_its_time_is_up(files: ServerFiles) -> None:
    begin(files, life_s=1.0)
    assert wait_gone(files)
    assert "stopping tiny: its time is up" in files.log.read_text()


def test_a_server_stops_when_its_directory_is_removed(files: ServerFiles) -> None:
    """The supervisor checks this rarely; SIGCHLD wakes it up."""
    begin(files)
    supervisor, server = holder(files.supervisor), holder(files.server)
    assert supervisor
    assert server
    shutil.rmtree(files.directory)
    os.kill(supervisor, signal.SIGCHLD)
    until(lambda: not alive(server))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
def test_a_server_stops_when_its_supervisor_is_killed(files: ServerFiles) -> None:
    begin(files)
    assert life.send_signal(signal.SIGKILL, files.supervisor)
    assert wait_gone(files)


def test_an_orphan_is_found_and_stopped(files: ServerFiles) -> None:
    """A server that outlives its supervisor is found by the lock it inherited."""
    begin(files)
    assert life.stop(files)
    fd = acquire(files.server)
    assert fd is not None
    with subprocess.Popen([sys.executable, "-c", SLEEP], pass_fds=[fd]) as orphan:
        write_pid(fd, orphan.pid)
        os.close(fd)
        assert life.stop(files)
        assert orphan.wait() == -signal.SIGTERM


def test_a_server_that_ignores_sigterm_is_killed_after_the_grace_period(files: ServerFiles) -> None:
    begin(files, STUBBORN)
    until(lambda: "ignoring" in files.log.read_text())
    assert life.stop(files)
    assert wait_gone(files, timeout_s=0)
    assert not life.stop(files)


def test_a_server_has_one_supervisor(files: ServerFiles) -> None:
    begin(files)
    before = holder(files.server)
    life.start_supervisor(files)
    assert "tiny already has a supervisor" in files.log.read_text()
    assert holder(files.server) == before


def test_a_server_gets_a_clean_environment(files: ServerFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables like JAVA_TOOL_OPTIONS are not passed to servers."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1m")
    begin(files, f"import os; print(sorted(os.environ), flush=True); {SLEEP}")
    until(lambda: "PATH" in files.log.read_text())
    assert "JAVA_TOOL_OPTIONS" not in files.log.read_text()


def test_a_server_that_dies_at_startup_is_an_error_with_its_log(
    files: ServerFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "SERVERS", {"tiny": replace(TINY, command=python(DYING))})
    life.start(files, ProcessSpec("", (), {}, None, time.time() + 60, 0.5), [], None)
    with pytest.raises(stack.StackError, match=r"tiny died while starting(.|\n)*no disk left(.|\n)*ended with 3"):
        life.await_ready(files, [], None)


def test_a_server_that_loses_its_port_starts_on_another(files: ServerFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process takes the port after it was chosen and before the server starts."""
    others: list[socket.socket] = []

    def lose_port(instance: Instance, parts: Sequence[Path]) -> list[str]:
        if not others:
            others.append(socket.create_server((HOST, instance.ports["tcp"])))
        return python(GREETING)(instance, parts)

    monkeypatch.setattr(life, "SERVERS", {"tiny": replace(TINY, command=lose_port)})
    life.start(files, ProcessSpec("", (), {}, None, time.time() + 60, 0.5), [], None)
    life.await_ready(files, [], None)
    with others[0]:
        assert life.instance_of(files).ports["tcp"] != others[0].getsockname()[1]
        assert greets(life.instance_of(files))


def test_a_server_that_does_not_become_ready_is_an_error(files: ServerFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "START_S", 0.2)
    monkeypatch.setattr(life, "SERVERS", {"tiny": replace(TINY, ready=lambda instance: False)})
    begin(files)
    with pytest.raises(stack.StackError, match="tiny was not ready after 0 s; the end of"):
        life.await_ready(files, [], None)
