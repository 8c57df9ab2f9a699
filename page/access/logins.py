"""Logins: sessions of users, in the table `login`."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Any

from page.access.passwords import fits
from page.access.users import User, Users
from page.access.visitor import Visitor


class Logins:
    """The sessions of users who have logged in on the page. Only hashes of what their cookies hold are stored."""

    def __init__(
        self, database: Any, users: Users, key: bytes, hours: float, clock: Callable[[], float] = time.time
    ) -> None:
        """key: of the CSRF tokens; hours: length of a session."""
        self._database, self._users, self._key = database, users, key
        self._seconds, self._clock = round(hours * 3600), clock

    def check(self, name: str, password: str) -> User | None:
        """Return the user of a name and password; None if they do not fit. Takes some 50 ms either way.

        Raises ConfigError while the file of the users cannot be read, and passwords.TooMany.
        """
        user = self._users.find(name)
        return user if fits(password, "" if user is None else user.hash) else None

    def begin(self, user: User) -> str:
        """Begin a session and return what its cookie holds."""
        cookie, now = secrets.token_urlsafe(32), int(self._clock())
        with self._database.write() as connection:
            connection.execute("DELETE FROM login WHERE expires <= ?", (now,))
            row = (_hash(cookie), user.name, self._csrf(cookie, user), now + self._seconds)
            connection.execute("INSERT INTO login (hash, user, csrf, expires) VALUES (?, ?, ?, ?)", row)
        return cookie

    def end(self, cookie: str) -> None:
        """End a session."""
        with self._database.write() as connection:
            connection.execute("DELETE FROM login WHERE hash = ?", (_hash(cookie),))

    def visitor(self, cookie: str) -> Visitor | None:
        """Return whose session a cookie is of; None if it is over, or the user is no more or has another password.

        Raises ConfigError while the file of the users cannot be read.
        """
        query = "SELECT user, csrf FROM login WHERE hash = ? AND expires > ?"
        row = self._database.read().execute(query, (_hash(cookie), int(self._clock()))).fetchone()
        if row is None or (user := self._users.find(row[0])) is None:
            return None
        if not hmac.compare_digest(row[1], self._csrf(cookie, user)):
            return None
        return Visitor(user.name, user.courses, row[1])

    def _csrf(self, cookie: str, user: User) -> str:
        """Return the token of a session's forms: it changes with the password, which ends the session."""
        return hmac.digest(self._key, f"{cookie} {user.hash}".encode(), "sha256").hex()


def _hash(cookie: str) -> bytes:
    return hashlib.sha256(cookie.encode("utf-8", "surrogateescape")).digest()
