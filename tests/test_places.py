"""Workers of one machine share RISK_DATADIR: each takes a place, which the kernel frees when its process ends."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import signal
import socket
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from app.errors import ConfigError
from app.faust_app import RiskApp
from app.settings import Settings
from app.state import place as places
from app.state.place import Place, take, web_file

#: a forked process, which imports nothing, takes a place within a millisecond
CONTEXT = multiprocessing.get_context("fork")
#: upper bound for a process to start [s]
TIMEOUT_S = 30.0

# this process is about to fork with threads of pytest-xdist (Python 3.12)
pytestmark = pytest.mark.filterwarnings("ignore:.* multi-threaded:DeprecationWarning")


def hold(directory: Path, start: Any, end: Connection) -> None:
    """Take a place once all are ready, say which, and keep it until the other end is closed."""
    start.wait(TIMEOUT_S)
    place = take(directory, "app")
    end.send(place.number)
    end.poll(None)


def databases(tables: Path) -> Path:
    """Make what RocksDB leaves. Return its lock."""
    (tables / "tables" / "students-0.db").mkdir(parents=True)
    lock = tables / "tables" / "students-0.db" / "LOCK"
    lock.touch()
    return lock


class Holders:
    """Processes that take places at the same moment."""

    def __init__(self) -> None:
        self.processes: dict[int, Any] = {}
        self._ends: list[Connection] = []

    def start(self, directory: Path, count: int) -> list[int]:
        """Start processes. Return the places that they took."""
        barrier = CONTEXT.Barrier(count)
        started = []
        for _ in range(count):
            ours, theirs = CONTEXT.Pipe()
            process = CONTEXT.Process(target=hold, args=(directory, barrier, theirs), daemon=True)
            process.start()
            theirs.close()
            started.append((process, ours))
            self._ends.append(ours)
        numbers = []
        for process, end in started:
            assert end.poll(TIMEOUT_S)
            numbers.append(end.recv())
            self.processes[numbers[-1]] = process
        return numbers

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.join(TIMEOUT_S)
        for end in self._ends:
            end.close()


@pytest.fixture(autouse=True)
def _given_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give back the places that a test has taken in this process."""
    taken: list[Place] = []

    def made(*args: Any) -> Place:
        taken.append(Place(*args))
        return taken[-1]

    monkeypatch.setattr(places, "Place", made)
    yield
    for place in taken:
        # not one that was closed, whose number another file may have by now
        with contextlib.suppress(OSError):
            if Path(f"/proc/self/fd/{place.lock}").readlink() == place.path / "lock":
                os.close(place.lock)


@pytest.fixture
def holders() -> Iterator[Holders]:
    holders = Holders()
    yield holders
    holders.end()


def test_workers_that_start_at_once_never_share_a_place(holders: Holders, tmp_path: Path) -> None:
    """A place of a process that is killed is free again, with what is in it; that of a suspended one is not."""
    directory = tmp_path / "not" / "there" / "yet"
    assert sorted(holders.start(directory, 6)) == [0, 1, 2, 3, 4, 5]
    (directory / "2" / "state").touch()
    os.kill(holders.processes[1].pid, signal.SIGSTOP)
    for killed in (4, 2):
        holders.processes[killed].kill()
        holders.processes[killed].join(TIMEOUT_S)
    assert sorted(holders.start(directory, 3)) == [2, 4, 6]
    assert (directory / "2" / "state").exists()
    assert (directory / "2" / "lock").read_text() == f"{holders.processes[2].pid} app\n"


def test_a_place_whose_databases_are_in_use_is_not_free(tmp_path: Path, holders: Holders) -> None:
    """A version without places may have had RISK_DATADIR=…/0; it locks its databases only."""
    with databases(tmp_path / "0" / "v1").open("wb") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        assert holders.start(tmp_path, 1) == [1]
    assert holders.start(tmp_path, 1) == [0]


