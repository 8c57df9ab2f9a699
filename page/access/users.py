"""The users of the page: a file of JSON lines, {"name": …, "courses": [1, 2] or "all", "hash": "$argon2id$…"}."""

from __future__ import annotations

import json
import os
import threading
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.errors import ConfigError

#: longest name of a user [characters]
NAME_LENGTH = 200
VARIABLE = "RISK_PAGE_USERS"


@dataclass(frozen=True, slots=True)
class User:
    """A user of the page."""

    name: str
    #: the courses whose students the user may see; None: all
    courses: frozenset[int] | None
    #: of the password; empty: the user cannot log in on the page, only through the proxy of a single sign-on
    hash: str = ""

    def line(self) -> str:
        """Return the line of the file."""
        courses = "all" if self.courses is None else sorted(self.courses)
        values: dict[str, Any] = {"name": self.name, "courses": courses}
        if self.hash:
            values["hash"] = self.hash
        return json.dumps(values, ensure_ascii=False)


class Users:
    """The users in a file, which is read again when it has changed. Thread-safe.

    Whoever is taken out of it is out at the next request. While the file cannot be read, nobody gets in.
    """

    def __init__(self, path: Path) -> None:
        """Raises ConfigError if the file cannot be read."""
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, ...] | None = None
        self._users: dict[str, User] = {}
        self.find("")

    @property
    def anybody(self) -> bool:
        """Whether there are users, as of the last look at the file."""
        with self._lock:
            return bool(self._users)

    def find(self, name: str) -> User | None:
        """Return the user of a name. Raises ConfigError, with one line, while the file cannot be read."""
        with self._lock:
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._stamp = None
                self._users = {user.name: user for user in read(self._path)}
                self._stamp = stamp
            return self._users.get(canonical(name))


def canonical(name: str) -> str:
    """Return a name in Unicode's composed form: keyboards differ in how they write the same letter."""
    return unicodedata.normalize("NFC", name)


def is_name(name: str) -> bool:
    """Whether `name` may be the name of a user: printable, without spaces around it, not too long."""
    # U+FFFD: what a header was decoded to that is no UTF-8
    is_text = name.isprintable() and "\ufffd" not in name
    return 0 < len(name) <= NAME_LENGTH and is_text and name == name.strip() and name == canonical(name)


def read(path: Path) -> list[User]:
    """Read the users. Raises ConfigError, with one line that says where the file is wrong."""
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & 0o037:
                raise ConfigError(f"{VARIABLE}: others may read or change {path}: chmod 600 {path}")
            lines = file.read().split("\n")
    except OSError as error:
        raise ConfigError(
            f"{VARIABLE}: cannot read {path}: {error.strerror}; faust -A app page-user add NAME makes it"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{VARIABLE}: {path} is not UTF-8") from None
    users: dict[str, User] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            user = _user(line, f"{VARIABLE}: {path}, line {number}")
            if user.name in users:
                raise ConfigError(f"{VARIABLE}: {path}, line {number}: {user.name!r} is there already")
            users[user.name] = user
    return list(users.values())


def write(path: Path, users: Iterable[User]) -> None:
    """Write the users, each on a line, readable by the owner only. Killed at any moment, the file is old or new.

    Raises ConfigError if it cannot be written.
    """
    path = path.resolve()  # a link stays one
    new = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            file.writelines(f"{user.line()}\n" for user in users)
            file.flush()
            os.fsync(descriptor)
        new.replace(path)
    except OSError as error:
        new.unlink(missing_ok=True)
        raise ConfigError(f"{VARIABLE}: cannot write {path}: {error.strerror}") from None


def _user(line: str, where: str) -> User:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        raise ConfigError(f"{where} is not JSON") from None
    if not isinstance(values, dict) or not {"name", "courses"} <= values.keys() <= {"name", "courses", "hash"}:
        raise ConfigError(f'{where} is not {{"name": …, "courses": …, "hash": …}}')
    name, courses, hashed = values["name"], values["courses"], values.get("hash", "")
    if not isinstance(name, str) or not is_name(name):
        raise ConfigError(
            f"{where}: the name is not 1 to {NAME_LENGTH} printable characters without spaces around them"
        )
    if courses != "all" and not (
        isinstance(courses, list) and all(type(c) is int and -(1 << 63) <= c < 1 << 63 for c in courses)
    ):
        raise ConfigError(f'{where}: courses is neither "all" nor a list of course ids')
    if not isinstance(hashed, str) or (hashed and not hashed.startswith("$argon2id$")):
        raise ConfigError(f"{where}: hash is not one of argon2id")
    return User(name, None if courses == "all" else frozenset(courses), hashed)


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes when a file does; all zeros if it is not there."""
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0, 0)
    return (stat.st_mtime_ns, stat.st_size, stat.st_ino, stat.st_mode)
