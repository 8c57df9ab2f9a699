"""Who gets in."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from pathlib import Path

from app.errors import ConfigError
from app.proxies import is_local
from app.settings import Settings
from page.access.logins import Logins
from page.access.origin import Headers, Origin, values
from page.access.users import Users, canonical, is_name
from page.access.visitor import Visitor

#: the visitor of a page that asks nobody to log in
LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Refused:
    """Why somebody does not get in."""

    #: of HTTP; 401: a login helps
    status: int
    title: str
    #: what to do, a sentence
    text: str


def check(settings: Settings) -> None:
    """Raise ConfigError if the page would show students to whoever reaches its address."""
    if settings.page_is_open and not is_local(settings.page_address):
        raise ConfigError(
            f"RISK_PAGE_BIND: {settings.page_bind} can be reached from elsewhere, and nobody would be asked to log in: "
            "set RISK_PAGE_USERS (faust -A app page-user add NAME makes the file), or RISK_PAGE_BIND=127.0.0.1"
        )


class Gate:
    """Decides who a visitor is, by one of three ways: everybody on this machine, the proxy's header, or a login."""

    def __init__(self, settings: Settings, users: Users | None, logins: Logins | None, csrf_key: bytes) -> None:
        """users and logins: None where the settings ask nobody to log in; logins: also with a proxy's header."""
        self._header = settings.page_user_header.lower().encode()
        self._users, self.logins, self._key = users, logins, csrf_key

    def visitor(self, origin: Origin, headers: Headers, cookie: str) -> Visitor | Refused:
        """Return who asks, or why they do not get in. Raises ConfigError while the users cannot be read."""
        if self._users is None:
            return self._local(origin)
        if self._header:
            return self._named(origin, headers)
        assert self.logins is not None
        return (self.logins.visitor(cookie) if cookie else None) or Refused(
            401, "Please log in", "You are not logged in, or your login has ended."
        )

    def form_token(self, purpose: str) -> str:
        """Return the token of a form that belongs to no session."""
        return hmac.digest(self._key, purpose.encode(), "sha256").hex()

    def _local(self, origin: Origin) -> Visitor | Refused:
        if not is_local(origin.address) or origin.forwarded:
            return Refused(
                403,
                "This page is for its own machine",
                "It asks nobody to log in, and this request came from elsewhere or through a proxy. Whoever runs "
                "the page can set RISK_PAGE_USERS, so that advisers log in.",
            )
        return Visitor(LOCAL, None, self.form_token(f"visitor {LOCAL}"))

    def _named(self, origin: Origin, headers: Headers) -> Visitor | Refused:
        assert self._users is not None
        title = "You are not admitted"
        if not origin.trusted:
            return Refused(403, title, "This page is reached through the university's sign-on only; use its address.")
        names = [canonical(name) for name in values(headers, self._header)]
        if len(names) != 1 or not is_name(names[0]):
            return Refused(403, title, "The university's sign-on did not say who you are. Sign on, then try again.")
        user = self._users.find(names[0])
        if user is None:
            return Refused(
                403,
                title,
                f"You are signed on as {names[0]}, who is no user of this page. Ask whoever runs it to add you.",
            )
        return Visitor(user.name, user.courses, self.form_token(f"visitor {user.name}"))


def users_of(settings: Settings) -> Users | None:
    """Return the users of the page; None if nobody is asked who they are. Raises ConfigError."""
    return None if settings.page_is_open else Users(Path(settings.page_users))