def test_the_databases_of_a_version_without_places_become_those_of_place_0(
    tmp_path: Path, holders: Holders, caplog: pytest.LogCaptureFixture
) -> None:
    databases(tmp_path / "v1")
    assert sorted(holders.start(tmp_path, 3)) == [0, 1, 2]
    assert (tmp_path / "0" / "v1" / "tables" / "students-0.db" / "LOCK").exists()
    assert not (tmp_path / "v1").exists()
    holders.end()
    databases(tmp_path / "v1")  # the earlier version has run once more
    take(tmp_path, "app")
    assert f"{tmp_path / 'v1'} is of an earlier version" in caplog.text
    assert (tmp_path / "v1").exists()


def lock_and_wait(lock: Path, end: Connection) -> None:
    with lock.open("wb") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        end.send(True)
        end.poll(None)


def test_databases_that_an_earlier_version_has_open_are_left_alone(tmp_path: Path) -> None:
    ours, theirs = CONTEXT.Pipe()
    former = CONTEXT.Process(target=lock_and_wait, args=(databases(tmp_path / "v1"), theirs), daemon=True)
    former.start()
    try:
        assert ours.poll(TIMEOUT_S)
        with pytest.raises(ConfigError, match=rf"RISK_DATADIR: a worker of an .* in {tmp_path / 'v1'}: stop it"):
            take(tmp_path, "app")
    finally:
        former.kill()
        former.join(TIMEOUT_S)
    assert (tmp_path / "v1").exists()
    assert (take(tmp_path, "app").path / "v1" / "tables").is_dir()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_named(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(ConfigError, match=r"RISK_DATADIR: the file system of .* has no locks .*: set a dir"):
        take(tmp_path, "app")


def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Where it is a file, as its owner, and on a full disk."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", Path("/proc/nothing")):
        with pytest.raises(ConfigError, match=rf"RISK_DATADIR: cannot write to {path}: .+; set another"):
            take(path, "app")
    (tmp_path / "full" / "0").mkdir(parents=True)
    (tmp_path / "full" / "0" / "lock").symlink_to("/dev/full")
    with pytest.raises(ConfigError, match=r"RISK_DATADIR: cannot write to .*: No space left on device; set another"):
        take(tmp_path / "full", "app")


def test_a_place_belongs_to_one_app(tmp_path: Path) -> None:
    """Its databases are copies of that app's changelogs, which another app would take for its own."""
    for number, app in ((0, "one"), (1, "two"), (0, "one"), (1, "two"), (2, "three")):
        place = take(tmp_path, app)
        assert place.number == number
        os.close(place.lock)


def test_there_is_an_end_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "MOST", 1)
    place = take(tmp_path, "app")
    with pytest.raises(ConfigError, match="RISK_DATADIR: workers or other apps have all 1 places of"):
        take(tmp_path, "app")
    assert place.number == 0


@pytest.mark.parametrize(
    ("address", "target"),
    [("127.0.0.1", "127.0.0.1:7"), ("0.0.0.0", "127.0.0.1:7"), ("::", "[::1]:7"), ("::1", "[::1]:7"), ("w", "w:7")],
)
def test_where_the_pages_are_is_in_a_file_of_prometheus_format(address: str, target: str, tmp_path: Path) -> None:
    """The next worker in the place removes what one that was killed has left."""
    place = take(tmp_path, "app")
    place.publish(address, 7)
    (group,) = json.loads((tmp_path / "web-0.json").read_text())
    assert group == {"targets": [target], "labels": {"instance": f"{socket.gethostname()}:{tmp_path / '0'}"}}
    place.withdraw()
    assert not list(tmp_path.glob("web-*"))
    web_file(tmp_path, 1).touch()
    assert take(tmp_path, "app").number == 1
    assert not list(tmp_path.glob("web-*"))


def test_an_app_keeps_its_tables_in_its_place(tmp_path: Path) -> None:
    app = RiskApp(Settings(datadir=tmp_path, web_port=0))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        app.occupy(listener, take(tmp_path, "app"))
        port = listener.getsockname()[1]
    assert app.conf.tabledir == tmp_path / "0" / "v1" / "tables"
    assert (app.settings.web_port, app.conf.web_port) == (port, port)
    assert app.whereabouts() == f"place 0: state in {tmp_path / '0'}, pages at http://127.0.0.1:{port}"
    app.occupy(None, None)
    assert app.whereabouts() == "state in memory, no pages"
