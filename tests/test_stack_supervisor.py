"""How servers live and die under their keepers, with small Python servers in the place of real ones."""

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
from stack import lifecycle as life
from stack import ports
from stack.lockfile import freed, hold, holder, inscribe
from stack.process_spec import Files, Orders
from stack.server import HOST, Place, Server
from stack.supervisor import alive

#: a server that says who it is to everyone who connects
GREET = """
import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as server:
    while True:
        server.accept()[0].sendall(sys.argv[2].encode())
"""
SLEEP = "import time; time.sleep(60)"
#: one that ignores SIGTERM, and says when it does
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); {SLEEP}"
#: one that dies at once
DYING = "print('no disk left'); raise SystemExit(3)"


def greets(place: Place) -> bool:
    """Whether the server of this place, and no other, answers."""
    try:
        with socket.create_connection((HOST, place.ports["tcp"]), timeout=0.5) as connection:
            return connection.recv(1000).decode() == str(place.home)
    except OSError:
        return False


def python(script: str) -> Callable[[Place, Sequence[Path]], list[str]]:
    return lambda place, parts: [sys.executable, "-c", script, str(place.ports["tcp"]), str(place.home)]


TINY = Server(
    name="tiny",
    roots=(),
    ports=("tcp",),
    command=python(GREET),
    ready=greets,
    settle=lambda place: None,
    environment=lambda place: {},
)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Files]:
    """The files of a server `tiny`, which is stopped in the end."""
    monkeypatch.setattr(life, "SERVERS", {"tiny": TINY})
    yield Files(tmp_path, "tiny")
    life.end(Files(tmp_path, "tiny"))


def begin(files: Files, script: str = SLEEP, owner: int | None = None, life_s: float = 60.0) -> None:
    """Have a keeper run a script; return when the script's process is there."""
    argv = (sys.executable, "-c", script)
    chosen = ports.choose(("tcp",), None, {})
    orders = Orders("tiny", argv, chosen, owner, time.time() + life_s, grace_s=0.5)
    orders.write(files.orders)
    life.launch(files)
    until(lambda: holder(files.server) or holder(files.keeper) is None)


def until(true: Callable[[], object], patience_s: float = 10.0) -> None:
    """Wait for something that will soon be true."""
    give_up = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < give_up, "it did not happen"
        time.sleep(0.01)


def gone(files: Files, patience_s: float = 5.0) -> bool:
    return freed([files.keeper, files.server], patience_s)


def test_a_held_file_names_its_holder(tmp_path: Path) -> None:
    """free -> None; held -> 0 until the holder has said who it is; let go -> None again."""
    path = tmp_path / "x.keeper"
    assert holder(path) is None
    fd = hold(path)
    assert fd is not None
    assert holder(path) == 0
    inscribe(fd, 4711)
    assert holder(path) == 4711
    assert hold(path, patience_s=0) is None
    os.close(fd)
    assert holder(path) is None


def test_a_reused_pid_is_not_signalled(tmp_path: Path) -> None:
    """The file of a dead server names a pid that now is ours: nobody holds the file, so nobody is killed."""
    path = tmp_path / "x.server"
    path.write_text(f"{os.getpid()}\n")
    assert not life.send(signal.SIGKILL, path)


def test_ports_are_free_and_differ() -> None:
    chosen = ports.choose(("a", "b", "c"), None, {})
    assert len(set(chosen.values())) == 3
    assert all(ports.is_free(port) for port in chosen.values())


def test_ports_of_before_are_kept_unless_taken() -> None:
    before = ports.choose(("a", "b"), None, {})
    assert ports.choose(("a", "b"), None, before) == before
    with socket.create_server((HOST, before["b"])):
        again = ports.choose(("a", "b"), None, before)
    assert again["a"] == before["a"]
    assert again["b"] != before["b"]


def test_a_given_port_that_is_taken_is_refused() -> None:
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(stack.StackError, match=f"port {port} is in use"):
            ports.choose(("a", "b"), port, {})


