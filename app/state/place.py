"""Places: numbered directories in RISK_DATADIR, each the state of one worker at a time.

    RISK_DATADIR/0/lock          locked by the worker that has the place; "PID APP", of the last one that had it
    RISK_DATADIR/0/v1/tables/    its databases
    RISK_DATADIR/web-0.json      where its pages are, as file_sd_configs of Prometheus reads it

The kernel keeps a lock until the process ends, however it ends: kill -9 frees a place, a suspended worker keeps it.
A place belongs to one app for good: with another RISK_APP_ID, its databases are those of other changelogs.
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import json
import logging
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from app.errors import ConfigError

log = logging.getLogger(__name__)

#: most places in one directory
MOST = 256
#: Faust's directory for the tables of version 1 of an app. A version without places had it in RISK_DATADIR itself
_TABLES = "v1"
#: what flock raises where the file system has no locks
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class Place:
    """A place that this process has, until it ends."""

    number: int
    #: directory of the state
    path: Path
    #: file descriptor that has the lock until it is closed: a number, so that no garbage collection closes it
    lock: int

    def publish(self, address: str, port: int) -> None:
        """Write where the worker's pages are; address: RISK_WEB_BIND. Raises ConfigError.

        The label `instance` stays the same when another port is taken at the next start.
        """
        host = _reachable(address)
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        labels = {"instance": f"{socket.gethostname()}:{self.path}"}
        new = self._web.with_suffix(".new")
        try:
            new.write_text(json.dumps([{"targets": [target], "labels": labels}]) + "\n", encoding="utf-8")
            new.replace(self._web)
        except OSError as error:
            raise _refusal(self._web, error) from error

    def withdraw(self) -> None:
        """Remove what `publish` wrote."""
        self._web.unlink(missing_ok=True)

    @property
    def _web(self) -> Path:
        return web_file(self.path.parent, self.number)


def web_file(directory: Path, number: int) -> Path:
    """Return the file that says where the pages of a place's worker are. It is left behind by a worker that is killed.

    Not in the place itself: a pattern of file_sd_configs may have a * in its last part only.
    """
    return directory / f"web-{number}.json"


def take(directory: Path, app: str) -> Place:
    """Take the first free place of a directory that is this app's, or nobody's; app: RISK_APP_ID.

    Raises ConfigError if there is none, or it cannot be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for number in range(MOST):
            place = _try(directory / str(number), number, app)
            if place is not None:
                place.withdraw()  # what a worker that was killed has left
                if number == 0:
                    _adopt(directory / _TABLES, place)
                return place
    except OSError as error:
        raise _refusal(directory, error) from error
    raise ConfigError(f"RISK_DATADIR: workers or other apps have all {MOST} places of {directory}: set another")


def _try(path: Path, number: int, app: str) -> Place | None:
    """Take this place; None if another process or another app has it."""
    path.mkdir(exist_ok=True)
    file = path / "lock"
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _flock(lock, file)
        # somebody may have deleted the directory between the two calls, and another worker may have made it anew
        same = os.path.samestat(os.fstat(lock), file.stat())
        if same and _app_of(lock) in (None, app) and not _in_use(path / _TABLES):
            os.truncate(lock, os.pwrite(lock, f"{os.getpid()} {app}\n".encode(), 0))
            return Place(number, path, lock)
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


def _app_of(lock: int) -> str | None:
    """Return the app whose place this is, None if it was never taken."""
    words = os.pread(lock, 1_024, 0).decode("utf-8", "replace").split()
    return words[1] if len(words) == 2 else None


def _flock(lock: int, file: Path) -> None:
    """Lock an open file until it is closed. Raises BlockingIOError if another has it, ConfigError if nobody can."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            raise ConfigError(
                f"RISK_DATADIR: the file system of {file} has no locks ({error.strerror}): set a directory on another"
            ) from error
        raise


def _adopt(former: Path, place: Place) -> None:
    """Move the databases of a version without places into place 0. Raises ConfigError while such a worker runs."""
    if not former.is_dir():
        return
    if _in_use(former):
        os.close(place.lock)
        raise ConfigError(
            f"RISK_DATADIR: a worker of an earlier version has its databases in {former}: stop it, or set another"
        )
    if (place.path / _TABLES).exists():
        log.warning("%s is of an earlier version and no longer used: delete it", former)
        return
    former.rename(place.path / _TABLES)
    log.info("%s is now %s", former, place.path / _TABLES)


def _in_use(tables: Path) -> bool:
    """Whether a process has a database open: a worker of a version without places locks nothing else."""
    return any(_has_lock(lock) for lock in _locks(tables))


def _locks(tables: Path) -> Iterator[Path]:
    return tables.glob("tables/*.db/LOCK")


def _has_lock(lock: Path) -> bool:
    """Whether another process has RocksDB's lock, which is of the POSIX kind."""
    with lock.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _reachable(address: str) -> str:
    """Return an address of this machine at which a server listens that is bound to `address`."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    if not ip.is_unspecified:
        return address
    return "127.0.0.1" if ip.version == 4 else "::1"


def _refusal(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"RISK_DATADIR: cannot write to {error.filename or path}: {error.strerror}; set another")
