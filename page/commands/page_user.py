"""`faust -A app page-user`: the users of the advisers' page."""

from __future__ import annotations

import fcntl
import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from faust.cli import argument, option

from app.commands.base import Command
from app.errors import ConfigError
from app.settings import Settings
from page.access import passwords
from page.access.users import NAME_LENGTH, User, canonical, is_name, read, write


class page_user(Command):
    """Add, change, remove or list the users of the advisers' page, in the file RISK_PAGE_USERS.

    \b
    add NAME --courses 12,34   a user who sees the students of these courses
    add NAME --all             a user who sees all courses, and what spans courses, such as sessions
    courses NAME …             give other courses
    passwd NAME                give another password; ends the user's logins
    remove NAME                takes effect at once
    list                       names and courses

    The password is asked for, or read from standard input (one line) if that is no terminal. With --sso a user has
    none: the university's single sign-on names them (RISK_PAGE_USER_HEADER). A page that runs sees each change.
    """

    name = "page-user"
    options = (
        argument("action", type=click.Choice(["add", "remove", "list", "passwd", "courses"])),
        argument("user", required=False),
        option("--courses", metavar="ID[,ID…]", help="The courses whose students the user may see."),
        option("--all", "sees_all", is_flag=True, help="The user may see all courses."),
        option("--sso", is_flag=True, help="Add a user without a password."),
    )

    def main(self, *, action: str, user: str | None, courses: str | None, sees_all: bool, sso: bool, **_: Any) -> int:
        """Read the file, change it as told, and write it."""
        settings: Settings = self.app.settings  # type: ignore[attr-defined]
        if not settings.page_users:
            raise ConfigError("RISK_PAGE_USERS is empty: set it to the path of the file with the users")
        path = Path(settings.page_users)
        if action == "list":
            for each in read(path):
                self.say(_line(each))
            return 0
        name = _name(user)
        if action in ("add", "courses"):
            of_courses = _courses(courses, sees_all)
        elif courses is not None or sees_all:
            raise ConfigError(f"page-user {action}: --courses and --all belong to `add` and `courses`")
        if sso and action != "add":
            raise ConfigError("page-user: --sso belongs to `add`")
        with _locked(path):
            users = {each.name: each for each in (read(path) if path.exists() else [])}
            if (name in users) == (action == "add"):
                known = "is there already: see `passwd` and `courses`" if action == "add" else f"is not in {path}"
                raise ConfigError(f"page-user {action}: {name} {known}")
            if action == "add":
                users[name] = User(name, of_courses, "" if sso else _hash())
            elif action == "remove":
                del users[name]
            elif action == "passwd":
                users[name] = replace(users[name], hash=_hash())
            else:
                users[name] = replace(users[name], courses=of_courses)
            write(path, users.values())
        self.say(f"{name}: removed" if action == "remove" else _line(users[name]))
        return 0


def _name(user: str | None) -> str:
    if user is None:
        raise ConfigError("page-user: which user? Give a name, as in `page-user add ada --courses 12`")
    name = canonical(user)
    if not is_name(name):
        raise ConfigError(
            f"page-user: {user!r} is no name: 1 to {NAME_LENGTH} printable characters without spaces around them"
        )
    return name


def _courses(text: str | None, sees_all: bool) -> frozenset[int] | None:
    """Return the courses that the options name; None: all."""
    if (text is None) == (not sees_all):
        raise ConfigError("page-user: say which courses, with either --courses ID[,ID…] or --all")
    if text is None:
        return None
    try:
        courses = frozenset(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise ConfigError(f"page-user: --courses {text!r} is not a list of ids, such as 12,34") from None
    if any(not -(1 << 63) <= course < 1 << 63 for course in courses):
        raise ConfigError(f"page-user: --courses {text!r} has an id that no course can have")
    return courses


def _line(user: User) -> str:
    courses = (
        "all courses" if user.courses is None else "courses " + (",".join(map(str, sorted(user.courses))) or "none")
    )
    return f"{user.name}  {courses}" + ("" if user.hash else "  (single sign-on only)")


def _hash() -> str:
    """Ask for a password and return its hash."""
    if sys.stdin.isatty():
        password = getpass.getpass("Password: ")
        if problem := passwords.problem(password):
            raise ConfigError(f"page-user: {problem}")
        if getpass.getpass("Again: ") != password:
            raise ConfigError("page-user: the two differ; nothing was changed")
    else:
        password = sys.stdin.readline().removesuffix("\n").removesuffix("\r")
    if problem := passwords.problem(password):
        raise ConfigError(f"page-user: {problem}")
    return passwords.hash_of(password)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let nobody else change the file meanwhile."""
    lock = path.resolve().with_name(f"{path.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("ab") as file:
            lock.chmod(0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise ConfigError(f"RISK_PAGE_USERS: cannot write {lock}: {error.strerror}") from None