def test_a_server_ends_when_its_owner_is_killed(files: Files) -> None:
    with subprocess.Popen([sys.executable, "-c", SLEEP]) as owner:
        begin(files, owner=owner.pid)
        assert holder(files.server)
        owner.kill()
    assert gone(files)
    assert "stopping tiny: its owner is gone" in files.log.read_text()


def test_a_server_does_not_start_for_a_dead_owner(files: Files) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as owner:
        owner.wait()
    begin(files, owner=owner.pid)
    assert gone(files)


def test_a_server_ends_when_its_time_is_up(files: Files) -> None:
    begin(files, life_s=1.0)
    assert gone(files)
    assert "stopping tiny: its time is up" in files.log.read_text()


def test_a_server_ends_when_its_directory_is_removed(files: Files) -> None:
    """The keeper looks now and then; a signal of no meaning makes it look now."""
    begin(files)
    keeper, server = holder(files.keeper), holder(files.server)
    assert keeper
    assert server
    shutil.rmtree(files.directory)
    os.kill(keeper, signal.SIGCHLD)
    until(lambda: not alive(server))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a child with its parent")
def test_a_server_ends_when_its_keeper_is_killed(files: Files) -> None:
    begin(files)
    assert life.send(signal.SIGKILL, files.keeper)
    assert gone(files)


def test_an_orphan_is_found_and_stopped(files: Files) -> None:
    """Where nothing kills a server with its keeper, the file it inherited still gives it away."""
    begin(files)
    assert life.end(files)
    fd = hold(files.server)
    assert fd is not None
    with subprocess.Popen([sys.executable, "-c", SLEEP], pass_fds=[fd]) as orphan:
        inscribe(fd, orphan.pid)
        os.close(fd)
        assert life.end(files)
        assert orphan.wait() == -signal.SIGTERM


def test_a_server_that_ignores_sigterm_is_killed_after_its_grace(files: Files) -> None:
    begin(files, STUBBORN)
    until(lambda: "deaf" in files.log.read_text())
    assert life.end(files)
    assert gone(files, patience_s=0)
    assert not life.end(files)


def test_a_server_has_one_keeper(files: Files) -> None:
    begin(files)
    before = holder(files.server)
    life.launch(files)
    assert "tiny is kept already" in files.log.read_text()
    assert holder(files.server) == before


def test_a_server_sees_a_clean_environment(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """JAVA_TOOL_OPTIONS of a developer's shell must not reach the servers."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Xmx1m")
    begin(files, f"import os; print(sorted(os.environ), flush=True); {SLEEP}")
    until(lambda: "PATH" in files.log.read_text())
    assert "JAVA_TOOL_OPTIONS" not in files.log.read_text()


def test_a_server_that_dies_at_start_shows_its_last_words(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "SERVERS", {"tiny": replace(TINY, command=python(DYING))})
    life.start(files, Orders("", (), {}, None, time.time() + 60, 0.5), [], None)
    with pytest.raises(stack.StackError, match=r"tiny died while starting(.|\n)*no disk left(.|\n)*ended with 3"):
        life.await_ready(files, [], None)


def test_a_server_whose_port_was_taken_meanwhile_starts_on_another(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the choice of a port and the start of the server, a stranger takes it."""
    strangers: list[socket.socket] = []

    def robbed(place: Place, parts: Sequence[Path]) -> list[str]:
        if not strangers:
            strangers.append(socket.create_server((HOST, place.ports["tcp"])))
        return python(GREET)(place, parts)

    monkeypatch.setattr(life, "SERVERS", {"tiny": replace(TINY, command=robbed)})
    life.start(files, Orders("", (), {}, None, time.time() + 60, 0.5), [], None)
    life.await_ready(files, [], None)
    with strangers[0]:
        assert life.place(files).ports["tcp"] != strangers[0].getsockname()[1]
        assert greets(life.place(files))


def test_a_server_that_waits_for_ever_is_given_up(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(life, "START_S", 0.2)
    monkeypatch.setattr(life, "SERVERS", {"tiny": replace(TINY, ready=lambda place: False)})
    begin(files)
    with pytest.raises(stack.StackError, match="tiny was not ready after 0 s; the end of"):
        life.await_ready(files, [], None)
